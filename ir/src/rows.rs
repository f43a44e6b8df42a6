//! Fused row loops: element-wise values and normalisations over rows, with what they read and
//! write. One program may run for many layers; where its arguments are is said elsewhere.

use crate::{Function, RopeStyle};

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
