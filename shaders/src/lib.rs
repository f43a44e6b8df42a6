//! The kernels of the Vulkan target.
//!
//! A builder prints one kernel as WGSL with all shapes folded in ([`Kernel`]); [`compile`] makes
//! SPIR-V of it and says what the module needs of a device. The contract with the runtime, such
//! as bindings and the form of activations, is [`onebit_plan::gpu`]. Nothing here knows a graph,
//! a plan or a device.
#![forbid(unsafe_code)]

mod activations;
pub mod attention;
mod audit;
mod class;
mod compile;
pub mod cooperative;
pub mod gated;
pub mod gather;
mod kernel;
mod listing;
pub mod pick;
mod post;
pub mod product;
pub mod rows;
mod visible;

pub use activations::ActivationForm;
pub use compile::{Module, ShaderError, compile, compile_with};
pub use kernel::{Immediate, Kernel, Source};
pub use listing::disassemble;
pub use post::Pass;
