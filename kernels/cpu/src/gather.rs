//! Rows of a packed matrix as f32: token embeddings.

use onebit_plan::abi::{BLOCK, TILE_ROWS};

use crate::decode::{float_value, lane_values};
use crate::layout::{Class, FloatClass, IntegerClass, tile_bytes};

/// One row to copy.
struct Source<'a> {
    tile: &'a [u8],
    lane: usize,
}

/// A [`GatherFn`](onebit_plan::abi::GatherFn) of an integer class: `scale * code + min`, product
/// first, both roundings kept.
///
/// # Safety
/// As `GatherFn` demands.
pub(crate) unsafe extern "C" fn integer<C: IntegerClass>(
    weights: *const u8,
    ids: *const i32,
    out: *mut f32,
    k: u32,
    r0: u32,
    r1: u32,
    out_stride: u32,
) {
    let k = k as usize;
    for r in r0 as usize..r1 as usize {
        // SAFETY: r is in range, and its id is a row of the matrix.
        let source = unsafe { source::<C>(weights, ids, k, r) };
        // SAFETY: row r of the output.
        let row = unsafe { output(out, k, r, out_stride) };
        for (b, values) in row.chunks_exact_mut(BLOCK).enumerate() {
            lane_values::<C>(source.tile, b, source.lane, values);
        }
    }
}

/// A [`GatherFn`](onebit_plan::abi::GatherFn) of a float class.
///
/// # Safety
/// As `GatherFn` demands.
pub(crate) unsafe extern "C" fn float<C: FloatClass>(
    weights: *const u8,
    ids: *const i32,
    out: *mut f32,
    k: u32,
    r0: u32,
    r1: u32,
    out_stride: u32,
) {
    let k = k as usize;
    for r in r0 as usize..r1 as usize {
        // SAFETY: r is in range, and its id is a row of the matrix.
        let source = unsafe { source::<C>(weights, ids, k, r) };
        // SAFETY: row r of the output.
        let row = unsafe { output(out, k, r, out_stride) };
        for (i, value) in row.iter_mut().enumerate() {
            *value = float_value::<C>(source.tile, i, source.lane);
        }
    }
}

/// # Safety
/// `ids[r]` is readable and a row of the matrix.
unsafe fn source<'a, C: Class>(
    weights: *const u8,
    ids: *const i32,
    k: usize,
    r: usize,
) -> Source<'a> {
    // SAFETY: the caller's promise.
    let id = unsafe { *ids.wrapping_add(r) } as usize;
    let bytes = tile_bytes(C::CLASS, k);
    let start = weights.wrapping_add(id / TILE_ROWS * bytes);
    // SAFETY: the tile that holds row id.
    let tile = unsafe { std::slice::from_raw_parts(start, bytes) };
    Source { tile, lane: id % TILE_ROWS }
}

/// # Safety
/// Row `r` of the output is writable and nobody else's.
unsafe fn output<'a>(out: *mut f32, k: usize, r: usize, out_stride: u32) -> &'a mut [f32] {
    let start = out.wrapping_add(r * out_stride as usize);
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(start, k) }
}
