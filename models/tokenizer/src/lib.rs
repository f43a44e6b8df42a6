//! Tokenizers and chat templates, compiled to tables that are laid out ready to use.
//!
//! The compiler fills a [`TokenizerSpec`] from a model file and [`build`]s the table that becomes a segment of the plan;
//! the runtime opens it with [`Tokenizer::from_bytes`], in constant time whatever the size of the vocabulary. The bytes of
//! the table are described in [`table`].
//!
//! Supported are byte-level BPE (`gpt2`), SentencePiece by score (`llama`) and BPE over characters (`gemma4`). Token ids
//! agree with llama.cpp's.
#![forbid(unsafe_code)]

mod bpe;
mod bytelevel;
mod chat;
mod merge;
mod partition;
mod pretokenize;
mod spec;
mod spm;
mod stream;
pub mod table;
mod tokenizer;

pub use chat::{ChatError, ChatOptions, Message, render};
pub use spec::{RoleIds, TokenizerSpec, token_type};
pub use stream::{Detokenizer, Position};
pub use table::{BuildError, TableError, build};
pub use tokenizer::{EncodeOptions, Tokenizer};
