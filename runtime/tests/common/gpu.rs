//! A plan for Vulkan devices without a model: its logits depend on the whole history of a slot.

use std::path::{Path, PathBuf};

use naga::back::spv;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use onebit_plan::PlanWriter;
use onebit_plan::gpu::{
    GPU_AHEAD, GPU_ROWS, GpuDispatch, GpuEntry, GpuKernel, GpuModule, GpuPlan, GpuRopeTable,
    GpuSlot, GpuWindow, binding, step,
};
use onebit_plan::manifest::{Manifest, Memory, ModelInfo, SegmentKind};
use onebit_test_support::bare_manifest;

pub const VOCABULARY: u32 = 98;
const SLOTS: u32 = 8;
/// Bytes of a slot: a word for each position, at the second half of two windows.
const SLOT: u64 = 512;
/// Weights are words; this one counts.
const WEIGHT: u32 = 31;

/// What a test may change before the plan is written.
pub struct Part {
    pub plan: GpuPlan,
    pub present: bool,
}

#[allow(dead_code, reason = "each test takes what it needs")]
/// What a token at a position makes of the sum of those before it. The favoured token is the sum
/// after the last.
pub fn successor(sum: u32, token: u32, position: u32) -> u32 {
    (sum * 5 + token * WEIGHT + position) % VOCABULARY
}

/// Writes the plan.
pub fn gpu_plan(folder: &Path, change: impl FnOnce(&mut Part)) -> PathBuf {
    let path = folder.join("gpu.plan");
    let (plan, shaders) = part();
    let mut part = Part { plan, present: true };
    change(&mut part);
    let mut weights = vec![0; 256];
    weights.extend(WEIGHT.to_le_bytes());
    let mut writer = PlanWriter::create(&path).unwrap();
    for (kind, bytes) in [
        (SegmentKind::CpuCode, vec![0xc3]),
        (SegmentKind::Tokenizer, vec![1; 10]),
        (SegmentKind::Shaders, shaders),
        (SegmentKind::Weights, weights),
    ] {
        if kind == SegmentKind::Shaders && !part.present {
            continue;
        }
        writer.begin_segment(kind).unwrap();
        writer.write(&bytes).unwrap();
        writer.end_segment().unwrap();
    }
    let gpu = part.present.then_some(part.plan);
    writer.finish(Manifest { gpu, ..manifest() }).unwrap();
    path
}

fn manifest() -> Manifest {
    let bare = bare_manifest();
    let model = ModelInfo { vocabulary: VOCABULARY, layers: 0, ..bare.model };
    Manifest { model, memory: Memory { slots: SLOTS, ..bare.memory }, ..bare }
}

/// Keeps a row's token in the cache, and leaves the sum of its history in the arena. One row
/// after the other, so that rows of one slot may share a step.
fn sum() -> String {
    format!(
        "@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>;
        @group(0) @binding(3) var<storage, read_write> arena: array<u32>;
        @group(0) @binding(5) var<storage, read_write> cache: array<u32>;
        @group(0) @binding(6) var<storage, read> step: array<u32>;
        @group(0) @binding(8) var<storage, read> rope: array<f32>;
        @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {{
            if lane != 0u {{ return; }}
            for (var row = 0u; row < step[{rows}]; row++) {{
                let slot = step[{slots} + row] * {words}u;
                let position = step[{positions} + row];
                cache[slot + position] = step[{tokens} + row];
                var sum = 0u;
                for (var at = 0u; at <= position; at++) {{
                    // The table's first frequency is 0: its cosine is the magnitude, 1.
                    let one = u32(rope[at * 4u]);
                    sum = (sum * 5u * one + cache[slot + at] * weights[0].x + at) % {VOCABULARY}u;
                }}
                arena[row] = sum;
            }}
        }}",
        rows = step::ROWS,
        slots = step::SLOTS,
        positions = step::POSITIONS,
        tokens = step::TOKENS,
        words = SLOT / 4 / 2,
    )
}

/// Logits of an output: 10 for the favoured token, `p.x` for all others.
fn logits() -> String {
    format!(
        "struct Immediates {{ other: u32 }}
        var<immediate> p: Immediates;
        @group(0) @binding(3) var<storage, read> arena: array<u32>;
        @group(0) @binding(6) var<storage, read> step: array<u32>;
        @group(0) @binding(7) var<storage, read_write> logits: array<f32>;
        @compute @workgroup_size(64)
        fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {{
            if group.x >= step[{outputs}] {{ return; }}
            let favoured = arena[step[{list} + group.x]];
            for (var token = lane; token < {VOCABULARY}u; token += 64u) {{
                let value = select(bitcast<f32>(p.other), 10.0, token == favoured);
                logits[group.x * {VOCABULARY}u + token] = value;
            }}
        }}",
        outputs = step::OUTPUT_ROWS,
        list = step::OUTPUTS,
    )
}

