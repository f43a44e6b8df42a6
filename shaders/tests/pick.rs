//! Picks on lavapipe, exactly as the step buffer's contract says.

#[path = "common/gpu.rs"]
mod gpu;

use gpu::{Gpu, Memory, Noise};
use onebit_plan::gpu::{GPU_AHEAD, GPU_ROWS, step};
use onebit_shaders::{Immediate, pick};

/// Picks once from `logits`, of as many outputs as the step has.
fn run(gpu: &Gpu, memory: &mut Memory, logits: &[Vec<f32>]) {
    let vocabulary = logits[0].len() as u32;
    let rows = logits.len() as u32;
    memory.logits = logits.iter().flatten().map(|x| x.to_bits()).collect();
    memory.arena.clear();
    let at = memory.room(pick::candidate_bytes(vocabulary, GPU_ROWS as u32) as usize / 4);
    // One row too many: there is no such output.
    let groups = pick::candidate_groups(vocabulary, rows + 1);
    memory.logits.extend(vec![f32::MAX.to_bits(); vocabulary as usize]);
    gpu.run(&pick::candidates(vocabulary), groups, memory, |it| {
        assert_eq!(it, Immediate::Out { index: 0 });
        at
    });
    gpu.run(&pick::winners(vocabulary), [1, 1, 1], memory, |it| {
        assert_eq!(it, Immediate::Partials);
        at
    });
}

/// The lowest token with the largest number.
fn best(logits: &[f32]) -> u32 {
    let mut best: Option<usize> = None;
    for (token, logit) in logits.iter().enumerate().filter(|(_, logit)| !logit.is_nan()) {
        if best.is_none_or(|best| *logit > logits[best]) {
            best = Some(token);
        }
    }
    best.map_or(u32::MAX, |token| token as u32)
}

#[test]
fn random_logits_over_many_cycles() {
    let Some(gpu) = Gpu::open() else { return };
    let mut noise = Noise::new(1);
    for (vocabulary, rows) in [(32, 1), (2048, 3), (2049, 2), (49_152, 2), (5000, GPU_ROWS)] {
        let places: Vec<(u32, u32)> = (0..rows as u32).map(|row| (row, 10 * row)).collect();
        let mut memory = Memory::of_rows(&places);
        let mut wanted = memory.step.clone();
        let cycles = if vocabulary == 32 { GPU_AHEAD + 2 } else { 2 };
        for cycle in 0..cycles {
            // Few distinct values, so that many are equal.
            let row = |_| (0..vocabulary).map(|_| (noise.float() * 4.0).round()).collect();
            let logits: Vec<Vec<f32>> = (0..rows).map(row).collect();
            run(&gpu, &mut memory, &logits);
            for (output, logits) in logits.iter().enumerate() {
                let token = best(logits);
                wanted[step::PICKS + cycle % GPU_AHEAD * GPU_ROWS + output] = token;
                wanted[step::TOKENS + output] = token;
                wanted[step::POSITIONS + output] += 1;
            }
            wanted[step::CYCLE] += 1;
            assert_eq!(memory.step, wanted, "{vocabulary} {rows} {cycle}");
        }
    }
}

#[test]
fn odd_numbers() {
    let Some(gpu) = Gpu::open() else { return };
    let nan = f32::from_bits(0xffc0_0001);
    let row = |pairs: &[(usize, f32)], rest: f32| {
        let mut logits = vec![rest; 4100];
        pairs.iter().for_each(|&(token, logit)| logits[token] = logit);
        logits
    };
    let logits = [
        row(&[], f32::NAN),
        row(&[(4099, f32::NEG_INFINITY)], nan),
        row(&[(7, 0.0), (3, -0.0)], -1.0),
        row(&[(7, f32::INFINITY), (2048, f32::INFINITY), (6, nan)], 1.0),
        row(&[], f32::NEG_INFINITY),
        row(&[(4096, -1e-38), (4097, -1e-40)], -2.0),
        row(&[(0, nan), (2047, 5.0), (2048, 5.0)], -5.0),
    ];
    let tokens = [u32::MAX, 4099, 3, 7, 0, 4097, 2047];
    let rows: Vec<(u32, u32)> = (0..logits.len() as u32 + 1).map(|row| (row, 5)).collect();
    let mut memory = Memory::of_rows(&rows);
    // Row 0 has no output; output i is row i + 1.
    memory.step[step::OUTPUT_ROWS] = logits.len() as u32;
    for i in 0..logits.len() {
        memory.step[step::OUTPUTS + i] = i as u32 + 1;
    }
    memory.step[step::TOKENS] = 77;
    memory.step[step::CYCLE] = 3;
    run(&gpu, &mut memory, &logits);
    for (output, &token) in tokens.iter().enumerate() {
        assert_eq!(memory.step[step::PICKS + 3 * GPU_ROWS + output], token, "output {output}");
        let next = if token == u32::MAX { 0 } else { token };
        assert_eq!(memory.step[step::TOKENS + output + 1], next);
        assert_eq!(memory.step[step::POSITIONS + output + 1], 6);
    }
    assert_eq!((memory.step[step::TOKENS], memory.step[step::POSITIONS]), (77, 5));
    assert_eq!(memory.step[step::CYCLE], 4);
}
