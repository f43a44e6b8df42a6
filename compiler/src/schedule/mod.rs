//! From a graph to the *how*: storage classes, weight layout and memory.

pub mod array;
pub mod memory;
pub mod repack;
pub mod steps;
pub mod taps;
