//! What a model file says about its tokenizer, before any of it is checked.
//!
//! [`TokenizerSpec`] is a plain record: the GGUF reader fills it field by field from the keys named below and
//! `build` checks it. Nothing here is interpreted, so an unknown tokenizer is an error of `build`, not of the
//! reader.

/// The kinds of token that GGUF's `tokenizer.ggml.token_type` array distinguishes.
///
/// Source: `llama_token_type` in llama.cpp's `llama.h`.
pub mod token_type {
    /// Ordinary text; the type of every token when the array is absent.
    pub const NORMAL: i32 = 1;
    /// The unknown token.
    pub const UNKNOWN: i32 = 2;
    /// A marker such as `<|im_end|>`: matched in text only when special tokens are parsed, printed only when asked.
    pub const CONTROL: i32 = 3;
    /// Text that is matched as a whole before anything else, and printed.
    pub const USER_DEFINED: i32 = 4;
    /// A reserved slot of the vocabulary.
    pub const UNUSED: i32 = 5;
    /// One byte, spelt `<0xAB>`.
    pub const BYTE: i32 = 6;
}

/// The ids a model file names for tokens with a role. Absent keys stay `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoleIds {
    /// `tokenizer.ggml.bos_token_id`: begins a text.
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`: ends a text.
    pub eos: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`: ends a turn.
    pub eot: Option<u32>,
    /// `tokenizer.ggml.eom_token_id`: ends a message that a tool answers.
    pub eom: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`.
    pub unknown: Option<u32>,
    /// `tokenizer.ggml.seperator_token_id` (the key is misspelt in the format).
    pub separator: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`.
    pub padding: Option<u32>,
    /// `tokenizer.ggml.fim_pad_token_id`: padding of fill-in-the-middle prompts.
    pub fim_pad: Option<u32>,
    /// `tokenizer.ggml.fim_rep_token_id`: names a repository in fill-in-the-middle prompts.
    pub fim_rep: Option<u32>,
    /// `tokenizer.ggml.fim_sep_token_id`: separates files in fill-in-the-middle prompts.
    pub fim_sep: Option<u32>,
}

/// A tokenizer as the model file spells it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenizerSpec {
    /// `tokenizer.ggml.model`: `gpt2` (byte-level BPE), `llama` (SentencePiece with scores), `gemma4`.
    pub model: String,
    /// `tokenizer.ggml.pre`: names the pre-tokenizer of a BPE model; `None` when the key is absent.
    pub pre: Option<String>,
    /// `general.name`: one published family is recognised only by it.
    pub model_name: Option<String>,
    /// `tokenizer.ggml.tokens`: the raw bytes of each string; the index is the token's id.
    pub tokens: Vec<Vec<u8>>,
    /// `tokenizer.ggml.scores`: empty when absent, otherwise one per token.
    pub scores: Vec<f32>,
    /// `tokenizer.ggml.token_type`: empty when absent, otherwise one of [`token_type`] per token.
    pub types: Vec<i32>,
    /// `tokenizer.ggml.merges`: `left right`, most important first; empty for SentencePiece models.
    pub merges: Vec<Vec<u8>>,
    /// Ids of the tokens with a role.
    pub roles: RoleIds,
    /// `tokenizer.ggml.add_bos_token`.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`.
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`.
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.ggml.remove_extra_whitespaces`.
    pub remove_extra_whitespaces: Option<bool>,
    /// `tokenizer.chat_template`.
    pub chat_template: Option<String>,
}
