//! Adds the parts of a tile's sums that the invocations of a workgroup have.
//!
//! The tree is the same for every subgroup size from 8 on, and so are the bits: neighbours in
//! `v`, then both pairs, then the partitions in ascending order. Rows of the step pass in groups,
//! which bounds the memory.

use std::ops::Range;

use onebit_plan::abi::TILE_ROWS;

use super::Stream;
use super::shape::Shape;

/// Smallest subgroup that has a whole partition.
const WHOLE: usize = 16;
/// Most rows of the step that pass at once.
const GROUP: usize = 4;

/// The groups of a workgroup's rows.
pub(crate) fn groups(shape: &Shape) -> Vec<Range<usize>> {
    (0..shape.m).step_by(GROUP).map(|first| first..shape.m.min(first + GROUP)).collect()
}

/// `vec4`s of workgroup memory that one stream's parts take; smaller subgroups write twice as
/// many.
fn words(shape: &Shape) -> usize {
    2 * shape.partitions * row_words(shape)
}

/// `vec4`s of one partition.
fn row_words(shape: &Shape) -> usize {
    shape.m.min(GROUP) * TILE_ROWS / 4
}

/// First `vec4` of the parts of stream or team number `index`, a WGSL expression.
pub(crate) fn place(shape: &Shape, index: &str) -> String {
    format!("{index} * {}u", words(shape))
}

/// Declares the memory for the parts of so many streams or teams.
pub(crate) fn declaration(shape: &Shape, streams: usize) -> String {
    format!("var<workgroup> partial: array<vec4<f32>, {}>;", streams * words(shape))
}

/// Adds up a partition's parts within the subgroup, once before [`spread`].
pub(crate) fn fold(shape: &Shape, stream: &Stream) -> String {
    let fold = |distance: usize| -> String {
        let accs = (0..shape.m).map(|row| stream.acc(row));
        accs.map(|acc| format!("{acc} += subgroupShuffleXor({acc}, {distance}u);\n")).collect()
    };
    format!("{}if (lanes >= {WHOLE}u) {{\n{}}}\n", fold(4), fold(8))
}

/// Writes the parts of a group of rows to the [`place`] `first`. Barriers have to stand before,
/// where the memory was read, and after.
pub(crate) fn spread(shape: &Shape, stream: &Stream, first: &str, rows: &Range<usize>) -> String {
    let words = row_words(shape);
    let write = |part: &str| -> String {
        rows.clone()
            .map(|row| {
                let (at, acc) = (4 * (row - rows.start), stream.acc(row));
                format!("partial[{first} + {at}u + {part} * {words}u + j] = {acc};\n")
            })
            .collect()
    };
    format!(
        "if (lanes >= {WHOLE}u) {{\nif (v == 0u) {{\n{}}}\n}} else if ((v & 1u) == 0u) {{\n{}}}\n",
        write("part"),
        write("(part * 2u + (v >> 1u))")
    )
}

/// Declares `var {name}: vec4<f32>`, the sums at the [`place`] `first` of the expression `word`:
/// four times the row of the group, plus four rows of the tile.
pub(crate) fn total(shape: &Shape, first: &str, name: &str, word: &str) -> String {
    let words = row_words(shape);
    let sum = |parts: usize, step: usize| {
        let part = |p: usize| format!("partial[{first} + {}u + p * {words}u + {word}]", p * words);
        // A part of a partition that two subgroups share is a pair.
        let terms: Vec<String> = (0..step)
            .map(|p| match parts / shape.partitions {
                1 => part(p),
                _ => format!("({} + {})", part(2 * p), part(2 * p + 1)),
            })
            .collect();
        let taken = step * parts / shape.partitions;
        format!(
            "for (var p = 0u; p < {parts}u; p += {taken}u) {{\n{name} = {name} + {};\n}}\n",
            terms.join("\n + ")
        )
    };
    // So many in flight: registers are scarce while other rows' sums wait.
    let whole = if shape.partitions.is_multiple_of(8) { 8 } else { 4 };
    format!(
        "var {name} = vec4<f32>();\nif (lanes >= {WHOLE}u) {{\n{}}} else {{\n{}}}\n",
        sum(shape.partitions, whole),
        sum(2 * shape.partitions, 4)
    )
}
