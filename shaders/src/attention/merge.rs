//! Splits of a row put together.

use onebit_plan::gpu::{binding, record, step};

use super::{
    AttentionError, LOWEST, Shape, check, declare_shares, fingerprint, out_word, partial_words,
};
use crate::kernel::{Immediate, Kernel, Source};
use crate::rows::RowsKind;
use crate::rows::layout::{BLOCK, Layout};
use crate::rows::record as records;

/// Splits whose partial results are read at once.
const AT_ONCE: u32 = 4;

/// What a merge leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeOut {
    /// Quantised activations at `Out { index: 0 }`, in 16-byte words.
    Records,
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
/// Rows that cannot be quantised, with [`MergeOut::Records`].
pub fn merge_kernel(shape: &Shape, splits: u32, out: MergeOut) -> Result<Kernel, AttentionError> {
    check(shape)?;
    if out == MergeOut::Records {
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
        MergeOut::Floats => "floats",
    };
    let digest = fingerprint(&format!("{shape:?} {splits} {out:?}"));
    let Shape { heads, value_dim, .. } = shape;
    let name = format!("merge-{form}-{heads}x{value_dim}-s{splits}-{digest:016x}");
    Ok(source.finish(name, workgroup))
}

fn quantised_width(shape: &Shape) -> Result<u32, AttentionError> {
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
    let chunks = layout.chunks();
    source.line(format!("for (var c = 0u; c < {chunks}u; c += 1u) {{"));
    source.line(layout.locate("", "c", true));
    merge(source, shape, splits);
    store(source, shape, goal);
    source.line("}");
}

/// `merged`: four elements from `e` on, of all splits that have positions.
fn merge(source: &mut Source, shape: &Shape, splits: u32) {
    let records = source.read(binding::RECORDS);
    let base = source.immediate(Immediate::Partials);
    let (dim, each, heads) = (shape.value_dim, partial_words(shape), shape.heads);
    source.line(format!("let h = e / {dim}u;\nlet four = (e - h * {dim}u) / 4u;"));
    source.line(format!("let from = {base} / 4u + (row * {heads}u + h) * {}u;", splits * each));
    source.line(format!("var top = {LOWEST};\nvar total = 0.0;\nvar sum = vec4<f32>(0.0);"));
    source.line(format!("for (var s = 0u; s < used; s += {AT_ONCE}u) {{"));
    for i in 0..AT_ONCE {
        source.line(format!(
            "let at{i} = from + min(s + {i}u, used - 1u) * {each}u;
let n{i} = bitcast<vec4<f32>>({records}[at{i} + {}u]);
let x{i} = bitcast<vec4<f32>>({records}[at{i} + four]);",
            dim / 4
        ));
    }
    let next = (0..AT_ONCE).fold("top".to_owned(), |top, i| format!("max({top}, n{i}.x)"));
    source.line(format!("let next = {next};\nlet fade = exp2(top - next);\ntop = next;"));
    source.line("total *= fade;\nsum *= fade;");
    for i in 0..AT_ONCE {
        source.line(format!(
            "let w{i} = select(0.0, exp2(n{i}.x - next), s + {i}u < used);
total = fma(w{i}, n{i}.y, total);
sum = fma(vec4<f32>(w{i}), x{i}, sum);"
        ));
    }
    source.line("}\nlet merged = sum / total;");
}

fn store(source: &mut Source, shape: &Shape, goal: Goal) {
    let words = record::WORDS;
    let of_row = shape.heads * shape.value_dim / BLOCK as u32 * words as u32;
    match goal {
        Goal::Out(MergeOut::Floats) => {
            let records = source.write(binding::RECORDS);
            let out = out_word(source);
            let stride = shape.out_stride / 4;
            source.line(format!(
                "if live {{ {records}[{out} + row * {stride}u + e / 4u] = bitcast<vec4<u32>>(merged); }}"
            ));
        }
        Goal::Out(MergeOut::Records) => {
            let out = source.immediate(Immediate::Out { index: 0 });
            let array = source.write(binding::RECORDS);
            store_records(source, array, &format!("{out} + row * {of_row}u"));
        }
        Goal::Local => store_records(source, "x_records", &format!("row * {of_row}u")),
    }
}

fn store_records(source: &mut Source, array: &str, first: &str) {
    let words = record::WORDS;
    records::declare(source);
    source.line(format!(
        "let word = record_word(merged, t & 7u);
if live && (t & 7u) < {words}u {{ {array}[{first} + block * {words}u + (t & 7u)] = word; }}"
    ));
}
