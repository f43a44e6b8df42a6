//! The ioctls of the `amdxdna` driver (Linux `include/uapi/drm/amdxdna_accel.h`).
//!
//! Fields called `ext`, `ext_flags` and `pad` must be zero. Of [`GET_INFO`]'s queries, those are
//! here that say which array and firmware there is.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::drm::{COMMAND_BASE, read_write, write};

/// `DRM_IOCTL_AMDXDNA_CREATE_HWCTX`.
pub const CREATE_CONTEXT: u32 = read_write::<CreateContext>(COMMAND_BASE);
/// `DRM_IOCTL_AMDXDNA_DESTROY_HWCTX`.
pub const DESTROY_CONTEXT: u32 = read_write::<DestroyContext>(COMMAND_BASE + 1);
/// `DRM_IOCTL_AMDXDNA_CONFIG_HWCTX`.
pub const CONFIGURE_CONTEXT: u32 = read_write::<ConfigureContext>(COMMAND_BASE + 2);
/// `DRM_IOCTL_AMDXDNA_CREATE_BO`.
pub const CREATE_BUFFER: u32 = read_write::<CreateBuffer>(COMMAND_BASE + 3);
/// `DRM_IOCTL_AMDXDNA_GET_BO_INFO`.
pub const GET_BUFFER_INFO: u32 = read_write::<GetBufferInfo>(COMMAND_BASE + 4);
/// `DRM_IOCTL_AMDXDNA_SYNC_BO`.
pub const SYNC_BUFFER: u32 = read_write::<SyncBuffer>(COMMAND_BASE + 5);
/// `DRM_IOCTL_AMDXDNA_EXEC_CMD`.
pub const EXECUTE_COMMAND: u32 = read_write::<ExecuteCommand>(COMMAND_BASE + 6);
/// `DRM_IOCTL_AMDXDNA_GET_INFO`.
pub const GET_INFO: u32 = read_write::<GetInfo>(COMMAND_BASE + 7);
/// `DRM_IOCTL_AMDXDNA_WAIT_CMD`. Kernels whose driver is the one of Linux itself lack it.
pub const WAIT_COMMAND: u32 = write::<WaitCommand>(COMMAND_BASE + 9);

/// `AMDXDNA_INVALID_ADDR`: an address that is not there (yet).
pub const INVALID_ADDRESS: u64 = u64::MAX;
/// `AMDXDNA_INVALID_FENCE_HANDLE`.
pub const INVALID_SYNCOBJ: u32 = 0;
/// `AMDXDNA_QOS_NORMAL_PRIORITY`.
pub const NORMAL_PRIORITY: u32 = 0x200;

/// `enum amdxdna_bo_type`.
pub mod buffer_kind {
    /// `AMDXDNA_BO_SHARE`, once `AMDXDNA_BO_SHMEM`: memory that host and array share.
    pub const SHARE: u32 = 1;
    /// `AMDXDNA_BO_DEV_HEAP`: what the device buffers of a process are parts of.
    pub const DEVICE_HEAP: u32 = 2;
    /// `AMDXDNA_BO_DEV`: a part of the heap, for instructions and PDIs.
    pub const DEVICE: u32 = 3;
    /// `AMDXDNA_BO_CMD`: a command, which the driver reads and writes, too.
    pub const COMMAND: u32 = 4;
}

/// Where the array sees the heap (amd/xdna-driver `aie2_pci.h`, `AIE2_DEVM_BASE`).
pub const HEAP_ADDRESS: u64 = 0x400_0000;
/// Bytes of the heap, and what its address in the process is a multiple of (`AIE2_DEVM_SIZE`).
pub const HEAP_BYTES: u64 = 64 << 20;

/// `DRM_AMDXDNA_HWCTX_CONFIG_CU`, the kind of [`ConfigureContext`] that names the PDIs.
pub const CONFIGURE_UNITS: u32 = 0;
/// Most bytes of what [`ConfigureContext`] points to.
pub const CONFIGURATION_BYTES: usize = 4096;

/// `SYNC_DIRECT_TO_DEVICE`.
pub const TO_DEVICE: u32 = 0;
/// `SYNC_DIRECT_FROM_DEVICE`.
pub const FROM_DEVICE: u32 = 1;

