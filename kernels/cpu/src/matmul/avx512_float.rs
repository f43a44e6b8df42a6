//! AVX-512 products of float classes: one zmm of 16 output rows per element of k.

use std::arch::x86_64::*;

use onebit_plan::abi::StorageClass;

use super::Call;
use crate::layout::FloatClass;

/// How far ahead of its reads the kernel prefetches weights, in bytes.
const PREFETCH: usize = 4096;

/// Matrix product of a float class, a [`MatmulFn`](onebit_plan::abi::MatmulFn).
///
/// # Safety
/// As `MatmulFn` demands; the CPU has the enabled feature.
#[target_feature(enable = "avx512f")]
pub(crate) unsafe extern "C" fn matmul<C: FloatClass>(
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
    for n in call.tiles() {
        let mut r = 0;
        while r < call.rows {
            // SAFETY (all arms): the tile is whole and the rows are below m.
            r += match call.rows - r {
                // SAFETY: see above.
                8.. => unsafe { rows::<C, 8>(&call, n, r) },
                // SAFETY: see above.
                4..8 => unsafe { rows::<C, 4>(&call, n, r) },
                // SAFETY: see above.
                2..4 => unsafe { rows::<C, 2>(&call, n, r) },
                // SAFETY: see above.
                _ => unsafe { rows::<C, 1>(&call, n, r) },
            };
        }
    }
}

/// Outputs of the tile at `n` for rows `r..r + R`; returns R.
///
/// # Safety
/// As [`matmul`]; rows `r..r + R` are below m.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn rows<C: FloatClass, const R: usize>(call: &Call, n: usize, r: usize) -> usize {
    let tile = call.tile(n);
    let mut even = [_mm512_setzero_ps(); R];
    let mut odd = [_mm512_setzero_ps(); R];
    let pairs = call.k / 2;
    for pair in 0..pairs {
        // SAFETY: elements 2 * pair and 2 * pair + 1 are below k.
        unsafe { accumulate::<C, R>(call, tile, r, 2 * pair, &mut even) };
        // SAFETY: as above.
        unsafe { accumulate::<C, R>(call, tile, r, 2 * pair + 1, &mut odd) };
    }
    if call.k % 2 == 1 {
        // SAFETY: the last element.
        unsafe { accumulate::<C, R>(call, tile, r, 2 * pairs, &mut even) };
    }
    let mask = u16::MAX >> (16 - call.lanes(n));
    for (row, (even, odd)) in even.into_iter().zip(odd).enumerate() {
        let sums = _mm512_add_ps(even, odd);
        // SAFETY: masked to the lanes in range; the row is below m.
        unsafe { _mm512_mask_storeu_ps(call.output(r + row, n), mask, sums) };
    }
    R
}

/// Adds element `i` of k to R rows.
///
/// # Safety
/// As [`rows`]; `i` is below k.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn accumulate<C: FloatClass, const R: usize>(
    call: &Call,
    tile: *const u8,
    r: usize,
    i: usize,
    acc: &mut [__m512; R],
) {
    // SAFETY: element i of the tile.
    let weights = unsafe { line::<C>(tile, i) };
    for (row, acc) in acc.iter_mut().enumerate() {
        let x = call.activations.cast::<f32>().wrapping_add((r + row) * call.k + i);
        // SAFETY: element i of a row below m.
        let x = _mm512_set1_ps(unsafe { x.read_unaligned() });
        *acc = _mm512_fmadd_ps(weights, x, *acc);
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
        let p = tile.wrapping_add(64 * i);
        _mm_prefetch::<_MM_HINT_T0>(p.wrapping_add(PREFETCH).cast());
        // SAFETY: line i of the tile.
        return unsafe { _mm512_loadu_ps(p.cast()) };
    }
    let p = tile.wrapping_add(32 * i);
    if i.is_multiple_of(2) {
        _mm_prefetch::<_MM_HINT_T0>(p.wrapping_add(PREFETCH).cast());
    }
    // SAFETY: half line i of the tile.
    let half = unsafe { _mm256_loadu_si256(p.cast()) };
    match C::CLASS {
        StorageClass::BF16 => {
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)))
        }
        _ => _mm512_cvtph_ps(half),
    }
}
