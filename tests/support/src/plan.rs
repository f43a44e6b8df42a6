//! What tests put into plans and beside them: a manifest with nothing in it, and a machine.

use onebit_plan::abi::CacheForm;
use onebit_plan::box_sys::{
    BOX_VERSION, BoxCache, BoxDescription, BoxGpu, BoxGpuKind, BoxMemory, BoxNpu, BoxOrigin,
    BoxProcessor, BoxRate, BoxSoftware,
};
use onebit_plan::gpu::GpuFeature;
use onebit_plan::manifest::{Entry, Manifest, Memory, ModelInfo, Provenance};

/// The least that a reader takes beside a code segment: one entry at its start, for one row, and
/// one slot of 64 positions. Tests change what they are about.
pub fn bare_manifest() -> Manifest {
    Manifest {
        provenance: Provenance {
            tool: "0.1.0".into(),
            source: "tiny.gguf".into(),
            source_hash: [7; 32],
            options: Vec::new(),
        },
        model: ModelInfo {
            name: "tiny".into(),
            architecture: "llama".into(),
            parameters: 1000,
            vocabulary: 64,
            context: 64,
            trained_context: 64,
            layers: 1,
        },
        requirements: Vec::new(),
        segments: Vec::new(),
        memory: Memory { arena: 64, private: 64, slot: 64, slots: 1, cache: CacheForm::F16 },
        entries: vec![Entry { name: "step".into(), offset: 0, max_rows: 1, ..Entry::default() }],
        functions: Vec::new(),
        traced: Vec::new(),
        kernels: Vec::new(),
        regions: Vec::new(),
        weights: Vec::new(),
        array: None,
        gpu: None,
    }
}

/// A Strix Halo, as far as plans see it; the figures are documented values or the makers' own.
pub fn strix_halo() -> BoxDescription {
    let features = ["avx", "avx2", "bmi1", "bmi2", "fma", "lzcnt", "popcnt", "sse4.2"];
    BoxDescription {
        onebit_box: BOX_VERSION,
        tool: "0.1.0".into(),
        processor: BoxProcessor {
            architecture: "x86_64".into(),
            model: Some("AMD RYZEN AI MAX+ 395 w/ Radeon 8060S".into()),
            features: features.map(String::from).into(),
            kernels: "avx512".into(),
            cores: 16,
            threads: 32,
            caches: vec![BoxCache { level: 1, kind: "data".into(), bytes: 49152, threads: 2 }],
        },
        memory: BoxMemory {
            bytes: 128 << 30,
            read: Some(BoxRate {
                origin: BoxOrigin::Measured,
                bytes_per_second: 100_000_000_000,
                median_bytes_per_second: 99_000_000_000,
                threads: 16,
                bytes: 4 << 30,
                passes: 5,
                checked: true,
            }),
        },
        gpus: vec![radeon_8060s()],
        npu: Some(BoxNpu {
            driver: "amdxdna_accel_driver 0.6.0".into(),
            firmware: None,
            columns: 8,
            rows: 6,
            compute_rows: 4,
        }),
        software: BoxSoftware { system: "linux".into(), kernel: Some("6.17.0".into()) },
    }
}

/// The graphics processor of [`strix_halo`].
pub fn radeon_8060s() -> BoxGpu {
    BoxGpu {
        name: "Radeon 8060S".into(),
        kind: BoxGpuKind::Integrated,
        vendor: 0x1002,
        device: 0x1586,
        vulkan: "1.4.305".into(),
        driver: "radv Mesa 25.0.7".into(),
        features: vec![
            GpuFeature::IntegerDot,
            GpuFeature::Float16,
            GpuFeature::Storage16,
            GpuFeature::Int8,
            GpuFeature::MemoryModel,
            GpuFeature::CooperativeF16,
        ],
        subgroup_sizes: (32, 64),
        subgroups: 32,
        invocations: 1024,
        immediates: 256,
        shared: 65536,
        window: (4 << 30) - 1,
        buffer: 4 << 30,
        heap: 64 << 30,
        memory: 96 << 30,
    }
}
