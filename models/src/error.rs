//! Why a model could not be opened.

use onebit_ir::infer::TypeError;
use onebit_ir::quant::DecodeError;
use onebit_ir::verify::VerifyError;

use crate::arch::ARCHITECTURES;
use crate::gguf::GgufError;
use crate::hparams::HParamsError;

/// Why a GGUF is not a model that can be compiled. Shapes are outermost first.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file itself.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// Its hyper-parameters.
    #[error(transparent)]
    HParams(#[from] HParamsError),
    /// No such architecture here.
    #[error(
        "architecture \"{found}\" is not supported; supported: {}. \
         See docs/add-an-architecture.md",
        supported()
    )]
    UnknownArchitecture { found: String },
    /// A vocabulary-only file.
    #[error("the file holds no tensors, only a vocabulary; give a whole model")]
    NoTensors,
    /// A tensor the architecture needs.
    #[error(
        "tensor \"{tensor}\" {expected:?} is missing, which architecture \"{architecture}\" needs; \
         convert the model again"
    )]
    MissingTensor { tensor: String, architecture: &'static str, expected: Vec<usize> },
    /// A tensor of another shape than the hyper-parameters ask for.
    #[error(
        "tensor \"{tensor}\" is {found:?}, but the hyper-parameters ask for {expected:?}; \
         convert the model again"
    )]
    TensorShape { tensor: String, expected: Vec<usize>, found: Vec<usize> },
    /// Tensors that the architecture does not compute with.
    #[error(
        "tensor \"{tensor}\" and {others} others have no place in architecture \"{architecture}\"; \
         leaving them out would change the results, so use a plain conversion of the model"
    )]
    UnusedTensors { tensor: String, others: usize, architecture: &'static str },
    /// A scalar tensor that could not be read.
    #[error("tensor \"{tensor}\": {source}")]
    Decode { tensor: String, source: DecodeError },
    /// Sizes that do not fit together.
    #[error("{place}: {source}; the hyper-parameters do not fit together: convert the model again")]
    Graph { place: String, source: TypeError },
    /// The whole graph.
    #[error("the model's graph is invalid: {0}; convert the model again")]
    Verify(#[from] VerifyError),
}

fn supported() -> String {
    let names: Vec<&str> = ARCHITECTURES.iter().map(|spec| spec.name).collect();
    names.join(", ")
}
