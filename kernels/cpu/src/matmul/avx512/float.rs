//! AVX-512 products of float classes: one zmm of 16 output rows per element of k.

use std::arch::x86_64::*;

use onebit_plan::abi::StorageClass;

use super::PREFETCH;
use crate::layout::FloatClass;
use crate::matmul::Call;

/// Matrix product of a float class, a [`MatmulFn`](onebit_plan::abi::MatmulFn).
///
/// # Safety
/// As `MatmulFn` demands; the CPU has the enabled feature.
#[target_feature(enable = "avx512f")]
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
    let mut r = 0;
    while r < call.rows {
        // Eight pairs of sums in flight: that many rows, or fewer rows of more tiles.
        r += match call.rows - r {
            8.. => {
                // SAFETY: the caller's promise is passed on; the rows are below m.
                unsafe { run::<C, 8, 1>(&call, r, call.first) };
                8
            }
            4..8 => {
                // SAFETY: as above.
                let first = unsafe { run::<C, 4, 2>(&call, r, call.first) };
                // SAFETY: as above.
                unsafe { run::<C, 4, 1>(&call, r, first) };
                4
            }
            2..4 => {
                // SAFETY: as above.
                let first = unsafe { run::<C, 2, 4>(&call, r, call.first) };
                // SAFETY: as above.
                unsafe { run::<C, 2, 1>(&call, r, first) };
                2
            }
            _ => {
                // SAFETY: as above.
                let first = unsafe { run::<C, 1, 8>(&call, r, call.first) };
                // SAFETY: as above.
                let first = unsafe { run::<C, 1, 4>(&call, r, first) };
                // SAFETY: as above.
                unsafe { run::<C, 1, 1>(&call, r, first) };
                1
            }
        };
    }
}

/// Rows `r..r + R` of the tiles from output row `first` on, `S` at a time; returns where those
/// left over start.
///
/// # Safety
/// As [`float`]; rows `r..r + R` are below m.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn run<C: FloatClass, const R: usize, const S: usize>(
    call: &Call,
    r: usize,
    first: usize,
) -> usize {
    let (streams, rest) = call.streams::<S>(first);
    for starts in streams {
        let tiles = starts.map(|n| call.tile(n));
        let mut even = [[_mm512_setzero_ps(); R]; S];
        let mut odd = [[_mm512_setzero_ps(); R]; S];
        for i in (0..call.k - call.k % 2).step_by(2) {
            // SAFETY: elements i and i + 1 are below k.
            unsafe { accumulate::<C, R, S>(call, tiles, r, i, &mut even) };
            // SAFETY: as above.
            unsafe { accumulate::<C, R, S>(call, tiles, r, i + 1, &mut odd) };
        }
        if call.k % 2 == 1 {
            // SAFETY: the last element.
            unsafe { accumulate::<C, R, S>(call, tiles, r, call.k - 1, &mut even) };
        }
        for (n, (even, odd)) in starts.into_iter().zip(even.into_iter().zip(odd)) {
            let mask = u16::MAX >> (16 - call.lanes(n));
            for (row, (even, odd)) in even.into_iter().zip(odd).enumerate() {
                let sum = _mm512_add_ps(even, odd);
                // SAFETY: masked to the lanes in range; the row is below m.
                unsafe { _mm512_mask_storeu_ps(call.output(r + row, n), mask, sum) };
            }
        }
    }
    rest
}

/// Adds element `i` of k to R rows of each tile.
///
/// # Safety
/// As [`run`]; `i` is below k.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn accumulate<C: FloatClass, const R: usize, const S: usize>(
    call: &Call,
    tiles: [*const u8; S],
    r: usize,
    i: usize,
    sums: &mut [[__m512; R]; S],
) {
    for (tile, sums) in tiles.into_iter().zip(sums) {
        // SAFETY: element i of the tile.
        let weights = unsafe { line::<C>(tile, i) };
        if C::CLASS == StorageClass::F32 || i.is_multiple_of(2) {
            let bytes = if C::CLASS == StorageClass::F32 { 64 } else { 32 };
            _mm_prefetch::<_MM_HINT_T1>(tile.wrapping_add(bytes * i + PREFETCH).cast());
        }
        for (row, sum) in sums.iter_mut().enumerate() {
            let x = call.activations.cast::<f32>().wrapping_add((r + row) * call.k + i);
            // SAFETY: element i of a row below m.
            let x = _mm512_set1_ps(unsafe { x.read_unaligned() });
            *sum = _mm512_fmadd_ps(weights, x, *sum);
        }
    }
}

/// Element `i` of the tile's 16 rows, as f32.
///
/// # Safety
/// The tile holds element i.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn line<C: FloatClass>(tile: *const u8, i: usize) -> __m512 {
    if C::CLASS == StorageClass::F32 {
        // SAFETY: line i of the tile.
        return unsafe { _mm512_loadu_ps(tile.wrapping_add(64 * i).cast()) };
    }
    // SAFETY: half line i of the tile.
    let half = unsafe { _mm256_loadu_si256(tile.wrapping_add(32 * i).cast()) };
    match C::CLASS {
        StorageClass::BF16 => {
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)))
        }
        _ => _mm512_cvtph_ps(half),
    }
}
