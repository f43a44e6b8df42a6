//! A row's result depends on its own sequence only: not on the batch, the chunks or the threads.

use onebit_e2e::{Compiled, chunks, compile_bytes, run};
use onebit_ir::quant::Format;
use onebit_rt::driver::Row;
use onebit_test_support::{Random, TINY_ARCHITECTURES, TinyOptions, tiny_model};
use onebitc::Options;

const FORMATS: [Format; 4] = [Format::Q4_1, Format::Q5_0, Format::Q6K, Format::F16];

fn tiny(arch: &str) -> Compiled {
    let options = TinyOptions { formats: FORMATS.to_vec(), ..TinyOptions::default() };
    let compile = Options { context: Some(96), ..Options::default() };
    compile_bytes(tiny_model(arch, &options), &compile)
}

fn prompt(seed: u64, length: usize, vocabulary: usize) -> Vec<u32> {
    let mut random = Random::new(seed);
    (0..length).map(|_| random.below(vocabulary) as u32).collect()
}

fn argmax(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
    u32::try_from(best.expect("logits are not empty").0).expect("ids fit u32")
}

/// Logits of the prompt's last token, then greedy tokens with all their logits.
fn solo(compiled: &Compiled, threads: usize, prompt: &[u32], count: usize) -> (Vec<u32>, Vec<f32>) {
    let mut driver = compiled.driver(threads);
    let vocabulary = compiled.model.vocabulary();
    let mut logits = run(&mut driver, &chunks(prompt, 0, 32)).concat();
    let mut all = logits.clone();
    let mut tokens = Vec::new();
    for position in prompt.len()..prompt.len() + count {
        let token = argmax(&logits[logits.len() - vocabulary..]);
        tokens.push(token);
        let row = Row { token, position: position as u32, slot: 0, output: true };
        logits = run(&mut driver, &[vec![row]]).concat();
        all.extend_from_slice(&logits);
    }
    (tokens, all)
}

#[test]
fn thread_count_changes_no_bit() {
    for arch in TINY_ARCHITECTURES {
        let compiled = tiny(arch);
        let prompt = prompt(3, 37, compiled.model.vocabulary());
        let reference = solo(&compiled, 1, &prompt, 8);
        for threads in [2, 3, 5] {
            assert!(solo(&compiled, threads, &prompt, 8) == reference, "{arch}, {threads} threads");
        }
    }
}

#[test]
fn prompt_chunks_change_no_bit() {
    for arch in TINY_ARCHITECTURES {
        let compiled = tiny(arch);
        let prompt = prompt(5, 45, compiled.model.vocabulary());
        let reference = run(&mut compiled.driver(2), &chunks(&prompt, 0, 32)).concat();
        for rows in [1, 2, 3, 4, 7, 8, 17] {
            let found = run(&mut compiled.driver(2), &chunks(&prompt, 0, rows)).concat();
            assert!(found == reference, "{arch}, steps of {rows} rows");
        }
    }
}

/// 32 sequences of different lengths share every step; each must give what it gives alone.
#[test]
fn batched_prompts_equal_solo_runs() {
    const COUNT: usize = 6;
    for arch in TINY_ARCHITECTURES {
        let compiled = tiny(arch);
        let vocabulary = compiled.model.vocabulary();
        let prompts: Vec<Vec<u32>> =
            (0..32).map(|slot| prompt(100 + slot, 1 + slot as usize % 23, vocabulary)).collect();
        let batched = batch(&compiled, &prompts, COUNT);
        for (slot, (prompt, found)) in prompts.iter().zip(&batched).enumerate() {
            let (expected, _) = solo(&compiled, 2, prompt, COUNT);
            assert_eq!(found, &expected, "{arch}, slot {slot}");
        }
    }
}

/// Feeds one token of each unfinished prompt, or each sequence's last token, per step.
fn batch(compiled: &Compiled, prompts: &[Vec<u32>], count: usize) -> Vec<Vec<u32>> {
    let mut driver = compiled.driver(2);
    let vocabulary = compiled.model.vocabulary();
    let mut sequences: Vec<Vec<u32>> = prompts.to_vec();
    let mut fed = vec![0usize; prompts.len()];
    let done = |sequences: &[Vec<u32>]| {
        sequences.iter().zip(prompts).all(|(s, p)| s.len() >= p.len() + count)
    };
    while !done(&sequences) {
        let rows: Vec<Row> = (0..prompts.len())
            .filter(|&slot| fed[slot] < sequences[slot].len())
            .filter(|&slot| sequences[slot].len() < prompts[slot].len() + count)
            .map(|slot| Row {
                token: sequences[slot][fed[slot]],
                position: fed[slot] as u32,
                slot: slot as u32,
                output: fed[slot] + 1 == sequences[slot].len(),
            })
            .collect();
        let logits = run(&mut driver, std::slice::from_ref(&rows)).concat();
        for row in &rows {
            fed[row.slot as usize] += 1;
        }
        let outputs = rows.iter().filter(|row| row.output);
        for (row, logits) in outputs.zip(logits.chunks_exact(vocabulary)) {
            sequences[row.slot as usize].push(argmax(logits));
        }
    }
    sequences.iter().zip(prompts).map(|(s, p)| s[p.len()..].to_vec()).collect()
}
