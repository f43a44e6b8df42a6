//! Products in the form of a neural processor's array, on the CPU; and the way to that form and
//! back for those who hand them to the array.
//!
//! Sums are exact integers and everything after them is one sequence of operations, so that a
//! product has the same bits wherever it runs. The definition stands at
//! [`ArrayFn`](onebit_plan::abi::ArrayFn), the layouts at [`ArrayProduct`].

use std::ops::Range;
use std::slice;

mod gate;

pub(crate) use gate::prepare;
pub use gate::{GateRow, pack_gate, unpack_scales, weights_of};

use onebit_plan::abi::{
    ARRAY_BLOCK, ARRAY_BRICK, ARRAY_COLUMNS, ARRAY_GRANULE, ARRAY_GROUP, ARRAY_LEVELS, ARRAY_PIECE,
    ARRAY_ROWS, ArrayProduct, ArrayRole, StepContext,
};

/// Blocks of 8 k of a brick.
const STEPS: usize = ARRAY_BRICK / ARRAY_BLOCK;
/// Blocks of 8 k of a piece of activations.
const PIECE_STEPS: usize = ARRAY_PIECE / ARRAY_BLOCK;
/// Bytes of 8 outputs and 8 k of weights.
const BLOCK_BYTES: usize = ARRAY_BLOCK * ARRAY_BLOCK;
/// Values of the low plane.
const LOW: i16 = 128;

/// The codes of a group of activations, zeros behind the last.
type Codes = [i16; ARRAY_GROUP];

/// Quantises a group of activations; returns the scale.
#[inline(always)]
fn quantise(x: &[f32], codes: &mut Codes) -> f32 {
    // Non-negative floats order like their bits, and a NaN is above all of them: it stays.
    let magnitude = |x: &f32| x.to_bits() & 0x7fff_ffff;
    let largest = f32::from_bits(x.iter().map(magnitude).max().unwrap_or(0));
    let quotient = ARRAY_LEVELS / largest;
    let factor = if quotient.is_finite() { quotient } else { 0.0 };
    let (some, none) = codes.split_at_mut(x.len());
    for (code, x) in some.iter_mut().zip(x) {
        *code = (x * factor).round_ties_even() as i16;
    }
    none.fill(0);
    largest / ARRAY_LEVELS
}

/// One output: the sums so far, and what a group adds to them.
#[inline(always)]
fn add_group(before: f32, sum: i32, d: f32, scale: f32) -> f32 {
    (sum as f32 * d).mul_add(scale, before)
}

/// A unit of 8 outputs: its column of the array and its place there.
#[derive(Clone, Copy)]
struct Unit {
    column: usize,
    pass: usize,
    unit: usize,
}

impl Unit {
    fn at(product: &ArrayProduct, index: usize) -> Self {
        let units = product.units as usize;
        let of_column = product.passes as usize * units;
        let (column, rest) = (index / of_column, index % of_column);
        Self { column, pass: rest / units, unit: rest % units }
    }

    /// Its first output.
    fn output(self, product: &ArrayProduct) -> usize {
        self.column * product.width()
            + (self.pass * product.units as usize + self.unit) * ARRAY_BLOCK
    }
}

/// Units of a product, those behind the last output included.
fn unit_count(product: &ArrayProduct) -> usize {
    ARRAY_COLUMNS * product.passes as usize * product.units as usize
}

/// The weights of brick `brick` of a group, for one unit: `[k][output]`, 64 k.
#[inline(always)]
fn brick_bytes<'a>(
    product: &ArrayProduct,
    weights: &'a [u8],
    unit: Unit,
    group: usize,
    brick: usize,
) -> &'a [u8] {
    let bricks = product.bricks as usize;
    let segments = product.group_bricks() / bricks;
    let segment = group * segments + brick / bricks;
    let place = (unit.pass * product.groups() * segments + segment) * product.units as usize;
    let brick = (place + unit.unit) * bricks + brick % bricks;
    let start = if product.is_gate() {
        unit.column * product.gate_column_bytes() + unit.pass * ARRAY_GRANULE
    } else {
        unit.column * product.column_bytes()
    };
    let start = start + brick * STEPS * BLOCK_BYTES;
    &weights[start..][..STEPS * BLOCK_BYTES]
}

/// The slices of a product's operands.
struct Operands<'a> {
    weights: &'a [u8],
    scales: &'a [f32],
    x: &'a [f32],
    out: *mut f32,
    m: usize,
}

