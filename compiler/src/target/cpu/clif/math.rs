//! Vector functions of four floats.
//!
//! The exponential is 2^n times a degree-6 polynomial on |r| <= ln(2)/2 (Cody-Waite reduction in
//! two steps); relative error below 2e-7 over [-87, 88], checked in tests of the target.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;
use onebit_ir::Function;

use super::build::{cast, splat};

/// 1.5 * 2^23: adding it leaves the rounded integer in a float's low mantissa bits.
const ROUND: f32 = 12_582_912.0;
/// Coefficients of e^r, highest power first: 1/720 .. 1.
const EXP: [f32; 7] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];

/// The integers nearest to `x` (ties to even) as `i32x4`; |x| below 2^22.
pub fn round_to_int(b: &mut FunctionBuilder<'_>, x: Value) -> Value {
    let magic = splat(b, ROUND);
    let shifted = b.ins().fadd(x, magic);
    let bits = cast(b, types::I32X4, shifted);
    let magic_bits = cast(b, types::I32X4, magic);
    b.ins().isub(bits, magic_bits)
}

/// `e^x` for x in [-87, 88]; arguments outside are moved to the nearer end.
fn exp(b: &mut FunctionBuilder<'_>, x: Value) -> Value {
    let low = splat(b, -87.0);
    let high = splat(b, 88.0);
    let x = clamp(b, x, low, high);
    let log2_e = splat(b, std::f32::consts::LOG2_E);
    let scaled = b.ins().fmul(x, log2_e);
    let magic = splat(b, ROUND);
    let shifted = b.ins().fadd(scaled, magic);
    let n = b.ins().fsub(shifted, magic);
    // ln(2) in two parts: the first has few enough bits that n times it is exact.
    let ln2_high = splat(b, -0.693_359_4);
    let ln2_low = splat(b, 2.121_944_4e-4);
    let r = b.ins().fma(n, ln2_high, x);
    let r = b.ins().fma(n, ln2_low, r);
    let mut sum = splat(b, EXP[0]);
    for coefficient in &EXP[1..] {
        let c = splat(b, *coefficient);
        sum = b.ins().fma(sum, r, c);
    }
    let exponent = round_to_int(b, scaled);
    let bias = b.ins().iconst(types::I32, 127);
    let bias = b.ins().splat(types::I32X4, bias);
    let exponent = b.ins().iadd(exponent, bias);
    let mantissa_bits = b.ins().iconst(types::I32, 23);
    let exponent = b.ins().ishl(exponent, mantissa_bits);
    let power = cast(b, types::F32X4, exponent);
    b.ins().fmul(sum, power)
}

/// `1 / (1 + e^-x)`
fn sigmoid(b: &mut FunctionBuilder<'_>, x: Value) -> Value {
    let negated = b.ins().fneg(x);
    let power = exp(b, negated);
    let one = splat(b, 1.0);
    let below = b.ins().fadd(power, one);
    b.ins().fdiv(one, below)
}

/// One of the IR's functions.
pub fn function(b: &mut FunctionBuilder<'_>, function: Function, x: Value) -> Value {
    match function {
        Function::Silu => {
            let gate = sigmoid(b, x);
            b.ins().fmul(x, gate)
        }
        // 0.5 (1 + tanh(u)) = sigmoid(2u)
        Function::GeluTanh => {
            let square = b.ins().fmul(x, x);
            let cubic = splat(b, 0.044_715);
            let one = splat(b, 1.0);
            let inner = b.ins().fma(cubic, square, one);
            let twice_root = splat(b, 2.0 * 0.797_884_6);
            let inner = b.ins().fmul(inner, twice_root);
            let argument = b.ins().fmul(inner, x);
            let gate = sigmoid(b, argument);
            b.ins().fmul(x, gate)
        }
        Function::ReluSquared => {
            let zero = splat(b, 0.0);
            let positive = max(b, x, zero);
            b.ins().fmul(positive, positive)
        }
    }
}

/// `cap * tanh(x / cap)`, with `tanh(y) = 2 sigmoid(2y) - 1`.
pub fn softcap(b: &mut FunctionBuilder<'_>, x: Value, cap: f32) -> Value {
    let factor = splat(b, 2.0 / cap);
    let argument = b.ins().fmul(x, factor);
    let gate = sigmoid(b, argument);
    let twice = splat(b, 2.0 * cap);
    let minus = splat(b, -cap);
    b.ins().fma(gate, twice, minus)
}

fn clamp(b: &mut FunctionBuilder<'_>, x: Value, low: Value, high: Value) -> Value {
    let x = max(b, x, low);
    let above = b.ins().fcmp(FloatCC::LessThan, high, x);
    let above = cast(b, types::F32X4, above);
    b.ins().bitselect(above, high, x)
}

fn max(b: &mut FunctionBuilder<'_>, x: Value, y: Value) -> Value {
    let less = b.ins().fcmp(FloatCC::LessThan, x, y);
    let less = cast(b, types::F32X4, less);
    b.ins().bitselect(less, y, x)
}

/// The sum of the four lanes, pairwise: (0 + 2) + (1 + 3).
pub fn sum_lanes(b: &mut FunctionBuilder<'_>, x: Value) -> Value {
    let lane = |b: &mut FunctionBuilder<'_>, i: u8| b.ins().extractlane(x, i);
    let (l0, l1, l2, l3) = (lane(b, 0), lane(b, 1), lane(b, 2), lane(b, 3));
    let even = b.ins().fadd(l0, l2);
    let odd = b.ins().fadd(l1, l3);
    b.ins().fadd(even, odd)
}
