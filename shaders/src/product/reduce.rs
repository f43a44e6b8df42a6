//! Adds the parts of a tile's sums that the invocations of a workgroup have.
//!
//! The tree is the same for every subgroup size from 8 on, and so are the bits: neighbours in
//! `v`, then both pairs, then the partitions in ascending order.

use onebit_plan::abi::TILE_ROWS;

use super::Stream;
use super::shape::Shape;

/// Smallest subgroup that has a whole partition.
const WHOLE: usize = 16;

/// Size in `vec4`s of workgroup memory that one stream's parts take.
pub(crate) fn words(shape: &Shape) -> usize {
    2 * shape.partitions * shape.m * TILE_ROWS / 4
}

/// Declares the memory for `count` sets of parts.
pub(crate) fn declaration(shape: &Shape, count: usize) -> String {
    format!("var<workgroup> partial: array<vec4<f32>, {}>;", count * words(shape))
}

/// Writes a stream's sums to the set of parts that starts at `set`, a WGSL expression in `vec4`s.
/// A barrier has to follow before `total`.
pub(crate) fn spread(shape: &Shape, stream: &Stream, set: &str) -> String {
    let m = shape.m;
    let mut out = String::new();
    for row in 0..m {
        let acc = stream.acc(row);
        out += &format!("{acc} += subgroupShuffleXor({acc}, 4u);\n");
    }
    out += &format!("if (lanes >= {WHOLE}u) {{\n");
    for row in 0..m {
        let acc = stream.acc(row);
        out += &format!("{acc} += subgroupShuffleXor({acc}, 8u);\n");
    }
    out += "if (v == 0u) {\n";
    for row in 0..m {
        let acc = stream.acc(row);
        out += &format!("partial[{set} + (part * {m}u + {row}u) * 4u + j] = {acc};\n");
    }
    out += "}\n} else if ((v & 1u) == 0u) {\n";
    for row in 0..m {
        let acc = stream.acc(row);
        out += &format!(
            "partial[{set} + ((part * 2u + (v >> 1u)) * {m}u + {row}u) * 4u + j] = {acc};\n"
        );
    }
    out + "}\n"
}

/// Declares `var {name}`: the sum of output `o`, a WGSL expression: row of the step times 16 plus
/// row of the tile.
pub(crate) fn total(shape: &Shape, name: &str, set: &str, o: &str) -> String {
    let stride = shape.m * TILE_ROWS / 4;
    let part = |p: usize| format!("partial[{set} + {}u + (({o}) >> 2u)][({o}) & 3u]", p * stride);
    let whole: Vec<String> = (0..shape.partitions).map(part).collect();
    let halves: Vec<String> =
        (0..shape.partitions).map(|p| format!("({} + {})", part(2 * p), part(2 * p + 1))).collect();
    format!(
        "var {name}: f32;
if (lanes >= {WHOLE}u) {{
    {name} = {};
}} else {{
    {name} = {};
}}
",
        whole.join("\n        + "),
        halves.join("\n        + ")
    )
}
