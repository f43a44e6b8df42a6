//! What can go wrong between a plan and a Vulkan device.

use onebit_vulkan::VulkanError;

/// A failure of the Vulkan driver. [`GpuError::help`] says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// Vulkan itself.
    #[error(transparent)]
    Vulkan(#[from] VulkanError),
    /// A Vulkan device was asked for, and the plan has nothing for it.
    #[error("the plan has nothing for a Vulkan device")]
    NoPart,
    /// No driver has a device.
    #[error("no Vulkan device")]
    NoDevice,
    /// The device that was asked for is not there.
    #[error("no Vulkan device is {wanted}, there are: {}", found.join(", "))]
    NoSuchDevice { wanted: String, found: Vec<String> },
    /// No device has what every plan needs.
    #[error("no Vulkan device can run plans: {}", reasons.join("; "))]
    NoFit { reasons: Vec<String> },
    /// The plan's kernels need what the device has not.
    #[error("no step of the plan fits the device {device}: {}", reasons.join("; "))]
    NoEntry { device: String, reasons: Vec<String> },
    /// A window that the device's shaders cannot see as a whole.
    #[error("{what} needs a window of {bytes} bytes, the device {device} allows {most}")]
    Window { what: String, bytes: u64, device: String, most: u64 },
    /// A buffer that the device cannot have.
    #[error("the buffer for {what} has {bytes} bytes, the device {device} allows {most}")]
    Buffer { what: &'static str, bytes: u64, device: String, most: u64 },
    /// More than all of the device's memory.
    #[error("the plan needs {bytes} bytes of memory, the device {device} has {most}")]
    Room { bytes: u64, device: String, most: u64 },
}

impl GpuError {
    /// What the person at the terminal can do: one sentence without a final full stop.
    pub fn help(&self) -> String {
        match self {
            Self::Vulkan(error) => error.help(),
            Self::NoPart => {
                "compile the GGUF without `--target strix-halo` and `--no-gpu`; the report says where a \
                 model does not fit. Or run with `--device cpu`"
                    .into()
            }
            Self::NoDevice => {
                "see `onebit-rt doctor`; install the driver of the graphics processor, or run with \
                 `--device cpu`"
                    .into()
            }
            Self::NoSuchDevice { .. } => {
                "give `--gpu` a number or a part of a name that `onebit-rt doctor` shows".into()
            }
            Self::NoFit { .. } | Self::NoEntry { .. } => {
                "update the graphics driver, choose another device with `--gpu`, or run with \
                 `--device cpu`"
                    .into()
            }
            Self::Window { .. } | Self::Buffer { .. } | Self::Room { .. } => {
                "use fewer sequences or compile with a smaller `--ctx` if it is the cache, choose \
                 another device with `--gpu`, or run with `--device cpu`"
                    .into()
            }
        }
    }
}
