//! What the NPU of AMD's Strix Halo (XDNA 2, "npu4" family, array generation AIE2P) is fed with,
//! byte for byte, with no vendor tool.
//!
//! * [`program`]: a register program, and the register file it makes when applied.
//! * [`txn`] and [`cdo`]: its two serialisations. A TXN runs once a call; a CDO configures the
//!   array when a hardware context starts.
//! * [`isa`]: the core's instructions, assembled and disassembled.
//! * [`array`]: tiles as registers, with what the array cannot do refused.
//! * [`gemm`]: a design on top of all this: products of int8 matrices on all compute tiles.
//! * [`pdi`], [`partition`], [`xclbin`]: the envelopes around a CDO, innermost first.
//!
//! Every format has a writer and a strict parser: each byte of the input is accounted for, and
//! `write(parse(bytes)) == bytes` for whatever a parser accepts. Output depends on nothing but the
//! input; identifiers and time stamps come from the content.
//!
//! The crate knows nothing of models or of the machine it runs on. What has been
//! checked against which independent program, and what never ran on silicon, is in
//! `docs/npu-verification.md`.
#![forbid(unsafe_code)]

pub mod array;
pub mod cdo;
pub mod error;
pub mod gemm;
pub mod isa;
pub mod partition;
pub mod pdi;
pub mod program;
pub mod txn;
pub mod xclbin;

mod bytes;

pub use error::{Format, ParseError, WriteError};
