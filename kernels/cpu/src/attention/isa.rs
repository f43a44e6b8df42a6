//! The sixteen-lane vocabulary that every instruction set speaks.
//!
//! All arithmetic of attention is written once, generically over [`Isa`]; an instruction set only
//! says how to do one operation on sixteen `f32` lanes. Each operation is exactly rounded (or
//! exact), so the same program gives the same bits on every instruction set.

/// Lanes of a vector: one key tile.
pub(super) const LANES: usize = onebit_plan::abi::KEY_TILE;

/// Operations on sixteen `f32` lanes.
///
/// A value of the type proves that the CPU has the instructions, so the methods are safe. All
/// methods are `#[inline(always)]`: they must end up inside a function that enables the features.
pub(super) trait Isa: Copy {
    /// Sixteen `f32` lanes.
    type Vector: Copy;

    /// True if sixteen accumulators and their operands fit in the register file.
    const MANY_REGISTERS: bool;

    fn splat(self, value: f32) -> Self::Vector;
    fn load(self, from: &[f32; LANES]) -> Self::Vector;
    fn store(self, value: Self::Vector, to: &mut [f32; LANES]);
    /// Reads sixteen f16 bit patterns, exactly.
    fn widen(self, from: &[u16; LANES]) -> Self::Vector;
    /// Converts sixteen codes, exactly.
    fn widen_codes(self, from: &[i8; LANES]) -> Self::Vector;
    /// Rounds to f16 bit patterns, ties to even.
    fn narrow(self, value: Self::Vector) -> [u16; LANES];
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `a > b ? a : b` in each lane: `b` if either is NaN.
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn abs(self, a: Self::Vector) -> Self::Vector;
    /// `x < limit ? below : otherwise` in each lane; `otherwise` where `x` is NaN.
    fn select_below(
        self,
        x: Self::Vector,
        limit: Self::Vector,
        below: Self::Vector,
        otherwise: Self::Vector,
    ) -> Self::Vector;
    /// Adds `bits(n) << 23` to `bits(a)`, wrapping: multiplies `a` by a power of two.
    fn add_to_exponent(self, a: Self::Vector, n: Self::Vector) -> Self::Vector;
    /// `a` in lanes `from <= lane < to`, `fill` in the others; `from <= to <= 16`.
    fn keep_lanes(
        self,
        a: Self::Vector,
        from: usize,
        to: usize,
        fill: Self::Vector,
    ) -> Self::Vector;
    /// Largest lane; a NaN lane may be passed over.
    fn max_across(self, a: Self::Vector) -> f32;
}

/// Sum of sixteen lanes, by halves: `l + (l + 8)`, then 4, 2, 1.
pub(super) fn sum_across(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}
