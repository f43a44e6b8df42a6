//! GGUF models as graphs: the file reader, hyper-parameters, and architectures as data.
//!
//! Nothing after this crate knows an architecture's name.
// `gguf::map` maps files, which needs unsafe code; nothing else here may.
#![deny(unsafe_code)]

pub mod arch;
mod error;
pub mod gguf;
pub mod hparams;
mod model;
mod tokenizer;

pub use error::ModelError;
pub use model::Model;
pub use tokenizer::tokenizer_spec;
