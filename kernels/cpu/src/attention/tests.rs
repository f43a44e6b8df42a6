//! Attention against an f64 reference, and bit for bit against itself: across instruction sets,
//! teams and groupings of rows.

use half::f16;
use onebit_plan::abi::{
    AttentionFn, AttentionShape, BLOCK, CacheForm, KEY_TILE, KvWriteFn, StepContext,
};

use super::isa::{Isa, LANES};
use super::{math, portable};

/// Largest error of an output element, as a share of the largest value that the row sees: f32
/// sums of up to 256 products make scores off by a few 1e-6, and weights by as much.
const TOLERANCE: f64 = 4e-6;
/// Units in the last place, see [`math::exp`] and [`math::tanh`].
const EXP_ULPS: f64 = 2.0;
const TANH_ULPS: f64 = 4.0;

/// An f16 NaN fills cache that no row has written, to show what reads it.
const POISON: u16 = 0x7e00;

#[derive(Clone, Copy)]
struct InstructionSet {
    name: &'static str,
    attention: AttentionFn,
    kv_write: KvWriteFn,
}

/// The instruction sets of this CPU; the portable one comes first.
fn instruction_sets() -> Vec<InstructionSet> {
    let mut sets = vec![InstructionSet {
        name: "portable",
        attention: portable::attention,
        kv_write: portable::kv_write,
    }];
    #[cfg(target_arch = "x86_64")]
    {
        use super::{avx2, avx512};
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            sets.push(InstructionSet {
                name: "avx2",
                attention: avx2::attention,
                kv_write: avx2::kv_write,
            });
        }
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq") {
            sets.push(InstructionSet {
                name: "avx512",
                attention: avx512::attention,
                kv_write: avx512::kv_write,
            });
        }
    }
    sets
}

/// Uniform in -1..1, a pure function of its arguments.
fn noise(seed: u64, i: u64) -> f32 {
    let mut x = (seed << 40) ^ i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x >> 40) as f32) / (1 << 23) as f32 - 1.0
}

#[derive(Clone, Copy)]
struct Dims {
    heads: u32,
    kv_heads: u32,
    key_dim: u32,
    value_dim: u32,
    window: u32,
    softcap: f32,
    form: CacheForm,
}

const fn dims(heads: u32, kv_heads: u32, head_dim: u32) -> Dims {
    let form = CacheForm::F16;
    Dims { heads, kv_heads, key_dim: head_dim, value_dim: head_dim, window: 0, softcap: 0.0, form }
}

/// SmolLM2 135M, Qwen2.5 0.5B, Gemma 3 270M, Qwen3 0.6B, and odd ones.
const SHAPES: [Dims; 8] = [
    dims(9, 3, 64),
    dims(14, 2, 64),
    dims(4, 1, 256),
    dims(16, 8, 128),
    Dims { window: 70, ..dims(4, 1, 256) },
    Dims { softcap: 5.0, ..dims(8, 4, 96) },
    Dims { value_dim: 40, window: 33, softcap: 30.0, ..dims(6, 2, 72) },
    dims(5, 5, 80),
];

/// All shapes in both forms of the cache, as far as these take them.
fn shapes() -> Vec<Dims> {
    let whole = |dim: u32| dim.is_multiple_of(BLOCK as u32);
    let codes = SHAPES.iter().filter(|dims| whole(dims.key_dim) && whole(dims.value_dim));
    let codes = codes.map(|dims| Dims { form: CacheForm::Q8, ..*dims });
    let odd = Dims { value_dim: 96, window: 33, softcap: 30.0, ..dims(6, 2, 32) };
    let odd = Dims { form: CacheForm::Q8, ..odd };
    SHAPES.into_iter().chain(codes).chain([odd]).collect()
}

const SLOTS: usize = 3;
const CONTEXT: usize = 208;

/// A row of a step.
type Row = (i32, i32);

/// A cache with a layer in it, and the functions under test.
struct Layer {
    shape: AttentionShape,
    cache: Vec<u16>,
    set: InstructionSet,
}

