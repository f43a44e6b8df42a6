//! What can go wrong between a program and a Vulkan device.

use ash::vk;

/// A failure of Vulkan. [`VulkanError::help`] says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum VulkanError {
    /// The library that finds drivers is not installed.
    #[error("no Vulkan loader: {reason}")]
    NoLoader { reason: String },
    /// The loader is there and no driver is.
    #[error("the Vulkan loader finds no driver")]
    NoDriver,
    /// A loader from before Vulkan 1.3.
    #[error("the Vulkan loader is of version {found}, expected at least 1.3")]
    OldLoader { found: String },
    /// Validation was asked for.
    #[error("the layer {layer} is not installed")]
    NoLayer { layer: &'static str },
    /// What every plan needs.
    #[error("the device {device} lacks {}", lacks.join(", "))]
    Lacks { device: String, lacks: Vec<&'static str> },
    /// Memory that the device or the system did not give.
    #[error("cannot get {bytes} bytes of the device's memory for {what}: {result}")]
    Memory { what: String, bytes: u64, result: vk::Result },
    /// A device that stopped working; nothing of it can be used any more.
    #[error("the device was lost: {operation}")]
    Lost { operation: String },
    /// Work that did not end in time. It may still run.
    #[error("{operation} did not end within {seconds} s")]
    Timeout { operation: String, seconds: u64 },
    /// Something larger or smaller than the device allows.
    #[error("{what} is {found}, the device allows {allowed}")]
    Limit { what: String, found: u64, allowed: String },
    /// Any other refusal.
    #[error("cannot {operation}: {result}")]
    Call { operation: String, result: vk::Result },
}

impl VulkanError {
    /// A refusal of Vulkan, by its number.
    pub(crate) fn call(operation: impl Into<String>, result: vk::Result) -> Self {
        let operation = operation.into();
        match result {
            vk::Result::ERROR_DEVICE_LOST => Self::Lost { operation },
            _ => Self::Call { operation, result },
        }
    }

    /// For `map_err` on a call that does `operation`.
    pub(crate) fn during(operation: impl Into<String>) -> impl FnOnce(vk::Result) -> Self {
        |result| Self::call(operation, result)
    }

    /// What the person at the terminal can do: one sentence without a final full stop.
    pub fn help(&self) -> String {
        match self {
            Self::NoLoader { .. } => {
                "install the Vulkan loader (libvulkan1, vulkan-loader or vulkan-icd-loader), \
                 or run with `--device cpu`"
            }
            Self::NoDriver => {
                "install the driver of the graphics processor (mesa-vulkan-drivers for AMD and \
                 Intel), or run with `--device cpu`"
            }
            Self::OldLoader { .. } => "update the Vulkan loader, or run with `--device cpu`",
            Self::NoLayer { .. } => "install vulkan-validationlayers, or leave validation out",
            Self::Lacks { .. } => {
                "update the graphics driver, choose another device with `--gpu`, or run with \
                 `--device cpu`"
            }
            Self::Memory { .. } => {
                "close other programs, use fewer sequences, compile with a smaller `--ctx`, or \
                 run with `--device cpu`"
            }
            Self::Lost { .. } => {
                "look for the driver's messages in `dmesg`, update driver and kernel, and start \
                 again"
            }
            Self::Timeout { .. } => {
                "look for a program that keeps the device busy; if there is none, update the \
                 graphics driver"
            }
            Self::Limit { .. } => "choose another device with `--gpu`, or run with `--device cpu`",
            Self::Call { .. } => "update the graphics driver, or run with `--device cpu`",
        }
        .into()
    }
}
