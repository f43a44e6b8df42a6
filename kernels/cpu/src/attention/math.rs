//! `exp` and `tanh` on sixteen lanes: one sequence of exactly rounded operations, hence the same
//! bits on every instruction set.
//!
//! Polynomials are those of the Cephes library (Moshier; `expf.c`, `tanhf.c`).

use super::isa::Isa;

/// Below this [`exp`] is 0; `e^-87` is 1.6e-38, so that no result is subnormal.
pub(super) const EXP_FLOOR: f32 = -87.0;

/// `1.5 * 2^23`: adding it rounds a small float to an integer, kept in the low mantissa bits.
const ROUND: f32 = 12_582_912.0;
/// `ln 2` in two parts; products of the first with integers below 2^10 are exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// `(e^r - 1 - r) / r^2` on `|r| <= ln(2) / 2`, highest power first.
const EXP_TERMS: [f32; 6] =
    [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1];
/// `(tanh(y) - y) / y^3` as a polynomial in `y^2` on `|y| <= 0.625`, highest power first.
const TANH_TERMS: [f32; 5] =
    [-5.704_988_7e-3, 2.063_909e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1];
const TANH_SMALL: f32 = 0.625;

#[inline(always)]
fn horner<I: Isa, const N: usize>(isa: I, x: I::Vector, terms: [f32; N]) -> I::Vector {
    let mut sum = isa.splat(terms[0]);
    for term in &terms[1..] {
        sum = isa.fma(sum, x, isa.splat(*term));
    }
    sum
}

/// `e^x` for `x <= 0`: within 2 units in the last place above [`EXP_FLOOR`], 0 below it, 1 at 0.
#[inline(always)]
pub(super) fn exp<I: Isa>(isa: I, x: I::Vector) -> I::Vector {
    let shifted = isa.fma(x, isa.splat(std::f32::consts::LOG2_E), isa.splat(ROUND));
    let n = isa.sub(shifted, isa.splat(ROUND));
    let r = isa.fma(n, isa.splat(-LN2_HIGH), x);
    let r = isa.fma(n, isa.splat(-LN2_LOW), r);
    let tail = isa.fma(horner(isa, r, EXP_TERMS), isa.mul(r, r), r);
    let mantissa = isa.add(tail, isa.splat(1.0));
    let scaled = isa.add_to_exponent(mantissa, shifted);
    isa.select_below(x, isa.splat(EXP_FLOOR), isa.splat(0.0), scaled)
}

/// `tanh(y)`, within 4 units in the last place.
#[inline(always)]
pub(super) fn tanh<I: Isa>(isa: I, y: I::Vector) -> I::Vector {
    let zero = isa.splat(0.0);
    let one = isa.splat(1.0);
    let size = isa.abs(y);

    let square = isa.mul(y, y);
    let cube = isa.mul(square, y);
    let small = isa.fma(horner(isa, square, TANH_TERMS), cube, y);

    let e = exp(isa, isa.mul(size, isa.splat(-2.0)));
    let large = isa.div(isa.sub(one, e), isa.add(one, e));
    let large = isa.select_below(y, zero, isa.sub(zero, large), large);

    isa.select_below(size, isa.splat(TANH_SMALL), small, large)
}
