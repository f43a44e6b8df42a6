//! Speed of attention, printed only beside a check of the very output that was timed.
//!
//! * prefill: the last 32 rows of a prompt of 512, as a share of the multiply-add roof that the
//!   same run measures on one core;
//! * decode: one row at position 640, as bytes of cache read a second, over one layer (which
//!   stays in the core's cache) and over so many layers that they do not.
//!
//! Each for a cache of f16 and for one of 8-bit codes, whose decoding is counted as if it read f16.
//!
//! Best of many runs on one thread: other processes only ever add time.

use std::ops::Range;
use std::time::Instant;

use half::f16;
use onebit_cpu::attention;
use onebit_plan::abi::{AttentionFn, AttentionShape, BLOCK, CacheForm, KEY_TILE, StepContext};

/// Largest error against f64, as a share of the largest value; the unit tests say why.
const TOLERANCE: f64 = 4e-6;
const CONTEXT: usize = 1024;

struct Case {
    model: &'static str,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

const CASES: [Case; 4] = [
    Case { model: "SmolLM2 135M", heads: 9, kv_heads: 3, head_dim: 64 },
    Case { model: "Qwen2.5 0.5B", heads: 14, kv_heads: 2, head_dim: 64 },
    Case { model: "Gemma 3 270M", heads: 4, kv_heads: 1, head_dim: 256 },
    Case { model: "Qwen3 0.6B", heads: 16, kv_heads: 8, head_dim: 128 },
];

/// Instruction sets of this CPU, with the flops a second of their multiply-adds.
fn variants() -> Vec<(&'static str, AttentionFn, f64)> {
    #[cfg(target_arch = "x86_64")]
    {
        let mut found: Vec<(_, AttentionFn, _)> = Vec::new();
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq") {
            // SAFETY: the feature was found.
            let roof = unsafe { roof::avx512() };
            found.push(("avx512", attention::avx512::attention, roof));
        }
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            // SAFETY: the features were found.
            let roof = unsafe { roof::avx2() };
            found.push(("avx2", attention::avx2::attention, roof));
        }
        found
    }
    #[cfg(not(target_arch = "x86_64"))]
    vec![("portable", attention::portable::attention, f64::NAN)]
}

#[cfg(target_arch = "x86_64")]
mod roof {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    const ROUNDS: u32 = 200_000;
    const CHAINS: usize = 12;

    fn flops(lanes: f64, seconds: f64) -> f64 {
        f64::from(ROUNDS) * CHAINS as f64 * lanes * 2.0 / seconds
    }

    #[target_feature(enable = "avx512f")]
    pub fn avx512() -> f64 {
        let seconds = super::best_of(20, || {
            let factor = black_box(_mm512_set1_ps(0.5));
            let mut sums = [factor; CHAINS];
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    *sum = _mm512_fmadd_ps(*sum, factor, factor);
                }
            }
            black_box(sums);
        });
        flops(16.0, seconds)
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn avx2() -> f64 {
        let seconds = super::best_of(20, || {
            let factor = black_box(_mm256_set1_ps(0.5));
            let mut sums = [factor; CHAINS];
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    *sum = _mm256_fmadd_ps(*sum, factor, factor);
                }
            }
            black_box(sums);
        });
        flops(8.0, seconds)
    }
}

fn best_of(times: usize, mut run: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..times).map(time).fold(f64::INFINITY, f64::min)
}

fn noise(i: usize) -> f32 {
    let mut x = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((x >> 40) as f32) / (1 << 23) as f32 - 1.0
}

/// Layers of one slot, full of noise, and the rows of one step.
struct Work {
    shape: AttentionShape,
    cache: Vec<u16>,
    layers: usize,
    positions: Vec<i32>,
    slots: Vec<i32>,
    q: Vec<f32>,
    out: Vec<f32>,
}

impl Work {
    fn new(case: &Case, form: CacheForm, layers: usize, positions: Range<i32>) -> Self {
        let half_layer = case.kv_heads * form.head_bytes(CONTEXT, case.head_dim) / 2;
        let width = case.heads * case.head_dim;
        let rows = positions.len();
        let shape = AttentionShape {
            slot_bytes: (4 * half_layer * layers) as u64,
            key_offset: 0,
            value_offset: 2 * half_layer as u64,
            heads: case.heads as u32,
            kv_heads: case.kv_heads as u32,
            key_dim: case.head_dim as u32,
            value_dim: case.head_dim as u32,
            context: CONTEXT as u32,
            window: 0,
            scale: 1.0 / (case.head_dim as f32).sqrt(),
            softcap: 0.0,
            q_stride: width as u32,
            k_stride: 0,
            v_stride: 0,
            out_stride: width as u32,
            form: form.number(),
            reserved: 0,
        };
        let codes = case.kv_heads * CONTEXT * case.head_dim / 2;
        let word = |i: usize| match form {
            CacheForm::Q8 if i % half_layer < codes => (noise(i) * 32767.0) as i16 as u16,
            CacheForm::Q8 => f16::from_f32(noise(i) / 127.0).to_bits(),
            CacheForm::F16 => f16::from_f32(noise(i)).to_bits(),
        };
        Self {
            shape,
            cache: (0..2 * half_layer * layers).map(word).collect(),
            layers,
            slots: vec![0; rows],
            positions: positions.collect(),
            q: (0..rows * width).map(|i| 2.0 * noise(i + 1)).collect(),
            out: vec![f32::NAN; rows * width],
        }
    }

