//! Plans against the interpreter: every architecture and every block format.

use onebit_e2e::{chunks, compile_bytes, normalised_error, run};
use onebit_ir::quant::{FORMATS, Format};
use onebit_test_support::{Random, TINY_ARCHITECTURES, TinyOptions, tiny_model};
use onebitc::Options;

/// Int8 activations with a scale per 32 elements leave about 1e-4 of normalised squared error a
/// product on Gaussian activations; two layers of random weights add a few of them up.
const TOLERANCE: f64 = 2e-3;
/// Float weights meet float activations: what is left is the f16 cache and the order of sums.
const FLOAT_TOLERANCE: f64 = 1e-5;

fn tokens(count: usize, vocabulary: usize) -> Vec<u32> {
    let mut random = Random::new(11);
    (0..count).map(|_| random.below(vocabulary) as u32).collect()
}

fn check(name: &str, bytes: Vec<u8>, tolerance: f64) {
    let options = Options { context: Some(64), ..Options::default() };
    let compiled = compile_bytes(bytes, &options);
    let vocabulary = compiled.model.vocabulary();
    let steps = chunks(&tokens(40, vocabulary), 1, 32);
    let reference = compiled.oracle(&steps);
    let found = run(&mut compiled.driver(2), &steps);
    for (step, (found, reference)) in found.iter().zip(&reference).enumerate() {
        let error = normalised_error(found, reference);
        assert!(error <= tolerance, "{name}: step {step}: error {error:.2e} > {tolerance:.0e}");
    }
}

#[test]
fn every_architecture() {
    for arch in TINY_ARCHITECTURES {
        check(arch, tiny_model(arch, &TinyOptions::default()), TOLERANCE);
    }
}

#[test]
fn every_format() {
    for info in FORMATS {
        let float = matches!(info.format, Format::F32 | Format::F16 | Format::BF16);
        let tolerance = if float { FLOAT_TOLERANCE } else { TOLERANCE };
        check(info.name, tiny_model("llama", &TinyOptions::of_format(info.format)), tolerance);
    }
}
