//! Weights as f32: where they come from and which stay decoded.

use std::collections::HashMap;
use std::ops::Range;

/// Rows that are decoded at once when a weight is not kept.
pub(super) const CHUNK_ROWS: usize = 64;

/// Gives dequantised weights, usually out of a GGUF file.
pub trait WeightSource: Sync {
    /// Writes rows `rows` of weight `name`, row-major, each as long as the weight's type says; a
    /// vector is one row. `out` is exactly as long as they are.
    ///
    /// # Errors
    /// If there is no such weight or row, or its bytes cannot be decoded.
    fn rows(&self, name: &str, rows: Range<usize>, out: &mut [f32]) -> Result<(), WeightError>;
}

/// Why a source cannot give a weight.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("weight \"{name}\": {reason}")]
pub struct WeightError {
    /// The name asked for.
    pub name: String,
    /// What is wrong and where.
    pub reason: String,
}

/// A source with a memory for what it has decoded. First come, first kept.
pub(super) struct Weights<'a> {
    source: &'a dyn WeightSource,
    kept: HashMap<String, Vec<f32>>,
    /// Elements that may still be kept.
    budget: usize,
    scratch: Vec<f32>,
}

impl<'a> Weights<'a> {
    pub(super) fn new(source: &'a dyn WeightSource, bytes: usize) -> Self {
        let budget = bytes / size_of::<f32>();
        Self { source, kept: HashMap::new(), budget, scratch: Vec::new() }
    }

    /// Rows `range` of a weight of `rows` rows of `width`.
    pub(super) fn rows(
        &mut self,
        name: &str,
        rows: usize,
        width: usize,
        range: Range<usize>,
    ) -> Result<&[f32], WeightError> {
        if !self.kept.contains_key(name) {
            if rows * width > self.budget {
                return self.decode(name, width, range);
            }
            let mut whole = vec![0.0; rows * width];
            self.source.rows(name, 0..rows, &mut whole)?;
            self.budget -= whole.len();
            self.kept.insert(name.to_owned(), whole);
        }
        Ok(&self.kept[name][range.start * width..range.end * width])
    }

    /// One row, without decoding the others: a table that is only looked up is never kept.
    pub(super) fn row(
        &mut self,
        name: &str,
        width: usize,
        row: usize,
    ) -> Result<&[f32], WeightError> {
        if self.kept.contains_key(name) {
            return Ok(&self.kept[name][row * width..(row + 1) * width]);
        }
        self.decode(name, width, row..row + 1)
    }

    /// The source, where a weight of `rows` rows of `width` is not kept.
    pub(super) fn unkept(
        &self,
        name: &str,
        rows: usize,
        width: usize,
    ) -> Option<&'a dyn WeightSource> {
        let kept = self.kept.contains_key(name) || rows * width <= self.budget;
        (!kept).then_some(self.source)
    }

    fn decode(
        &mut self,
        name: &str,
        width: usize,
        range: Range<usize>,
    ) -> Result<&[f32], WeightError> {
        self.scratch.resize(range.len() * width, 0.0);
        self.source.rows(name, range, &mut self.scratch)?;
        Ok(&self.scratch)
    }
}
