//! Plain Rust: runs anywhere, and states what the other instruction sets must equal.

use half::f16;
use onebit_plan::abi::{AttentionShape, StepContext};

use super::isa::{Isa, LANES};

/// Arrays of sixteen floats; no CPU feature is needed.
#[derive(Clone, Copy)]
pub(super) struct Portable;

#[inline(always)]
fn lanes(f: impl Fn(usize) -> f32) -> [f32; LANES] {
    std::array::from_fn(f)
}

impl Isa for Portable {
    type Vector = [f32; LANES];

    const MANY_REGISTERS: bool = false;

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Vector {
        [value; LANES]
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::Vector {
        *from
    }

    #[inline(always)]
    fn store(self, value: Self::Vector, to: &mut [f32; LANES]) {
        *to = value;
    }

    #[inline(always)]
    fn widen(self, from: &[u16; LANES]) -> Self::Vector {
        lanes(|i| f16::from_bits(from[i]).to_f32())
    }

    #[inline(always)]
    fn widen_codes(self, from: &[i8; LANES]) -> Self::Vector {
        lanes(|i| f32::from(from[i]))
    }

    #[inline(always)]
    fn narrow(self, value: Self::Vector) -> [u16; LANES] {
        value.map(|x| f16::from_f32(x).to_bits())
    }

    #[inline(always)]
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        lanes(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        lanes(|i| a[i] - b[i])
    }

    #[inline(always)]
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        lanes(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        lanes(|i| a[i] / b[i])
    }

    #[inline(always)]
    fn fma(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        lanes(|i| a[i].mul_add(b[i], c[i]))
    }

    #[inline(always)]
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        lanes(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn abs(self, a: Self::Vector) -> Self::Vector {
        lanes(|i| a[i].abs())
    }

    #[inline(always)]
    fn select_below(
        self,
        x: Self::Vector,
        limit: Self::Vector,
        below: Self::Vector,
        otherwise: Self::Vector,
    ) -> Self::Vector {
        lanes(|i| if x[i] < limit[i] { below[i] } else { otherwise[i] })
    }

    #[inline(always)]
    fn add_to_exponent(self, a: Self::Vector, n: Self::Vector) -> Self::Vector {
        lanes(|i| f32::from_bits(a[i].to_bits().wrapping_add(n[i].to_bits() << 23)))
    }

    #[inline(always)]
    fn keep_lanes(
        self,
        a: Self::Vector,
        from: usize,
        to: usize,
        fill: Self::Vector,
    ) -> Self::Vector {
        lanes(|i| if (from..to).contains(&i) { a[i] } else { fill[i] })
    }

    #[inline(always)]
    fn max_across(self, mut a: Self::Vector) -> f32 {
        let mut half = LANES / 2;
        while half > 0 {
            for lane in 0..half {
                let other = a[lane + half];
                a[lane] = if a[lane] > other { a[lane] } else { other };
            }
            half /= 2;
        }
        a[0]
    }
}

super::attention_functions! {
    Portable,
    /// [`onebit_plan::abi::AttentionFn`] in plain Rust.
    /// As [`super::run`].
}

/// [`onebit_plan::abi::KvWriteFn`] in plain Rust.
///
/// # Safety
/// As [`super::kv::write`].
pub unsafe extern "C" fn kv_write(
    context: *const StepContext,
    shape: *const AttentionShape,
    k: *const f32,
    v: *const f32,
    r0: u32,
    r1: u32,
) {
    // SAFETY: the caller's contract is the callee's.
    unsafe { super::kv::write(Portable, context, shape, k, v, r0, r1) }
}
