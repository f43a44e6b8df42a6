//! The reference kernels, for any CPU: the order of operations in plain code.

use onebit_plan::abi::TILE_ROWS;

use super::{Call, Record};
use crate::decode::{TileBlock, float_line, tile_block};
use crate::layout::{FloatClass, IntegerClass};

/// Most rows that share one unpacking of a tile.
const MAX_PANEL: usize = 8;

type Sums = [f32; TILE_ROWS];

/// Matrix product of an integer class, a [`MatmulFn`](onebit_plan::abi::MatmulFn).
///
/// # Safety
/// As `MatmulFn` demands.
pub(crate) unsafe extern "C" fn integer<C: IntegerClass>(
    weights: *const u8,
    activations: *const u8,
    out: *mut f32,
    k: u32,
    n0: u32,
    n1: u32,
    m: u32,
    out_stride: u32,
) {
    let call = Call::new::<C>(weights, activations, out, k, n0, n1, m, out_stride);
    match call.panel_rows() {
        // SAFETY: the caller's promise is passed on.
        1 => unsafe { run::<C, 1>(&call) },
        // SAFETY: as above.
        2 => unsafe { run::<C, 2>(&call) },
        // SAFETY: as above.
        4 => unsafe { run::<C, 4>(&call) },
        // SAFETY: as above.
        _ => unsafe { run::<C, MAX_PANEL>(&call) },
    }
}

/// # Safety
/// As [`integer`]; panels have `P` rows.
unsafe fn run<C: IntegerClass, const P: usize>(call: &Call) {
    for n in call.tiles() {
        // SAFETY: the tile is whole.
        let tile = unsafe { std::slice::from_raw_parts(call.tile(n), call.tile_bytes) };
        for panel in 0..call.rows.div_ceil(P) {
            let rows = P.min(call.rows - panel * P);
            let mut acc = [[0.0; TILE_ROWS]; P];
            for b in 0..call.blocks() {
                let block = tile_block::<C>(tile, b);
                let x = Record::<P>(call.panel::<P>(panel).wrapping_add(b * Record::<P>::BYTES));
                for (r, acc) in acc.iter_mut().enumerate().take(rows) {
                    // SAFETY: the panel holds this block's record, and row r.
                    accumulate::<C>(&block, &unsafe { row_block(x, r) }, acc);
                }
            }
            for (r, acc) in acc.iter_mut().enumerate().take(rows) {
                // SAFETY: the panel is whole.
                for (b, x) in unsafe { call.refinements::<P>(call.panel::<P>(panel), r) } {
                    let block = tile_block::<C>(tile, b);
                    // SAFETY: x is a whole record.
                    accumulate::<C>(&block, &unsafe { row_block(x, 0) }, acc);
                }
                // SAFETY: row panel * P + r is below m.
                unsafe { store(call, panel * P + r, n, acc) };
            }
        }
    }
}

/// One block of one activation row.
struct RowBlock {
    q: [i8; 32],
    d: f32,
    s: f32,
    /// Minus the sum of each 16 elements.
    negated: [i32; 2],
}

/// # Safety
/// `x` is a whole record.
unsafe fn row_block<const P: usize>(x: Record<P>, r: usize) -> RowBlock {
    // SAFETY: 32 codes of row r.
    let q = unsafe { x.quad(r, 0).cast::<[i8; 32]>().read_unaligned() };
    // SAFETY: d of row r.
    let d = unsafe { x.d(r).cast::<f32>().read_unaligned() };
    // SAFETY: s of row r.
    let s = unsafe { x.s(r).cast::<f32>().read_unaligned() };
    // SAFETY: n32 of row r.
    let n32 = unsafe { x.n32(r).cast::<i32>().read_unaligned() };
    // SAFETY: n16 of row r.
    let n16 = unsafe { x.n16(r).cast::<i32>().read_unaligned() };
    RowBlock { q, d, s, negated: [n16, n32.wrapping_sub(n16)] }
}

