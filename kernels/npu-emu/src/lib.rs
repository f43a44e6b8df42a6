//! An emulator of AMD's XDNA 2 array: it runs an xclbin and an instruction stream from their
//! bytes alone, and calls everything a fault that the array would not do as meant.
//!
//! * [`core`]: one AIE2P core: what its instructions do, and when their results are there.
//! * [`bus`]: what a core sees of its tile and its neighbours.
//!
//! It knows nothing of who wrote those bytes. Registers, descriptors and routes are decoded here
//! from the register tables of aie-rt, not by the code that encodes ours: a mistake has to be made
//! twice to go unseen.
#![forbid(unsafe_code)]

pub mod bus;
pub mod core;
pub mod fault;

pub use fault::Fault;
