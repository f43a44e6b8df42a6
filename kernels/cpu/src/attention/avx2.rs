//! AVX2 with FMA and F16C: a vector is two 256-bit registers, lanes 0..8 and 8..16.

use std::arch::x86_64::*;

use onebit_plan::abi::{AttentionShape, StepContext};

use super::isa::{Isa, LANES};

/// Proof that the CPU has AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    /// Only a function that enables the features may call this without `unsafe`.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub(super) fn new() -> Self {
        Self(())
    }
}

/// Lanes 0..8 and lanes 8..16.
#[derive(Clone, Copy)]
pub(super) struct Pair(__m256, __m256);

impl Isa for Avx2 {
    type Vector = Pair;

    const MANY_REGISTERS: bool = false;

    #[inline(always)]
    fn splat(self, value: f32) -> Pair {
        // SAFETY: `self` proves the features.
        unsafe { splat(value) }
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Pair {
        // SAFETY: `self` proves the features.
        unsafe { load(from) }
    }

    #[inline(always)]
    fn store(self, value: Pair, to: &mut [f32; LANES]) {
        // SAFETY: `self` proves the features.
        unsafe { store(value, to) }
    }

    #[inline(always)]
    fn widen(self, from: &[u16; LANES]) -> Pair {
        // SAFETY: `self` proves the features.
        unsafe { widen(from) }
    }

    #[inline(always)]
    fn widen_codes(self, from: &[i8; LANES]) -> Pair {
        // SAFETY: `self` proves the features.
        unsafe { widen_codes(from) }
    }

    #[inline(always)]
    fn narrow(self, value: Pair) -> [u16; LANES] {
        // SAFETY: `self` proves the features.
        unsafe { narrow(value) }
    }

    #[inline(always)]
    fn add(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: `self` proves the features.
        unsafe { add(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: `self` proves the features.
        unsafe { sub(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: `self` proves the features.
        unsafe { mul(a, b) }
    }

    #[inline(always)]
    fn div(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: `self` proves the features.
        unsafe { div(a, b) }
    }

    #[inline(always)]
    fn max(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: `self` proves the features.
        unsafe { max(a, b) }
    }

    #[inline(always)]
    fn fma(self, a: Pair, b: Pair, c: Pair) -> Pair {
        // SAFETY: `self` proves the features.
        unsafe { fma(a, b, c) }
    }

    #[inline(always)]
    fn abs(self, a: Pair) -> Pair {
        // SAFETY: `self` proves the features.
        unsafe { abs(a) }
    }

    #[inline(always)]
    fn select_below(self, x: Pair, limit: Pair, below: Pair, otherwise: Pair) -> Pair {
        // SAFETY: `self` proves the features.
        unsafe { select_below(x, limit, below, otherwise) }
    }

    #[inline(always)]
    fn add_to_exponent(self, a: Pair, n: Pair) -> Pair {
        // SAFETY: `self` proves the features.
        unsafe { add_to_exponent(a, n) }
    }

    #[inline(always)]
    fn keep_lanes(self, a: Pair, from: usize, to: usize, fill: Pair) -> Pair {
        // SAFETY: `self` proves the features.
        unsafe { keep_lanes(a, from, to, fill) }
    }

    #[inline(always)]
    fn max_across(self, a: Pair) -> f32 {
        // SAFETY: `self` proves the features.
        unsafe { max_across(a) }
    }
}

/// Applies a two-operand instruction to both halves.
macro_rules! on_halves {
    ($($name:ident = $instruction:ident;)*) => {$(
        #[target_feature(enable = "avx")]
        #[inline]
        fn $name(a: Pair, b: Pair) -> Pair {
            Pair($instruction(a.0, b.0), $instruction(a.1, b.1))
        }
    )*};
}

on_halves! {
    add = _mm256_add_ps;
    sub = _mm256_sub_ps;
    mul = _mm256_mul_ps;
    div = _mm256_div_ps;
    max = _mm256_max_ps;
}

#[target_feature(enable = "avx")]
#[inline]
fn splat(value: f32) -> Pair {
    Pair(_mm256_set1_ps(value), _mm256_set1_ps(value))
}

#[target_feature(enable = "avx")]
#[inline]
fn load(from: &[f32; LANES]) -> Pair {
    // SAFETY: the array holds 16 floats.
    let low = unsafe { _mm256_loadu_ps(from.as_ptr()) };
    // SAFETY: as above, 8 floats on.
    let high = unsafe { _mm256_loadu_ps(from[8..].as_ptr()) };
    Pair(low, high)
}

#[target_feature(enable = "avx")]
#[inline]
fn store(value: Pair, to: &mut [f32; LANES]) {
    // SAFETY: the array holds 16 floats.
    unsafe { _mm256_storeu_ps(to.as_mut_ptr(), value.0) }
    // SAFETY: as above, 8 floats on.
    unsafe { _mm256_storeu_ps(to[8..].as_mut_ptr(), value.1) }
}

#[target_feature(enable = "avx,f16c")]
#[inline]
fn widen(from: &[u16; LANES]) -> Pair {
    // SAFETY: the array holds 16 halves, 32 bytes.
    let low = unsafe { _mm_loadu_si128(from.as_ptr().cast()) };
    // SAFETY: as above, 16 bytes on.
    let high = unsafe { _mm_loadu_si128(from[8..].as_ptr().cast()) };
    Pair(_mm256_cvtph_ps(low), _mm256_cvtph_ps(high))
}

#[target_feature(enable = "avx2")]
#[inline]
fn widen_codes(from: &[i8; LANES]) -> Pair {
    // SAFETY: the array holds 16 bytes.
    let low = unsafe { _mm_loadl_epi64(from.as_ptr().cast()) };
    // SAFETY: as above, 8 bytes on.
    let high = unsafe { _mm_loadl_epi64(from[8..].as_ptr().cast()) };
    let floats = |codes| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes));
    Pair(floats(low), floats(high))
}

#[target_feature(enable = "avx,f16c")]
#[inline]
fn narrow(value: Pair) -> [u16; LANES] {
    const ROUNDING: i32 = _MM_FROUND_TO_NEAREST_INT;
    let mut bits = [0; LANES];
    let (low, high) = bits.split_at_mut(8);
    let (low_bits, high_bits) =
        (_mm256_cvtps_ph::<ROUNDING>(value.0), _mm256_cvtps_ph::<ROUNDING>(value.1));
    // SAFETY: the half holds 16 bytes.
    unsafe { _mm_storeu_si128(low.as_mut_ptr().cast(), low_bits) }
    // SAFETY: the half holds 16 bytes.
    unsafe { _mm_storeu_si128(high.as_mut_ptr().cast(), high_bits) }
    bits
}

#[target_feature(enable = "avx,fma")]
#[inline]
fn fma(a: Pair, b: Pair, c: Pair) -> Pair {
    Pair(_mm256_fmadd_ps(a.0, b.0, c.0), _mm256_fmadd_ps(a.1, b.1, c.1))
}

#[target_feature(enable = "avx")]
#[inline]
fn abs(a: Pair) -> Pair {
    let sign = _mm256_set1_ps(-0.0);
    Pair(_mm256_andnot_ps(sign, a.0), _mm256_andnot_ps(sign, a.1))
}

#[target_feature(enable = "avx")]
#[inline]
fn select_below(x: Pair, limit: Pair, below: Pair, otherwise: Pair) -> Pair {
    let low = _mm256_cmp_ps::<_CMP_LT_OQ>(x.0, limit.0);
    let high = _mm256_cmp_ps::<_CMP_LT_OQ>(x.1, limit.1);
    Pair(_mm256_blendv_ps(otherwise.0, below.0, low), _mm256_blendv_ps(otherwise.1, below.1, high))
}

#[target_feature(enable = "avx2")]
#[inline]
fn add_to_exponent(a: Pair, n: Pair) -> Pair {
    Pair(add_to_exponent_half(a.0, n.0), add_to_exponent_half(a.1, n.1))
}

#[target_feature(enable = "avx2")]
#[inline]
fn add_to_exponent_half(a: __m256, n: __m256) -> __m256 {
    let shifted = _mm256_slli_epi32::<23>(_mm256_castps_si256(n));
    _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), shifted))
}

