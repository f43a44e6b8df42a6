//! The interpreter: what a graph means, in f32. It is the oracle that every backend is compared
//! with, so it is plain loops over dequantised weights, one op at a time, in [`GraphInfo::order`].
//!
//! Sums of norms, softmax and attention are taken in f64; linears in 16 partial f32 sums, added in
//! f64. A row's result does not depend on which rows share its step.

mod attention;
mod cache;
mod ops;
#[cfg(test)]
mod tests;
mod weights;

use std::borrow::Cow;
use std::num::NonZeroU32;

use rayon::prelude::*;

pub use cache::CacheKind;
pub use weights::{WeightError, WeightSource};

use crate::graph::{Graph, ValueId};
use crate::op::Op;
use crate::types::{Dim, Elem, TensorType};
use crate::verify::GraphInfo;
use cache::KvCache;
use weights::Weights;

/// One row of a step: a token of one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Token id, below the embedding's row count.
    pub token: u32,
    /// Place in its sequence, from 0. May lie before the slot's end, which truncates the sequence.
    pub position: u32,
    /// The sequence.
    pub slot: u32,
    /// Whether its logits are wanted: `R` counts these rows.
    pub output: bool,
}

/// Sizes and choices of an [`Interp`].
#[derive(Clone, Copy, Debug)]
pub struct InterpOptions {
    /// Positions a slot may hold.
    pub context: NonZeroU32,
    /// Sequences with a cache of their own.
    pub slots: NonZeroU32,
    /// How keys and values are kept.
    pub cache: CacheKind,
    /// Bytes of decoded weights to keep between steps; weights that do not fit are decoded in
    /// every step. Changes speed, never results.
    pub weight_memory: usize,
}

/// Why a step was not run. The caches are as before the step, except after [`Self::Weight`], when
/// each slot ends where the step's rows would have begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InterpError {
    /// A step without rows.
    #[error("a step has at least one row")]
    NoRows,
    /// A slot that does not exist.
    #[error("row {row}: slot {slot} is not below {slots}, the number of slots")]
    Slot {
        /// Index in the step.
        row: usize,
        /// Its slot.
        slot: u32,
        /// How many there are.
        slots: u32,
    },
    /// A position beyond the context.
    #[error("row {row}: position {position} is not below the context of {context}")]
    Context {
        /// Index in the step.
        row: usize,
        /// Its position.
        position: u32,
        /// The context.
        context: u32,
    },
    /// A position that would leave a hole, or repeats or precedes another row of its step.
    #[error("row {row}: position {position} in slot {slot}, expected {expected}")]
    Position {
        /// Index in the step.
        row: usize,
        /// Its slot.
        slot: u32,
        /// Its position.
        position: u32,
        /// What could stand there.
        expected: String,
    },
    /// A token without an embedding.
    #[error("row {row}: token {token} is not below {vocabulary}, the embedding's row count")]
    Token {
        /// Index in the step.
        row: usize,
        /// Its token.
        token: u32,
        /// Rows of the embedding table.
        vocabulary: usize,
    },
    /// A weight that the source cannot give.
    #[error(transparent)]
    Weight(#[from] WeightError),
}

/// Sees each f32 value as it is computed.
type Observer<'a> = Box<dyn FnMut(ValueId, &[f32]) + 'a>;

/// Changes a row of a product's input.
type Rounding<'a> = Box<dyn Fn(&mut [f32]) + 'a>;

/// A graph with its weights and caches, stepped row by row.
pub struct Interp<'a> {
    graph: &'a Graph,
    info: &'a GraphInfo,
    options: InterpOptions,
    weights: Weights<'a>,
    cache: KvCache,
    /// Positions each slot holds.
    lengths: Vec<u32>,
    observer: Option<Observer<'a>>,
    rounding: Option<(u32, Rounding<'a>)>,
}