impl Layer {
    fn new(dims: Dims, set: InstructionSet) -> Self {
        let of_all = |dim| dims.kv_heads as usize * dims.form.head_bytes(CONTEXT, dim) / 2;
        let keys = of_all(dims.key_dim as usize);
        let values = of_all(dims.value_dim as usize);
        let shape = AttentionShape {
            slot_bytes: 2 * (keys + values + 64) as u64,
            key_offset: 64,
            value_offset: 2 * (keys + 64) as u64,
            heads: dims.heads,
            kv_heads: dims.kv_heads,
            key_dim: dims.key_dim,
            value_dim: dims.value_dim,
            context: CONTEXT as u32,
            window: dims.window,
            scale: 3.0 / (dims.key_dim as f32).sqrt(),
            softcap: dims.softcap,
            q_stride: dims.heads * dims.key_dim + 3,
            k_stride: dims.kv_heads * dims.key_dim + 5,
            v_stride: dims.kv_heads * dims.value_dim + 7,
            out_stride: dims.heads * dims.value_dim + 9,
            form: dims.form.number(),
            reserved: 0,
        };
        Self { shape, cache: vec![POISON; SLOTS * (keys + values + 64)], set }
    }

    fn context(&mut self, slots: &[i32], positions: &[i32]) -> StepContext {
        // SAFETY: the type holds pointers and integers, for which zero is a value.
        let mut context: StepContext = unsafe { std::mem::zeroed() };
        context.cache = self.cache.as_mut_ptr().cast();
        context.slots = slots.as_ptr();
        context.positions = positions.as_ptr();
        context.rows = slots.len() as u32;
        context.threads = 1;
        context
    }

    /// Writes the rows' keys and values, from two threads' shares in turn.
    fn store(&mut self, rows: &[Row]) {
        let shape = self.shape;
        let k = inputs(rows, shape.k_stride, 1);
        let v = inputs(rows, shape.v_stride, 2);
        let (slots, positions): (Vec<_>, Vec<_>) = rows.iter().copied().unzip();
        let context = self.context(&slots, &positions);
        let (middle, end) = (rows.len() as u32 / 2, rows.len() as u32);
        for (r0, r1) in [(0, middle), (middle, end)] {
            // SAFETY: all arguments were sized for the rows above.
            unsafe { (self.set.kv_write)(&context, &shape, k.as_ptr(), v.as_ptr(), r0, r1) };
        }
    }

    /// Attention of the rows, by a team of so many threads (one after the other).
    fn attend(&mut self, rows: &[Row], threads: u32) -> Vec<Vec<f32>> {
        let shape = self.shape;
        let q = inputs(rows, shape.q_stride, 3);
        let (slots, positions): (Vec<_>, Vec<_>) = rows.iter().copied().unzip();
        let mut context = self.context(&slots, &positions);
        context.threads = threads;
        let stride = shape.out_stride as usize;
        let mut out = vec![f32::NAN; rows.len() * stride];
        for thread in 0..threads {
            context.thread = thread;
            // SAFETY: all arguments were sized for the rows above.
            unsafe { (self.set.attention)(&context, &shape, q.as_ptr(), out.as_mut_ptr()) };
        }
        let width = (shape.heads * shape.value_dim) as usize;
        for row in out.chunks(stride) {
            assert!(row[width..].iter().all(|x| x.is_nan()), "wrote between rows");
        }
        out.chunks(stride).map(|row| row[..width].to_vec()).collect()
    }
}

/// Floats of a row's q, k or v: fixed by slot, position and `what`.
fn inputs(rows: &[Row], stride: u32, what: u64) -> Vec<f32> {
    let row = |&(slot, position): &Row| {
        let seed = what * 1_000_003 + slot as u64 * 10_007 + position as u64;
        (0..u64::from(stride)).map(move |i| noise(seed, i))
    };
    rows.iter().flat_map(row).collect()
}

/// An operand's row as the cache gives it back: `heads` heads of `dim` elements, and the rest.
fn kept(form: CacheForm, row: &[f32], heads: usize, dim: usize) -> Vec<f64> {
    let number = |x: f32| f64::from(x);
    match form {
        CacheForm::F16 => row.iter().map(|&x| f16::from_f32(x).to_f64()).collect(),
        CacheForm::Q8 => {
            let block = |block: &[f32]| {
                let most = block.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                let mut scale = f16::from_f32(most / 127.5);
                while scale.to_f32() < most * (1.0 / 127.0) {
                    scale = f16::from_bits(scale.to_bits() + 1);
                }
                let code = |x: f32| f64::from((x * (1.0 / scale.to_f32())).round_ties_even());
                block.iter().map(|&x| code(x) * scale.to_f64()).collect::<Vec<_>>()
            };
            let (kept, rest) = row.split_at(heads * dim);
            kept.chunks(BLOCK).flat_map(block).chain(rest.iter().copied().map(number)).collect()
        }
    }
}

