//! The few Vulkan objects that onebit uses, made safe: instance, device, buffers, pipelines and
//! recorded command buffers. It knows bindings and modules of [`onebit_plan::gpu`], and no model.
//!
//! The loader is opened at run time: a machine without Vulkan gets a [`VulkanError`] with a
//! remedy. Objects keep what they depend on, so they may be dropped in any order; dropping
//! [`Commands`] waits for their submissions. What a shader does inside the windows that it is
//! given is not checked: its bytes are as trusted as native code.

mod buffer;
mod commands;
mod device;
mod error;
mod instance;
mod physical;
mod pipeline;
mod queue;
mod transfer;

pub use buffer::{Buffer, Place, Window};
pub use commands::{Commands, Recorder, Timestamp};
pub use device::Device;
pub use error::VulkanError;
pub use instance::{Instance, Validation};
pub use physical::{DeviceInfo, DeviceKind, Driver, Limits, PhysicalDevice, Subgroups, Uuid};
pub use pipeline::{Executable, Inspect, Pipeline, PipelineCache, PipelineDesc};
pub use queue::Ticket;
pub use transfer::Transfer;
