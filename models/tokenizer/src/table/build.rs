//! Builds the table: checks the spec and settles what the model file leaves open, then has every section written.

use super::symbols::{Merges, byte_symbols};
use super::write::{self, Writer};
use super::{Algorithm, Flags, Kind, Section, roles};
use crate::pretokenize::{self, PreTokenizer};
use crate::spec::{TokenizerSpec, token_type};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use thiserror::Error;

/// Why a tokenizer cannot be compiled. Every message names the GGUF key to look at.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BuildError {
    /// `tokenizer.ggml.model` names an algorithm this crate lacks.
    #[error(
        "tokenizer.ggml.model: `{model}` is not supported; expected `gpt2`, `llama` or `gemma4`"
    )]
    UnknownModel {
        /// The model file's name for it.
        model: String,
    },
    /// `tokenizer.ggml.pre` names a pre-tokenizer this crate lacks.
    #[error("tokenizer.ggml.pre: `{pre}` is not supported; supported are {supported}")]
    UnknownPreTokenizer {
        /// The model file's name for it.
        pre: String,
        /// The names that would work.
        supported: String,
    },
    /// The vocabulary is empty.
    #[error("tokenizer.ggml.tokens: the vocabulary is empty; the model file has no tokenizer")]
    NoTokens,
    /// A BPE vocabulary without merges.
    #[error(
        "tokenizer.ggml.merges: missing, and a `{model}` tokenizer cannot work without; convert the model again"
    )]
    NoMerges {
        /// The model file's name for the algorithm.
        model: String,
    },
    /// An array that must have one entry per token has another length.
    #[error("{key}: {found} entries, expected one for each of the {expected} tokens")]
    Length {
        /// The GGUF key.
        key: &'static str,
        /// Entries found.
        found: usize,
        /// The number of tokens.
        expected: usize,
    },
    /// A token with a role is not in the vocabulary.
    #[error("{key}: token {id} does not exist, the vocabulary has {tokens} tokens")]
    Role {
        /// The GGUF key.
        key: &'static str,
        /// The id it names.
        id: u32,
        /// The number of tokens.
        tokens: usize,
    },
    /// A merge is not two texts with a space between.
    #[error("tokenizer.ggml.merges[{index}]: `{merge}` is not two texts separated by a space")]
    Merge {
        /// Place in the array.
        index: usize,
        /// The merge, as far as it is text.
        merge: String,
    },
    /// Many texts were made to have the same hash.
    #[error("{key}: too many entries share a hash, as in a file made to slow readers down")]
    Collisions {
        /// The GGUF key.
        key: &'static str,
    },
    /// The table does not fit the 32-bit offsets of its format.
    #[error("tokenizer.ggml.tokens: the table needs {bytes} bytes, more than the format's 4 GiB")]
    TooLarge {
        /// Bytes needed.
        bytes: usize,
    },
}

/// Compiles a tokenizer to the table described in [`crate::table`].
///
/// Deterministic. When texts repeat, the last token of a text is the one that text becomes. SentencePiece models
/// without ids for BOS, EOS and unknown get 1, 2 and 0 (the library's defaults); BPE models get none.
pub fn build(spec: &TokenizerSpec) -> Result<Vec<u8>, BuildError> {
    let algorithm = check(spec)?;
    let pre = match algorithm {
        Algorithm::Scores => None,
        Algorithm::ByteBpe => Some(pre_tokenizer(spec)?),
        Algorithm::CharBpe => Some(&pretokenize::LINES),
    };
    let tokens = token_texts(spec);
    let ids: HashMap<&[u8], u32> =
        (0..).zip(&tokens).map(|(id, text)| (text.as_ref(), id)).collect();
    let vocabulary = Vocabulary::resolve(spec, algorithm, tokens.len(), &ids);
    let mut merges = Merges::resolve(spec, algorithm, tokens.len(), &ids)?;
    let mut writer = Writer::default();
    writer.u32s(Section::Bytes, byte_symbols(algorithm, &ids, &mut merges));
    write::symbols(&mut writer, algorithm, &tokens, &vocabulary, &merges)?;
    write::merges(&mut writer, &merges)?;
    write::spellings(&mut writer, algorithm, &ids, &merges);
    write::specials(&mut writer, spec, &tokens, &vocabulary.kinds);
    if algorithm == Algorithm::Scores {
        let score = |id: usize| spec.scores.get(id).copied().unwrap_or(0.0);
        writer.u32s(Section::Scores, (0..tokens.len()).map(|id| score(id).to_bits()));
    }
    writer.u32s(Section::EndIds, vocabulary.ends.iter().copied());
    writer.bytes(Section::ChatTemplate, spec.chat_template.as_deref().unwrap_or("").as_bytes());
    let counts = [tokens.len(), tokens.len() + merges.extras.len()];
    writer.finish(algorithm, pre, flags(spec, algorithm, pre), counts, &vocabulary)
}

