//! Formats of less than five bits with storage classes of their own: plans choose the tokens that the
//! interpreter chooses, hold the weights at about the width of the model file, and tell so.

use std::path::Path;

use onebit_e2e::{compile_bytes, run};
use onebit_ir::quant::Format;
use onebit_models::Model;
use onebit_models::gguf::GgufFile;
use onebit_plan::abi::StorageClass;
use onebit_rt::driver::Row;
use onebit_test_support::{Head, Random, TinyOptions, tiny_model};
use onebitc::Options;

/// Format, class, and how many times the bytes of the file the plan's weights may take.
const NARROW: [(Format, StorageClass, f64); 9] = [
    (Format::Q1_0, StorageClass::B1D, 1.0),
    // The file packs five ternary digits in a byte.
    (Format::Tq1_0, StorageClass::T2D, 1.26),
    (Format::Tq2_0, StorageClass::T2D, 1.04),
    // A scale and a minimum for each 16 weights stand for a sign and three bits for each 32.
    (Format::Iq1S, StorageClass::Q2K, 2.01),
    (Format::Q2K, StorageClass::Q2K, 1.2),
    (Format::Q3K, StorageClass::Q3K, 1.06),
    (Format::Mxfp4, StorageClass::M4E, 1.0),
    (Format::Iq4Xs, StorageClass::N4K, 1.03),
    (Format::Iq4Nl, StorageClass::N4D, 1.0),
];
const PROMPT: usize = 12;
const GENERATED: usize = 24;
/// How far the interpreter's choice may stand above another one of the plan's, in root mean squares
/// of the logits: int8 activations move a logit by some 3 % of that in two layers of random weights.
const NEAR_TIE: f32 = 0.1;

fn options(format: Format) -> TinyOptions {
    // With an untied head the most likely token is not the last one again.
    TinyOptions { head: Head::Untied, seed: 3, ..TinyOptions::of_format(format) }
}

fn argmax(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
    u32::try_from(best.expect("logits are not empty").0).expect("ids fit u32")
}

fn steps(tokens: &[u32]) -> Vec<Vec<Row>> {
    let row = |(position, &token)| vec![Row { token, position, slot: 0, output: true }];
    (0u32..).zip(tokens).map(row).collect()
}

/// Where the plan's choice is another one than the interpreter's, by how much that stands above
/// it, in root mean squares of the logits.
fn gap(found: &[f32], reference: &[f32]) -> Option<f32> {
    let [ours, theirs] = [found, reference].map(|logits| argmax(logits) as usize);
    let square = reference.iter().map(|x| x * x).sum::<f32>() / reference.len() as f32;
    (ours != theirs).then(|| (reference[theirs] - reference[ours]) / square.sqrt())
}

#[test]
fn tokens_are_the_interpreters() {
    for (format, ..) in NARROW {
        let compile = Options { context: Some(64), ..Options::default() };
        let compiled = compile_bytes(tiny_model("llama", &options(format)), &compile);
        let mut random = Random::new(5);
        let vocabulary = compiled.model.vocabulary();
        let mut tokens: Vec<u32> = (0..PROMPT).map(|_| random.below(vocabulary) as u32).collect();
        for _ in 0..GENERATED {
            let reference = compiled.oracle(&steps(&tokens));
            tokens.push(argmax(reference.last().expect("a step")));
        }
        let reference = compiled.oracle(&steps(&tokens));
        let found = run(&mut compiled.driver(2), &steps(&tokens));
        let gaps: Vec<f32> = found.iter().zip(&reference).filter_map(|(a, b)| gap(a, b)).collect();
        assert!(gaps.iter().all(|&gap| gap <= NEAR_TIE), "{format}: {gaps:?}");
        let agreed = tokens.len() - gaps.len();
        assert!(agreed * 10 >= tokens.len() * 9, "{format}: {agreed} of {}", tokens.len());
        let mut different = tokens.split_off(PROMPT);
        different.sort_unstable();
        different.dedup();
        assert!(
            different.len() > 3,
            "{format}: a text of few tokens proves nothing: {different:?}"
        );
    }
}

#[test]
fn weights_keep_the_width_of_the_file() {
    for (format, class, most) in NARROW {
        let bytes = tiny_model("llama", &options(format));
        let model = Model::from_file(GgufFile::parse(bytes).expect("it parses")).expect("a model");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let plan = folder.path().join("model.plan");
        let options = Options { context: Some(64), ..Options::default() };
        let report = onebitc::compile(&model, Path::new("m.gguf"), &plan, &options, &mut |_, _| {})
            .expect("the model compiles");
        for weight in &report.manifest.weights {
            assert_eq!(weight.class, class, "{format}: {:?}", weight.tensors);
            let elements = f64::from(weight.rows) * f64::from(weight.columns);
            let in_file = elements * format.block_bytes() as f64 / format.block_len() as f64;
            let ratio = weight.bytes as f64 / in_file;
            assert!(ratio <= most, "{format}: {:?} {ratio:.3}", weight.tensors);
        }
        let text = report.to_string();
        assert!(text.contains(&format!("{class:?}").to_lowercase()), "{text}");
        assert!(!text.contains("stand-in"), "{format} has a class of its own: {text}");
    }
}
