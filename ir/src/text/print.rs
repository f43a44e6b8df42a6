//! Printing. Values stand in [`Graph::order`] under their own ids, so that a printed graph and an
//! error about it speak of the same `%7`; a graph with a cycle prints in order of ids.

use std::fmt::{self, Display, Formatter};

use crate::graph::{Graph, ValueId};
use crate::op::{AttentionSpec, Op, RopeScaling, RopeSpec};

impl Display for Graph {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("graph @")?;
        if super::lex::is_word(self.name()) {
            f.write_str(self.name())?;
        } else {
            quote(f, self.name())?;
        }
        f.write_str(" {\n")?;
        for value in self.order().unwrap_or_else(|| self.values().collect()) {
            write!(f, "  {value} = {}", self.op(value))?;
            list(f, &self.inputs(value))?;
            writeln!(f, " : {}", self.ty(value))?;
        }
        if !self.outputs().is_empty() {
            f.write_str("  output")?;
            list(f, self.outputs())?;
            f.write_str("\n")?;
        }
        f.write_str("}\n")
    }
}

/// The op with its attributes, as it stands before its arguments.
impl Display for Op {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Op::Tokens
            | Op::Positions
            | Op::Embed
            | Op::Linear
            | Op::StackedLinear
            | Op::AddBias
            | Op::Add
            | Op::Mul
            | Op::Unary(_)
            | Op::MergeHeads
            | Op::SelectOutputs => Ok(()),
            Op::Weight(name) => {
                f.write_str(" ")?;
                quote(f, name)
            }
            Op::RmsNorm { eps } => write!(f, "(eps={eps:?})"),
            Op::Scale { factor } => write!(f, "(factor={factor:?})"),
            Op::Gated(function) => write!(f, "({})", function.name()),
            Op::SoftCap { cap } => write!(f, "(cap={cap:?})"),
            Op::SplitHeads { heads } => write!(f, "(heads={heads})"),
            Op::Slice { start, len } => write!(f, "(start={start}, len={len})"),
            Op::Rope(spec) => rope(f, spec),
            Op::Attention(spec) => attention(f, spec),
        }
    }
}

fn rope(f: &mut Formatter<'_>, spec: &RopeSpec) -> fmt::Result {
    write!(f, "({}, dims={}, base={:?}", spec.style.name(), spec.dims, spec.base)?;
    match spec.scaling {
        RopeScaling::None => {}
        RopeScaling::Linear { factor } => write!(f, ", linear, factor={factor:?}")?,
        RopeScaling::Yarn {
            factor,
            original_context,
            ext_factor,
            attn_factor,
            beta_fast,
            beta_slow,
        } => {
            write!(f, ", yarn, factor={factor:?}, original_context={original_context}")?;
            write!(f, ", ext_factor={ext_factor:?}, attn_factor={attn_factor:?}")?;
            write!(f, ", beta_fast={beta_fast:?}, beta_slow={beta_slow:?}")?;
        }
    }
    f.write_str(")")
}

fn attention(f: &mut Formatter<'_>, spec: &AttentionSpec) -> fmt::Result {
    write!(f, "(layer={}, scale={:?}", spec.layer, spec.scale)?;
    if let Some(window) = spec.window {
        write!(f, ", window={window}")?;
    }
    if let Some(cap) = spec.softcap {
        write!(f, ", softcap={cap:?}")?;
    }
    f.write_str(")")
}

fn list(f: &mut Formatter<'_>, values: &[ValueId]) -> fmt::Result {
    for (place, value) in values.iter().enumerate() {
        write!(f, "{} {value}", if place == 0 { "" } else { "," })?;
    }
    Ok(())
}

/// Names come from model files: whatever is not printable is escaped, so a line stays a line.
fn quote(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            _ if c.is_control() => write!(f, "\\u{{{:x}}}", u32::from(c))?,
            _ => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}
