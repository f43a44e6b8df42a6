//! Plans on a Vulkan device: against the interpreter, the same bits in any steps, the same tokens
//! with steps queued ahead. Runs on lavapipe; without it these tests print `skipped`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use onebit_e2e::{Compiled, chunks, compile_bytes, compile_file, normalised_error, run};
use onebit_ir::quant::Format;
use onebit_plan::manifest::SegmentKind;
use onebit_rt::driver::vulkan::api::{DeviceInfo, Instance, Validation};
use onebit_rt::driver::vulkan::{Choice, VulkanDriver, VulkanOptions};
use onebit_rt::driver::{Driver, Row};
use onebit_test_support::{Random, TINY_ARCHITECTURES, TinyOptions, tiny_model};
use onebit_tokenizer::{EncodeOptions, Tokenizer};
use onebitc::{Options, Vulkan};

/// Codes of 15 bits change a product's squares by about 1e-8, keys and values in f16 by 1e-7; the
/// rest is the order of sums.
const TOLERANCE: f64 = 1e-5;

/// As [`TOLERANCE`], through 30 layers.
const REAL_TOLERANCE: f64 = 1e-4;

/// lavapipe's number, or `None` after saying why not.
fn lavapipe() -> Option<usize> {
    let devices = match Instance::new(Validation::Off).and_then(|instance| instance.devices()) {
        Ok(devices) => devices,
        Err(error) => {
            eprintln!("skipped: {error}");
            return None;
        }
    };
    let found = devices.iter().position(|device| DeviceInfo::is_lavapipe(device.info()));
    if found.is_none() {
        eprintln!("skipped: lavapipe is not among the {} devices", devices.len());
    }
    found
}

fn driver(compiled: &Compiled, index: usize) -> VulkanDriver {
    let options = VulkanOptions {
        device: Choice::Index(index),
        slots: compiled.plan.manifest().memory.slots,
        validation: Validation::Off,
        cache: None,
        burst: Duration::MAX,
    };
    VulkanDriver::load(Arc::clone(&compiled.plan), &options).expect("the plan loads")
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
    for formats in [vec![F16], vec![BF16, F32], vec![Q4K, Q6K], vec![Q1_0, Tq2_0]] {
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

/// Steps queued ahead pick what one step after the other gives.
#[test]
fn steps_ahead_pick_the_same_tokens() {
    let Some(index) = lavapipe() else { return };
    let compiled = compile_bytes(tiny_model("gemma3", &TinyOptions::default()), &options(4, 64));
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