impl<'a> Interp<'a> {
    /// `info` must be what [`crate::verify()`] gave for `graph`; empty caches.
    pub fn new(
        graph: &'a Graph,
        info: &'a GraphInfo,
        source: &'a dyn WeightSource,
        options: InterpOptions,
    ) -> Self {
        let slots = options.slots.get() as usize;
        Self {
            graph,
            info,
            options,
            weights: Weights::new(source, options.weight_memory),
            cache: KvCache::new(info.layers(), slots, options.cache),
            lengths: vec![0; slots],
            observer: None,
            rounding: None,
        }
    }

    /// Calls `observer` with every f32 value of every later step, row-major, in the graph's order.
    pub fn observe(&mut self, observer: impl FnMut(ValueId, &[f32]) + 'a) {
        self.observer = Some(Box::new(observer));
    }

    /// Applies `rounding` to what products with weights of blocks read in rows of slot `slot`, to
    /// see what a coarser arithmetic than f32 does to a graph's values. Other slots are as before.
    pub fn round(&mut self, slot: u32, rounding: impl Fn(&mut [f32]) + 'a) {
        self.rounding = Some((slot, Box::new(rounding)));
    }

    /// The graph's first output for `rows`: a model's logits, `[R][V]` row-major.
    pub fn step(&mut self, rows: &[Row]) -> Result<Vec<f32>, InterpError> {
        Ok(self.run(rows)?.swap_remove(0))
    }

    /// Every output of the graph for `rows`, row-major.
    ///
    /// # Errors
    /// If a row names a slot, position or token that is not there, or the weight source fails. The
    /// rows of one slot stand at consecutive positions, ascending; the first at most at the slot's
    /// end.
    pub fn run(&mut self, rows: &[Row]) -> Result<Vec<Vec<f32>>, InterpError> {
        let lengths = self.check_rows(rows)?;
        let mut values: Vec<Vec<f32>> = vec![Vec::new(); self.graph.id_bound()];
        let mut uses: Vec<usize> = self.info.use_counts().to_vec();
        for &value in self.info.order() {
            if self.graph.ty(value).elem != Elem::F32 {
                continue;
            }
            let inputs = self.graph.inputs(value);
            let result = match self.evaluate(value, &inputs, &values, rows) {
                Ok(result) => result,
                Err(error) => {
                    self.forget(rows);
                    return Err(error);
                }
            };
            if let Some(observer) = &mut self.observer {
                observer(value, &result);
            }
            values[value.index()] = result;
            for input in inputs {
                uses[input.index()] -= 1;
                if uses[input.index()] == 0 {
                    values[input.index()] = Vec::new();
                }
            }
        }
        self.lengths = lengths;
        Ok(self.graph.outputs().iter().map(|output| values[output.index()].clone()).collect())
    }

    /// The slots' lengths after `rows`, or why they cannot be run.
    fn check_rows(&self, rows: &[Row]) -> Result<Vec<u32>, InterpError> {
        if rows.is_empty() {
            return Err(InterpError::NoRows);
        }
        let (slots, context) = (self.options.slots.get(), self.options.context.get());
        let mut lengths = self.lengths.clone();
        let mut seen = vec![false; lengths.len()];
        for (row, &Row { token, position, slot, .. }) in rows.iter().enumerate() {
            if slot >= slots {
                return Err(InterpError::Slot { row, slot, slots });
            }
            if position >= context {
                return Err(InterpError::Context { row, position, context });
            }
            let length = &mut lengths[slot as usize];
            let seen = std::mem::replace(&mut seen[slot as usize], true);
            if position > *length || (seen && position != *length) {
                let expected = if seen { format!("{length}") } else { format!("0 to {length}") };
                return Err(InterpError::Position { row, slot, position, expected });
            }
            *length = position + 1;
            self.check_token(row, token)?;
        }
        Ok(lengths)
    }

    /// Ends the slots of `rows` before them: some layers may have stored them, some not.
    fn forget(&mut self, rows: &[Row]) {
        for row in rows {
            let length = &mut self.lengths[row.slot as usize];
            *length = row.position.min(*length);
        }
    }

