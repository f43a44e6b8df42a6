//! SmolLM2-135M-Instruct Q4_1, a model that people use. `cargo xtask models` fetches it; where it
//! is missing, these tests print `skipped`.

use std::ops::ControlFlow;
use std::path::Path;

use onebit_e2e::{Compiled, chunks, compile_file, run};
use onebit_plan::abi::CacheForm;
use onebit_plan::manifest::SegmentKind;
use onebit_rt::generate::{Finish, Observer, Request, generate};
use onebit_rt::perplexity::score;
use onebit_rt::sampler::Sampling;
use onebit_rt::session::Session;
use onebit_tokenizer::{EncodeOptions, Tokenizer};
use onebitc::Options;

const TEXT: &str = include_str!("../../data/measurement.txt");
/// `llama-perplexity -c 512` of llama.cpp 0c1e57098 on the same model and text, with each form of the
/// cache.
const PEER_PERPLEXITY: [(CacheForm, f64); 2] =
    [(CacheForm::F16, 29.9303), (CacheForm::Q8, 30.0635)];
/// Exact arithmetic gives 29.9338. Rounding activations to int8 moves a token's log-likelihood by
/// less than 0.08 (standard deviation), so the mean over the text's 1530 tokens by less than 0.2 %.
const PERPLEXITY_TOLERANCE: f64 = 0.005;
/// Squared error over squared logits, median over positions; llama.cpp's own are 4.6e-4 to 9.7e-4
/// from exact arithmetic for formats with 32-element blocks.
const LOGITS_TOLERANCE: f64 = 9.7e-4;
/// Share of positions whose most likely token is the oracle's.
const AGREEMENT: f64 = 0.97;
/// At the other positions, how far the oracle's choice may stand above ours: a near-tie, measured
/// against the error of a logit, 1.2 % of the logits' root mean square (the root of the median
/// error above).
const NEAR_TIE: f32 = 0.2;

/// The compiled model, or `None` after saying so.
fn compiled(context: usize) -> Option<Compiled> {
    compiled_with(context, CacheForm::F16)
}

fn compiled_with(context: usize, kv: CacheForm) -> Option<Compiled> {
    let file = "target/models/SmolLM2-135M-Instruct.Q4_1.gguf";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    if !path.is_file() {
        eprintln!("skipped: {file} is missing; `cargo xtask models` fetches it");
        return None;
    }
    Some(compile_file(&path, &Options { context: Some(context), kv, ..Options::default() }))
}

fn tokenizer(compiled: &Compiled) -> Tokenizer<'_> {
    Tokenizer::from_bytes(compiled.plan.segment(SegmentKind::Tokenizer)).expect("a tokenizer")
}

fn encode(compiled: &Compiled, text: &str) -> Vec<u32> {
    let options = EncodeOptions { add_special: true, parse_special: false };
    tokenizer(compiled).encode(text, options)
}

#[test]
fn perplexity_is_that_of_llama_cpp() {
    for (kv, peer) in PEER_PERPLEXITY {
        let Some(compiled) = compiled_with(512, kv) else { return };
        perplexity_is(&compiled, peer);
    }
}

fn perplexity_is(compiled: &Compiled, peer: f64) {
    // llama.cpp drops one final line break of a file, too.
    let tokens = encode(compiled, TEXT.strip_suffix('\n').unwrap_or(TEXT));
    let mut session = Session::new(Box::new(compiled.driver(2)));
    let mut go_on = |_, _: &_| ControlFlow::Continue(());
    let tokenizer = tokenizer(compiled);
    let bos = tokenizer.bos().filter(|_| tokenizer.add_bos_by_default());
    let found = score(&mut session, &tokens, 512, bos, &mut go_on).expect("the text is scored");
    let difference = found.perplexity() / peer - 1.0;
    println!("perplexity {:.4}, {:+.3} %", found.perplexity(), 100.0 * difference);
    assert!(difference.abs() <= PERPLEXITY_TOLERANCE, "{:.4}", found.perplexity());
}

#[test]
fn logits_are_the_interpreters() {
    let Some(compiled) = compiled(512) else { return };
    let steps = chunks(&encode(&compiled, TEXT)[..512], 0, 32);
    let vocabulary = compiled.model.vocabulary();
    let (reference, found) =
        (compiled.oracle(&steps).concat(), run(&mut compiled.driver(2), &steps).concat());
    let mut errors = Vec::new();
    let mut agreed = 0;
    let mut gaps: Vec<f32> = Vec::new();
    for (found, reference) in found.chunks_exact(vocabulary).zip(reference.chunks_exact(vocabulary))
    {
        errors.push(error(found, reference));
        let (choice, right) = (best(found), best(reference));
        agreed += usize::from(choice == right);
        if choice != right {
            gaps.push(reference[right] - reference[choice]);
        }
    }
    errors.sort_by(f64::total_cmp);
    let (median, share) = (errors[errors.len() / 2], agreed as f64 / errors.len() as f64);
    let widest = gaps.iter().copied().fold(0.0, f32::max);
    let count = errors.len();
    println!("median error {median:.2e}, agreement {agreed}/{count}, widest gap {widest:.3}");
    assert!(median <= LOGITS_TOLERANCE, "median error {median:.2e}");
    assert!(share >= AGREEMENT, "agreement {share:.3}");
    assert!(widest <= NEAR_TIE, "gaps {gaps:?}");
}

fn error(found: &[f32], reference: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let error: f64 = found.iter().zip(reference).map(|(a, b)| square(a - b)).sum();
    error / reference.iter().copied().map(square).sum::<f64>()
}

fn best(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).expect("some logits")
}

#[test]
fn prompts_in_a_batch_are_answered_as_alone() {
    let Some(compiled) = compiled(128) else { return };
    let words: Vec<&str> = TEXT.split_whitespace().collect();
    let mut prompts: Vec<Vec<u32>> =
        (1..32).map(|index| encode(&compiled, &words[80 * index..][..index].join(" "))).collect();
    prompts.push(encode(&compiled, "The capital of France is"));
    let together = answers(&compiled, &prompts);
    for (prompt, found) in prompts.iter().zip(&together) {
        assert_eq!(&answers(&compiled, std::slice::from_ref(prompt))[0], found);
    }
    let tokenizer = tokenizer(&compiled);
    let bytes = together[31].iter().flat_map(|&token| tokenizer.token_bytes(token));
    let text = String::from_utf8_lossy(&bytes.copied().collect::<Vec<u8>>()).into_owned();
    assert!(text.contains("Paris"), "{text}");
}

/// Twelve greedy tokens after each prompt, all prompts in one session.
fn answers(compiled: &Compiled, prompts: &[Vec<u32>]) -> Vec<Vec<u32>> {
    let request = |prompt: &Vec<u32>| Request {
        prompt: prompt.clone(),
        sampling: Sampling::GREEDY,
        limit: Some(12),
    };
    let requests: Vec<Request> = prompts.iter().map(request).collect();
    let mut session = Session::new(Box::new(compiled.driver(2)));
    let mut collected = Collected(vec![Vec::new(); prompts.len()]);
    generate(&mut session, &requests, &|_| false, &mut collected).expect("prompts are answered");
    collected.0
}

struct Collected(Vec<Vec<u32>>);

impl Observer for Collected {
    fn token(&mut self, index: usize, token: u32) -> ControlFlow<()> {
        self.0[index].push(token);
        ControlFlow::Continue(())
    }

    fn finished(&mut self, _: usize, why: Finish) {
        assert_eq!(why, Finish::Limit);
    }
}