/// One row of attention in f64, and the largest value it could return.
fn reference(shape: &AttentionShape, row: Row) -> (Vec<f64>, f64) {
    let (slot, position) = row;
    let first = match shape.window as i32 {
        0 => 0,
        window => (position - window + 1).max(0),
    };
    let seen: Vec<Row> = (first..=position).map(|p| (slot, p)).collect();
    let (key_dim, value_dim) = (shape.key_dim as usize, shape.value_dim as usize);
    let kept = |stride: u32, what, dim| -> Vec<f64> {
        let (form, heads) = (shape.cache_form(), shape.kv_heads as usize);
        let rows = inputs(&seen, stride, what);
        rows.chunks(stride as usize).flat_map(|row| kept(form, row, heads, dim)).collect()
    };
    let k = kept(shape.k_stride, 1, key_dim);
    let v = kept(shape.v_stride, 2, value_dim);
    let q = inputs(&[row], shape.q_stride, 3);
    let mut out = Vec::new();
    for head in 0..shape.heads as usize {
        let kv_head = head / (shape.heads / shape.kv_heads) as usize;
        let q = &q[head * key_dim..][..key_dim];
        let score = |k: &[f64]| {
            let k = &k[kv_head * key_dim..];
            let dot: f64 = q.iter().zip(k).map(|(q, k)| f64::from(*q) * k).sum();
            let (score, cap) = (dot * f64::from(shape.scale), f64::from(shape.softcap));
            if cap == 0.0 { score } else { cap * (score / cap).tanh() }
        };
        let scores: Vec<f64> = k.chunks(shape.k_stride as usize).map(score).collect();
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
        let total: f64 = weights.iter().sum();
        for i in 0..value_dim {
            let value = |p: usize| v[p * shape.v_stride as usize + kv_head * value_dim + i];
            let sum: f64 = weights.iter().enumerate().map(|(p, w)| w * value(p)).sum();
            out.push(sum / total);
        }
    }
    (out, v.iter().fold(0.0, |most, v| v.abs().max(most)))
}

fn rows(slot: i32, positions: std::ops::Range<i32>) -> Vec<Row> {
    positions.map(|p| (slot, p)).collect()
}

/// Slots with their positions; rows of a prompt cross tile and block bounds.
fn mixed_step() -> Vec<Row> {
    [rows(1, 0..1), rows(0, 57..83), rows(2, 206..207)].concat()
}

fn filled(dims: Dims, set: InstructionSet) -> Layer {
    let mut layer = Layer::new(dims, set);
    layer.store(&[rows(0, 0..130), rows(1, 0..66), rows(2, 0..207)].concat());
    layer
}

fn bits(rows: &[Vec<f32>]) -> Vec<Vec<u32>> {
    rows.iter().map(|row| row.iter().map(|x| x.to_bits()).collect()).collect()
}

#[test]
fn equals_the_reference_at_every_kind_of_position() {
    for set in instruction_sets() {
        let name = set.name;
        for form in [CacheForm::F16, CacheForm::Q8] {
            let mut layer = filled(Dims { form, ..SHAPES[0] }, set);
            for position in [0, 1, 14, 15, 16, 17, 31, 62, 63, 64, 65, 127, 128, 206] {
                check(&mut layer, name, &[(2, position)]);
            }
        }
    }
}

#[test]
fn equals_the_reference_in_every_shape() {
    for dims in shapes() {
        for set in instruction_sets() {
            let name = set.name;
            check(&mut filled(dims, set), name, &mixed_step());
        }
    }
}

fn check(layer: &mut Layer, name: &str, rows: &[Row]) {
    for (row, out) in rows.iter().zip(layer.attend(rows, 1)) {
        let (expected, largest) = reference(&layer.shape, *row);
        for (i, (x, e)) in out.iter().zip(&expected).enumerate() {
            let error = (f64::from(*x) - e).abs() / largest;
            assert!(error <= TOLERANCE, "{name} {row:?} [{i}]: {x} for {e}; {:?}", layer.shape);
        }
    }
}

