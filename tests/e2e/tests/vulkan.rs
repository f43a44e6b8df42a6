//! Plans on a Vulkan device: against the interpreter, the same bits in any steps, the same tokens
//! with steps queued ahead. Runs on lavapipe, and entries of matrices on the first device that has
//! them; without such a device these tests print `skipped`.

use std::path::Path;
use std::time::Duration;

use onebit_e2e::{Compiled, chunks, compile_bytes, compile_file, normalised_error, run};
use onebit_ir::interp::CacheKind;
use onebit_ir::quant::Format;
use onebit_plan::abi::CacheForm;
use onebit_plan::gpu::GpuFeature;
use onebit_plan::manifest::SegmentKind;
use onebit_rt::driver::vulkan::api::{DeviceInfo, Instance, Validation};
use onebit_rt::driver::vulkan::{Choice, Matrices, VulkanDriver, VulkanOptions};
use onebit_rt::driver::{Driver, Row};
use onebit_test_support::{Random, TINY_ARCHITECTURES, TinyOptions, tiny_model};
use onebit_tokenizer::{EncodeOptions, Tokenizer};
use onebitc::{Options, Vulkan};

/// Codes of 15 bits change a product's squares by about 1e-8, keys and values in f16 by 1e-7; the
/// rest is the order of sums.
const TOLERANCE: f64 = 1e-5;

/// As [`TOLERANCE`], through 30 layers.
const REAL_TOLERANCE: f64 = 1e-4;

/// As [`TOLERANCE`], where products round weights and activations to f16: 3e-4 of a product's size,
/// root mean square, over some ten products.
const MATRIX_TOLERANCE: f64 = 1e-4;

/// As [`TOLERANCE`], where keys and values are 8-bit codes: of those that the tolerance moves some
/// fall to the other side of a rounding, by a 127th of their block's largest, and move more in the
/// next layer.
const CODES_TOLERANCE: f64 = 1e-4;

/// lavapipe's number, or `None` after saying why not.
fn lavapipe() -> Option<usize> {
    find(DeviceInfo::is_lavapipe, "lavapipe")
}

/// The number of a device with matrices of f16, or `None` after saying why not.
fn with_matrices() -> Option<usize> {
    let has = |info: &DeviceInfo| {
        info.lacks.is_empty() && info.features.contains(&GpuFeature::CooperativeF16)
    };
    find(has, "a device with matrices of f16")
}

fn find(wanted: impl Fn(&DeviceInfo) -> bool, what: &str) -> Option<usize> {
    let devices = match Instance::new(Validation::Off).and_then(|instance| instance.devices()) {
        Ok(devices) => devices,
        Err(error) => {
            eprintln!("skipped: {error}");
            return None;
        }
    };
    let found = devices.iter().position(|device| wanted(device.info()));
    if found.is_none() {
        eprintln!("skipped: {what} is not among the {} devices", devices.len());
    }
    found
}

fn driver(compiled: &Compiled, index: usize) -> VulkanDriver {
    driver_with(compiled, index, Matrices::Auto)
}

fn driver_with(compiled: &Compiled, index: usize, matrices: Matrices) -> VulkanDriver {
    let options = VulkanOptions {
        device: Choice::Index(index),
        matrices,
        slots: compiled.plan.manifest().memory.slots,
        burst: Duration::MAX,
        ..VulkanOptions::default()
    };
    VulkanDriver::load(compiled.plan.clone(), &options).expect("the plan loads")
}

fn options(batch: usize, context: usize) -> Options {
    let vulkan = Vulkan::Required;
    Options { batch, context: Some(context), vulkan, ..Options::default() }
}

fn tokens(count: usize, vocabulary: usize) -> Vec<u32> {
    let mut random = Random::new(11);
    (0..count).map(|_| random.below(vocabulary) as u32).collect()
}

#[test]
fn logits_are_the_interpreters() {
    let Some(index) = lavapipe() else { return };
    for arch in TINY_ARCHITECTURES {
        let compiled = compile_bytes(tiny_model(arch, &TinyOptions::default()), &options(8, 64));
        let tokens = tokens(21, compiled.model.vocabulary());
        let reference = compiled.oracle(&chunks(&tokens, 1, 8));
        let found = run(&mut driver(&compiled, index), &chunks(&tokens, 1, 8));
        for (found, reference) in found.iter().zip(&reference) {
            let error = normalised_error(found, reference);
            assert!(error <= TOLERANCE, "{arch}: error {error:.2e} > {TOLERANCE:.0e}");
        }
    }
}