/// Adds one block to one row's outputs, in the order of [`super`].
fn accumulate<C: IntegerClass>(block: &TileBlock, x: &RowBlock, acc: &mut Sums) {
    let layout = C::LAYOUT;
    let dots = [0, 1].map(|g| dot(block, x, g, layout.bias));
    if layout.has_groups() {
        let [low, high] = x.negated.map(|negated| negated as f32);
        for lane in 0..TILE_ROWS {
            let mut sum = dots[0][lane] as f32 * block.scale[0][lane];
            sum = (dots[1][lane] as f32).mul_add(block.scale[1][lane], sum);
            if layout.has_min() {
                sum = (-block.min[0][lane]).mul_add(low, sum);
                sum = (-block.min[1][lane]).mul_add(high, sum);
            }
            acc[lane] = sum.mul_add(x.d, acc[lane]);
        }
        return;
    }
    for lane in 0..TILE_ROWS {
        let dot = dots[0][lane].wrapping_add(dots[1][lane]) as f32;
        acc[lane] = dot.mul_add(block.scale[0][lane] * x.d, acc[lane]);
        if layout.has_min() {
            acc[lane] = block.min[0][lane].mul_add(x.s, acc[lane]);
        }
    }
}

/// Integer products over 16 elements, bias taken off.
fn dot(block: &TileBlock, x: &RowBlock, g: usize, bias: Option<u32>) -> [i32; TILE_ROWS] {
    let start = bias.map_or(0, |shift| x.negated[g].wrapping_shl(shift));
    let mut dot = [start; TILE_ROWS];
    for (quad, four) in block.codes[4 * g..4 * g + 4].iter().zip(x.q[16 * g..].chunks_exact(4)) {
        for (dot, codes) in dot.iter_mut().zip(quad.chunks_exact(4)) {
            for (code, q) in codes.iter().zip(four) {
                *dot = dot.wrapping_add(i32::from(*code) * i32::from(*q));
            }
        }
    }
    dot
}

/// Matrix product of a float class, a [`MatmulFn`](onebit_plan::abi::MatmulFn).
///
/// # Safety
/// As `MatmulFn` demands.
pub(crate) unsafe extern "C" fn float<C: FloatClass>(
    weights: *const u8,
    activations: *const u8,
    out: *mut f32,
    k: u32,
    n0: u32,
    n1: u32,
    m: u32,
    out_stride: u32,
) {
    let call = Call::new::<C>(weights, activations, out, k, n0, n1, m, out_stride);
    // SAFETY: f32[m][k], aligned as every arena buffer.
    let x =
        unsafe { std::slice::from_raw_parts(call.activations.cast::<f32>(), call.rows * call.k) };
    for n in call.tiles() {
        // SAFETY: the tile is whole.
        let tile = unsafe { std::slice::from_raw_parts(call.tile(n), call.tile_bytes) };
        for first in (0..call.rows).step_by(MAX_PANEL) {
            let rows = MAX_PANEL.min(call.rows - first);
            let mut partial = [[[0.0; TILE_ROWS]; 2]; MAX_PANEL];
            for i in 0..call.k {
                let line = float_line::<C>(tile, i);
                for (r, partial) in partial.iter_mut().enumerate().take(rows) {
                    let x = x[(first + r) * call.k + i];
                    for (sum, weight) in partial[i % 2].iter_mut().zip(line) {
                        *sum = weight.mul_add(x, *sum);
                    }
                }
            }
            for (r, [even, odd]) in partial.iter().enumerate().take(rows) {
                let mut sums = *even;
                for (sum, odd) in sums.iter_mut().zip(odd) {
                    *sum += odd;
                }
                // SAFETY: row first + r is below m.
                unsafe { store(&call, first + r, n, &sums) };
            }
        }
    }
}

/// # Safety
/// `r` is below m and `n` is a tile of the call.
unsafe fn store(call: &Call, r: usize, n: usize, sums: &Sums) {
    // SAFETY: outputs n.. of row r, as many as the range has.
    unsafe { std::ptr::copy_nonoverlapping(sums.as_ptr(), call.output(r, n), call.lanes(n)) };
}