/// Picks tokens and advances the step buffer by one token.
fn pick() -> String {
    format!(
        "@group(0) @binding(6) var<storage, read_write> step: array<u32>;
        @group(0) @binding(7) var<storage, read> logits: array<f32>;
        @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {{
            if lane != 0u {{ return; }}
            let cycle = step[{cycle}] % {GPU_AHEAD}u;
            for (var output = 0u; output < step[{outputs}]; output++) {{
                var best = 0u;
                for (var token = 1u; token < {VOCABULARY}u; token++) {{
                    let at = output * {VOCABULARY}u;
                    if logits[at + token] > logits[at + best] {{ best = token; }}
                }}
                step[{picks} + cycle * {GPU_ROWS}u + output] = best;
                let row = step[{list} + output];
                step[{tokens} + row] = best;
                step[{positions} + row] += 1u;
            }}
            step[{cycle}] += 1u;
        }}",
        cycle = step::CYCLE,
        outputs = step::OUTPUT_ROWS,
        list = step::OUTPUTS,
        picks = step::PICKS,
        tokens = step::TOKENS,
        positions = step::POSITIONS,
    )
}

/// The plan's part, and its segment of shaders.
fn part() -> (GpuPlan, Vec<u8>) {
    use binding::{ARENA, CACHE, LOGITS, ROPE, STEP, WEIGHTS};
    let mut shaders = Vec::new();
    let mut kernel = |name: &str, wgsl: &str, slots: &[(u32, bool)], immediates| {
        let bytes = spirv(wgsl);
        let (offset, length) = (shaders.len() as u64, bytes.len() as u64);
        shaders.extend(bytes);
        let slots = slots.iter().map(|&(binding, writes)| GpuSlot { binding, writes });
        GpuKernel {
            name: name.into(),
            modules: vec![GpuModule {
                offset,
                length,
                subgroup: None,
                shared: 0,
                features: Vec::new(),
            }],
            bindings: slots.collect(),
            immediates,
            workgroup: 64,
        }
    };
    let (read, write) = (false, true);
    let sums = [(WEIGHTS, read), (ARENA, write), (CACHE, write), (STEP, read), (ROPE, read)];
    let kernels = vec![
        kernel("sum", &sum(), &sums, 0),
        kernel("logits", &logits(), &[(ARENA, read), (STEP, read), (LOGITS, write)], 4),
        kernel("pick", &pick(), &[(STEP, write), (LOGITS, read)], 0),
    ];
    let plan = GpuPlan {
        kernels,
        entries: vec![entry("one", 1), entry("many", GPU_ROWS as u32)],
        arena: 512,
        slot: SLOT,
        tables: vec![GpuRopeTable { frequencies: vec![0.0, 1.0], magnitude: 1.0 }],
    };
    (plan, shaders)
}

fn entry(name: &str, max_rows: u32) -> GpuEntry {
    let arena = GpuWindow::Arena { offset: 256, length: 128 };
    let dispatch = |kernel, wait, groups, windows, immediates| GpuDispatch {
        taps: Vec::new(),
        kernel,
        region: "@sums".into(),
        regions: Vec::new(),
        wait,
        groups: [groups, 1, 1],
        windows,
        immediates,
        weight_bytes: if kernel == 0 { 4 } else { 0 },
    };
    let (step, logits) = (GpuWindow::Step, GpuWindow::Logits);
    let sums = vec![
        GpuWindow::Weights { offset: 256, length: 256 },
        arena,
        GpuWindow::Cache { offset: SLOT / 2, length: SLOT / 2 },
        step,
        GpuWindow::Rope { table: 0 },
    ];
    let other = (-2.5_f32).to_bits();
    let dispatches = vec![
        dispatch(0, false, 1, sums, Vec::new()),
        dispatch(1, true, max_rows, vec![arena, step, logits], vec![other]),
        dispatch(2, true, 1, vec![step, logits], Vec::new()),
    ];
    GpuEntry { name: name.into(), max_rows, dispatches }
}

fn spirv(wgsl: &str) -> Vec<u8> {
    let module = naga::front::wgsl::parse_str(wgsl).unwrap();
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    let info = validator.validate(&module).unwrap();
    let options = spv::Options {
        lang_version: (1, 6),
        flags: spv::WriterFlags::empty(),
        ..spv::Options::default()
    };
    let words = spv::write_vec(&module, &info, &options, None).unwrap();
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}
