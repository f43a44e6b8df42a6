//! Splits of a row put together.

use onebit_plan::gpu::{binding, record, step};

use super::{
    AttentionError, LOWEST, Shape, check, declare_shares, fingerprint, out_word, partial_words,
};
use crate::activations::store_quad;
use crate::kernel::{Immediate, Kernel, Source};
use crate::rows::RowsKind;
use crate::rows::layout::{BLOCK, Layout};
use crate::rows::record as records;

/// Splits behind the first whose partial results are read at once. The order of sums follows from it.
const AT_ONCE: u32 = 4;
/// Chunks of a row that are merged side by side, their reads under way together.
const ABREAST: usize = 4;

/// What a merge leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeOut {
    /// Quantised activations at `Out { index: 0 }`, in 16-byte words.
    Records,
    /// Activations in f16 at `Out { index: 0 }`, in 16-byte words.
    Halves,
    /// Floats at `Out { index: 0 }`, [`Shape::out_stride`] apart.
    Floats,
}

/// Where a chunk of a merged row goes.
#[derive(Clone, Copy)]
enum Goal {
    Local,
    Out(MergeOut),
}

/// Appends a merge of all rows up to `rows` to a kernel's body, ending in a barrier: as a
/// prologue of [`crate::rows::emit`], it leaves `x_records`. Partial results start at
/// [`Immediate::Partials`].
///
/// # Errors
/// Rows that cannot be quantised.
pub fn emit_merge(
    source: &mut Source,
    shape: &Shape,
    splits: u32,
    rows: u32,
    workgroup: u32,
) -> Result<(), AttentionError> {
    check(shape)?;
    let width = quantised_width(shape)?;
    let words = rows * width / BLOCK as u32 * record::WORDS as u32;
    source.declare(format!("var<workgroup> x_records: array<vec4<u32>, {words}>;"));
    source.line("{ // merge");
    if rows == 1 {
        source.line("{\nlet row = 0u;");
    } else {
        let step = source.read(binding::STEP);
        let count = format!("min({step}[{}], {rows}u)", RowsKind::All.count_word());
        source.line(format!("for (var row = 0u; row < {count}; row += 1u) {{"));
    }
    row(source, shape, splits, workgroup, Goal::Local);
    source.line("}\nworkgroupBarrier();\n}");
    Ok(())
}

/// A merge as a kernel of its own. Dispatch one workgroup for each row.
///
/// # Errors
/// Rows that cannot be quantised, where that is asked for.
pub fn merge_kernel(shape: &Shape, splits: u32, out: MergeOut) -> Result<Kernel, AttentionError> {
    check(shape)?;
    if out != MergeOut::Floats {
        quantised_width(shape)?;
    }
    let workgroup = (shape.heads * shape.value_dim / 4).next_power_of_two().clamp(64, 256);
    let mut source = Source::default();
    let step = source.read(binding::STEP);
    source.line(format!(
        "let row = group.x;\nif row >= {step}[{}] {{ return; }}",
        RowsKind::All.count_word()
    ));
    row(&mut source, shape, splits, workgroup, Goal::Out(out));
    let form = match out {
        MergeOut::Records => "records",
        MergeOut::Halves => "halves",
        MergeOut::Floats => "floats",
    };
    let digest = fingerprint(&format!("{shape:?} {splits} {out:?}"));
    let Shape { heads, value_dim, .. } = shape;
    let name = format!("merge-{form}-{heads}x{value_dim}-s{splits}-{digest:016x}");
    Ok(source.finish(name, workgroup))
}

pub(super) fn quantised_width(shape: &Shape) -> Result<u32, AttentionError> {
    let width = shape.heads * shape.value_dim;
    if width.is_multiple_of(BLOCK as u32) {
        Ok(width)
    } else {
        Err(AttentionError::Merged { width })
    }
}

/// The merge of row `row`.
fn row(source: &mut Source, shape: &Shape, splits: u32, workgroup: u32, goal: Goal) {
    let step = source.read(binding::STEP);
    source.line(format!("let position = {step}[{}u + row];", step::POSITIONS));
    declare_shares(source, shape, splits);
    source.line("let used = (tiles + share - 1u) / share;");
    let width = (shape.heads * shape.value_dim) as usize;
    let layout = Layout { heads: 1, width, workgroup: workgroup as usize };
    let chunks: Vec<usize> = (0..layout.chunks()).collect();
    for abreast in chunks.chunks(ABREAST) {
        source.line("{");
        for &chunk in abreast {
            let last = chunk + 1 == chunks.len();
            source.line(layout.locate(&format!("_{chunk}"), &format!("{chunk}u"), last));
        }
        let tags: Vec<String> = abreast.iter().map(|chunk| format!("_{chunk}")).collect();
        merge(source, shape, splits, &tags);
        tags.iter().for_each(|tag| store(source, shape, goal, tag));
        source.line("}");
    }
}