    fn check_token(&self, row: usize, token: u32) -> Result<(), InterpError> {
        for &value in self.info.order() {
            if *self.graph.op(value) == Op::Embed {
                let table = self.graph.ty(self.graph.inputs(value)[0]);
                let vocabulary = table.size(0).expect("verified: a weight's sizes are constant");
                if token as usize >= vocabulary {
                    return Err(InterpError::Token { row, token, vocabulary });
                }
            }
        }
        Ok(())
    }

    fn evaluate(
        &mut self,
        value: ValueId,
        inputs: &[ValueId],
        values: &[Vec<f32>],
        rows: &[Row],
    ) -> Result<Vec<f32>, InterpError> {
        let graph = self.graph;
        let x = |place: usize| values[inputs[place].index()].as_slice();
        let ty = graph.ty(value);
        let width = ty.width().expect("verified: f32 values have a constant width");
        Ok(match graph.op(value) {
            Op::Tokens | Op::Positions | Op::Weight(_) => unreachable!("not f32"),
            Op::Embed => self.embed(inputs[0], rows)?,
            Op::Linear => {
                let x = self.rounded(inputs, x(0), rows);
                let y = self.stacked_linear(&x, &inputs[1..2], width)?;
                match inputs.get(2) {
                    Some(&bias) => ops::add_bias(&y, self.vector(bias)?),
                    None => y,
                }
            }
            Op::StackedLinear => {
                let x = self.rounded(inputs, x(0), rows);
                self.stacked_linear(&x, &inputs[1..], width)?
            }
            Op::AddBias => ops::add_bias(x(0), self.vector(inputs[1])?),
            Op::RmsNorm { eps } => ops::rms_norm(x(0), self.vector(inputs[1])?, *eps),
            Op::Add => ops::zip(x(0), x(1), |a, b| a + b),
            Op::Mul => ops::zip(x(0), x(1), |a, b| a * b),
            Op::Scale { factor } => x(0).iter().map(|x| x * factor).collect(),
            Op::Unary(function) => x(0).iter().map(|&x| ops::apply(*function, x)).collect(),
            Op::Gated(function) => ops::zip(x(0), x(1), |g, u| ops::apply(*function, g) * u),
            Op::SoftCap { cap } => x(0).iter().map(|&x| ops::softcap(x, *cap)).collect(),
            Op::SplitHeads { .. } | Op::MergeHeads => x(0).to_vec(),
            Op::Slice { start, len } => {
                let whole = width_of(graph.ty(inputs[0]));
                x(0).chunks_exact(whole)
                    .flat_map(|row| &row[*start..start + len])
                    .copied()
                    .collect()
            }
            Op::Rope(spec) => {
                let factors = match inputs.get(2) {
                    Some(&factors) => Some(self.vector(factors)?),
                    None => None,
                };
                ops::rope(x(0), heads_of(ty), width, spec, factors, rows)
            }
            Op::Attention(spec) => {
                let layer = self.cache.layer_mut(spec.layer);
                layer.store(rows, x(1), x(2));
                attention::attend(x(0), heads_of(ty), spec, layer, rows)
            }
            Op::SelectOutputs => {
                let chosen = x(0).chunks_exact(width).zip(rows).filter(|(_, row)| row.output);
                chosen.flat_map(|(values, _)| values).copied().collect()
            }
        })
    }