/// This thread's part of a product.
#[inline(always)]
fn share(product: &ArrayProduct, operands: &Operands<'_>, units: Range<usize>) {
    let (n, k) = (product.n as usize, product.k as usize);
    let Operands { weights, scales, x, out, m } = *operands;
    let mut codes: [Codes; ARRAY_ROWS] = [[0; ARRAY_GROUP]; ARRAY_ROWS];
    let mut d = [0.0f32; ARRAY_ROWS];
    for g in 0..product.groups() {
        for (r, (codes, d)) in codes.iter_mut().zip(&mut d).enumerate().take(m) {
            *d = match product.role() {
                Some(ArrayRole::Gated) => {
                    let row = k + ARRAY_COLUMNS;
                    gate::taken(product, &x[r * row..][..row], g, codes)
                }
                _ => quantise(&x[r * k..][product.group_range(g)], codes),
            };
        }
        for index in units.clone() {
            let unit = Unit::at(product, index);
            let first = unit.output(product);
            let lanes = n.saturating_sub(first).min(ARRAY_BLOCK);
            if lanes == 0 {
                continue;
            }
            let sums = unit_sums(product, weights, (unit, g), &codes[..m]);
            let scales = &scales[g * n + first..][..lanes];
            for (r, (sums, d)) in sums.iter().zip(d).enumerate().take(m) {
                let row = out.wrapping_add(r * product.out_stride as usize + first);
                for (lane, (&sum, &scale)) in sums.iter().zip(scales).enumerate() {
                    let place = row.wrapping_add(lane);
                    // SAFETY: an output of this thread's units, written in the group before.
                    let before = if g == 0 { 0.0 } else { unsafe { place.read() } };
                    let after = add_group(before, sum, d, scale);
                    // SAFETY: as above; the caller's output holds row r and this output.
                    unsafe { place.write(after) };
                }
            }
        }
    }
}

/// Sums of 8 outputs over one group, for each row.
#[inline(always)]
fn unit_sums(
    product: &ArrayProduct,
    weights: &[u8],
    (unit, group): (Unit, usize),
    codes: &[Codes],
) -> [[i32; ARRAY_BLOCK]; ARRAY_ROWS] {
    let mut sums = [[0i32; ARRAY_BLOCK]; ARRAY_ROWS];
    for brick in 0..product.group_bricks() {
        let bytes = brick_bytes(product, weights, unit, group, brick);
        for (k, weights) in bytes.as_chunks::<ARRAY_BLOCK>().0.iter().enumerate() {
            let weights = weights.map(|weight| i32::from(weight.cast_signed()));
            let at = brick * ARRAY_BRICK + k;
            for (sums, codes) in sums.iter_mut().zip(codes) {
                let code = i32::from(codes[at]);
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum += code * weight;
                }
            }
        }
    }
    sums
}

/// [`ArrayFn`](onebit_plan::abi::ArrayFn) in whatever the enclosing function may use.
///
/// # Safety
/// As `ArrayFn` demands.
#[inline(always)]
unsafe fn run(
    context: *const StepContext,
    products: *const ArrayProduct,
    count: u32,
    x: *const f32,
    out: *mut f32,
    m: u32,
) {
    // SAFETY: valid by the contract.
    let context = unsafe { &*context };
    // SAFETY: so many products by the contract.
    let products = unsafe { slice::from_raw_parts(products, count as usize) };
    let mut first = 0;
    for product in products {
        // SAFETY: the outputs of this product follow those of the ones before.
        unsafe { run_one(context, product, x, out.wrapping_add(first), m as usize) };
        first += if product.is_gate() { product.n as usize / 2 } else { product.n as usize };
    }
}

/// This thread's part of one product.
///
/// # Safety
/// As `ArrayFn` demands of a single product.
#[inline(always)]
unsafe fn run_one(
    context: &StepContext,
    product: &ArrayProduct,
    x: *const f32,
    out: *mut f32,
    m: usize,
) {
    // SAFETY: inside the weight segment.
    let weights = unsafe { context.weights.add(product.weights as usize) };
    let is_gate = product.is_gate();
    let of_column = if is_gate { product.gate_column_bytes() } else { product.column_bytes() };
    let bytes = ARRAY_COLUMNS * of_column;
    let scale_count = if is_gate { 4 } else { product.groups() * product.n as usize };
    let width = match product.role() {
        Some(ArrayRole::Gated) => product.k as usize + ARRAY_COLUMNS,
        _ => product.k as usize,
    };
    // SAFETY: inside the weight segment.
    let scales = unsafe { context.weights.add(product.scales as usize) }.cast();
    let operands = Operands {
        // SAFETY: the weights of all columns.
        weights: unsafe { slice::from_raw_parts(weights, bytes) },
        // SAFETY: one for each group and output, or a gate's words; they follow weights of whole
        // granules.
        scales: unsafe { slice::from_raw_parts(scales, scale_count) },
        // SAFETY: m rows.
        x: unsafe { slice::from_raw_parts(x, m * width) },
        out,
        m,
    };
    let (thread, threads) = (context.thread as usize, context.threads as usize);
    if is_gate {
        let part = |thread: usize| ARRAY_COLUMNS * thread / threads;
        let words = std::array::from_fn(|word| operands.scales[word].to_bits());
        gate::share(product, &operands, words, part(thread)..part(thread + 1));
        return;
    }
    let units = unit_count(product);
    share(product, &operands, units * thread / threads..units * (thread + 1) / threads);
}

