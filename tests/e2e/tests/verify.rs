//! Golden vectors: plans as they are compiled agree with them, and each fault that is put into one
//! is found, and named by the node of the graph where it is.

use std::collections::BTreeMap;

use onebit_cpu::Kernels;
use onebit_e2e::{Compiled, compile_bytes};
use onebit_ir::quant::{FORMATS, Format};
use onebit_plan::abi::{AttentionShape, CacheForm};
use onebit_plan::golden::Golden;
use onebit_plan::manifest::{Manifest, SegmentKind, WeightRecord};
use onebit_plan::trust::AllowedPlan;
use onebit_plan::{PlanFile, PlanWriter};
use onebit_rt::driver::cpu::{CpuDriver, CpuOptions};
use onebit_rt::driver::npu;
use onebit_rt::driver::vulkan::api::{Instance, Validation};
use onebit_rt::driver::vulkan::{VulkanDriver, VulkanOptions};
use onebit_rt::verify::tolerance::Arithmetic;
use onebit_rt::verify::{self, Divergence, Stage, SumCheck};
use onebit_test_support::{TINY_ARCHITECTURES, TinyOptions, tiny_model};
use onebitc::Options;
use onebitc::schedule::repack::Placement;

fn compiled(bytes: Vec<u8>, placement: Placement) -> Compiled {
    compile_bytes(bytes, &Options { context: Some(64), placement, ..Options::default() })
}

/// A plan whose cache keeps 8-bit codes.
fn with_codes(bytes: Vec<u8>) -> Compiled {
    let kv = CacheForm::Q8;
    compile_bytes(bytes, &Options { context: Some(64), kv, ..Options::default() })
}

fn golden(plan: &PlanFile) -> Golden {
    plan.golden().expect("golden vectors are well-formed").expect("a compiled plan has them")
}

fn sums(plan: &PlanFile) -> Vec<SumCheck> {
    verify::sums(plan, &golden(plan), &Kernels::detect()).expect("weights have their shapes")
}

fn on_cpu(plan: &AllowedPlan) -> Vec<Stage> {
    let options = CpuOptions { threads: std::num::NonZeroUsize::new(2), slots: 1 };
    let mut driver = CpuDriver::load(plan.clone(), options).expect("the plan loads");
    let tolerance = Arithmetic::of_cpu(plan.manifest()).tolerance();
    verify::steps(&mut driver, &golden(plan), tolerance).expect("the steps run")
}

/// `None` where there is no Vulkan device.
fn on_vulkan(plan: &AllowedPlan) -> Option<Vec<Stage>> {
    let devices = Instance::new(Validation::Off).and_then(|it| it.devices()).unwrap_or_default();
    if !devices.iter().any(|device| device.info().lacks.is_empty()) {
        println!("skipped: no Vulkan device");
        return None;
    }
    let mut driver = VulkanDriver::load(plan.clone(), &VulkanOptions::default())
        .expect("the plan loads on the device");
    let tolerance = Arithmetic::of_gpu(plan.manifest()).tolerance();
    Some(verify::steps(&mut driver, &golden(plan), tolerance).expect("the steps run"))
}

fn first(stages: &[Stage]) -> Option<&Divergence> {
    stages.iter().find_map(|stage| stage.comparison.divergence.as_ref())
}

fn assert_agrees(name: &str, stages: &[Stage]) {
    assert!(stages.iter().any(|stage| stage.rows == 1), "{name}: steps of one row");
    for Stage { rows, comparison } in stages {
        assert!(comparison.values > 5, "{name}: {} values", comparison.values);
        let divergence = &comparison.divergence;
        assert!(divergence.is_none(), "{name}, {rows} rows: {divergence:?}");
    }
}

#[test]
fn every_architecture_agrees_with_its_golden_vectors() {
    for arch in TINY_ARCHITECTURES {
        let compiled = compiled(tiny_model(arch, &TinyOptions::default()), Placement::Cpu);
        assert!(sums(&compiled.plan).iter().all(|check| check.sums > 0 && check.wrong.is_none()));
        assert_agrees(arch, &on_cpu(&compiled.plan));
        if let Some(stages) = on_vulkan(&compiled.plan) {
            assert_agrees(arch, &stages);
        }
    }
}

#[test]
fn a_cache_of_codes_agrees_with_its_golden_vectors() {
    for arch in TINY_ARCHITECTURES {
        let compiled = with_codes(tiny_model(arch, &TinyOptions::default()));
        assert_agrees(arch, &on_cpu(&compiled.plan));
        if let Some(stages) = on_vulkan(&compiled.plan) {
            assert_agrees(arch, &stages);
        }
    }
}

