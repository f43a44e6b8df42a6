//! SIMD microkernels of the CPU backend, and the storage classes they read.
//!
//! The runtime asks [`Kernels`] for the functions that plans call; the compiler packs weights
//! with [`pack_tile`]. Signatures and the meaning of each kernel stand in
//! [`onebit_plan::abi`]. Every variant of a kernel gives the same bits.
//!
//! This crate knows no model, no graph and no file format.

pub mod array;
pub mod attention;
pub mod barrier;
mod decode;
mod gather;
mod kernels;
mod layout;
mod matmul;
mod pack;
mod quantize;
pub mod rope;

pub use kernels::{Isa, Kernels};
pub use layout::{packed_bytes, supports, tile_bytes};
pub use pack::{PackError, Row, Scales, pack_tile};
pub use quantize::quantize_rows;
