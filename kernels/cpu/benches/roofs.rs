//! What the machine can do: memory read bandwidth and int8 multiply-add rate.

use std::hint::black_box;
use std::time::Instant;

/// Bytes a second when `threads` threads read disjoint parts of `bytes`.
pub fn read_bandwidth(bytes: &[u8], threads: usize) -> f64 {
    let start = Instant::now();
    std::thread::scope(|scope| {
        let mut parts = bytes.chunks(bytes.len().div_ceil(threads));
        let own = parts.next();
        for part in parts {
            scope.spawn(move || black_box(sum(part)));
        }
        black_box(own.map(sum));
    });
    bytes.len() as f64 / start.elapsed().as_secs_f64()
}

/// Operations a second (a multiply and an add are two) of `threads` threads at once, with the
/// widest int8 instruction this CPU has; 0 where it has none.
pub fn int8_operations(threads: usize) -> f64 {
    const ROUNDS: u32 = 200_000;
    let start = Instant::now();
    let operations: u64 = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(|| dot_products(ROUNDS))).collect();
        let own = dot_products(ROUNDS);
        own + others.into_iter().map(|thread| thread.join().expect("no panic")).sum::<u64>()
    });
    operations as f64 / start.elapsed().as_secs_f64()
}

fn sum(bytes: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the feature was found.
        return unsafe { x86::sum(bytes) };
    }
    let words = bytes.chunks_exact(8).filter_map(|word| word.try_into().ok());
    words.map(u64::from_le_bytes).fold(0, u64::wrapping_add)
}

fn dot_products(rounds: u32) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512vnni") {
        // SAFETY: the feature was found.
        return unsafe { x86::dot_products(rounds) };
    }
    black_box(rounds);
    0
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Sums all 64-bit words, as eight streams: a core reads them faster than one.
    #[target_feature(enable = "avx512f")]
    pub fn sum(bytes: &[u8]) -> u64 {
        const STEP: usize = 256;
        let mut sums = [_mm512_setzero_si512(); 4];
        let run = bytes.len() / 8 / STEP * STEP;
        for at in (0..run).step_by(STEP) {
            for stream in 0..8 {
                for (i, sum) in sums.iter_mut().enumerate() {
                    let line = bytes.as_ptr().wrapping_add(stream * run + at + 64 * i);
                    // SAFETY: line i of four, in the stream's run.
                    *sum = _mm512_add_epi64(*sum, unsafe { _mm512_loadu_si512(line.cast()) });
                }
            }
        }
        sums.iter().map(|sum| _mm512_reduce_add_epi64(*sum).cast_unsigned()).fold(0, |a, b| a ^ b)
    }

    /// Runs 12 independent chains of `vpdpbusd`; returns the operations done.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub fn dot_products(rounds: u32) -> u64 {
        let mut sums = [_mm512_setzero_si512(); 12];
        let a = black_box(_mm512_set1_epi8(3));
        let b = black_box(_mm512_set1_epi8(5));
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
            }
        }
        black_box(sums);
        u64::from(rounds) * 12 * 64 * 2
    }
}
