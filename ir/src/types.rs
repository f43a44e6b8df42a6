//! Types of values: an element kind and a shape whose leading dimension may be symbolic.

use std::fmt;

use crate::quant::Format;

/// What one element of a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Elem {
    /// A computed value.
    F32,
    /// Token ids and positions.
    I32,
    /// A weight in a GGUF block format (F32, F16 and BF16 weights included).
    Block(Format),
}

/// One dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// `T`: rows of the step.
    Rows,
    /// `R`: rows of the step whose logits are wanted.
    Outputs,
    /// A constant.
    Size(usize),
}

/// Element kind and shape, outermost dimension first (a weight is `[out, in]`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// What one element is.
    pub elem: Elem,
    /// Dimensions, outermost first.
    pub shape: Vec<Dim>,
}

impl TensorType {
    /// `elem[shape]`
    pub fn new(elem: Elem, shape: impl Into<Vec<Dim>>) -> Self {
        Self { elem, shape: shape.into() }
    }

    /// `f32[lead, d0, d1, ...]`
    pub fn f32(lead: Dim, rest: &[usize]) -> Self {
        let shape = std::iter::once(lead).chain(rest.iter().map(|&d| Dim::Size(d)));
        Self { elem: Elem::F32, shape: shape.collect() }
    }

    /// A weight `[d0, d1, ...]`.
    pub fn weight(format: Format, shape: &[usize]) -> Self {
        Self { elem: Elem::Block(format), shape: shape.iter().map(|&d| Dim::Size(d)).collect() }
    }

    /// The innermost dimension when it is a constant.
    pub fn width(&self) -> Option<usize> {
        match self.shape.last() {
            Some(Dim::Size(n)) => Some(*n),
            _ => None,
        }
    }

    /// Dimension `axis` when it is a constant.
    pub fn size(&self, axis: usize) -> Option<usize> {
        match self.shape.get(axis) {
            Some(Dim::Size(n)) => Some(*n),
            _ => None,
        }
    }
}

impl fmt::Display for Elem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F32 => f.write_str("f32"),
            Self::I32 => f.write_str("i32"),
            Self::Block(format) => f.write_str(format.name()),
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows => f.write_str("T"),
            Self::Outputs => f.write_str("R"),
            Self::Size(n) => write!(f, "{n}"),
        }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.elem)?;
        for (i, dim) in self.shape.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{dim}")?;
        }
        f.write_str("]")
    }
}