#[test]
fn instruction_sets_agree_bit_for_bit() {
    for dims in shapes() {
        let results = instruction_sets().into_iter().map(|set| {
            let mut layer = filled(dims, set);
            let out = bits(&layer.attend(&mixed_step(), 1));
            (layer.set.name, layer.cache, out)
        });
        let results: Vec<_> = results.collect();
        for (name, cache, out) in &results[1..] {
            assert!(*cache == results[0].1, "{name} stores another cache");
            assert!(*out == results[0].2, "{name} gives other bits");
        }
    }
}

#[test]
fn company_and_team_do_not_change_a_row() {
    for dims in shapes() {
        // The last set is the fastest; that the others agree with it is another test's matter.
        let mut layer = filled(dims, instruction_sets().pop().expect("portable always runs"));
        let step = mixed_step();
        let alone: Vec<_> = step.iter().flat_map(|row| layer.attend(&[*row], 1)).collect();
        for threads in [1, 2, 3, 7, 64] {
            let together = layer.attend(&step, threads);
            assert_eq!(bits(&together), bits(&alone), "{threads} threads");
        }
    }
}

/// The later rows of a step must not reach the earlier ones even as NaN or infinity.
#[test]
fn a_later_row_cannot_spoil_an_earlier_one() {
    for set in instruction_sets() {
        let name = set.name;
        let mut layer = filled(dims(4, 2, 64), set);
        let step = rows(0, 60..68);
        let before = layer.attend(&step, 1);
        let shape = layer.shape;
        for (position, poison) in [(65, POISON), (66, 0x7c00), (67, 0xfc00)] {
            for head in 0..2 {
                for d in 0..64 {
                    let tile = head * CONTEXT / KEY_TILE + position / KEY_TILE;
                    let key = (tile * 64 + d) * KEY_TILE + position % KEY_TILE;
                    let value = (head * CONTEXT + position) * 64 + d;
                    layer.cache[shape.key_offset as usize / 2 + key] = poison;
                    layer.cache[shape.value_offset as usize / 2 + value] = poison;
                }
            }
        }
        let after = layer.attend(&step, 1);
        assert_eq!(bits(&after[..5]), bits(&before[..5]), "{name}");
        assert!(after[5].iter().all(|x| x.is_nan()), "{name}");
    }
}

/// As above for codes: what makes a block of them no numbers is its scale.
#[test]
fn a_later_scale_cannot_spoil_an_earlier_row() {
    for set in instruction_sets() {
        let name = set.name;
        let mut layer = filled(Dims { form: CacheForm::Q8, ..dims(4, 2, 64) }, set);
        let step = rows(0, 60..68);
        let before = layer.attend(&step, 1);
        let shape = layer.shape;
        for (position, poison) in [(65, POISON), (66, 0x7c00), (67, 0xfc00)] {
            for (head, block) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let codes = 2 * CONTEXT * 64;
                let tile = head * CONTEXT / KEY_TILE + position / KEY_TILE;
                let key = (tile * 2 + block) * KEY_TILE + position % KEY_TILE;
                let value = (head * CONTEXT + position) * 2 + block;
                layer.cache[(shape.key_offset as usize + codes) / 2 + key] = poison;
                layer.cache[(shape.value_offset as usize + codes) / 2 + value] = poison;
            }
        }
        let after = layer.attend(&step, 1);
        assert_eq!(bits(&after[..5]), bits(&before[..5]), "{name}");
        assert!(after[5].iter().all(|x| x.is_nan()), "{name}");
    }
}