#[test]
fn every_format_has_exact_sums() {
    for info in FORMATS {
        let model = tiny_model("llama", &TinyOptions::of_format(info.format));
        let compiled = compiled(model, Placement::Cpu);
        let manifest = compiled.plan.manifest();
        let found = sums(&compiled.plan);
        for record in &manifest.weights {
            let class = format!("{:?}", record.class);
            assert!(found.iter().any(|check| check.class == class), "{}: no {class}", info.name);
        }
        for check in &found {
            assert!(check.sums >= 240 && check.wrong.is_none(), "{}: {check:?}", info.name);
        }
        assert_agrees(info.name, &on_cpu(&compiled.plan));
    }
}

#[test]
fn products_for_an_array_agree_on_the_cpu_and_on_the_array() {
    let compiled = compiled(tiny_model("llama", &TinyOptions::default()), Placement::Array);
    assert!(compiled.plan.manifest().array.is_some());
    assert_agrees("array", &on_cpu(&compiled.plan));
    let plan = &compiled.plan;
    let configuration = plan.segment(SegmentKind::ArrayConfiguration);
    let context = npu::open(npu::Device::Emulator, configuration).expect("the emulator opens");
    let options = CpuOptions { threads: std::num::NonZeroUsize::new(2), slots: 1 };
    let mut driver = CpuDriver::load_with_array(plan.clone(), options, context)
        .expect("the plan loads with its array");
    let tolerance = Arithmetic::of_cpu(plan.manifest()).tolerance();
    let stages = verify::steps(&mut driver, &golden(plan), tolerance).expect("the steps run");
    assert_agrees("emulated array", &stages);
}

/// A plan with other bytes, hashed anew: nothing but what it computes tells.
fn altered(
    compiled: &Compiled,
    alter: impl FnOnce(&mut Manifest, &mut BTreeMap<usize, Vec<u8>>),
) -> AllowedPlan {
    let mut manifest = compiled.plan.manifest().clone();
    let kinds: Vec<SegmentKind> = manifest.segments.iter().map(|it| it.kind).collect();
    let mut bytes: BTreeMap<usize, Vec<u8>> =
        kinds.iter().map(|&kind| (kind as usize, compiled.plan.segment(kind).to_vec())).collect();
    alter(&mut manifest, &mut bytes);
    let path = compiled.folder.path().join("altered.plan");
    let mut writer = PlanWriter::create(&path).expect("the folder is there");
    for kind in kinds {
        writer.begin_segment(kind).expect("a segment begins");
        writer.write(&bytes[&(kind as usize)]).expect("bytes are written");
        writer.end_segment().expect("a segment ends");
    }
    writer.finish(manifest).expect("the altered plan is well-formed");
    let plan = PlanFile::open(&path).expect("the altered plan opens");
    plan.verify_weights().expect("its hashes are right");
    AllowedPlan::untrusted(plan)
}

fn record<'m>(manifest: &'m Manifest, tensor: &str) -> &'m WeightRecord {
    let found = manifest.weights.iter().find(|it| it.tensors.iter().any(|name| name == tensor));
    found.unwrap_or_else(|| panic!("no weight {tensor}"))
}

fn q4_0() -> Compiled {
    compiled(tiny_model("llama", &TinyOptions::of_format(Format::Q4_0)), Placement::Cpu)
}

#[test]
fn a_damaged_weight_is_named() {
    let compiled = q4_0();
    let plan = altered(&compiled, |manifest, bytes| {
        let record = record(manifest, "blk.1.ffn_down.weight");
        let weights = bytes.get_mut(&(SegmentKind::Weights as usize)).expect("weights");
        // Codes of a tenth of the rows become others; scales stay.
        let tile = onebit_cpu::tile_bytes(record.class, record.columns as usize);
        let start = record.offset as usize;
        for block in weights[start..start + 2 * tile].chunks_exact_mut(288) {
            block[..256].iter_mut().for_each(|byte| *byte = !*byte);
        }
    });
    let stages = on_cpu(&plan);
    assert!(stages.iter().all(|stage| stage.comparison.divergence.is_some()));
    let node = &first(&stages).expect("it is found").node;
    assert_eq!(node, "linear blk.1.ffn_down.weight");
    if let Some(stages) = on_vulkan(&plan) {
        // The product is added to the residual in one dispatch; the sum is the first that is seen.
        let divergence = first(&stages).expect("it is found");
        assert!(["linear blk.1.ffn_down.weight", "add"].contains(&&*divergence.node));
    }
}

