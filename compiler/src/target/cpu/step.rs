//! The CPU schedule: steps over buffers, before any address is known.
//!
//! Every thread of the team runs all steps in order. A step either splits its work over the team
//! or, in an entry for few rows, repeats row-wise work on every thread into private buffers,
//! which is cheaper than a barrier.

use onebit_ir::{Dim, Function, RopeStyle};
use onebit_plan::abi::AttentionShape;

use crate::schedule::array::ArrayId;
use crate::schedule::repack::{VectorId, WeightId, WeightStore};

/// Index of a buffer of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufferId(pub usize);

/// Where a buffer lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In the arena, seen by the team.
    Shared,
    /// One copy per thread.
    Private,
    /// The caller's logits.
    Logits,
}

/// What a buffer holds, per row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// `width` floats a row.
    F32 { width: usize },
    /// Quantised activations of `width` elements a row.
    Q8 { width: usize },
}

#[derive(Clone, Debug)]
pub struct Buffer {
    pub name: String,
    pub scope: Scope,
    pub contents: Contents,
}

/// Floats of a buffer seen as rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    pub buffer: BufferId,
    /// Floats from the start of a row.
    pub column: usize,
    /// Floats between rows.
    pub stride: usize,
}

/// Which rows of the step a row-wise step covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rows {
    All,
    /// Rows whose logits are wanted.
    Outputs,
}

impl Rows {
    pub fn of(lead: Dim) -> Self {
        if lead == Dim::Outputs { Self::Outputs } else { Self::All }
    }
}

/// How the team shares a row-wise step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Each thread takes a range of rows.
    Split,
    /// Each thread does all rows into private buffers.
    Repeat,
}

/// Index of an expression in a [`RowProgram`].
pub type ExprId = usize;
/// Index of a pointer argument of a [`RowProgram`].
pub type ArgId = usize;

/// An element-wise value, or a normalisation, over one mini-row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Expr {
    /// Floats of a buffer.
    Load(ArgId),
    /// Floats of a constant vector, the same for every row.
    Vector(ArgId),
    Add(ExprId, ExprId),
    Mul(ExprId, ExprId),
    Scale(ExprId, f32),
    Unary(Function, ExprId),
    Gated(Function, ExprId, ExprId),
    SoftCap(ExprId, f32),
    /// `x / sqrt(mean(x^2) + eps) * weight`
    RmsNorm {
        x: ExprId,
        weight: ExprId,
        eps: f32,
    },
}

/// What a pointer argument points at; strides in floats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arg {
    /// Buffer read or written row by row. `gathered`: the row index goes through the step's
    /// list of output rows.
    Rows { row_stride: usize, head_stride: usize, gathered: bool },
    /// Constant vector; each mini-row reads `width` floats at `head * head_stride`.
    Vector { head_stride: usize },
    /// Quantised activations of rows of `width` elements.
    Q8 { width: usize },
}

/// A result of a [`RowProgram`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Store {
    F32 { expr: ExprId, arg: ArgId },
    Q8 { expr: ExprId, arg: ArgId },
}

/// Rotation of the stored floats at `arg`, after everything else; `table` holds cos and sin rows
/// of `dims / 2` each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rotate {
    pub arg: ArgId,
    pub table: ArgId,
    pub dims: usize,
    pub style: RopeStyle,
}

/// A fused loop over rows. Equal programs share one function.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RowProgram {
    /// Mini-rows per row.
    pub heads: usize,
    /// Elements per mini-row.
    pub width: usize,
    pub args: Vec<Arg>,
    pub exprs: Vec<Expr>,
    pub stores: Vec<Store>,
    pub rotate: Option<Rotate>,
    /// The caller gives a range of columns instead of the whole width.
    pub column_range: bool,
}

/// What an argument of a [`RowStep`] is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    Read(View),
    Write(View),
    Vector(VectorId),
}

/// A row program with its buffers.
#[derive(Clone, Debug)]
pub struct RowStep {
    pub program: RowProgram,
    pub bindings: Vec<Binding>,
    pub rows: Rows,
    pub sharing: Sharing,
}

/// A packed weight and the activations it multiplies.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    pub weight: WeightId,
    pub activation: BufferId,
    pub out: View,
}

/// Index of a layer's [`AttentionShape`] in the entry.
pub type ShapeId = usize;

