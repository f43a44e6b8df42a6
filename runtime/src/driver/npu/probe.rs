//! What there is of an NPU, asked without changing anything.

use std::path::{Path, PathBuf};

#[cfg(target_os = "linux")]
use xrt_sys::accel::{ArrayMetadata, FirmwareVersion};

use super::error::{MemoryLimit, NpuError};
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
    answers(&mut super::hardware::Hardware::open_node(node)?)
}

/// Asks the device that a load would open.
///
/// # Errors
/// Those of a load that finds no device it may open.
#[cfg(target_os = "linux")]
pub fn first(dev: &Path) -> Result<Probe, NpuError> {
    let mut device = super::hardware::Hardware::open(dev)?;
    answers(&mut device).map_err(|errno| NpuError::of_driver("say its version", errno, None))
}

/// Asks the device that a load would open: on this system there is none.
#[cfg(not(target_os = "linux"))]
pub fn first(dev: &Path) -> Result<Probe, NpuError> {
    Err(NpuError::Missing { folder: dev.join("accel") })
}

#[cfg(target_os = "linux")]
fn answers(device: &mut super::hardware::Hardware) -> Result<Probe, Errno> {
    use xrt_sys::accel::query;

    let (version, driver) = device.version()?;
    let firmware = ask::<FirmwareVersion>(device, query::FIRMWARE_VERSION);
    let array = ask::<ArrayMetadata>(device, query::ARRAY_METADATA);
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

/// Whether this process has the right `CAP_IPC_LOCK`, by the folder `proc`: no limit holds for it.
pub fn may_lock(proc: &Path) -> bool {
    const IPC_LOCK: u32 = 14;
    let status = std::fs::read_to_string(proc.join("self/status")).unwrap_or_default();
    let rights = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let rights = rights.and_then(|rights| u64::from_str_radix(rights.trim(), 16).ok());
    rights.is_some_and(|rights| (rights >> IPC_LOCK) & 1 == 1)
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
