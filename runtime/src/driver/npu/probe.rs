//! What there is of an NPU, asked without changing anything.

use std::path::{Path, PathBuf};

use xrt_sys::accel::{ArrayMetadata, FirmwareVersion};

use super::error::MemoryLimit;
use super::ioctl::Errno;

/// What a device says of itself.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Name of the driver.
    pub driver: String,
    /// Version of the driver: major, minor, patch.
    pub version: [i32; 3],
    /// Version of the firmware: major, minor, patch, build.
    pub firmware: Result<[u32; 4], Errno>,
    /// Columns, rows, and rows of compute tiles.
    pub array: Result<[u16; 3], Errno>,
}

/// The files under `dev` that may be NPUs.
pub fn nodes(dev: &Path) -> Vec<PathBuf> {
    #[cfg(target_os = "linux")]
    return super::hardware::nodes(dev);
    #[cfg(not(target_os = "linux"))]
    Vec::new()
}

/// Asks the device behind a file.
///
/// # Errors
/// EACCES when it may not be opened, ENOTTY when it is no device of DRM, others as they come.
#[cfg(target_os = "linux")]
pub fn probe(node: &Path) -> Result<Probe, Errno> {
    use xrt_sys::accel::query;

    let mut device = super::hardware::Hardware::open_node(node)?;
    let (version, driver) = device.version()?;
    let firmware = ask::<FirmwareVersion>(&mut device, query::FIRMWARE_VERSION);
    let array = ask::<ArrayMetadata>(&mut device, query::ARRAY_METADATA);
    Ok(Probe {
        driver,
        version: [version.major, version.minor, version.patch],
        firmware: firmware.map(|it| [it.major, it.minor, it.patch, it.build]),
        array: array.map(|it| [it.columns, it.rows, it.core.rows]),
    })
}

/// Asks the device behind a file: on this system there is none.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn probe(_node: &Path) -> Result<Probe, Errno> {
    Err(Errno::NODEV)
}

/// How much memory this process may lock.
pub fn memory_limit() -> MemoryLimit {
    super::context::memory_limit()
}

#[cfg(target_os = "linux")]
fn ask<T: bytemuck::Pod>(device: &mut impl super::Ioctl, query: u32) -> Result<T, Errno> {
    use xrt_sys::accel::{GET_INFO, GetInfo};

    let mut answer = T::zeroed();
    let mut get = GetInfo { query, bytes: size_of::<T>() as u32, buffer: 0 };
    let memory: &mut [&mut [u8]] = &mut [bytemuck::bytes_of_mut(&mut answer)];
    device.ioctl(GET_INFO, bytemuck::bytes_of_mut(&mut get), memory)?;
    Ok(answer)
}
