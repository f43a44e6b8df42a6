//! Cranelift code: fused row loops and the step program of each entry.

mod build;
mod entry;
mod math;
mod quantise;
mod rows;

pub use build::{Machine, Place};
pub use entry::{EntryInput, Tracing, entry_function};
pub use rows::row_function;
