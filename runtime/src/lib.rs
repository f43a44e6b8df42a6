//! Loads a `.plan` and runs it: buffers, step programs, slots and sampling.
//!
//! The runtime knows no model architecture and no GGUF. A [`driver::Driver`] runs steps of a
//! plan on one kind of device; a [`session::Session`] keeps up to 32 sequences going on a driver;
//! [`generate`] turns prompts into tokens. Memory is allocated at load, never during a step.

pub mod bandwidth;
pub mod check;
pub mod doctor;
pub mod driver;
mod error;
pub mod generate;
pub mod machine;
pub mod perplexity;
pub mod probe;
pub mod profile;
pub mod sampler;
pub mod session;
#[cfg(test)]
mod test_device;
#[cfg(test)]
mod test_machine;
#[cfg(test)]
mod test_manifest;
pub mod verify;

pub use error::Error;