#[target_feature(enable = "avx2")]
#[inline]
fn keep_lanes(a: Pair, from: usize, to: usize, fill: Pair) -> Pair {
    let low = kept_half(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), from, to);
    let high = kept_half(_mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15), from, to);
    Pair(_mm256_blendv_ps(fill.0, a.0, low), _mm256_blendv_ps(fill.1, a.1, high))
}

/// All ones where `from <= lane < to`.
#[target_feature(enable = "avx2")]
#[inline]
fn kept_half(lane: __m256i, from: usize, to: usize) -> __m256 {
    let before = _mm256_cmpgt_epi32(_mm256_set1_epi32(from as i32), lane);
    let until = _mm256_cmpgt_epi32(_mm256_set1_epi32(to as i32), lane);
    _mm256_castsi256_ps(_mm256_andnot_si256(before, until))
}

#[target_feature(enable = "avx")]
#[inline]
fn max_across(a: Pair) -> f32 {
    let a = _mm256_max_ps(a.0, a.1);
    let a = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
    let a = _mm_max_ps(a, _mm_movehl_ps(a, a));
    _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)))
}

super::attention_functions! {
    Avx2::new(),
    /// [`onebit_plan::abi::AttentionFn`] with AVX2.
    /// As [`super::run`], on a CPU with AVX2, FMA and F16C.
    #[target_feature(enable = "avx2,fma,f16c")]
}

/// [`onebit_plan::abi::KvWriteFn`] with AVX2.
///
/// # Safety
/// As [`super::kv::write`], on a CPU with AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe extern "C" fn kv_write(
    context: *const StepContext,
    shape: *const AttentionShape,
    k: *const f32,
    v: *const f32,
    r0: u32,
    r1: u32,
) {
    let isa = Avx2::new();
    // SAFETY: the caller's contract is the callee's.
    unsafe { super::kv::write(isa, context, shape, k, v, r0, r1) }
}
