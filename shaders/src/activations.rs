//! The forms in which kernels leave activations for products of integer classes.

use onebit_plan::gpu::binding;

use crate::kernel::Source;

/// What a quantised result of the schedule is in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ActivationForm {
    /// Records of 15-bit codes, for integer dot products ([`onebit_plan::gpu::record`]).
    #[default]
    Records,
    /// f16, for matrices ([`crate::cooperative`]), in the order in which an invocation has weights:
    /// a 16-byte word has quads v and v + 4 of a block of 32, and each quad's elements follow each
    /// other as `0 2 1 3`, so that two neighbours of a 32-bit word are two bytes apart in a word of
    /// codes. What is beyond the range of f16 is its largest number, save infinities.
    Halves,
}

/// 16-byte words of a row of `width` elements in f16, a multiple of 8.
pub(crate) const fn half_words(width: usize) -> usize {
    width / 8
}

const PACK: &str = "fn half_words(x: vec4<f32>) -> vec2<u32> {
    let most = vec4<f32>(65504.0);
    let y = select(x, clamp(x, -most, most), abs(x) < vec4<f32>(3.4e38));
    return vec2<u32>(pack2x16float(y.xz), pack2x16float(y.yw));
}
fn half_place(element: u32) -> u32 {
    return (element >> 5u) * 16u + ((element >> 2u) & 3u) * 4u + ((element >> 4u) & 1u) * 2u;
}";

/// The WGSL that stores the quad `x` from `element` on of the row that begins at the 32-bit word
/// `row` of the arena, as [`ActivationForm::Halves`].
pub(crate) fn store_quad(source: &mut Source, [x, row, element]: [&str; 3]) -> String {
    source.declare(PACK);
    let arena = source.write(binding::ARENA);
    format!(
        "let halves = half_words({x});
let to = {row} + half_place({element});
{arena}[to] = halves.x;
{arena}[to + 1u] = halves.y;
"
    )
}

/// Words as f16 and back, without conversions: see [`crate::post::halves_by_bits`].
const BITS: &str = "fn pairs(low: u32, high: u32) -> vec4<f16> {
    return vec4<f16>(vec2<f16>(unpack2x16float(low)), vec2<f16>(unpack2x16float(high)));
}
fn bits(pair: vec2<f16>) -> u32 {
    return pack2x16float(vec2<f32>(pair));
}";

/// Declares `pairs`, the four f16 of two words, and `bits`, the word of two f16.
pub(crate) fn declare_bits(source: &mut Source) {
    source.require("enable f16;");
    source.declare(BITS);
}
