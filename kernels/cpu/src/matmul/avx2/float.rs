//! AVX2 products of float classes: two ymm of 8 output rows per element of k.

use std::arch::x86_64::*;

use onebit_plan::abi::StorageClass;

use super::store;
use crate::layout::FloatClass;
use crate::matmul::Call;

/// Matrix product of a float class, a [`MatmulFn`](onebit_plan::abi::MatmulFn).
///
/// # Safety
/// As `MatmulFn` demands; the CPU has the enabled features.
#[target_feature(enable = "avx2,fma,f16c")]
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
    for n in call.tiles() {
        for r in (0..call.rows).step_by(2) {
            if r + 2 <= call.rows {
                // SAFETY: the tile is whole and both rows are below m.
                unsafe { rows::<C, 2>(&call, n, r) };
            } else {
                // SAFETY: the tile is whole and row r is below m.
                unsafe { rows::<C, 1>(&call, n, r) };
            }
        }
    }
}

/// Two halves of 16 outputs.
type Halves = [__m256; 2];

/// Outputs of the tile at `n` for rows `r..r + R`.
///
/// # Safety
/// As [`float`]; rows `r..r + R` are below m.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn rows<C: FloatClass, const R: usize>(call: &Call, n: usize, r: usize) {
    let tile = call.tile(n);
    let mut even = [[_mm256_setzero_ps(); 2]; R];
    let mut odd = [[_mm256_setzero_ps(); 2]; R];
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
    for (row, (even, odd)) in even.into_iter().zip(odd).enumerate() {
        let sums = [_mm256_add_ps(even[0], odd[0]), _mm256_add_ps(even[1], odd[1])];
        // SAFETY: the row is below m.
        unsafe { store(call, r + row, n, sums) };
    }
}

/// Adds element `i` of k to R rows.
///
/// # Safety
/// As [`rows`]; `i` is below k.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn accumulate<C: FloatClass, const R: usize>(
    call: &Call,
    tile: *const u8,
    r: usize,
    i: usize,
    acc: &mut [Halves; R],
) {
    // SAFETY: element i of the tile.
    let low = unsafe { line::<C>(tile, i, 0) };
    // SAFETY: as above.
    let high = unsafe { line::<C>(tile, i, 1) };
    for (row, acc) in acc.iter_mut().enumerate() {
        let x = call.activations.cast::<f32>().wrapping_add((r + row) * call.k + i);
        // SAFETY: element i of a row below m.
        let x = _mm256_set1_ps(unsafe { x.read_unaligned() });
        for (acc, weights) in acc.iter_mut().zip([low, high]) {
            *acc = _mm256_fmadd_ps(weights, x, *acc);
        }
    }
}

/// Element `i` of half the tile's rows, as f32.
///
/// # Safety
/// The tile holds element i; `half` is 0 or 1.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn line<C: FloatClass>(tile: *const u8, i: usize, half: usize) -> __m256 {
    if C::CLASS == StorageClass::F32 {
        // SAFETY: half line i of the tile.
        return unsafe { _mm256_loadu_ps(tile.wrapping_add(64 * i + 32 * half).cast()) };
    }
    // SAFETY: half line i of the tile.
    let bits = unsafe { _mm_loadu_si128(tile.wrapping_add(32 * i + 16 * half).cast()) };
    match C::CLASS {
        StorageClass::BF16 => {
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(bits)))
        }
        _ => _mm256_cvtph_ps(bits),
    }
}