/// Checks what needs no look at the texts.
fn check(spec: &TokenizerSpec) -> Result<Algorithm, BuildError> {
    let algorithm = match spec.model.as_str() {
        // Some converters name Gemma 4's algorithm only by its pre-tokenizer.
        "gpt2" if spec.pre.as_deref() == Some("gemma4") => Algorithm::CharBpe,
        "gpt2" => Algorithm::ByteBpe,
        "llama" => Algorithm::Scores,
        "gemma4" => Algorithm::CharBpe,
        model => return Err(BuildError::UnknownModel { model: model.to_owned() }),
    };
    let expected = spec.tokens.len();
    if expected == 0 {
        return Err(BuildError::NoTokens);
    }
    if algorithm != Algorithm::Scores && spec.merges.is_empty() {
        return Err(BuildError::NoMerges { model: spec.model.clone() });
    }
    for (key, found) in [
        ("tokenizer.ggml.scores", spec.scores.len()),
        ("tokenizer.ggml.token_type", spec.types.len()),
    ] {
        if found != 0 && found != expected {
            return Err(BuildError::Length { key, found, expected });
        }
    }
    let roles = &spec.roles;
    for (key, role) in [
        ("tokenizer.ggml.bos_token_id", roles.bos),
        ("tokenizer.ggml.eos_token_id", roles.eos),
        ("tokenizer.ggml.eot_token_id", roles.eot),
        ("tokenizer.ggml.eom_token_id", roles.eom),
        ("tokenizer.ggml.unknown_token_id", roles.unknown),
        ("tokenizer.ggml.fim_pad_token_id", roles.fim_pad),
        ("tokenizer.ggml.fim_rep_token_id", roles.fim_rep),
        ("tokenizer.ggml.fim_sep_token_id", roles.fim_sep),
    ] {
        if let Some(id) = role.filter(|&id| id as usize >= expected) {
            return Err(BuildError::Role { key, id, tokens: expected });
        }
    }
    Ok(algorithm)
}

fn pre_tokenizer(spec: &TokenizerSpec) -> Result<&'static PreTokenizer, BuildError> {
    let pre = spec.pre.as_deref().unwrap_or("default");
    pretokenize::by_name(pre).ok_or_else(|| BuildError::UnknownPreTokenizer {
        pre: pre.to_owned(),
        supported: pretokenize::names(),
    })
}

fn flags(spec: &TokenizerSpec, algorithm: Algorithm, pre: Option<&PreTokenizer>) -> Flags {
    let sentence_piece = algorithm == Algorithm::Scores;
    let begins = sentence_piece || pre.is_some_and(|pre| pre.add_bos);
    Flags {
        // Gemma 4 files say `false` here and mean `true` (llama.cpp pull request 21500).
        add_bos: algorithm == Algorithm::CharBpe || spec.add_bos.unwrap_or(begins),
        add_eos: spec.add_eos.unwrap_or(false),
        space_prefix: sentence_piece && spec.add_space_prefix.unwrap_or(true),
        whole_words: pre.is_some_and(|pre| pre.whole_words),
    }
}

/// The texts of all tokens; empty ones get a name, as no text may be empty.
fn token_texts(spec: &TokenizerSpec) -> Vec<Cow<'_, [u8]>> {
    let text = |(id, text): (usize, &'_ Vec<u8>)| match text.is_empty() {
        true => Cow::Owned(format!("[EMPTY_{id}]").into_bytes()),
        false => Cow::Borrowed(spec.tokens[id].as_slice()),
    };
    spec.tokens.iter().enumerate().map(text).collect()
}

/// What every token is, and the tokens with a role.
pub(super) struct Vocabulary {
    pub kinds: Vec<Kind>,
    pub ends: BTreeSet<u32>,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub unknown: Option<u32>,
}

impl Vocabulary {
    fn resolve(
        spec: &TokenizerSpec,
        algorithm: Algorithm,
        tokens: usize,
        ids: &HashMap<&[u8], u32>,
    ) -> Self {
        let kind = |id| match spec.types.get(id).copied().unwrap_or(token_type::NORMAL) {
            token_type::NORMAL => Kind::NORMAL,
            token_type::UNKNOWN => Kind::UNKNOWN,
            token_type::CONTROL => Kind::CONTROL,
            token_type::USER_DEFINED => Kind::USER_DEFINED,
            token_type::UNUSED => Kind::UNUSED,
            token_type::BYTE => Kind::BYTE,
            _ => Kind::UNDEFINED,
        };
        let mut kinds: Vec<Kind> = (0..tokens).map(kind).collect();
        let default = |id: u32| {
            Some(id).filter(|&id| algorithm == Algorithm::Scores && (id as usize) < tokens)
        };
        let bos = spec.roles.bos.or_else(|| default(1));
        let eos = spec.roles.eos.or_else(|| default(2));
        let unknown = spec.roles.unknown.or_else(|| default(0));
        let ends = roles::resolve(spec, ids, eos, &mut kinds);
        Self { kinds, ends, bos, eos, unknown }
    }
}
