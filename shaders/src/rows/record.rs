//! Quantisation to the records of [`onebit_plan::gpu::record`].

use onebit_plan::gpu::record::LEVELS;

use super::functions::float;
use crate::kernel::Source;

/// Declares `record_word(x: vec4<f32>, j: u32) -> vec4<u32>`: the invocations j of 0..8 of a
/// block, neighbours in a subgroup that call it together, have the elements `4j..` in `x` and get
/// word j of the record, for j < 5. What the others get means nothing.
///
/// Non-negative floats order like their bits, a NaN above all of them; so the largest magnitude
/// is found among integers, and a NaN makes all codes 0 and `d` a NaN.
pub fn declare(source: &mut Source) {
    let levels = float(LEVELS);
    source.declare(format!(
        "fn record_word(x: vec4<f32>, j: u32) -> vec4<u32> {{
    let magnitude = bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu);
    var top = max(max(magnitude.x, magnitude.y), max(magnitude.z, magnitude.w));
    top = max(top, subgroupShuffleXor(top, 1u));
    top = max(top, subgroupShuffleXor(top, 2u));
    top = max(top, subgroupShuffleXor(top, 4u));
    let quotient = {levels} / bitcast<f32>(top);
    let usable = top < 0x7f800000u && bitcast<u32>(quotient) < 0x7f800000u;
    let code = vec4<i32>(round(select(vec4<f32>(0.0), x * quotient, usable)));
    let high = byte_word(bitcast<vec4<u32>>(code >> vec4<u32>(7u)) & vec4<u32>(255u));
    let low = byte_word(bitcast<vec4<u32>>(code) & vec4<u32>(127u));
    var sum = (code.x + code.y) + (code.z + code.w);
    sum += subgroupShuffleXor(sum, 1u);
    sum += subgroupShuffleXor(sum, 2u);
    let other_high = subgroupShuffleXor(high, 4u);
    let other_low = subgroupShuffleXor(low, 4u);
    let other_sum = subgroupShuffleXor(sum, 4u);
    let d = bitcast<f32>(top) / {levels};
    let scales = vec4<f32>(d, d * f32(other_sum), d * f32(sum), 0.0);
    return select(bitcast<vec4<u32>>(scales), vec4<u32>(high, other_high, low, other_low), j < 4u);
}}
fn byte_word(b: vec4<u32>) -> u32 {{
    return b.x | (b.y << 8u) | (b.z << 16u) | (b.w << 24u);
}}"
    ));
}
