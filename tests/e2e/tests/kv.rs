//! Plans whose cache keeps 8-bit codes: against the interpreter with such a cache, and against
//! themselves.

use std::path::Path;

use onebit_e2e::{Compiled, chunks, compile_bytes, normalised_error, run};
use onebit_ir::interp::CacheKind;
use onebit_ir::quant::Format;
use onebit_models::Model;
use onebit_models::gguf::GgufFile;
use onebit_plan::abi::CacheForm;
use onebit_rt::driver::Row;
use onebit_test_support::{Random, TINY_ARCHITECTURES, TinyOptions, tiny_model};
use onebitc::schedule::repack::Placement;
use onebitc::{CompileError, Options, Vulkan};

/// Products round their activations; see `oracle.rs`.
const TOLERANCE: f64 = 2e-3;
/// Float weights meet float activations: what is left is a code here and there that falls to the
/// other side, and the order of sums.
const FLOAT_TOLERANCE: f64 = 1e-5;

fn options(kv: CacheForm) -> Options {
    Options { kv, context: Some(96), vulkan: Vulkan::Without, ..Options::default() }
}

fn tokens(count: usize, vocabulary: usize) -> Vec<u32> {
    let mut random = Random::new(17);
    (0..count).map(|_| random.below(vocabulary) as u32).collect()
}

fn compile(arch: &str, tiny: &TinyOptions) -> Compiled {
    compile_bytes(tiny_model(arch, tiny), &options(CacheForm::Q8))
}

/// The largest error of a step against an interpreter with a cache of `kind`.
fn error(compiled: &Compiled, kind: CacheKind) -> f64 {
    let steps = chunks(&tokens(70, compiled.model.vocabulary()), 1, 32);
    let found = run(&mut compiled.driver(2), &steps);
    let reference = compiled.oracle_with(&steps, kind);
    let errors = found.iter().zip(&reference).map(|(found, it)| normalised_error(found, it));
    errors.fold(0.0, f64::max)
}

#[test]
fn codes_give_the_interpreters_logits() {
    for arch in TINY_ARCHITECTURES {
        let error = error(&compile(arch, &TinyOptions::default()), CacheKind::Q8);
        assert!(error <= TOLERANCE, "{arch}: {error:.2e} > {TOLERANCE:.0e}");
    }
    let floats = compile("llama", &TinyOptions::of_format(Format::F32));
    let (same, other) = (error(&floats, CacheKind::Q8), error(&floats, CacheKind::F16));
    assert!(same <= FLOAT_TOLERANCE, "{same:.2e} > {FLOAT_TOLERANCE:.0e}");
    assert!(other > 2.0 * same, "an f16 cache gives {other:.2e}, this one {same:.2e}");
}

#[test]
fn steps_and_threads_change_no_bit() {
    for arch in ["llama", "gemma3"] {
        let compiled = compile(arch, &TinyOptions::default());
        let tokens = tokens(83, compiled.model.vocabulary());
        let reference = run(&mut compiled.driver(2), &chunks(&tokens, 0, 32)).concat();
        for (threads, rows) in [(1, 1), (2, 4), (3, 7), (2, 16)] {
            let found = run(&mut compiled.driver(threads), &chunks(&tokens, 0, rows)).concat();
            assert!(found == reference, "{arch}, {threads} threads, steps of {rows} rows");
        }
    }
}

#[test]
fn batched_sequences_equal_solo_runs() {
    let compiled = compile("qwen3", &TinyOptions::default());
    let vocabulary = compiled.model.vocabulary();
    let texts: Vec<Vec<u32>> = (0..32).map(|slot| tokens(24 + slot, vocabulary)).collect();
    let texts: Vec<&[u32]> = texts.iter().enumerate().map(|(i, text)| &text[i..]).collect();
    let together: Vec<Vec<Row>> = (0..24)
        .map(|position| {
            let row = |(slot, text): (u32, &&[u32])| Row {
                token: text[position],
                position: position as u32,
                slot,
                output: true,
            };
            (0u32..).zip(&texts).map(row).collect()
        })
        .collect();
    let batched = run(&mut compiled.driver(2), &together);
    for (slot, text) in texts.iter().enumerate() {
        let alone = run(&mut compiled.driver(2), &chunks(text, 0, 1)).concat();
        let of_slot = batched.iter().flat_map(|step| &step[slot * vocabulary..][..vocabulary]);
        assert!(of_slot.eq(&alone), "slot {slot}");
    }
}

#[test]
fn plans_for_an_array_keep_codes_too() {
    let array = |kv| {
        let options = Options { placement: Placement::Array, ..options(kv) };
        compile_bytes(tiny_model("llama", &TinyOptions::default()), &options)
    };
    let (codes, halves) = (array(CacheForm::Q8), array(CacheForm::F16));
    let tokens = tokens(40, codes.model.vocabulary());
    let logits = |compiled: &Compiled, rows| {
        run(&mut compiled.driver(2), &chunks(&tokens, 0, rows)).concat()
    };
    let found = logits(&codes, 32);
    assert!(found == logits(&codes, 3));
    let error = normalised_error(&found, &logits(&halves, 32));
    assert!(error > 0.0 && error < TOLERANCE, "{error:.2e}");
}

#[test]
fn a_slot_takes_about_half() {
    let slot = |kv| {
        let compiled = compile_bytes(tiny_model("llama", &TinyOptions::default()), &options(kv));
        let manifest = compiled.plan.manifest();
        let form = format!("kv={}", kv.name());
        assert!(manifest.provenance.options.contains(&form), "{:?}", manifest.provenance.options);
        assert_eq!(manifest.memory.cache, kv);
        manifest.memory.slot
    };
    assert_eq!(slot(CacheForm::Q8) * 32, slot(CacheForm::F16) * 17);
}

#[test]
fn heads_without_whole_blocks_are_refused_by_name() {
    let tiny = TinyOptions { head_dim: 48, ..TinyOptions::default() };
    let file = GgufFile::parse(tiny_model("llama", &tiny)).expect("the model file parses");
    let model = Model::from_file(file).expect("the model builds");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.plan");
    let compile =
        |kv| onebitc::compile(&model, Path::new("model.gguf"), &path, &options(kv), &mut |_, _| {});
    let error = compile(CacheForm::Q8).expect_err("no whole blocks");
    assert!(matches!(error, CompileError::HeadBlocks { layer: 0, found: 48 }), "{error}");
    assert!(error.to_string().contains("--kv f16"), "{error}");
    compile(CacheForm::F16).expect("halves take any head");
}
