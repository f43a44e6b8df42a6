//! AVX2: a ymm holds 8 output rows x 4 elements of k, so a tile is two halves. Codes times
//! activations go through i16 (`vpmaddubsw`), which saturates; [`dot`] says why it never does.

mod float;
mod unpack;

use std::arch::x86_64::*;

use super::{Call, Record};
use crate::layout::IntegerClass;
use unpack::{Block, unpack};

pub(crate) use float::float;

/// Matrix product of an integer class, a [`MatmulFn`](onebit_plan::abi::MatmulFn).
///
/// # Safety
/// As `MatmulFn` demands; the CPU has the enabled features.
#[target_feature(enable = "avx2,fma,f16c")]
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
        _ => unsafe { run::<C, 8>(&call) },
    }
}

/// # Safety
/// As [`integer`]; panels have `P` rows.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn run<C: IntegerClass, const P: usize>(call: &Call) {
    for n in call.tiles() {
        for panel in 0..call.rows.div_ceil(P) {
            let (tile, x) = (call.tile(n), call.panel::<P>(panel));
            // SAFETY: the tile and the panel are whole and readable.
            let acc = unsafe { product::<C, P>(tile, x, call.blocks()) };
            for (r, acc) in acc.into_iter().enumerate().take(call.rows - panel * P) {
                // SAFETY: as above; r is a row of the panel.
                let acc = unsafe { refine::<C, P>(call, tile, x, r, acc) };
                // SAFETY: the row is below m.
                unsafe { store(call, panel * P + r, n, acc) };
            }
        }
    }
}

/// 16 outputs, in two halves, for each of a panel's rows.
///
/// # Safety
/// `tile` and `panel` are readable for `blocks` blocks.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn product<C: IntegerClass, const P: usize>(
    tile: *const u8,
    panel: *const u8,
    blocks: usize,
) -> [[__m256; 2]; P] {
    let mut acc = [[_mm256_setzero_ps(); 2]; P];
    for b in 0..blocks {
        let x = Record::<P>(panel.wrapping_add(b * Record::<P>::BYTES));
        for half in 0..2 {
            // SAFETY: the tile holds block b.
            let block = unsafe { unpack::<C>(tile, b, half) };
            for (r, acc) in acc.iter_mut().enumerate() {
                // SAFETY: the panel holds this block's record.
                acc[half] = unsafe { accumulate::<C, P>(&block, x, r, acc[half]) };
            }
        }
    }
    acc
}

/// Adds the refinements of row `r` of a panel to its 16 outputs of a tile.
///
/// # Safety
/// The tile and the panel are whole.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn refine<C: IntegerClass, const P: usize>(
    call: &Call,
    tile: *const u8,
    panel: *const u8,
    r: usize,
    acc: [__m256; 2],
) -> [__m256; 2] {
    let mut acc = acc;
    // SAFETY: the caller's promise.
    for (b, x) in unsafe { call.refinements::<P>(panel, r) } {
        for (half, acc) in acc.iter_mut().enumerate() {
            // SAFETY: the tile holds block b.
            let block = unsafe { unpack::<C>(tile, b, half) };
            // SAFETY: x is a whole record.
            *acc = unsafe { accumulate::<C, 1>(&block, x, 0, *acc) };
        }
    }
    acc
}

/// Writes the lanes in range of 16 outputs.
///
/// # Safety
/// `r` is below m and `n` is a tile of the call.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn store(call: &Call, r: usize, n: usize, halves: [__m256; 2]) {
    let mut sums = [0.0f32; 16];
    for (sums, half) in sums.chunks_exact_mut(8).zip(halves) {
        // SAFETY: eight floats.
        unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), half) };
    }
    // SAFETY: outputs n.. of row r, as many as the range has.
    unsafe { std::ptr::copy_nonoverlapping(sums.as_ptr(), call.output(r, n), call.lanes(n)) };
}

/// What a record says of one row, in all lanes.
struct Fields {
    d: __m256,
    s: __m256,
    n32: __m256i,
    n16: __m256i,
}

/// # Safety
/// `x` is a whole record and `r` below `P`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn fields<const P: usize>(x: Record<P>, r: usize) -> Fields {
    // SAFETY: a field of the record.
    let d = unsafe { broadcast_f32(x.d(r)) };
    // SAFETY: a field of the record.
    let s = unsafe { broadcast_f32(x.s(r)) };
    // SAFETY: a field of the record.
    let n32 = unsafe { broadcast_i32(x.n32(r)) };
    // SAFETY: a field of the record.
    let n16 = unsafe { broadcast_i32(x.n16(r)) };
    Fields { d, s, n32, n16 }
}