/// What is written when a block holds `x`: its codes and its scale, by every instruction set.
fn written(x: f32) -> (Vec<i8>, f32) {
    let of_sets = instruction_sets().into_iter().map(|set| {
        let dims = Dims { form: CacheForm::Q8, ..dims(1, 1, 32) };
        let mut layer = Layer::new(dims, set);
        let mut v = vec![x / 2.0; layer.shape.v_stride as usize];
        (v[5], v[6]) = (x, -x / 4.0);
        let (k, shape) = (vec![0.0; layer.shape.k_stride as usize], layer.shape);
        let context = layer.context(&[0], &[0]);
        // SAFETY: the operands hold one row.
        unsafe { (set.kv_write)(&context, &shape, k.as_ptr(), v.as_ptr(), 0, 1) };
        let word = |at: usize| layer.cache[at / 2].to_le_bytes()[at % 2];
        let first = shape.value_offset as usize;
        let codes = (first..first + 32).map(|at| i8::from_le_bytes([word(at)])).collect();
        let scale = f16::from_bits(layer.cache[(first + CONTEXT * 32) / 2]);
        (codes, scale.to_bits())
    });
    let of_sets: Vec<(Vec<i8>, u16)> = of_sets.collect();
    assert!(of_sets.iter().all(|found| *found == of_sets[0]), "{x}: {of_sets:?}");
    let (codes, scale) = of_sets[0].clone();
    (codes, f16::from_bits(scale).to_f32())
}

#[test]
fn extremes_become_codes_that_show_them() {
    let nothing = vec![0_i8; 32];
    for x in [0.0, -0.0, f32::from_bits(1)] {
        assert_eq!(written(x), (nothing.clone(), 0.0), "{x:e}");
    }
    // An infinite scale times a code of 0 is no number.
    let quiet = f32::from_bits(0x7fc0_0055);
    for x in [f32::NAN, quiet, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 9e6] {
        assert_eq!(written(x), (nothing.clone(), f32::INFINITY), "{x:e}");
    }
    // The smallest scale; one that is rounded up; one that is exact, with ties to even.
    let (codes, scale) = written(1e-7);
    assert_eq!((codes[5], scale), (2, f32::powi(2.0, -24)));
    let (codes, scale) = written(1.0);
    assert_eq!((codes[0], codes[5], codes[6]), (63, 127, -32));
    assert!((1.0 / 127.0..1.001 / 127.0).contains(&scale), "{scale}");
    let (codes, scale) = written(127.0);
    assert_eq!((codes[0], codes[5], codes[6], scale), (64, 127, -32, 1.0));
}

/// Distance in units of the last place of an f32 of the expected size.
fn ulps(x: f32, expected: f64) -> f64 {
    let unit = f64::from((expected as f32).abs().next_up()) - f64::from((expected as f32).abs());
    (f64::from(x) - expected).abs() / unit
}

fn apply(f: impl Fn([f32; LANES]) -> [f32; LANES], x: f32) -> f32 {
    f([x; LANES])[LANES - 1]
}

#[test]
fn exp_is_accurate() {
    let isa = portable::Portable;
    let exp = |x| apply(|x| math::exp(isa, x), x);
    let mut worst = 0.0_f64;
    for i in 0..200_000 {
        let x = -88.0 * (i as f32 / 200_000.0);
        if x < math::EXP_FLOOR {
            assert_eq!(exp(x), 0.0);
        } else {
            worst = worst.max(ulps(exp(x), f64::from(x).exp()));
        }
    }
    assert!(worst <= EXP_ULPS, "{worst} ulps");
    assert_eq!((exp(0.0), exp(-0.0), exp(f32::NEG_INFINITY)), (1.0, 1.0, 0.0));
    assert!(exp(f32::NAN).is_nan());
}

#[test]
fn tanh_is_accurate() {
    let isa = portable::Portable;
    let tanh = |x| apply(|x| math::tanh(isa, x), x);
    let mut worst = 0.0_f64;
    for i in 1..200_000 {
        let x = 12.0 * (i as f32 / 200_000.0);
        worst = worst.max(ulps(tanh(x), f64::from(x).tanh()));
        assert_eq!(tanh(-x), -tanh(x));
    }
    assert!(worst <= TANH_ULPS, "{worst} ulps");
    assert_eq!((tanh(0.0), tanh(f32::INFINITY), tanh(-200.0)), (0.0, 1.0, -1.0));
}

#[test]
fn portable_lanes_keep_their_contract() {
    let isa = portable::Portable;
    let lanes = std::array::from_fn(|i| i as f32);
    assert_eq!(isa.max_across(lanes), 15.0);
    let kept = isa.keep_lanes(lanes, 3, 5, [-1.0; LANES]);
    assert_eq!(kept.iter().filter(|x| **x >= 0.0).copied().collect::<Vec<_>>(), [3.0, 4.0]);
    assert_eq!(isa.max([f32::NAN; LANES], lanes), lanes);
}
