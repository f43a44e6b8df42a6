//! Ioctl numbers, and the structures of the ioctls that all DRM drivers share
//! (Linux `include/uapi/drm/drm.h`).

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

/// `DRM_IOCTL_BASE`.
const BASE: u32 = b'd' as u32;
/// `DRM_COMMAND_BASE`: where the numbers of a driver's own ioctls start.
pub const COMMAND_BASE: u32 = 0x40;

const WRITE: u32 = 1;
const READ: u32 = 2;

/// `DRM_IOW`: the kernel reads a `T`. The numbers are those of x86-64 and aarch64.
pub const fn write<T>(number: u32) -> u32 {
    WRITE << 30 | (size_of::<T>() as u32) << 16 | BASE << 8 | number
}

/// `DRM_IOWR`: the kernel reads a `T` and writes it back.
pub const fn read_write<T>(number: u32) -> u32 {
    (READ | WRITE) << 30 | (size_of::<T>() as u32) << 16 | BASE << 8 | number
}

/// Bytes of the structure that an ioctl number names.
pub const fn argument_bytes(ioctl: u32) -> usize {
    (ioctl >> 16 & 0x3fff) as usize
}

/// `DRM_IOCTL_VERSION`.
pub const VERSION: u32 = read_write::<Version>(0x00);
/// `DRM_IOCTL_GEM_CLOSE`.
pub const GEM_CLOSE: u32 = write::<GemClose>(0x09);
/// `DRM_IOCTL_SYNCOBJ_DESTROY`.
pub const SYNCOBJ_DESTROY: u32 = read_write::<SyncobjDestroy>(0xc0);
/// `DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT`.
pub const SYNCOBJ_TIMELINE_WAIT: u32 = read_write::<SyncobjTimelineWait>(0xca);

/// `DRM_SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT`: a point without a fence is waited for, too.
pub const WAIT_FOR_SUBMIT: u32 = 1 << 1;

/// `struct drm_version`, of a 64-bit process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Version {
    pub major: i32,
    pub minor: i32,
    pub patch: i32,
    pub pad: u32,
    /// Bytes at `name`; the kernel returns how many the name has.
    pub name_bytes: u64,
    pub name: u64,
    pub date_bytes: u64,
    pub date: u64,
    pub description_bytes: u64,
    pub description: u64,
}

/// `struct drm_gem_close`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct GemClose {
    pub handle: u32,
    pub pad: u32,
}

/// `struct drm_syncobj_destroy`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SyncobjDestroy {
    pub handle: u32,
    pub pad: u32,
}

/// `struct drm_syncobj_timeline_wait`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SyncobjTimelineWait {
    /// Address of `count` handles, a u32 each.
    pub handles: u64,
    /// Address of `count` points, a u64 each.
    pub points: u64,
    /// Nanoseconds of CLOCK_MONOTONIC at which the wait ends.
    pub timeout: i64,
    pub count: u32,
    pub flags: u32,
    pub first_signaled: u32,
    pub pad: u32,
    pub deadline: u64,
}

const _: () = {
    assert!(VERSION == 0xc040_6400);
    assert!(GEM_CLOSE == 0x4008_6409);
    assert!(SYNCOBJ_DESTROY == 0xc008_64c0);
    assert!(SYNCOBJ_TIMELINE_WAIT == 0xc030_64ca);
    assert!(argument_bytes(VERSION) == 64);
    assert!(offset_of!(Version, name_bytes) == 16);
    assert!(offset_of!(Version, name) == 24);
    assert!(offset_of!(Version, description) == 56);
    assert!(offset_of!(SyncobjTimelineWait, timeout) == 16);
    assert!(offset_of!(SyncobjTimelineWait, count) == 24);
    assert!(offset_of!(SyncobjTimelineWait, deadline) == 40);
};