/// Float weights, super-blocks, few bits, and products of one input in two formats.
#[test]
fn formats_give_the_interpreters_logits() {
    let Some(index) = lavapipe() else { return };
    use Format::*;
    for formats in [vec![F16], vec![BF16, F32], vec![Q4K, Q6K], vec![Q1_0, Tq2_0], vec![Iq1S]] {
        let tiny = TinyOptions { formats: formats.clone(), ..TinyOptions::default() };
        let compiled = compile_bytes(tiny_model("llama", &tiny), &options(4, 64));
        let tokens = tokens(9, compiled.model.vocabulary());
        let mut driver = driver(&compiled, index);
        for rows in [1, 4] {
            let steps = chunks(&tokens, 1, rows);
            let (reference, found) = (compiled.oracle(&steps), run(&mut driver, &steps));
            for (found, reference) in found.iter().zip(&reference) {
                let error = normalised_error(found, reference);
                assert!(error <= TOLERANCE, "{formats:?}: error {error:.2e} > {TOLERANCE:.0e}");
            }
        }
    }
}

#[test]
fn steps_change_no_bit() {
    let Some(index) = lavapipe() else { return };
    let compiled = compile_bytes(tiny_model("llama", &TinyOptions::default()), &options(32, 64));
    let tokens = tokens(40, compiled.model.vocabulary());
    let mut driver = driver(&compiled, index);
    let reference = run(&mut driver, &chunks(&tokens, 0, 32)).concat();
    for (slot, rows) in [(1, 1), (2, 4), (3, 7), (4, 16)] {
        let found = run(&mut driver, &chunks(&tokens, slot, rows)).concat();
        assert!(found == reference, "steps of {rows} rows");
    }
}

#[test]
fn rows_of_other_sequences_change_no_bit() {
    let Some(index) = lavapipe() else { return };
    let compiled = compile_bytes(tiny_model("qwen3", &TinyOptions::default()), &options(8, 64));
    let vocabulary = compiled.model.vocabulary();
    let tokens = tokens(12, vocabulary);
    let mut driver = driver(&compiled, index);
    let alone = run(&mut driver, &chunks(&tokens, 0, 1)).concat();
    let together: Vec<Vec<Row>> = (0u32..)
        .zip(&tokens)
        .map(|(position, &token)| {
            let row = |slot: u32| {
                let other = (token as usize + slot as usize) % vocabulary;
                let token = if slot == 3 { token } else { other as u32 };
                Row { token, position, slot, output: slot == 3 }
            };
            (1..8).map(row).collect()
        })
        .collect();
    assert!(run(&mut driver, &together).concat() == alone);
}

/// A cache of 8-bit codes: the interpreter's logits with such a cache, and the same bits in any steps.
#[test]
fn codes_give_the_interpreters_logits() {
    let Some(index) = lavapipe() else { return };
    for arch in ["llama", "qwen3", "gemma3"] {
        let options = Options { kv: CacheForm::Q8, ..options(8, 64) };
        let compiled = compile_bytes(tiny_model(arch, &TinyOptions::default()), &options);
        let tokens = tokens(40, compiled.model.vocabulary());
        let steps = chunks(&tokens, 1, 8);
        let mut driver = driver(&compiled, index);
        let found = run(&mut driver, &steps);
        let error = |kind| {
            let reference = compiled.oracle_with(&steps, kind).concat();
            normalised_error(&found.concat(), &reference)
        };
        let (same, other) = (error(CacheKind::Q8), error(CacheKind::F16));
        assert!(same <= CODES_TOLERANCE, "{arch}: {same:.2e} > {CODES_TOLERANCE:.0e}");
        assert!(other > 3.0 * same, "{arch}: an f16 cache gives {other:.2e}, this one {same:.2e}");
        for (slot, rows) in [(2, 1), (3, 3), (4, 5)] {
            let other = run(&mut driver, &chunks(&tokens, slot, rows)).concat();
            assert!(other == found.concat(), "{arch}, steps of {rows} rows");
        }
    }
}

/// Steps queued ahead pick what one step after the other gives.
#[test]
fn steps_ahead_pick_the_same_tokens() {
    for kv in [CacheForm::F16, CacheForm::Q8] {
        steps_ahead(kv);
    }
}

fn steps_ahead(kv: CacheForm) {
    let Some(index) = lavapipe() else { return };
    let options = Options { kv, ..options(4, 64) };
    let compiled = compile_bytes(tiny_model("gemma3", &TinyOptions::default()), &options);
    let mut driver = driver(&compiled, index);
    let vocabulary = compiled.model.vocabulary();
    let mut row = Row { token: 3, position: 0, slot: 0, output: true };
    let mut expected = Vec::new();
    for _ in 0..20 {
        let logits = run(&mut driver, &[vec![row]]).concat();
        let best = |a: &usize, b: &usize| logits[*a].total_cmp(&logits[*b]).then(b.cmp(a));
        let token = (0..vocabulary).max_by(best).expect("a vocabulary") as u32;
        expected.push(token);
        row = Row { token, position: row.position + 1, ..row };
    }
    let mut found: Vec<u32> = Vec::new();
    let mut row = Row { token: 3, position: 0, slot: 1, output: true };
    while found.len() < expected.len() {
        let mut picks = vec![0; expected.len() - found.len()];
        let most = picks.len();
        let count = driver.decode_ahead(&[row], most, &mut picks).expect("the steps run");
        assert!(count > 0, "the driver looks ahead");
        found.extend(&picks[..count]);
        let position = row.position + count as u32;
        row = Row { token: picks[count - 1], position, ..row };
    }
    assert_eq!(found, expected);
}

