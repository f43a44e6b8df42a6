//! Products of integer classes by integer dot.
//!
//! A code of an activation is `128 * high + low`; both halves are bytes, so that two 4x8-bit
//! dots make an exact 15-bit product. Every sum over the eight elements that an invocation has
//! of a block stays below 2^24 and is exact as a float, too.

use onebit_plan::gpu::record::WORDS;
use onebit_plan::layout::Layout;

use super::Stream;
use crate::class;

/// Loads block `b{i}` of a stream's tile.
pub(crate) fn load(layout: &Layout, stream: &Stream, i: usize) -> String {
    class::load(layout, stream.buffer, &stream.tile, &format!("b{i}"), &stream.suffix(i))
}

/// Loads block `b{i}` into the variables of its slot.
pub(crate) fn fill(layout: &Layout, stream: &Stream, buffer: &str, i: usize) -> String {
    class::fill(layout, buffer, &stream.tile, &format!("b{i}"), &stream.suffix(i))
}

/// Loads word `v` of row m's record and its scales, as `x{i}_{m}`, `dx{i}_{m}` and the two sums
/// `sa{i}_{m}` and `sb{i}_{m}`; the sums are zero but where v is, so that they count once.
pub(crate) fn load_record(buffer: &str, i: usize, m: usize, ragged: bool) -> String {
    let (valid, once) = if ragged {
        (format!(" * valid{i}"), format!("(once * valid{i})"))
    } else {
        (String::new(), "once".into())
    };
    format!(
        "let r{i}_{m} = x_row{m} + b{i} * {WORDS}u;
let x{i}_{m} = {buffer}[r{i}_{m} + v];
let y{i}_{m} = {buffer}[r{i}_{m} + 4u];
let dx{i}_{m} = vec4<f32>(bitcast<f32>(y{i}_{m}.x){valid});
let sa{i}_{m} = bitcast<f32>(y{i}_{m}.y) * {once};
let sb{i}_{m} = bitcast<f32>(y{i}_{m}.z) * {once};
"
    )
}

/// Unpacks block `i`.
pub(crate) fn unpack(layout: &Layout, stream: &Stream, i: usize) -> String {
    class::unpack(layout, &stream.suffix(i))
}

/// Adds block `i` to the sums of row m.
pub(crate) fn accumulate(layout: &Layout, stream: &Stream, i: usize, m: usize) -> String {
    let s = stream.suffix(i);
    let acc = stream.acc(m);
    let bias = class::bias(layout);
    let x = format!("x{i}_{m}");
    let scaled = |dot: &str, sum: &str| match bias {
        0 => format!("vec4<f32>({dot}) * dx{i}_{m}"),
        bias => format!("fma(vec4<f32>({dot}), dx{i}_{m}, vec4<f32>(({sum}) * -{bias}.0))"),
    };
    let (sa, sb) = (format!("sa{i}_{m}"), format!("sb{i}_{m}"));
    let mut out = String::new();
    if layout.has_groups() {
        let low = dot4(|c| {
            format!("(dot4I8Packed(a{s}.{c}, {x}.x) << 7u) + dot4I8Packed(a{s}.{c}, {x}.z)")
        });
        let high = dot4(|c| {
            format!("(dot4I8Packed(c{s}.{c}, {x}.y) << 7u) + dot4I8Packed(c{s}.{c}, {x}.w)")
        });
        out += &format!("{acc} = fma(w{s}, {}, {acc});\n", scaled(&low, &sa));
        out += &format!("{acc} = fma(z{s}, {}, {acc});\n", scaled(&high, &sb));
        if layout.has_min() {
            out += &format!("{acc} = fma(n{s}, vec4<f32>({sa}), {acc});\n");
            out += &format!("{acc} = fma(o{s}, vec4<f32>({sb}), {acc});\n");
        }
    } else {
        let dot = dot4(|c| {
            format!(
                "((dot4I8Packed(a{s}.{c}, {x}.x) + dot4I8Packed(c{s}.{c}, {x}.y)) << 7u) + \
                 dot4I8Packed(a{s}.{c}, {x}.z) + dot4I8Packed(c{s}.{c}, {x}.w)"
            )
        });
        let sum = format!("{sa} + {sb}");
        out += &format!("{acc} = fma(w{s}, {}, {acc});\n", scaled(&dot, &sum));
        if layout.has_min() {
            out += &format!("{acc} = fma(n{s}, vec4<f32>({sum}), {acc});\n");
        }
    }
    out
}

/// A `vec4<i32>` of four scalar expressions.
fn dot4(of: impl Fn(char) -> String) -> String {
    let each = ['x', 'y', 'z', 'w'].map(of);
    format!("vec4<i32>(\n    {})", each.join(",\n    "))
}
