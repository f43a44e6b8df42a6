//! onebitc: an ahead-of-time compiler from GGUF language models to `.plan` files.
//!
//! `model -> graph -> passes -> schedule -> target code -> plan`. Each stage reads only what the
//! one before it made; see docs/ARCHITECTURE.md.
#![forbid(unsafe_code)]

mod dump;
mod emit;
mod error;
pub mod pass;
pub mod pipeline;
pub mod report;
pub mod rewrite;
pub mod schedule;
pub mod target;

pub use dump::{Stage, dump};
pub use emit::{Options, Progress, compile};
pub use error::CompileError;