/// Steps of many rows come twice: by matrices, before the same by integer dot products.
#[test]
fn plans_have_entries_of_matrices() {
    let compiled = compile_bytes(tiny_model("qwen3", &TinyOptions::default()), &options(24, 64));
    let plan = compiled.plan.manifest().gpu.as_ref().expect("a part for Vulkan");
    let entries = plan.entries.iter().map(|entry| (entry.name.as_str(), entry.max_rows));
    let expected = [
        ("gpu-1", 1),
        ("gpu-batch-4", 4),
        ("gpu-batch-8", 8),
        ("gpu-batch-16-matrices", 16),
        ("gpu-batch-16", 16),
        ("gpu-batch-24-matrices", 24),
        ("gpu-batch-24", 24),
    ];
    assert_eq!(entries.collect::<Vec<_>>(), expected);
    for entry in &plan.entries {
        let kernels = entry.dispatches.iter().map(|it| &plan.kernels[it.kernel as usize]);
        let (matrices, others): (Vec<_>, Vec<_>) =
            kernels.partition(|it| it.modules[0].features.contains(&GpuFeature::CooperativeF16));
        assert_eq!(!matrices.is_empty(), entry.name.ends_with("-matrices"), "{}", entry.name);
        for kernel in matrices {
            let [module] = &kernel.modules[..] else { panic!("{} has a choice", kernel.name) };
            assert_eq!(module.subgroup, Some(32));
            assert!(module.features.contains(&GpuFeature::MemoryModel), "{}", kernel.name);
        }
        let dots = others
            .iter()
            .filter(|kernel| kernel.name.starts_with("product-q") || kernel.name.contains("gated"));
        assert_eq!(dots.count() == 0, entry.name.ends_with("-matrices"), "{}", entry.name);
    }
}

#[test]
fn matrices_are_taken_where_they_are_wanted() {
    let Some(index) = with_matrices() else { return };
    for arch in TINY_ARCHITECTURES {
        let compiled = compile_bytes(tiny_model(arch, &TinyOptions::default()), &options(32, 64));
        let tokens = tokens(45, compiled.model.vocabulary());
        let steps = chunks(&tokens, 0, 32);
        let reference = compiled.oracle(&steps);
        let mut auto = driver_with(&compiled, index, Matrices::Auto);
        if auto.is_uniform() {
            eprintln!("skipped: {}", auto.notes().join("; "));
            return;
        }
        let found = run(&mut auto, &steps);
        for (found, reference) in found.iter().zip(&reference) {
            let error = normalised_error(found, reference);
            assert!(error <= MATRIX_TOLERANCE, "{arch}: {error:.2e} > {MATRIX_TOLERANCE:.0e}");
        }
        let mut never = driver_with(&compiled, index, Matrices::Never);
        assert!(never.is_uniform(), "{arch}");
        let exact = run(&mut never, &steps).concat();
        assert!(exact == run(&mut never, &chunks(&tokens, 1, 1)).concat(), "{arch}");
        assert!(exact != found.concat(), "{arch}: matrices round");
    }
}

/// A model that people use, on text: the device's logits against the interpreter's.
#[test]
fn the_real_model_agrees_with_the_interpreter() {
    let Some(index) = lavapipe() else { return };
    let file = "target/models/SmolLM2-135M-Instruct.Q4_1.gguf";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    if !path.is_file() {
        eprintln!("skipped: {file} is missing; `cargo xtask models` fetches it");
        return;
    }
    let compiled = compile_file(&path, &options(32, 128));
    let vocabulary = compiled.model.vocabulary();
    let tokenizer =
        Tokenizer::from_bytes(compiled.plan.segment(SegmentKind::Tokenizer)).expect("a tokenizer");
    let text = include_str!("../../data/measurement.txt");
    let encode = EncodeOptions { add_special: true, parse_special: false };
    let tokens = tokenizer.encode(&text[..2000], encode);
    let steps = chunks(&tokens[..96], 0, 32);
    let found = run(&mut driver(&compiled, index), &steps).concat();
    let reference = compiled.oracle(&steps).concat();
    let best = |logits: &[f32]| {
        (0..vocabulary).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).expect("a vocabulary")
    };
    let mut same = 0;
    for (found, reference) in found.chunks(vocabulary).zip(reference.chunks(vocabulary)) {
        let error = normalised_error(found, reference);
        assert!(error <= REAL_TOLERANCE, "error {error:.2e} > {REAL_TOLERANCE:.0e}");
        same += usize::from(best(found) == best(reference));
    }
    assert!(same >= 95, "{same} of 96 positions agree");
}