/// `merged{tag}` for each tag: four elements from `e{tag}` on, of all splits that have positions.
fn merge(source: &mut Source, shape: &Shape, splits: u32, tags: &[String]) {
    let base = source.immediate(Immediate::Partials);
    let (dim, each, heads) = (shape.value_dim, partial_words(shape), shape.heads);
    for tag in tags {
        source.line(format!(
            "let h{tag} = e{tag} / {dim}u;
let four{tag} = (e{tag} - h{tag} * {dim}u) / 4u;
let first{tag} = {base} / 4u + (row * {heads}u + h{tag}) * {}u;
var top{tag} = {LOWEST};
var total{tag} = 0.0;
var sum{tag} = vec4<f32>(0.0);",
            splits * each
        ));
    }
    // The first split is read before it is known how many there are. Every workgroup of a product
    // merges for itself, so that others would cost more than the time in which that is found out.
    source.line("{\nlet s = 0u;");
    tags.iter().for_each(|tag| read(source, shape, splits, 1, tag));
    tags.iter().for_each(|tag| add(source, 1, tag));
    source.line("}");
    if splits > 1 {
        source.line(format!("for (var s = 1u; s < used; s += {AT_ONCE}u) {{"));
        tags.iter().for_each(|tag| read(source, shape, splits, AT_ONCE, tag));
        tags.iter().for_each(|tag| add(source, AT_ONCE, tag));
        source.line("}");
    }
    for tag in tags {
        source.line(format!("let merged{tag} = sum{tag} / total{tag};"));
    }
}

/// Reads `count` splits from `s` on, whether they have positions or not.
fn read(source: &mut Source, shape: &Shape, splits: u32, count: u32, tag: &str) {
    let records = source.read(binding::RECORDS);
    let (dim, each) = (shape.value_dim, partial_words(shape));
    for i in 0..count {
        source.line(format!(
            "let at{tag}_{i} = first{tag} + min(s + {i}u, {}u) * {each}u;
let m{tag}_{i} = bitcast<vec4<f32>>({records}[at{tag}_{i} + {}u]);
let y{tag}_{i} = bitcast<vec4<f32>>({records}[at{tag}_{i} + four{tag}]);",
            splits - 1,
            dim / 4
        ));
    }
}

/// Adds the splits that were read, those without positions as nothing: they are no numbers.
fn add(source: &mut Source, count: u32, tag: &str) {
    for i in 0..count {
        source.line(format!(
            "let has{tag}_{i} = s + {i}u < used;
let n{tag}_{i} = select(vec2<f32>({LOWEST}, 0.0), m{tag}_{i}.xy, has{tag}_{i});
let x{tag}_{i} = select(vec4<f32>(0.0), y{tag}_{i}, has{tag}_{i});"
        ));
    }
    let next = (0..count).fold(format!("top{tag}"), |top, i| format!("max({top}, n{tag}_{i}.x)"));
    source.line(format!(
        "let next{tag} = {next};
let fade{tag} = exp2(top{tag} - next{tag});
top{tag} = next{tag};
total{tag} *= fade{tag};
sum{tag} *= fade{tag};"
    ));
    for i in 0..count {
        source.line(format!(
            "let w{tag}_{i} = select(0.0, exp2(n{tag}_{i}.x - next{tag}), has{tag}_{i});
total{tag} = fma(w{tag}_{i}, n{tag}_{i}.y, total{tag});
sum{tag} = fma(vec4<f32>(w{tag}_{i}), x{tag}_{i}, sum{tag});"
        ));
    }
}

fn store(source: &mut Source, shape: &Shape, goal: Goal, tag: &str) {
    let words = record::WORDS;
    let of_row = shape.heads * shape.value_dim / BLOCK as u32 * words as u32;
    match goal {
        Goal::Out(MergeOut::Floats) => {
            let records = source.write(binding::RECORDS);
            let out = out_word(source);
            let stride = shape.out_stride / 4;
            source.line(format!(
                "if live{tag} {{ {records}[{out} + row * {stride}u + e{tag} / 4u] = bitcast<vec4<u32>>(merged{tag}); }}"
            ));
        }
        Goal::Out(MergeOut::Halves) => {
            let out = source.immediate(Immediate::Out { index: 0 });
            let row = format!("{out} * 4u + row * {}u", shape.heads * shape.value_dim / 2);
            let (x, element) = (format!("merged{tag}"), format!("e{tag}"));
            let store = store_quad(source, [&x, &row, &element]);
            source.line(format!("if live{tag} {{\n{store}}}"));
        }
        Goal::Out(MergeOut::Records) => {
            let out = source.immediate(Immediate::Out { index: 0 });
            let array = source.write(binding::RECORDS);
            store_records(source, array, &format!("{out} + row * {of_row}u"), tag);
        }
        Goal::Local => store_records(source, "x_records", &format!("row * {of_row}u"), tag),
    }
}

fn store_records(source: &mut Source, array: &str, first: &str, tag: &str) {
    let words = record::WORDS;
    records::declare(source);
    source.line(format!(
        "let word{tag} = record_word(merged{tag}, t{tag} & 7u);
if live{tag} && (t{tag} & 7u) < {words}u {{ {array}[{first} + block{tag} * {words}u + (t{tag} & 7u)] = word{tag}; }}"
    ));
}