/// `AMDXDNA_CMD_SUBMIT_EXEC_BUF`, the kind of [`ExecuteCommand`] that runs a command buffer.
pub const EXECUTE_BUFFER: u32 = 0;
/// Most buffers that one [`ExecuteCommand`] names (amd/xdna-driver `amdxdna_ctx.c`).
pub const ARGUMENTS_AT_MOST: u32 = 4095;

/// `enum amdxdna_drm_get_param`.
pub mod query {
    /// `DRM_AMDXDNA_QUERY_AIE_METADATA`: [`super::ArrayMetadata`].
    pub const ARRAY_METADATA: u32 = 1;
    /// `DRM_AMDXDNA_QUERY_AIE_VERSION`: [`super::ArrayVersion`].
    pub const ARRAY_VERSION: u32 = 2;
    /// `DRM_AMDXDNA_QUERY_FIRMWARE_VERSION`: [`super::FirmwareVersion`].
    pub const FIRMWARE_VERSION: u32 = 8;
}

macro_rules! plain {
    ($($(#[$meta:meta])* $name:ident { $($(#[$of_field:meta])* $field:ident: $kind:ty,)* })*) => {
        $(
            $(#[$meta])*
            #[repr(C)]
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
            pub struct $name {
                $($(#[$of_field])* pub $field: $kind,)*
            }
        )*
    };
}

plain! {
    /// `struct amdxdna_qos_info`: hints. Without any, the array runs at its highest clock.
    QualityOfService {
        gops: u32,
        fps: u32,
        dma_bandwidth: u32,
        latency: u32,
        frame_exec_time: u32,
        priority: u32,
    }
    /// `struct amdxdna_drm_create_hwctx`.
    CreateContext {
        ext: u64,
        ext_flags: u64,
        /// Address of a [`QualityOfService`].
        quality: u64,
        queue_buffer: u32,
        log_buffer: u32,
        /// Most operations per cycle.
        most_operations: u32,
        /// Compute tiles: columns times rows of compute tiles.
        tiles: u32,
        memory_bytes: u32,
        /// Returned.
        doorbell: u32,
        /// Returned.
        handle: u32,
        /// Returned: its timeline has a point for each command.
        syncobj: u32,
    }
    /// `struct amdxdna_drm_destroy_hwctx`.
    DestroyContext {
        handle: u32,
        pad: u32,
    }
    /// `struct amdxdna_drm_config_hwctx`.
    ConfigureContext {
        handle: u32,
        kind: u32,
        /// Of [`CONFIGURE_UNITS`], the address of a [`UnitsHeader`] and its units.
        value: u64,
        /// Bytes at `value`.
        bytes: u32,
        pad: u32,
    }
    /// The first bytes of `struct amdxdna_hwctx_param_config_cu`; units follow.
    UnitsHeader {
        count: u16,
        pad: [u16; 3],
    }
    /// `struct amdxdna_cu_config`.
    Unit {
        /// Handle of a device buffer with a PDI.
        buffer: u32,
        function: u8,
        pad: [u8; 3],
    }
    /// `struct amdxdna_drm_create_bo`.
    CreateBuffer {
        /// Must be zero.
        flags: u64,
        /// Address of a table of the process's own memory; zero for new memory.
        table: u64,
        bytes: u64,
        /// Of [`buffer_kind`].
        kind: u32,
        /// Returned.
        handle: u32,
    }
    /// `struct amdxdna_drm_get_bo_info`.
    GetBufferInfo {
        ext: u64,
        ext_flags: u64,
        handle: u32,
        pad: u32,
        /// Returned: what `mmap` takes as offset.
        map_offset: u64,
        /// Returned: the address in the process.
        address: u64,
        /// Returned: the address that the array uses.
        device_address: u64,
    }
    /// `struct amdxdna_drm_sync_bo`.
    SyncBuffer {
        handle: u32,
        direction: u32,
        offset: u64,
        bytes: u64,
    }
    /// `struct amdxdna_drm_exec_cmd`.
    ExecuteCommand {
        ext: u64,
        ext_flags: u64,
        context: u32,
        kind: u32,
        /// The handle of the command buffer itself while there is one.
        commands: u64,
        /// Address of `argument_count` handles of buffers that must stay in memory, a u32 each.
        arguments: u64,
        command_count: u32,
        argument_count: u32,
        /// Returned: the point of the context's timeline.
        sequence: u64,
    }
    /// `struct amdxdna_drm_get_info`.
    GetInfo {
        /// Of [`query`].
        query: u32,
        /// Bytes at `buffer`; the kernel may write how many it needs.
        bytes: u32,
        buffer: u64,
    }
    /// `struct amdxdna_drm_wait_cmd`.
    WaitCommand {
        context: u32,
        /// Milliseconds; zero waits for ever.
        timeout: u32,
        sequence: u64,
    }
    /// `struct amdxdna_drm_query_aie_version`.
    ArrayVersion {
        major: u32,
        minor: u32,
    }
    /// `struct amdxdna_drm_query_aie_tile_metadata`.
    TileMetadata {
        rows: u16,
        first_row: u16,
        dma_channels: u16,
        locks: u16,
        event_registers: u16,
        pad: [u16; 3],
    }
    /// `struct amdxdna_drm_query_aie_metadata`.
    ArrayMetadata {
        column_bytes: u32,
        columns: u16,
        rows: u16,
        version: ArrayVersion,
        core: TileMetadata,
        memory: TileMetadata,
        shim: TileMetadata,
    }
    /// `struct amdxdna_drm_query_firmware_version`.
    FirmwareVersion {
        major: u32,
        minor: u32,
        patch: u32,
        build: u32,
    }
}

const _: () = {
    assert!(CREATE_CONTEXT == 0xc038_6440);
    assert!(DESTROY_CONTEXT == 0xc008_6441);
    assert!(CONFIGURE_CONTEXT == 0xc018_6442);
    assert!(CREATE_BUFFER == 0xc020_6443);
    assert!(GET_BUFFER_INFO == 0xc030_6444);
    assert!(SYNC_BUFFER == 0xc018_6445);
    assert!(EXECUTE_COMMAND == 0xc038_6446);
    assert!(GET_INFO == 0xc010_6447);
    assert!(WAIT_COMMAND == 0x4010_6449);
};

const _: () = {
    assert!(size_of::<QualityOfService>() == 24);
    assert!(offset_of!(CreateContext, quality) == 16);
    assert!(offset_of!(CreateContext, most_operations) == 32);
    assert!(offset_of!(CreateContext, tiles) == 36);
    assert!(offset_of!(CreateContext, handle) == 48);
    assert!(offset_of!(CreateContext, syncobj) == 52);
    assert!(offset_of!(ConfigureContext, value) == 8);
    assert!(offset_of!(ConfigureContext, bytes) == 16);
    assert!(size_of::<UnitsHeader>() == 8);
    assert!(size_of::<Unit>() == 8);
    assert!(offset_of!(Unit, function) == 4);
    assert!(offset_of!(CreateBuffer, table) == 8);
    assert!(offset_of!(CreateBuffer, kind) == 24);
    assert!(offset_of!(GetBufferInfo, handle) == 16);
    assert!(offset_of!(GetBufferInfo, map_offset) == 24);
    assert!(offset_of!(GetBufferInfo, device_address) == 40);
    assert!(offset_of!(SyncBuffer, offset) == 8);
    assert!(offset_of!(ExecuteCommand, commands) == 24);
    assert!(offset_of!(ExecuteCommand, arguments) == 32);
    assert!(offset_of!(ExecuteCommand, argument_count) == 44);
    assert!(offset_of!(ExecuteCommand, sequence) == 48);
    assert!(offset_of!(GetInfo, bytes) == 4);
    assert!(offset_of!(GetInfo, buffer) == 8);
    assert!(offset_of!(WaitCommand, sequence) == 8);
    assert!(size_of::<TileMetadata>() == 16);
    assert!(size_of::<ArrayMetadata>() == 64);
    assert!(offset_of!(ArrayMetadata, core) == 16);
    assert!(size_of::<FirmwareVersion>() == 16);
};
