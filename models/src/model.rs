//! A model: an open GGUF with the graph that computes it.

use std::ops::Range;
use std::path::Path;

use onebit_ir::interp::{WeightError, WeightSource};
use onebit_ir::{Graph, verify};
use onebit_tokenizer::TokenizerSpec;

use crate::arch::{self, ArchSpec, block};
use crate::error::ModelError;
use crate::gguf::{GgufError, GgufFile};
use crate::hparams::HParams;
use crate::tokenizer::tokenizer_spec;

/// A GGUF whose graph has been built and verified.
#[derive(Debug)]
pub struct Model {
    file: GgufFile,
    spec: &'static ArchSpec,
    hparams: HParams,
    graph: Graph,
}

impl Model {
    /// Opens the GGUF at `path` and builds its graph. Tensor data is mapped, not read.
    ///
    /// # Errors
    /// If the file is damaged, of an architecture that is not in
    /// [`ARCHITECTURES`](crate::arch::ARCHITECTURES), or at odds with itself.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        Self::from_file(GgufFile::open(path)?)
    }

    /// Builds the graph of an open file.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_file(file: GgufFile) -> Result<Self, ModelError> {
        let name = file.require::<&str>("general.architecture")?;
        let spec = arch::find(name)
            .ok_or_else(|| ModelError::UnknownArchitecture { found: name.to_owned() })?;
        if file.tensors().is_empty() {
            return Err(ModelError::NoTensors);
        }
        let hparams = HParams::read(&file)?;
        let graph = block::build(&file, spec, &hparams)?;
        verify(&graph)?;
        Ok(Self { file, spec, hparams, graph })
    }

    /// The file it was read from.
    pub fn file(&self) -> &GgufFile {
        &self.file
    }

    /// Its sizes and constants.
    pub fn hparams(&self) -> &HParams {
        &self.hparams
    }

    /// `tokens, positions -> logits f32[R, vocabulary]`, verified. Weights are named as in the
    /// file.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// `general.architecture`, for people.
    pub fn architecture(&self) -> &str {
        self.spec.name
    }

    /// `general.name`, or the architecture where the file does not say.
    pub fn name(&self) -> &str {
        self.file.get::<&str>("general.name").ok().flatten().unwrap_or(self.spec.name)
    }

    /// Elements of all tensors.
    pub fn parameters(&self) -> u64 {
        self.file.tensors().iter().map(|tensor| tensor.elements()).sum()
    }

    /// Positions the model was trained for.
    pub fn trained_context(&self) -> u32 {
        self.hparams.context
    }

    /// Tokens in the vocabulary: the width of the logits.
    pub fn vocabulary(&self) -> usize {
        self.hparams.vocabulary
    }

    /// What the file says about its tokenizer.
    ///
    /// # Errors
    /// If there is none, or one of its keys is of the wrong type.
    pub fn tokenizer_spec(&self) -> Result<TokenizerSpec, GgufError> {
        tokenizer_spec(&self.file)
    }
}

/// Rows straight out of the mapped file, for the interpreter.
impl WeightSource for Model {
    fn rows(&self, name: &str, rows: Range<usize>, out: &mut [f32]) -> Result<(), WeightError> {
        let error = |reason: String| WeightError { name: name.to_owned(), reason };
        let tensor =
            self.file.tensor(name).ok_or_else(|| error("is not in the model file".into()))?;
        let (width, count) = match *tensor.shape.as_slice() {
            [width] => (width, 1),
            [count, width] => (width, count),
            _ => return Err(error(format!("is {:?}, not a vector or matrix", tensor.shape))),
        };
        if rows.end > count || rows.start > rows.end {
            return Err(error(format!("rows {rows:?} are not among its {count}")));
        }
        let row_bytes = tensor
            .format
            .row_bytes(width)
            .ok_or_else(|| error(format!("{width} elements end inside a block")))?;
        let data = &self.file.data(tensor)[rows.start * row_bytes..rows.end * row_bytes];
        tensor.format.decode(data, out).map_err(|source| error(source.to_string()))
    }
}
