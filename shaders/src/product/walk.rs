//! The walk along k: what every invocation of a workgroup sums up for one tile.

use super::shape::{Form, SHARE, Shape};
use super::{Stream, float, integer};

/// Where the activations are.
pub(crate) struct Activations {
    /// The variable: 16-byte words of records, or floats as words.
    pub buffer: &'static str,
}

/// Statements of the entry point that hold for all tiles: `l`, `j`, `v`, `half`, `part`, `once`;
/// `team` and the invocation's number in it, `member`.
pub(crate) fn prelude(form: Form, shape: &Shape) -> String {
    let team = match shape.teams {
        1 => "let team = 0u;\nlet member = lane;\n".to_owned(),
        // A whole number of subgroups each, which compilers do not know.
        _ => format!(
            "let team = subgroupBroadcastFirst(lane / {0}u);\nlet member = lane - team * {0}u;\n",
            shape.partitions * SHARE
        ),
    };
    let j = match form {
        Form::Float(float) if float.vectors() == 2 => "((l & 1u) << 1u) | ((l >> 1u) & 1u)",
        _ => "l & 3u",
    };
    format!(
        "{team}let l = member & 15u;
let j = {j};
let v = l >> 2u;
let half = j >> 1u;
let part = member >> 4u;
let once = select(0.0, 1.0, v == 0u);
"
    )
}

/// Sums a tile of each stream over k into variables that it declares, one `vec4` of rows
/// `4j..4j + 4` for each stream and row of the step ([`Stream::acc`]). They are the invocation's
/// part of the sums; `reduce` adds the parts.
pub(crate) fn walk(shape: &Shape, streams: &[Stream], x: &Activations) -> String {
    let mut out = String::new();
    for stream in streams {
        for m in 0..shape.m {
            out += &format!("var {} = vec4<f32>();\n", stream.acc(m));
            if is_wide(stream) {
                out += &format!("var {}h = vec4<f32>();\n", stream.acc(m));
            }
        }
    }
    let (turns, rest) = shape.steps();
    let first = turns * shape.unroll;
    match turns {
        0 => {}
        1 => out += &format!("{{\n{}}}\n", steps(shape, streams, x, "0u", 0, shape.unroll)),
        _ => {
            let body = steps(shape, streams, x, "s", 0, shape.unroll);
            out += &format!(
                "for (var turn = 0u; turn < {}; turn += 1u) {{\nlet s = turn * {}u;\n{body}}}\n",
                bound(shape, streams.len(), turns),
                shape.unroll
            );
        }
    }
    if rest > 0 {
        let body = steps(shape, streams, x, &format!("{first}u"), first, rest);
        out += &format!("{{\n{body}}}\n");
    }
    for stream in streams.iter().filter(|stream| is_wide(stream)) {
        for m in 0..shape.m {
            out += &float::halve(stream, m);
        }
    }
    out
}

/// The end of a loop of so many turns as WGSL: plain where one row and one matrix are walked, and
/// [`opaque`] where that would be too much.
pub(crate) fn bound(shape: &Shape, streams: usize, turns: usize) -> String {
    match (shape.m, streams) {
        (1, 1) => format!("{turns}u"),
        _ => opaque(turns),
    }
}

/// A bound that looks as if it depended on the step: `nought`, which is 0. Compilers that unroll short loops
/// move all loads to the front, and registers run out; or the code outgrows its cache.
pub(crate) fn opaque(turns: usize) -> String {
    format!("({turns}u + nought)")
}

pub(super) fn is_wide(stream: &Stream) -> bool {
    matches!(stream.form, Form::Float(form) if form.vectors() == 2)
}

/// `count` steps from the WGSL expression `s` on, which is `number` where that is known: first
/// all loads of weights, then block by block. In a loop no step is ragged.
fn steps(
    shape: &Shape,
    streams: &[Stream],
    x: &Activations,
    s: &str,
    number: usize,
    count: usize,
) -> String {
    let in_loop = s == "s";
    let ragged = |i: usize| !in_loop && shape.is_ragged(number + i);
    let mut out = String::new();
    for i in 0..count {
        out += &locate(shape, streams[0].form, s, i, ragged(i));
        for stream in streams {
            out += &match stream.form {
                Form::Integer(layout) => integer::load(&layout, stream, i),
                Form::Float(form) => float::load(form, stream, i),
            };
        }
    }
    // With one row its activations are few enough to be in flight with the weights.
    if shape.m == 1 {
        for i in 0..count {
            out += &input(streams[0].form, x, i, 0, ragged(i));
        }
    }
    for i in 0..count {
        for stream in streams {
            if let Form::Integer(layout) = stream.form {
                out += &integer::unpack(&layout, stream, i);
            }
        }
        for m in 0..shape.m {
            if shape.m > 1 {
                out += &input(streams[0].form, x, i, m, ragged(i));
            }
            for stream in streams {
                out += &match stream.form {
                    Form::Integer(layout) => integer::accumulate(&layout, stream, i, m),
                    Form::Float(form) => float::accumulate(form, stream, i, m),
                };
            }
        }
    }
    out
}

/// The block of step `s + i`, in bounds.
pub(super) fn locate(shape: &Shape, form: Form, s: &str, i: usize, ragged: bool) -> String {
    let Shape { blocks, partitions, .. } = shape;
    let block = format!("({s} + {i}u) * {partitions}u + part");
    match form {
        Form::Float(form) => {
            format!("let b{i} = {block};\n") + &float::locate(form, shape, i, ragged)
        }
        Form::Integer(_) if ragged => format!(
            "let b{i} = min({block}, {}u);\nlet valid{i} = select(0.0, 1.0, {block} < {blocks}u);\n",
            blocks - 1
        ),
        Form::Integer(_) => format!("let b{i} = {block};\n"),
    }
}

pub(super) fn input(form: Form, x: &Activations, i: usize, m: usize, ragged: bool) -> String {
    match form {
        Form::Integer(_) => integer::load_record(x.buffer, i, m, ragged),
        Form::Float(_) => float::load_input(x.buffer, i, m, ragged),
    }
}
