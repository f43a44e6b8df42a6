//! Type inference: the one place that says which arguments an op takes and what it gives.

use crate::op::Op;
use crate::types::{Dim, Elem, TensorType};

/// Why an op cannot take its arguments.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{op}: {reason}")]
pub struct TypeError {
    /// [`Op::name`] of the op.
    pub op: &'static str,
    /// What was found and what was expected; arguments count from 0.
    pub reason: String,
}

/// The type of `op` over arguments of types `inputs`. A [`Op::Weight`] has none to infer.
pub fn result_type(op: &Op, inputs: &[&TensorType]) -> Result<TensorType, TypeError> {
    let checker = Checker { op, inputs };
    match op {
        Op::Tokens | Op::Positions => {
            checker.count(0..=0)?;
            Ok(TensorType::new(Elem::I32, [Dim::Rows]))
        }
        Op::Weight(name) => {
            Err(checker.error(format!("the type of weight \"{name}\" is given, not inferred")))
        }
        Op::Embed => checker.embed(),
        Op::Linear => checker.linear(),
        Op::StackedLinear => checker.stacked(1..inputs.len()),
        Op::RmsNorm { .. } | Op::AddBias => {
            checker.count(2..=2)?;
            checker.is_f32(0)?;
            checker.vector(1, checker.width(0)?)?;
            Ok(inputs[0].clone())
        }
        Op::Add | Op::Mul | Op::Gated(_) => {
            checker.count(2..=2)?;
            checker.is_f32(0)?;
            checker.is_f32(1)?;
            if inputs[0] != inputs[1] {
                return Err(checker.error(format!("{} and {} differ", inputs[0], inputs[1])));
            }
            Ok(inputs[0].clone())
        }
        Op::Scale { .. } | Op::Unary(_) | Op::SoftCap { .. } => {
            checker.count(1..=1)?;
            checker.is_f32(0)?;
            Ok(inputs[0].clone())
        }
        Op::SplitHeads { heads } => checker.split_heads(*heads),
        Op::MergeHeads => {
            checker.count(1..=1)?;
            let (lead, heads, dim) = checker.heads(0)?;
            let width = heads.checked_mul(dim).ok_or_else(|| checker.too_wide())?;
            Ok(TensorType::f32(lead, &[width]))
        }
        Op::Slice { start, len } => checker.slice(*start, *len),
        Op::Rope(spec) => checker.rope(spec.dims),
        Op::Attention(_) => checker.attention(),
        Op::SelectOutputs => {
            checker.count(1..=1)?;
            checker.is_f32(0)?;
            match inputs[0].shape.as_slice() {
                [Dim::Rows, Dim::Size(d)] => Ok(TensorType::f32(Dim::Outputs, &[*d])),
                _ => Err(checker.error(format!("expected f32[T, D], found {}", inputs[0]))),
            }
        }
    }
}

struct Checker<'a> {
    op: &'a Op,
    inputs: &'a [&'a TensorType],
}