macro_rules! array_functions {
    ($($(#[$attribute:meta])* $name:ident;)*) => { $(
        /// [`ArrayFn`](onebit_plan::abi::ArrayFn).
        ///
        /// # Safety
        /// As `ArrayFn` demands; the CPU has the enabled features.
        $(#[$attribute])*
        pub(crate) unsafe extern "C" fn $name(
            context: *const StepContext,
            products: *const ArrayProduct,
            count: u32,
            x: *const f32,
            out: *mut f32,
            m: u32,
        ) {
            // SAFETY: the caller's contract is the callee's.
            unsafe { run(context, products, count, x, out, m) }
        }
    )* };
}

array_functions! {
    portable;
    #[cfg(target_arch = "x86_64")] #[target_feature(enable = "avx2,fma")] avx2;
    #[cfg(target_arch = "x86_64")] #[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")] avx512;
}

/// Quantises and packs `m` rows of activations for the array. `packed` has
/// [`ArrayProduct::activation_bytes`], `d` takes a scale for each row and group.
///
/// # Panics
/// When a slice is of another length or there are more than [`ARRAY_ROWS`] rows.
pub fn pack_activations(product: &ArrayProduct, x: &[f32], packed: &mut [u8], d: &mut [f32]) {
    let (k, groups) = (product.k as usize, product.groups());
    let m = x.len() / k;
    assert!(m <= ARRAY_ROWS && x.len() == m * k && d.len() == m * groups, "m rows");
    assert_eq!(packed.len(), product.activation_bytes(), "the buffer of packed activations");
    let mut codes: Codes = [0; ARRAY_GROUP];
    let brick_bytes = 2 * ARRAY_ROWS * ARRAY_BRICK;
    for r in 0..ARRAY_ROWS {
        for g in 0..groups {
            if r < m {
                d[r * groups + g] = quantise(&x[r * k..][product.group_range(g)], &mut codes);
            } else {
                codes = [0; ARRAY_GROUP];
            }
            for brick in 0..product.group_bricks() {
                let packed = &mut packed[(g * product.group_bricks() + brick) * brick_bytes..];
                let codes = &codes[brick * ARRAY_BRICK..][..ARRAY_BRICK];
                pack_brick(codes, r, packed);
            }
        }
    }
}

/// 64 codes of row `r` to their places in a brick: `[piece][tile][step][plane][row][k]`.
fn pack_brick(codes: &[i16], r: usize, packed: &mut [u8]) {
    let (tile, row) = (r / ARRAY_BLOCK, r % ARRAY_BLOCK);
    for (step, codes) in codes.chunks_exact(ARRAY_BLOCK).enumerate() {
        let (piece, step) = (step / PIECE_STEPS, step % PIECE_STEPS);
        let tile = piece * (ARRAY_ROWS / ARRAY_BLOCK) + tile;
        let block = (tile * PIECE_STEPS + step) * 2 * BLOCK_BYTES + row * ARRAY_BLOCK;
        for (at, code) in codes.iter().enumerate() {
            let high = code.div_euclid(LOW) as i8;
            packed[block + at] = high.cast_unsigned();
            packed[block + BLOCK_BYTES + at] = code.rem_euclid(LOW) as u8;
        }
    }
}

/// Scales the array's results to outputs: row r to `out[r * out_stride..][..n]`.
///
/// # Panics
/// When a slice is too short.
pub fn unpack_results(
    product: &ArrayProduct,
    results: &[u8],
    d: &[f32],
    scales: &[f32],
    out: &mut [f32],
) {
    let (n, groups) = (product.n as usize, product.groups());
    let m = d.len() / groups;
    let tile_words = ARRAY_BLOCK * ARRAY_BLOCK;
    let unit_words = ARRAY_ROWS * ARRAY_BLOCK;
    let words = results.as_chunks::<4>().0;
    for index in 0..unit_count(product) {
        let unit = Unit::at(product, index);
        let first = unit.output(product);
        let lanes = n.saturating_sub(first).min(ARRAY_BLOCK);
        if lanes == 0 {
            continue;
        }
        let units = product.units as usize;
        let pass = unit.column * product.passes as usize + unit.pass;
        for g in 0..groups {
            let block = &words[((pass * groups + g) * units + unit.unit) * unit_words..];
            for r in 0..m {
                let sums = &block[r / ARRAY_BLOCK * tile_words + r % ARRAY_BLOCK * ARRAY_BLOCK..];
                let out = &mut out[r * product.out_stride as usize + first..][..lanes];
                let scales = &scales[g * n + first..][..lanes];
                for ((out, &word), &scale) in out.iter_mut().zip(sums).zip(scales) {
                    let before = if g == 0 { 0.0 } else { *out };
                    let sum = i32::from_le_bytes(word);
                    *out = add_group(before, sum, d[r * groups + g], scale);
                }
            }
        }
    }
}
