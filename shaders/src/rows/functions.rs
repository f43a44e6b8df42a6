//! Element-wise functions in WGSL, over vectors of four.

use onebit_ir::Function;

use crate::kernel::Source;

/// `tanh` by one exponential: exact at both infinities, where built-in ones of some drivers
/// return NaN from `inf / inf`.
const TANH: &str = "fn tanh_of(x: vec4<f32>) -> vec4<f32> {
    return 1.0 - 2.0 / (1.0 + exp(2.0 * x));
}";

const SILU: &str = "fn silu(x: vec4<f32>) -> vec4<f32> {
    return x / (1.0 + exp(-x));
}";

const GELU: &str = "fn gelu_tanh(x: vec4<f32>) -> vec4<f32> {
    let inner = 0.7978845608028654 * fma(0.044715 * x * x, x, x);
    return 0.5 * x * (1.0 + tanh_of(inner));
}";

const RELU: &str = "fn relu_squared(x: vec4<f32>) -> vec4<f32> {
    let y = max(x, vec4<f32>(0.0));
    return y * y;
}";

/// The name of `function`, `vec4<f32>` to `vec4<f32>`; declares it.
pub fn name(source: &mut Source, function: Function) -> &'static str {
    let (name, text) = match function {
        Function::Silu => ("silu", SILU),
        Function::GeluTanh => {
            source.declare(TANH);
            ("gelu_tanh", GELU)
        }
        Function::ReluSquared => ("relu_squared", RELU),
    };
    source.declare(text);
    name
}

/// `cap * tanh(x / cap)`
pub fn softcap(source: &mut Source, x: &str, cap: f32) -> String {
    source.declare(TANH);
    format!("{} * tanh_of({x} * {})", float(cap), float(1.0 / cap))
}

/// A WGSL literal with exactly this value.
pub fn float(value: f32) -> String {
    if value.is_finite() {
        format!("{value:?}f")
    } else {
        format!("bitcast<f32>({}u)", value.to_bits())
    }
}