impl Checker<'_> {
    fn error(&self, reason: String) -> TypeError {
        TypeError { op: self.op.name(), reason }
    }

    fn count(&self, expected: std::ops::RangeInclusive<usize>) -> Result<(), TypeError> {
        let found = self.inputs.len();
        if expected.contains(&found) {
            return Ok(());
        }
        let (low, high) = (expected.start(), expected.end());
        let range = if low == high { format!("{low}") } else { format!("{low} to {high}") };
        Err(self.error(format!("takes {range} arguments, found {found}")))
    }

    fn too_wide(&self) -> TypeError {
        self.error("the result's width overflows".into())
    }

    /// Argument `place` is a computed f32 value; a weight stored as F32 is none.
    fn is_f32(&self, place: usize) -> Result<(), TypeError> {
        let ty = self.inputs[place];
        match ty.elem {
            Elem::F32 => Ok(()),
            Elem::I32 => Err(self.error(format!("argument {place} is {ty}, expected f32 values"))),
            Elem::Block(_) => {
                Err(self
                    .error(format!("argument {place} is a weight {ty}, expected computed values")))
            }
        }
    }

    fn width(&self, place: usize) -> Result<usize, TypeError> {
        let ty = self.inputs[place];
        ty.width().ok_or_else(|| self.error(format!("argument {place} is {ty}, without a width")))
    }

    /// Argument `place` is a weight of shape `[n]`.
    fn vector(&self, place: usize, n: usize) -> Result<(), TypeError> {
        let ty = self.inputs[place];
        match (ty.elem, ty.shape.as_slice()) {
            (Elem::Block(_), [Dim::Size(found)]) if *found == n => Ok(()),
            _ => Err(self.error(format!("argument {place} is {ty}, expected a weight [{n}]"))),
        }
    }

    /// Argument `place` is a weight of shape `[n, k]` with the given k; gives n.
    fn matrix(&self, place: usize, k: usize) -> Result<usize, TypeError> {
        let ty = self.inputs[place];
        match (ty.elem, ty.shape.as_slice()) {
            (Elem::Block(_), [Dim::Size(n), Dim::Size(found)]) if *found == k => Ok(*n),
            _ => Err(self.error(format!("argument {place} is {ty}, expected a weight [n, {k}]"))),
        }
    }

    fn heads(&self, place: usize) -> Result<(Dim, usize, usize), TypeError> {
        let ty = self.inputs[place];
        match (ty.elem, ty.shape.as_slice()) {
            (Elem::F32, [lead, Dim::Size(heads), Dim::Size(dim)]) => Ok((*lead, *heads, *dim)),
            _ => Err(self.error(format!("argument {place} is {ty}, expected f32[T, H, d]"))),
        }
    }

    fn embed(&self) -> Result<TensorType, TypeError> {
        self.count(2..=2)?;
        let (table, tokens) = (self.inputs[0], self.inputs[1]);
        match (table.elem, table.shape.as_slice(), tokens.elem, tokens.shape.as_slice()) {
            (Elem::Block(_), [Dim::Size(_), Dim::Size(d)], Elem::I32, [lead]) => {
                Ok(TensorType::f32(*lead, &[*d]))
            }
            _ => Err(self.error(format!("expected (w[V, D], i32[T]), found ({table}, {tokens})"))),
        }
    }

    fn linear(&self) -> Result<TensorType, TypeError> {
        self.count(2..=3)?;
        let ty = self.stacked(1..2)?;
        if self.inputs.len() == 3 {
            self.vector(2, ty.width().expect("stacked() gives a constant width"))?;
        }
        Ok(ty)
    }

    /// Argument 0 through the weights at `places`, side by side.
    fn stacked(&self, places: std::ops::Range<usize>) -> Result<TensorType, TypeError> {
        if places.is_empty() {
            return Err(self.error("takes an argument and at least one weight".into()));
        }
        self.is_f32(0)?;
        let k = self.width(0)?;
        let mut total = 0usize;
        for place in places {
            total = total.checked_add(self.matrix(place, k)?).ok_or_else(|| self.too_wide())?;
        }
        let mut shape = self.inputs[0].shape.clone();
        *shape.last_mut().expect("width() found a last dimension") = Dim::Size(total);
        Ok(TensorType::new(Elem::F32, shape))
    }

    fn split_heads(&self, heads: usize) -> Result<TensorType, TypeError> {
        self.count(1..=1)?;
        self.is_f32(0)?;
        match self.inputs[0].shape.as_slice() {
            [lead, Dim::Size(d)] if heads > 0 && d % heads == 0 => {
                Ok(TensorType::f32(*lead, &[heads, d / heads]))
            }
            _ => Err(self.error(format!("cannot split {} in {heads} heads", self.inputs[0]))),
        }
    }

    fn slice(&self, start: usize, len: usize) -> Result<TensorType, TypeError> {
        self.count(1..=1)?;
        self.is_f32(0)?;
        match self.inputs[0].shape.as_slice() {
            [lead, Dim::Size(d)]
                if len > 0 && start.checked_add(len).is_some_and(|end| end <= *d) =>
            {
                Ok(TensorType::f32(*lead, &[len]))
            }
            _ => Err(self.error(format!("no {len} columns from {start} in {}", self.inputs[0]))),
        }
    }

    fn rope(&self, dims: usize) -> Result<TensorType, TypeError> {
        self.count(2..=3)?;
        let (lead, _, dim) = self.heads(0)?;
        if self.inputs[1] != &TensorType::new(Elem::I32, [lead]) {
            return Err(self.error(format!("positions are {}, expected i32[T]", self.inputs[1])));
        }
        if dims == 0 || !dims.is_multiple_of(2) || dims > dim {
            return Err(self.error(format!("cannot rotate {dims} of {dim} elements")));
        }
        if self.inputs.len() == 3 {
            self.vector(2, dims / 2)?;
        }
        Ok(self.inputs[0].clone())
    }

    fn attention(&self) -> Result<TensorType, TypeError> {
        self.count(3..=3)?;
        let (lead, heads, dim) = self.heads(0)?;
        let (k_lead, k_heads, k_dim) = self.heads(1)?;
        let (v_lead, v_heads, v_dim) = self.heads(2)?;
        if lead != Dim::Rows || k_lead != lead || v_lead != lead {
            return Err(self.error("q, k and v must have T rows".into()));
        }
        if dim != k_dim || k_heads != v_heads || k_heads == 0 || heads % k_heads != 0 {
            let [q, k, v] = [self.inputs[0], self.inputs[1], self.inputs[2]];
            return Err(self.error(format!("q {q}, k {k} and v {v} do not fit")));
        }
        Ok(TensorType::f32(lead, &[heads, v_dim]))
    }
}
