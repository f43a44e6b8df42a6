//! A small manifest with parts for every device, for tests of what plans need. No plan stands behind
//! it, so that numbers may be larger than any file.

use onebit_plan::abi::ArrayRole;
use onebit_plan::gpu::{
    GpuDispatch, GpuEntry, GpuFeature, GpuKernel, GpuModule, GpuPlan, GpuSlot, GpuWindow, binding,
};
use onebit_plan::manifest::{
    ArrayCall, ArrayGroup, ArrayPlan, ArrayWeights, Manifest, Memory, Segment, SegmentKind,
};
use onebit_test_support::bare_manifest;

/// 4 slots of 64 positions.
pub(crate) fn manifest() -> Manifest {
    let bare = bare_manifest();
    Manifest {
        segments: vec![Segment {
            kind: SegmentKind::Weights,
            offset: 4096,
            length: 4096,
            hash: [0; 32],
        }],
        memory: Memory { slot: 4096, slots: 4, ..bare.memory },
        array: Some(array()),
        gpu: Some(gpu()),
        ..bare
    }
}

/// A kernel that prefers subgroups of 32 and integer dots, for steps of 1 and of 8 rows.
fn gpu() -> GpuPlan {
    let module =
        |subgroup, features| GpuModule { offset: 0, length: 20, subgroup, shared: 1024, features };
    let windows = vec![
        GpuWindow::Weights { offset: 0, length: 4096 },
        GpuWindow::Cache { offset: 0, length: 4096 },
        GpuWindow::Logits,
    ];
    let entry = |name: &str, max_rows| GpuEntry {
        name: name.into(),
        max_rows,
        dispatches: vec![GpuDispatch {
            taps: Vec::new(),
            kernel: 0,
            region: "@all".into(),
            regions: Vec::new(),
            wait: false,
            groups: [1; 3],
            windows: windows.clone(),
            immediates: Vec::new(),
            weight_bytes: 4096,
        }],
    };
    let slot = |binding, writes| GpuSlot { binding, writes };
    GpuPlan {
        kernels: vec![GpuKernel {
            name: "all".into(),
            modules: vec![module(Some(32), vec![GpuFeature::IntegerDot]), module(None, Vec::new())],
            bindings: vec![
                slot(binding::WEIGHTS, false),
                slot(binding::CACHE, true),
                slot(binding::LOGITS, true),
            ],
            immediates: 0,
            workgroup: 128,
        }],
        entries: vec![entry("one", 1), entry("eight", 8)],
        arena: 256,
        slot: 4096,
        tables: Vec::new(),
    }
}

/// Two products of 1 MiB.
fn array() -> ArrayPlan {
    let product = ArrayWeights {
        tensors: vec!["all.weight".into()],
        format: "q8_0".into(),
        first_row: 0,
        rows: 1024,
        columns: 1024,
        group: 1024,
        role: ArrayRole::Plain,
        call: 0,
        offset: 0,
        bytes: 1 << 20,
        rounding: 0.0,
        expected_error: 0.0,
    };
    let call = ArrayCall {
        offset: 0,
        length: 16,
        activations: 1 << 16,
        weights: 1 << 20,
        results: 1 << 17,
        modelled_seconds: 1e-4,
        modelled_bound: 1e-5,
    };
    ArrayPlan {
        calls: vec![call],
        products: vec![product.clone(), product],
        groups: vec![ArrayGroup { first: 0, count: 2 }],
        group_seconds: 0.25,
    }
}
