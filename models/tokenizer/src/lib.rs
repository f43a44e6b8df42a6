//! Tokenizers and chat templates over tables that are laid out ready to use.
#![forbid(unsafe_code)]

mod spec;

pub use spec::{RoleIds, TokenizerSpec, token_type};