    /// The input `x` of a product, with the rows of one slot rounded if that was asked for.
    fn rounded<'x>(&self, inputs: &[ValueId], x: &'x [f32], rows: &[Row]) -> Cow<'x, [f32]> {
        let coded = |&weight: &ValueId| match self.graph.ty(weight).elem {
            Elem::Block(format) => !format.is_float(),
            _ => false,
        };
        let Some((slot, rounding)) = &self.rounding else { return Cow::Borrowed(x) };
        if !inputs[1..].iter().any(coded) {
            return Cow::Borrowed(x);
        }
        let ty = self.graph.ty(inputs[0]);
        let outputs = ty.shape.first() == Some(&Dim::Outputs);
        let mut result = x.to_vec();
        let present = rows.iter().filter(|row| row.output || !outputs);
        for (values, row) in result.chunks_exact_mut(width_of(ty)).zip(present) {
            if row.slot == *slot {
                rounding(values);
            }
        }
        Cow::Owned(result)
    }

    /// Name, rows and width of the weight `value`; a vector is one row.
    fn weight(&self, value: ValueId) -> (&'a str, usize, usize) {
        let Op::Weight(name) = self.graph.op(value) else {
            unreachable!("verified: only weights have a block format")
        };
        let ty = self.graph.ty(value);
        let rows = match ty.shape.as_slice() {
            [Dim::Size(rows), _] => *rows,
            _ => 1,
        };
        (name, rows, width_of(ty))
    }

    fn vector(&mut self, value: ValueId) -> Result<&[f32], WeightError> {
        let (name, rows, width) = self.weight(value);
        self.weights.rows(name, rows, width, 0..1)
    }

    fn embed(&mut self, table: ValueId, rows: &[Row]) -> Result<Vec<f32>, WeightError> {
        let (name, _, width) = self.weight(table);
        let mut result = Vec::with_capacity(rows.len() * width);
        for row in rows {
            result.extend_from_slice(self.weights.row(name, width, row.token as usize)?);
        }
        Ok(result)
    }

    /// `w x` of every row of `x` for every weight, side by side in rows of `width`.
    fn stacked_linear(
        &mut self,
        x: &[f32],
        weights: &[ValueId],
        width: usize,
    ) -> Result<Vec<f32>, WeightError> {
        let inner = width_of(self.graph.ty(weights[0]));
        let mut result = vec![0.0; x.len() / inner * width];
        let mut first = 0;
        for &weight in weights {
            let (name, columns, _) = self.weight(weight);
            if let Some(source) = self.weights.unkept(name, columns, inner) {
                let target = (&mut result[..], width, first);
                decoded_linear(source, name, (columns, inner), x, target)?;
                first += columns;
                continue;
            }
            for start in (0..columns).step_by(weights::CHUNK_ROWS) {
                let chunk = start..columns.min(start + weights::CHUNK_ROWS);
                let w = self.weights.rows(name, columns, inner, chunk)?;
                ops::matmul(x, w, inner, &mut result, width, first + start);
            }
            first += columns;
        }
        Ok(result)
    }
}

/// `w x` for a weight `[columns, inner]` that is decoded on the way, by all cores. Each output is
/// one [`ops::dot`], so the result does not depend on how many there are.
fn decoded_linear(
    source: &dyn WeightSource,
    name: &str,
    (columns, inner): (usize, usize),
    x: &[f32],
    (y, width, first): (&mut [f32], usize, usize),
) -> Result<(), WeightError> {
    let starts = (0..columns).into_par_iter().step_by(weights::CHUNK_ROWS);
    let parts = starts.map_init(Vec::new, |w, start| {
        let chunk = start..columns.min(start + weights::CHUNK_ROWS);
        w.resize(chunk.len() * inner, 0.0);
        source.rows(name, chunk.clone(), w)?;
        let mut part = vec![0.0; x.len() / inner * chunk.len()];
        ops::matmul(x, w, inner, &mut part, chunk.len(), 0);
        Ok((chunk, part))
    });
    for (chunk, part) in parts.collect::<Result<Vec<_>, WeightError>>()? {
        for (y, part) in y.chunks_exact_mut(width).zip(part.chunks_exact(chunk.len())) {
            y[first + chunk.start..first + chunk.end].copy_from_slice(part);
        }
    }
    Ok(())
}

fn width_of(ty: &TensorType) -> usize {
    ty.width().expect("verified: weights and f32 values have a constant width")
}

/// Heads of a `[T, H, d]` value.
fn heads_of(ty: &TensorType) -> usize {
    ty.size(1).expect("verified: heads are constant")
}