/// One dispatch.
#[derive(Clone, Debug)]
pub enum Step {
    Gather {
        weight: WeightId,
        out: View,
        sharing: Sharing,
    },
    RopeTable {
        table: usize,
        out: View,
        sharing: Sharing,
    },
    Rows(RowStep),
    Matmul {
        product: Product,
        rows: Rows,
    },
    /// A product that a neural processor's array can do.
    Array {
        weight: ArrayId,
        activation: BufferId,
        out: View,
        rows: Rows,
    },
    /// Two products of equal shape and the loop that consumes them column by column.
    Gated {
        gate: Product,
        up: Product,
        epilogue: RowStep,
    },
    KvWrite {
        shape: ShapeId,
        k: View,
        v: View,
    },
    Attention {
        shape: ShapeId,
        q: View,
        out: View,
    },
}

/// Rotation frequencies, kept in the code segment's constants.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeTable {
    pub frequencies: Vec<f32>,
    pub magnitude: f32,
}

/// All steps for up to `max_rows` rows.
#[derive(Clone, Debug)]
pub struct Schedule {
    pub name: &'static str,
    pub max_rows: usize,
    pub buffers: Vec<Buffer>,
    pub steps: Vec<ScheduledStep>,
    pub shapes: Vec<AttentionShape>,
    pub tables: Vec<RopeTable>,
}

/// A step and the region it belongs to.
#[derive(Clone, Debug)]
pub struct ScheduledStep {
    pub step: Step,
    /// `blk.0.attn_q` and the like: the first weight it reads, or the op.
    pub name: String,
    pub ops: Vec<&'static str>,
}

impl Step {
    /// Which rows the step covers.
    pub fn rows(&self) -> Rows {
        match self {
            Self::Rows(step) | Self::Gated { epilogue: step, .. } => step.rows,
            Self::Matmul { rows, .. } | Self::Array { rows, .. } => *rows,
            _ => Rows::All,
        }
    }
}

/// The schedule as text: one step a line, `|` where the team waits, buffers as
/// `name.id@offset`.
pub fn listing(
    schedule: &Schedule,
    arena: &super::arena::Arena,
    barriers: &[bool],
    store: &WeightStore<'_>,
) -> String {
    let buffer = |id: BufferId| {
        let scope = match schedule.buffers[id.0].scope {
            Scope::Shared => "shared",
            Scope::Private => "private",
            Scope::Logits => "logits",
        };
        format!("{}.{}[{scope}+{}]", schedule.buffers[id.0].name, id.0, arena.offset(id))
    };
    let matrix = |id: WeightId| {
        let m = store.matrix_at(id);
        format!("{:?}[{}, {}]", m.class, m.rows, m.columns)
    };
    let bound = |step: &RowStep| {
        let part = |binding: &Binding| match binding {
            Binding::Read(view) => Some(buffer(view.buffer)),
            Binding::Write(view) => Some(format!("-> {}", buffer(view.buffer))),
            Binding::Vector(_) => None,
        };
        step.bindings.iter().filter_map(part).collect::<Vec<_>>().join(", ")
    };
    let mut text = format!(
        "schedule @{} rows <= {} arena {} private {} barriers {}\n",
        schedule.name,
        schedule.max_rows,
        arena.shared_bytes,
        arena.private_bytes,
        barriers.iter().filter(|&&b| b).count()
    );
    for (scheduled, &wait) in schedule.steps.iter().zip(barriers) {
        let what = match &scheduled.step {
            Step::Gather { weight, out, .. } => {
                format!("gather {} -> {}", matrix(*weight), buffer(out.buffer))
            }
            Step::RopeTable { table, out, .. } => {
                format!("rope_table {table} -> {}", buffer(out.buffer))
            }
            Step::Rows(step) => format!("rows({}) {}", scheduled.ops.join(" "), bound(step)),
            Step::Matmul { product, .. } => format!(
                "matmul {} {} -> {}",
                matrix(product.weight),
                buffer(product.activation),
                buffer(product.out.buffer)
            ),
            Step::Array { weight, activation, out, .. } => {
                let m = store.array_at(*weight);
                let (x, out) = (buffer(*activation), buffer(out.buffer));
                format!("array int8/{}[{}, {}] {x} -> {out}", m.group, m.rows, m.columns)
            }
            Step::Gated { gate, up, epilogue } => format!(
                "gated {} {} {}; {}",
                matrix(gate.weight),
                matrix(up.weight),
                buffer(gate.activation),
                bound(epilogue)
            ),
            Step::KvWrite { k, v, .. } => {
                format!("kv_write {}, {}", buffer(k.buffer), buffer(v.buffer))
            }
            Step::Attention { q, out, .. } => {
                format!("attention {} -> {}", buffer(q.buffer), buffer(out.buffer))
            }
        };
        let bar = if wait { '|' } else { ' ' };
        text.push_str(&format!("{bar} @{}: {what}\n", scheduled.name));
    }
    text
}
