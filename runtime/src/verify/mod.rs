//! Whether a plan computes here what its compiler said: golden vectors against kernels and
//! devices.
//!
//! Three things are asked, the plainest first. Are all bytes those that were written? Do this
//! CPU's kernels give the exact integer sums? Do whole steps give the interpreter's values, as far
//! as a device's rounding allows ([`tolerance`])? Steps are compared value by value in the order
//! of the graph, so that what is named first is where things went wrong, not what followed from it.

mod compare;
mod steps;
mod sums;
pub mod tolerance;

pub use compare::{Comparison, Divergence, Kind, Nearest};
pub use steps::{Stage, Traced, steps};
pub use sums::{SumCheck, WrongSum, sums};
