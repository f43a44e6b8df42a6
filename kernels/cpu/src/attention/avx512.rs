//! AVX-512: a vector is one 512-bit register.

use std::arch::x86_64::*;

use onebit_plan::abi::{AttentionShape, StepContext};

use super::isa::{Isa, LANES};

/// Proof that the CPU has AVX-512 F and DQ.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

impl Avx512 {
    /// Only a function that enables the features may call this without `unsafe`.
    #[target_feature(enable = "avx512f,avx512dq")]
    #[inline]
    pub(super) fn new() -> Self {
        Self(())
    }
}

impl Isa for Avx512 {
    type Vector = __m512;

    const MANY_REGISTERS: bool = true;

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Vector {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::Vector {
        // SAFETY: `self` proves the features; the array holds 16 floats.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, value: Self::Vector, to: &mut [f32; LANES]) {
        // SAFETY: `self` proves the features; the array holds 16 floats.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), value) }
    }

    #[inline(always)]
    fn widen(self, from: &[u16; LANES]) -> Self::Vector {
        // SAFETY: `self` proves the features.
        unsafe { widen(from) }
    }

    #[inline(always)]
    fn widen_codes(self, from: &[i8; LANES]) -> Self::Vector {
        // SAFETY: `self` proves the features.
        unsafe { widen_codes(from) }
    }

    #[inline(always)]
    fn narrow(self, value: Self::Vector) -> [u16; LANES] {
        // SAFETY: `self` proves the features.
        unsafe { narrow(value) }
    }

    #[inline(always)]
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn fma(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn abs(self, a: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_abs_ps(a) }
    }

    #[inline(always)]
    fn select_below(
        self,
        x: Self::Vector,
        limit: Self::Vector,
        below: Self::Vector,
        otherwise: Self::Vector,
    ) -> Self::Vector {
        // SAFETY: `self` proves the features.
        unsafe { select_below(x, limit, below, otherwise) }
    }

    #[inline(always)]
    fn add_to_exponent(self, a: Self::Vector, n: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves the features.
        unsafe { add_to_exponent(a, n) }
    }

    #[inline(always)]
    fn keep_lanes(
        self,
        a: Self::Vector,
        from: usize,
        to: usize,
        fill: Self::Vector,
    ) -> Self::Vector {
        // SAFETY: `self` proves the features.
        unsafe { keep_lanes(a, from, to, fill) }
    }

    #[inline(always)]
    fn max_across(self, a: Self::Vector) -> f32 {
        // SAFETY: `self` proves the features.
        unsafe { max_across(a) }
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn widen(from: &[u16; LANES]) -> __m512 {
    // SAFETY: the array holds 32 bytes.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(from.as_ptr().cast()) })
}

#[target_feature(enable = "avx512f")]
#[inline]
fn widen_codes(from: &[i8; LANES]) -> __m512 {
    // SAFETY: the array holds 16 bytes.
    let codes = unsafe { _mm_loadu_si128(from.as_ptr().cast()) };
    _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn narrow(value: __m512) -> [u16; LANES] {
    let halves = _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(value);
    let mut bits = [0; LANES];
    // SAFETY: the array holds 32 bytes.
    unsafe { _mm256_storeu_si256(bits.as_mut_ptr().cast(), halves) }
    bits
}

#[target_feature(enable = "avx512f")]
#[inline]
fn select_below(x: __m512, limit: __m512, below: __m512, otherwise: __m512) -> __m512 {
    _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, limit), otherwise, below)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn add_to_exponent(a: __m512, n: __m512) -> __m512 {
    let shifted = _mm512_slli_epi32::<23>(_mm512_castps_si512(n));
    _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), shifted))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn keep_lanes(a: __m512, from: usize, to: usize, fill: __m512) -> __m512 {
    let kept = ((1_u32 << to) - (1_u32 << from)) as __mmask16;
    _mm512_mask_blend_ps(kept, fill, a)
}

#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn max_across(a: __m512) -> f32 {
    let a = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
    let a = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
    let a = _mm_max_ps(a, _mm_movehl_ps(a, a));
    _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)))
}

super::attention_functions! {
    Avx512::new(),
    /// [`onebit_plan::abi::AttentionFn`] with AVX-512.
    /// As [`super::run`], on a CPU with AVX-512 F and DQ.
    #[target_feature(enable = "avx512f,avx512dq")]
}

/// [`onebit_plan::abi::KvWriteFn`] with AVX-512.
///
/// # Safety
/// As [`super::kv::write`], on a CPU with AVX-512 F and DQ.
#[target_feature(enable = "avx512f,avx512dq")]
pub unsafe extern "C" fn kv_write(
    context: *const StepContext,
    shape: *const AttentionShape,
    k: *const f32,
    v: *const f32,
    r0: u32,
    r1: u32,
) {
    let isa = Avx512::new();
    // SAFETY: the caller's contract is the callee's.
    unsafe { super::kv::write(isa, context, shape, k, v, r0, r1) }
}