#[test]
fn a_wrong_row_scale_is_named() {
    let compiled = q4_0();
    let plan = altered(&compiled, |manifest, bytes| {
        let record = record(manifest, "blk.0.attn_output.weight");
        let weights = bytes.get_mut(&(SegmentKind::Weights as usize)).expect("weights");
        let tile = onebit_cpu::tile_bytes(record.class, record.columns as usize);
        let start = record.offset as usize;
        for block in weights[start..start + tile].chunks_exact_mut(288) {
            // The f16 of lane 3 times 16.
            let scale = &mut block[256 + 2 * 3..][..2];
            let bits = u16::from_le_bytes([scale[0], scale[1]]) + (4 << 10);
            scale.copy_from_slice(&bits.to_le_bytes());
        }
    });
    let stages = on_cpu(&plan);
    let node = &first(&stages).expect("it is found").node;
    assert_eq!(node, "linear blk.0.attn_output.weight");
}

#[test]
fn code_that_calls_attention_wrongly_is_named() {
    let compiled = q4_0();
    let plan = altered(&compiled, |_, bytes| {
        let code = bytes.get_mut(&(SegmentKind::CpuCode as usize)).expect("code");
        let size = size_of::<AttentionShape>();
        let mut shapes = Vec::new();
        for at in (0..code.len() - size).step_by(64) {
            let shape: AttentionShape = bytemuck::pod_read_unaligned(&code[at..at + size]);
            let fits = (shape.heads, shape.kv_heads, shape.key_dim, shape.context);
            // The second layer's keys do not begin the cache.
            if fits == (4, 2, 64, 64) && shape.key_offset > 0 {
                shapes.push((at, shape));
            }
        }
        assert_eq!(shapes.len(), 2, "one for each entry");
        for (at, mut shape) in shapes {
            shape.scale *= -4.0;
            code[at..at + size].copy_from_slice(bytemuck::bytes_of(&shape));
        }
    });
    let stages = on_cpu(&plan);
    assert_eq!(first(&stages).expect("it is found").node, "attention of layer 1");
}

#[test]
fn a_kernel_with_another_sum_is_found() {
    let compiled = q4_0();
    let plan = altered(&compiled, |manifest, bytes| {
        // The first matrix of the class is the one whose sums are noted. A kernel that mistakes
        // one code of a lane is one that reads another matrix.
        let record = manifest.weights.iter().find(|it| format!("{:?}", it.class) == "Q4D");
        let weights = bytes.get_mut(&(SegmentKind::Weights as usize)).expect("weights");
        let start = record.expect("the model is of Q4_0").offset as usize;
        let tile = onebit_cpu::tile_bytes(onebit_plan::abi::StorageClass::Q4D, 256);
        for block in weights[start..start + tile].chunks_exact_mut(288) {
            // One step of the low nibbles of lane 5, in the first line.
            block[5 * 4..5 * 4 + 4].iter_mut().for_each(|byte| *byte ^= 1);
        }
    });
    let checks = sums(&plan);
    let wrong = checks.iter().find_map(|check| check.wrong.as_ref()).expect("it is found");
    assert_eq!(wrong.row, 5);
    assert!((f64::from(wrong.expected) - wrong.found).abs() >= 0.9, "{wrong:?}");
}

#[test]
fn a_shader_that_is_wrong_is_named() {
    let compiled = q4_0();
    if on_vulkan(&compiled.plan).is_none() {
        return;
    }
    let plan = altered(&compiled, |manifest, bytes| {
        let gpu = manifest.gpu.as_ref().expect("a part for Vulkan");
        let one = gpu.entries.iter().find(|entry| entry.max_rows == 1).expect("one row");
        let dispatch = one.dispatches.iter().find(|it| it.region == "@blk.0.ffn_down");
        let kernel = dispatch.expect("a product of the first layer").kernel;
        let shaders = bytes.get_mut(&(SegmentKind::Shaders as usize)).expect("shaders");
        for module in &gpu.kernels[kernel as usize].modules {
            let range = module.offset as usize..(module.offset + module.length) as usize;
            subtract(&mut shaders[range]);
        }
    });
    let stages = on_vulkan(&plan).expect("there was a device");
    let alone = stages.iter().find(|stage| stage.rows == 1).expect("steps of one row");
    let divergence = alone.comparison.divergence.as_ref().expect("it is found");
    // The dispatch leaves the product with the residual: the layer's last value.
    assert!(divergence.node.contains("blk.0.ffn_down") || divergence.node == "add");
    let many = stages.iter().find(|stage| stage.rows == 8).expect("steps of eight rows");
    assert!(many.comparison.divergence.is_none(), "another kernel does these");
}

/// Turns every addition of floats into a subtraction.
fn subtract(module: &mut [u8]) {
    const ADD: u16 = 129;
    const SUBTRACT: u16 = 131;
    let mut at = 20;
    while at < module.len() {
        let opcode = u16::from_le_bytes([module[at], module[at + 1]]);
        let words = u16::from_le_bytes([module[at + 2], module[at + 3]]);
        if opcode == ADD {
            module[at..at + 2].copy_from_slice(&SUBTRACT.to_le_bytes());
        }
        at += 4 * usize::from(words);
    }
}
