//! What tests of several crates share: a GGUF writer, random weights in every block format, and
//! tiny models of every architecture with a working tokenizer, files with the shapes of published
//! models, an empty manifest, and the description of a machine.
//!
//! Everything is a function of its seed. It panics on misuse, as test code may. It does not use
//! `onebit-models`, so that the reader is checked against a writer that shares nothing with it.
//!
//! ```
//! use onebit_test_support::{TinyOptions, tiny_model};
//!
//! let bytes: Vec<u8> = tiny_model("llama", &TinyOptions::default());
//! assert_eq!(&bytes[..4], b"GGUF");
//! ```
#![forbid(unsafe_code)]

mod blocks;
mod gguf;
mod plan;
mod random;
mod real;
mod tiny;
mod vocabulary;

pub use blocks::{RandomBlocks, quantize, random_row};
pub use gguf::{GgufLayout, GgufWriter, MetadataValue};
pub use plan::{bare_manifest, radeon_8060s, strix_halo};
pub use random::Random;
pub use real::{ModelShape, Quantisation, RealModel, RealModelError, SHAPES};
pub use tiny::{Head, TINY_ARCHITECTURES, TinyOptions, tiny_model, tiny_writer};
pub use vocabulary::{TinyVocabulary, VocabularyKind, large_vocabulary, tiny_vocabulary};
