//! How the cache keeps a position's key or value, and how eight elements of it come and go.
//!
//! A form F16 has eight elements in a 16-byte word. A record of the form Q8 is its codes, sixteen to
//! a 16-byte word, then one f32 a block, which is an f16 number, filled up to a whole word; the eight
//! elements of an invocation are two words of codes and the scale.

use onebit_plan::abi::CacheForm;

use super::{Shape, WORD, words};
use crate::kernel::Source;

/// Elements that share a scale.
const BLOCK: u32 = onebit_plan::abi::BLOCK as u32;

/// 16-byte words from one position of a head to the next.
pub fn record_words(shape: &Shape, dim: u32) -> u32 {
    match shape.form {
        CacheForm::F16 => words(dim),
        CacheForm::Q8 => codes_words(dim) + (dim / BLOCK).div_ceil(4),
    }
}

fn codes_words(dim: u32) -> u32 {
    dim / 16
}

/// The WGSL type of eight elements.
pub fn held_type(shape: &Shape) -> &'static str {
    match shape.form {
        CacheForm::F16 => "vec4<u32>",
        CacheForm::Q8 => "vec3<u32>",
    }
}

/// Eight elements in the array `cache`: number `place` of the record of `dim` elements at `record`.
pub fn load(shape: &Shape, cache: &str, record: &str, dim: u32, place: &str) -> String {
    match shape.form {
        CacheForm::F16 => format!("{cache}[{record} + {place}]"),
        CacheForm::Q8 => {
            let (word, half) = (format!("({place}) / 2u"), format!("({place}) % 2u * 2u"));
            let scales = codes_words(dim);
            format!(
                "vec3<u32>({cache}[{record} + {word}][{half}], {cache}[{record} + {word}][{half} + 1u], {cache}[{record} + {scales}u + ({place}) / 16u][({place}) / 4u % 4u])"
            )
        }
    }
}

/// The two `vec4<f32>` of the eight elements `held`.
pub fn floats(shape: &Shape, held: &str) -> [String; 2] {
    match shape.form {
        CacheForm::F16 => [("x", "y"), ("z", "w")].map(|(a, b)| {
            format!("vec4<f32>(unpack2x16float({held}.{a}), unpack2x16float({held}.{b}))")
        }),
        CacheForm::Q8 => ["x", "y"]
            .map(|part| format!("vec4<f32>(unpack4xI8({held}.{part})) * bitcast<f32>({held}.z)")),
    }
}

/// Brings `local_k` and `local_v` to the form that the cache gives back, where that takes more than
/// a word for itself; ends in a barrier.
pub fn quantise(source: &mut Source, shape: &Shape) {
    if shape.form == CacheForm::F16 {
        return;
    }
    declare_codes(source);
    for (letter, dim) in [("k", shape.key_dim), ("v", shape.value_dim)] {
        let places = words(dim);
        source.declare(format!("var<workgroup> coded_{letter}: array<vec3<u32>, {places}>;"));
        source.line(format!(
            "for (var p = lane; p < {places}u; p += WORKGROUP) {{
    let block = p / 4u * {}u;
    var most = vec4<u32>(0u);
    for (var i = 0u; i < {}u; i += 1u) {{ most = max(most, magnitudes(local_{letter}[block + i])); }}
    let scale = scale_of(most);
    let inverse = 1.0 / scale;
    coded_{letter}[p] = vec3<u32>(codes(local_{letter}[p * 2u] * inverse), codes(local_{letter}[p * 2u + 1u] * inverse), bitcast<u32>(scale));
}}",
            BLOCK / 4,
            BLOCK / 4
        ));
    }
    source.line("workgroupBarrier();");
}

/// Eight elements of the row's own key or value: number `place`.
pub fn own(source: &mut Source, shape: &Shape, letter: &str, place: &str) -> String {
    match shape.form {
        CacheForm::F16 => {
            declare_halves(source);
            format!("halves(local_{letter}[({place}) * 2u], local_{letter}[({place}) * 2u + 1u])")
        }
        CacheForm::Q8 => format!("coded_{letter}[{place}]"),
    }
}

/// Word `w` of the record of the row's own key or value.
pub fn own_word(source: &mut Source, shape: &Shape, letter: &str, dim: u32) -> String {
    match shape.form {
        CacheForm::F16 => own(source, shape, letter, "w"),
        CacheForm::Q8 => {
            // Words of codes and words of scales, each computed where it is not wanted, too.
            let (codes, last) = (codes_words(dim), words(dim) - 1);
            let code = |offset: u32| format!("coded_{letter}[min(w * 2u + {offset}u, {last}u)].xy");
            let first = format!("(max(w, {codes}u) - {codes}u) * 16u");
            let scale = |i: u32| format!("coded_{letter}[min({first} + {}u, {last}u)].z", i * 4);
            format!(
                "select(vec4<u32>({}, {}, {}, {}), vec4<u32>({}, {}), w < {codes}u)",
                scale(0),
                scale(1),
                scale(2),
                scale(3),
                code(0),
                code(1)
            )
        }
    }
}

/// Declares `halves(a: vec4<f32>, b: vec4<f32>) -> vec4<u32>`: eight floats as f16.
fn declare_halves(source: &mut Source) {
    source.declare(
        "fn halves(a: vec4<f32>, b: vec4<f32>) -> vec4<u32> {
    return vec4<u32>(pack2x16float(a.xy), pack2x16float(a.zw), pack2x16float(b.xy), pack2x16float(b.zw));
}",
    );
}

/// Declares the rounding of [`CacheForm::Q8`]. Magnitudes are compared as their bits, where
/// infinity and what is no number are the largest.
fn declare_codes(source: &mut Source) {
    source.declare(
        "fn magnitudes(x: vec4<f32>) -> vec4<u32> {
    return bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu);
}",
    );
    source.declare(format!(
        "fn scale_of(most: vec4<u32>) -> f32 {{
    let two = max(most.xy, most.zw);
    let least = bitcast<f32>(min(max(two.x, two.y), 0x7f800000u)) * {};
    // However the device rounds to f16, the result is the least that is not below.
    let nearest = pack2x16float(vec2<f32>(least, 0.0)) & 0xffffu;
    let below = unpack2x16float(nearest).x < least;
    return unpack2x16float(nearest + select(0u, 1u, below)).x;
}}",
        crate::rows::functions::float(1.0 / 127.0)
    ));
    source.declare(
        "fn codes(x: vec4<f32>) -> u32 {
    let code = select(vec4<f32>(0.0), round(x), abs(x) < vec4<f32>(128.0));
    return pack4xI8(vec4<i32>(code));
}",
    );
}

/// Whether the form has heads of `dim` elements.
pub fn takes(form: CacheForm, dim: u32) -> bool {
    match form {
        CacheForm::F16 => dim.is_multiple_of(WORD),
        CacheForm::Q8 => dim.is_multiple_of(BLOCK),
    }
}
