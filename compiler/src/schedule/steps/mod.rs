//! The schedule of an entry: steps over buffers, before any address is known.
//!
//! Every member of a team runs all steps in order: the threads of the CPU, or the workgroups of a
//! GPU. A step either splits its work over the team or, in an entry for few rows, repeats
//! row-wise work in every member into private buffers, which is cheaper than a barrier.

mod cone;
mod gates;
mod names;
pub mod select;
pub mod uses;

use onebit_ir::rows::RowProgram;
use onebit_ir::{Dim, ValueId};
use onebit_plan::abi::AttentionShape;

use crate::schedule::array::ArrayId;
use crate::schedule::repack::{VectorId, WeightId};

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
    /// Two products of one input, and the codes of what the first, a gate, makes of the second. An
    /// array does it together with the next step, which reads them.
    ArrayGate {
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
    /// Values of the graph that stand in memory as floats, each a buffer of its own; by buffer.
    pub values: Vec<(BufferId, ValueId)>,
}

/// A step and the region it belongs to.
#[derive(Clone, Debug)]
pub struct ScheduledStep {
    pub step: Step,
    /// `blk.0.attn_q` and the like, unique in the schedule; see `names.rs`.
    pub name: String,
    pub ops: Vec<&'static str>,
}

impl Step {
    /// Which rows the step covers.
    pub fn rows(&self) -> Rows {
        match self {
            Self::Rows(step) | Self::Gated { epilogue: step, .. } => step.rows,
            Self::Matmul { rows, .. } | Self::Array { rows, .. } | Self::ArrayGate { rows, .. } => {
                *rows
            }
            _ => Rows::All,
        }
    }
}
