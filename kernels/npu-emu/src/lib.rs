//! An emulator of AMD's XDNA 2 array: it runs an xclbin and an instruction stream from their
//! bytes alone, and calls everything a fault that the array would not do as meant.
//!
//! * [`array`]: the array and its controller: what to call. [`report`]: what comes back.
//! * [`geometry`], [`registers`]: where things are. [`tile`]: what is there.
//! * [`memory`], [`lock`], [`channel`], [`descriptor`], [`switch`]: the parts of a tile.
//! * [`routes`]: where data goes. `engine`, `transfer`, `compute`: what moves, and when.
//! * [`dump`]: a design as text.
//! * [`core`]: one AIE2P core: what its instructions do, and when their results are there.
//! * [`bus`]: what a core sees of its tile and its neighbours.
//!
//! It knows nothing of who wrote those bytes. Registers, descriptors and routes are decoded here
//! from the register tables of aie-rt, not by the code that encodes ours: a mistake has to be made
//! twice to go unseen.
#![forbid(unsafe_code)]

pub mod array;
pub mod bus;
pub mod channel;
pub mod core;
pub mod descriptor;
pub mod dump;
pub mod fault;
pub mod geometry;
pub mod lock;
pub mod memory;
pub mod registers;
pub mod report;
pub mod routes;
pub mod switch;
pub mod tile;

mod compute;
mod ddr;
mod engine;
mod help;
mod random;
mod transfer;

pub use array::{Array, Options};
pub use fault::Fault;