    /// The step's attention in every layer; the output is the last layer's.
    fn run(&mut self, attention: AttentionFn) {
        // SAFETY: the type holds pointers and integers, for which zero is a value.
        let mut context: StepContext = unsafe { std::mem::zeroed() };
        context.cache = self.cache.as_mut_ptr().cast();
        context.slots = self.slots.as_ptr();
        context.positions = self.positions.as_ptr();
        context.rows = self.slots.len() as u32;
        context.threads = 1;
        for layer in 0..self.layers {
            let shape = self.layer(layer);
            // SAFETY: the buffers were sized for this shape and these rows.
            unsafe { attention(&context, &shape, self.q.as_ptr(), self.out.as_mut_ptr()) };
        }
    }

    fn layer(&self, layer: usize) -> AttentionShape {
        let start = 2 * self.shape.value_offset * layer as u64;
        let value_offset = start + self.shape.value_offset;
        AttentionShape { key_offset: start, value_offset, ..self.shape }
    }

    /// Compares the last row's last head in the last layer with f64.
    fn check(&self) {
        let shape = self.layer(self.layers - 1);
        let dim = shape.key_dim as usize;
        let head = shape.kv_heads as usize - 1;
        let half = |at: usize| f16::from_bits(self.cache[at]).to_f64();
        // Element `i` of a region, whose scale, if there are any, is number `scale`.
        let number = |region: u64, i: usize, scale: usize| match shape.cache_form() {
            CacheForm::F16 => half(region as usize / 2 + i),
            CacheForm::Q8 => {
                let code = self.cache[(region as usize + i) / 2].to_le_bytes()[i % 2];
                let scales = region as usize + shape.kv_heads as usize * CONTEXT * dim;
                f64::from(code as i8) * half(scales / 2 + scale)
            }
        };
        let q = &self.q[self.q.len() - dim..];
        let weight = |p: usize| {
            let tile = head * CONTEXT / KEY_TILE + p / KEY_TILE;
            let at = |row: usize| row * KEY_TILE + p % KEY_TILE;
            let scale = |d| at(tile * (dim / BLOCK) + d / BLOCK);
            let key = |d| number(shape.key_offset, at(tile * dim + d), scale(d));
            let dot: f64 = (0..dim).map(|d| f64::from(q[d]) * key(d)).sum();
            (dot * f64::from(shape.scale)).exp()
        };
        let last = *self.positions.last().expect("a step has rows") as usize;
        let weights: Vec<f64> = (0..=last).map(weight).collect();
        let total: f64 = weights.iter().sum();
        for (i, x) in self.out[self.out.len() - dim..].iter().enumerate() {
            let value = |p: usize| {
                let at = (head * CONTEXT + p) * dim + i;
                number(shape.value_offset, at, at / BLOCK)
            };
            let sum: f64 = weights.iter().enumerate().map(|(p, w)| w * value(p)).sum();
            let error = (f64::from(*x) - sum / total).abs();
            assert!(error <= TOLERANCE, "element {i}: {x} for {}", sum / total);
        }
    }

    /// Seconds of one layer, best of `times`; checks what the last run gave.
    fn time(&mut self, attention: AttentionFn, times: usize) -> f64 {
        let seconds = best_of(times, || self.run(attention)) / self.layers as f64;
        self.check();
        seconds
    }
}

/// Times and prints one model's attention.
fn line(case: &Case, form: CacheForm, attention: AttentionFn, roof: f64) {
    let per_position = 4.0 * (case.heads * case.head_dim) as f64;
    let mut prefill = Work::new(case, form, 1, 480..512);
    let seconds = prefill.time(attention, 60);
    let seen: i32 = prefill.positions.iter().map(|p| p + 1).sum();
    let flops = f64::from(seen) * per_position / seconds;
    let share = 100.0 * flops / roof;

    let bytes = 641.0 * 4.0 * (case.kv_heads * case.head_dim) as f64;
    let decode = |layers| Work::new(case, form, layers, 640..641).time(attention, 60);
    println!(
        "  {:14} {:4} prefill {:6.1} GFLOP/s ({share:2.0} % of roof)  decode {:5.1} GB/s hot, {:5.1} GB/s cold",
        case.model,
        form.name(),
        flops / 1e9,
        bytes / decode(1) / 1e9,
        bytes / decode(40) / 1e9,
    );
}

fn main() {
    for (name, attention, roof) in variants() {
        println!("{name}: roof {:.1} GFLOP/s", roof / 1e9);
        for case in &CASES {
            for form in [CacheForm::F16, CacheForm::Q8] {
                line(case, form, attention, roof);
            }
        }
    }
    println!(
        "each figure's output was compared with f64: within {TOLERANCE:e} of the largest value"
    );
}
