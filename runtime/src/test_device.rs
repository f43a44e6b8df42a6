//! A graphics processor as Vulkan shows it, for tests.

use onebit_plan::gpu::GpuFeature;
use onebit_vulkan::{DeviceInfo, DeviceKind, Driver, Limits, Subgroups, Uuid};

/// The one of a Strix Halo, by documented values: all features but matrices of int8.
pub(crate) fn radeon_8060s() -> DeviceInfo {
    let (name, info) = (String::from("radv"), String::from("Mesa 25.0.7"));
    DeviceInfo {
        name: "AMD Radeon 8060S (RADV GFX1151)".into(),
        kind: DeviceKind::Integrated,
        api: "1.4.305".into(),
        driver: Driver { id: 3, name, info, version: 0 },
        vendor: 0x1002,
        device: 0x1586,
        device_uuid: Uuid([0; 16]),
        driver_uuid: Uuid([0; 16]),
        cache_uuid: Uuid([0; 16]),
        limits: Limits {
            storage_range: (4 << 30) - 1,
            storage_align: 4,
            buffer: 4 << 30,
            shared: 64 << 10,
            invocations: 1024,
            groups: [65535; 3],
            immediates: 256,
            tick: 10.0,
            tick_bits: 64,
            heap: 96 << 30,
            memory: 96 << 30,
        },
        subgroups: Subgroups { size: 64, min: 32, max: 64, per_workgroup: 32 },
        features: vec![
            GpuFeature::IntegerDot,
            GpuFeature::Float16,
            GpuFeature::Storage16,
            GpuFeature::Int8,
            GpuFeature::MemoryModel,
            GpuFeature::CooperativeF16,
        ],
        lacks: Vec::new(),
        inspects: true,
    }
}
