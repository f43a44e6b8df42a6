//! The ABI that lies under XRT: how a process talks to the Linux driver of AMD's NPUs.
//!
//! * [`drm`]: the ioctls of every DRM driver that an NPU needs.
//! * [`accel`]: the ioctls of `amdxdna`.
//! * [`ert`]: the words of a command buffer, which the driver hands to the firmware.
//!
//! Structures, numbers and constants; no system call, no logic, no allocation. Every structure is
//! plain data without padding that is not a field, and every size, offset and ioctl number is
//! checked when this crate compiles. Sources: Linux `include/uapi/drm/drm.h` and
//! `include/uapi/drm/amdxdna_accel.h`; of what no header of the kernel's interface has,
//! `src/driver/amdxdna/amdxdna_ctx.h` of amd/xdna-driver.
#![no_std]
#![forbid(unsafe_code)]

pub mod accel;
pub mod drm;
pub mod ert;
