//! onebitc: an ahead-of-time compiler from GGUF language models to `.plan` files.
//!
//! `model -> graph -> passes -> schedule -> target code -> plan`. Each stage reads only what the
//! one before it made; see docs/ARCHITECTURE.md.
#![forbid(unsafe_code)]

mod dump;
mod emit;
mod error;
mod golden;
pub mod inspect;
pub mod pass;
pub mod pipeline;
pub mod predict;
pub mod provenance;
pub mod report;
pub mod rewrite;
pub mod schedule;
pub mod sign;
pub mod target;
mod verify_build;

pub use dump::{Stage, dump};
pub use emit::{Compiled, Options, Progress, Vulkan, compile, prepare};
pub use error::CompileError;
pub use verify_build::{Verdict, VerifyError, verify_build};

/// Runs `work` with `threads` threads for whatever it does in parallel.
///
/// # Errors
/// When the threads cannot be started.
pub fn with_threads<T: Send>(
    threads: usize,
    work: impl FnOnce() -> T + Send,
) -> Result<T, CompileError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|error| {
        let (option, value) = ("jobs", threads.to_string());
        CompileError::Option { option, value, reason: error.to_string() }
    })?;
    Ok(pool.install(work))
}
