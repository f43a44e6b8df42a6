//! The core, on small programs of our own: what operations do, when, and what is refused.

mod hazards;
mod latencies;
mod machine;
mod matrix;
mod memory;
mod scalars;
mod sequence;
mod vectors;