/// Adds one block to one row's outputs, in the order of [`super`].
///
/// # Safety
/// `x` is a whole record and `r` below `P`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn accumulate<C: IntegerClass, const P: usize>(
    block: &Block,
    x: Record<P>,
    r: usize,
    acc: __m256,
) -> __m256 {
    // SAFETY: the caller's promise.
    let fields = unsafe { fields(x, r) };
    // SAFETY: the first 16 elements of row r.
    let low = unsafe { dot::<C>(&block.codes[0], x.quad(r, 0)) };
    // SAFETY: the other 16.
    let high = unsafe { dot::<C>(&block.codes[1], x.quad(r, 4)) };
    if C::LAYOUT.has_groups() {
        return _mm256_fmadd_ps(group_sum::<C>(block, &fields, low, high), fields.d, acc);
    }
    let dot = _mm256_add_epi32(unbias::<C>(fields.n32), _mm256_add_epi32(low, high));
    let scale = _mm256_mul_ps(block.scale[0], fields.d);
    let acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), scale, acc);
    if C::LAYOUT.has_min() { _mm256_fmadd_ps(block.min[0], fields.s, acc) } else { acc }
}

/// A block's sum where each 16 elements have a scale of their own, without the row's scale.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn group_sum<C: IntegerClass>(
    block: &Block,
    fields: &Fields,
    low: __m256i,
    high: __m256i,
) -> __m256 {
    let negated = [fields.n16, _mm256_sub_epi32(fields.n32, fields.n16)];
    let low = _mm256_cvtepi32_ps(_mm256_add_epi32(low, unbias::<C>(negated[0])));
    let high = _mm256_cvtepi32_ps(_mm256_add_epi32(high, unbias::<C>(negated[1])));
    let sum = _mm256_fmadd_ps(high, block.scale[1], _mm256_mul_ps(low, block.scale[0]));
    if !C::LAYOUT.has_min() {
        return sum;
    }
    let sum = _mm256_fnmadd_ps(block.min[0], _mm256_cvtepi32_ps(negated[0]), sum);
    _mm256_fnmadd_ps(block.min[1], _mm256_cvtepi32_ps(negated[1]), sum)
}

/// What takes the bias off a sum of stored codes times q; `negated` is minus the sum of q.
#[inline]
#[target_feature(enable = "avx2")]
fn unbias<C: IntegerClass>(negated: __m256i) -> __m256i {
    match C::LAYOUT.bias {
        Some(0) => negated,
        Some(2) => _mm256_slli_epi32::<2>(negated),
        Some(3) => _mm256_slli_epi32::<3>(negated),
        Some(4) => _mm256_slli_epi32::<4>(negated),
        Some(5) => _mm256_slli_epi32::<5>(negated),
        // Codes of eight bits are unpacked to values, the others have no bias.
        _ => _mm256_setzero_si256(),
    }
}

/// Integer products of 16 elements of a row, starting at `x`.
///
/// |q| <= 127, so one `vpmaddubsw` yields at most `2 * 127 * c` for codes up to c. Within i16
/// stay four of them at 5 bits (4 * 2 * 127 * 31 = 31496), two at 6 bits (32004), one at
/// 8 bits, where |value| <= 128 (32512).
///
/// # Safety
/// 16 bytes at `x` are readable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn dot<C: IntegerClass>(codes: &[__m256i; 4], x: *const u8) -> __m256i {
    let ones = _mm256_set1_epi16(1);
    let mut pairs = [_mm256_setzero_si256(); 4];
    for (q, (pairs, codes)) in pairs.iter_mut().zip(codes).enumerate() {
        // SAFETY: quad q of 4.
        let x = unsafe { broadcast_i32(x.wrapping_add(4 * q)) };
        *pairs = if C::LAYOUT.bits() == 8 {
            _mm256_maddubs_epi16(_mm256_abs_epi8(*codes), _mm256_sign_epi8(x, *codes))
        } else {
            _mm256_maddubs_epi16(*codes, x)
        };
    }
    let low = [pairs[0], pairs[2]];
    let high = [pairs[1], pairs[3]];
    match C::LAYOUT.bits() {
        ..=5 => {
            let low = _mm256_add_epi16(low[0], low[1]);
            let high = _mm256_add_epi16(high[0], high[1]);
            _mm256_madd_epi16(_mm256_add_epi16(low, high), ones)
        }
        6 => {
            let first = _mm256_add_epi16(low[0], high[0]);
            let second = _mm256_add_epi16(low[1], high[1]);
            let first = _mm256_madd_epi16(first, ones);
            _mm256_add_epi32(first, _mm256_madd_epi16(second, ones))
        }
        7.. => {
            let mut sum = _mm256_setzero_si256();
            for pairs in pairs {
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
            }
            sum
        }
    }
}

/// # Safety
/// 4 bytes at `p` are readable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn broadcast_i32(p: *const u8) -> __m256i {
    // SAFETY: the caller's promise.
    _mm256_set1_epi32(unsafe { p.cast::<i32>().read_unaligned() })
}

/// # Safety
/// 4 bytes at `p` are readable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn broadcast_f32(p: *const u8) -> __m256 {
    // SAFETY: the caller's promise.
    _mm256_set1_ps(unsafe { p.cast::<f32>().read_unaligned() })
}
