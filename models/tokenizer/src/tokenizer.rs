//! [`Tokenizer`]: a table in use.

use crate::partition::{Fragment, partition};
use crate::pretokenize::{self, PreTokenizer};
use crate::table::{Algorithm, Table, TableError};
use crate::{bpe, spm};
use std::borrow::Cow;

/// The character SentencePiece vocabularies write for a space.
const SPACE_MARK: char = '\u{2581}';

/// How text is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Add BOS and EOS where the model wants them (see [`Tokenizer::add_bos_by_default`]).
    pub add_special: bool,
    /// Read markers such as `<|im_end|>` in the text as the tokens they name. Without it they are ordinary text, so
    /// input from elsewhere cannot end a turn. User-defined tokens are always read.
    pub parse_special: bool,
}

impl Default for EncodeOptions {
    /// Plain text from its beginning: special tokens are added, not read.
    fn default() -> Self {
        Self { add_special: true, parse_special: false }
    }
}

/// A tokenizer over the bytes of a table. Opening and copying one is cheap; it never fails after that.
#[derive(Debug, Clone, Copy)]
pub struct Tokenizer<'a> {
    pub(crate) table: Table<'a>,
    words: &'static PreTokenizer,
}

impl<'a> Tokenizer<'a> {
    /// Checks the table's header and section bounds. The work does not grow with the vocabulary.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, TableError> {
        let table = Table::parse(bytes)?;
        let words = match table.algorithm {
            Algorithm::Scores => &pretokenize::LINES,
            Algorithm::ByteBpe | Algorithm::CharBpe => pretokenize::by_code(table.pre_tokenizer)
                .ok_or(TableError::Field {
                    field: "the pre-tokenizer",
                    found: table.pre_tokenizer,
                    expected: "which this program does not know",
                })?,
        };
        Ok(Self { table, words })
    }

    /// The token ids of `text`.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Vec<u32> {
        let flags = self.table.flags;
        let mut ids = Vec::new();
        if options.add_special && flags.add_bos {
            ids.extend(self.table.bos);
        }
        let mut after_token = true;
        for fragment in partition(&self.table, text, options.parse_special) {
            match fragment {
                Fragment::Token(id) => {
                    ids.push(id);
                    after_token = true;
                }
                Fragment::Text(range) => {
                    self.encode_plain(&text[range], after_token, &mut ids);
                    after_token = false;
                }
            }
        }
        if options.add_special && flags.add_eos {
            ids.extend(self.table.eos);
        }
        ids
    }

    /// Encodes text without special tokens in it.
    fn encode_plain(&self, text: &str, after_token: bool, ids: &mut Vec<u32>) {
        let prefix = self.table.flags.space_prefix && after_token;
        match self.table.algorithm {
            Algorithm::ByteBpe => bpe::encode_bytes(&self.table, self.words, text, ids),
            Algorithm::Scores => spm::encode(&self.table, &spaced(text, prefix), ids),
            Algorithm::CharBpe => {
                bpe::encode_chars(&self.table, self.words, &spaced(text, false), ids);
            }
        }
    }

    /// The number of tokens; ids are below it.
    pub fn vocabulary(&self) -> u32 {
        self.table.tokens
    }

    /// The bytes a token prints, which need not be whole characters (see [`crate::Detokenizer`]).
    ///
    /// Markers and the unknown token print nothing, and so do ids outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> &'a [u8] {
        if self.is_marker(id) { &[] } else { self.token_bytes_with_markers(id) }
    }

    /// The bytes a token prints, markers as the model file spells them.
    pub fn token_bytes_with_markers(&self, id: u32) -> &'a [u8] {
        if self.table.kind(id).is_printable() { self.table.text(id) } else { &[] }
    }

    /// Whether a token is a marker (control or unknown token): structure, not text.
    pub fn is_marker(&self, id: u32) -> bool {
        self.table.kind(id).is_marker()
    }

    /// Whether a model that emits this token has said all it wants to say.
    ///
    /// These are the tokens for end of text, turn and message, and well-known ones recognised by name.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.table.end_ids().any(|end| end == id)
    }

    /// The tokens for which [`Self::is_end_of_generation`] holds, ascending.
    pub fn end_of_generation(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.table.end_ids()
    }

    /// The token that begins texts.
    pub fn bos(&self) -> Option<u32> {
        self.table.bos
    }

    /// The token that ends texts.
    pub fn eos(&self) -> Option<u32> {
        self.table.eos
    }

    /// Whether [`EncodeOptions::add_special`] puts BOS before the text.
    pub fn add_bos_by_default(&self) -> bool {
        self.table.flags.add_bos && self.table.bos.is_some()
    }

    /// Whether [`EncodeOptions::add_special`] puts EOS after the text.
    pub fn add_eos_by_default(&self) -> bool {
        self.table.flags.add_eos && self.table.eos.is_some()
    }

    /// The model's chat template, a Jinja program for [`crate::render`].
    pub fn chat_template(&self) -> Option<&'a str> {
        Some(self.table.chat_template).filter(|template| !template.is_empty())
    }
}

/// Text as the vocabulary's table spells it: marked spaces as plain ones, perhaps with one more in front.
fn spaced(text: &str, prefix: bool) -> Cow<'_, str> {
    if !prefix && !text.contains(SPACE_MARK) {
        return Cow::Borrowed(text);
    }
    let spaces = text.chars().map(|c| if c == SPACE_MARK { ' ' } else { c });
    Cow::Owned(prefix.then_some(' ').into_iter().chain(spaces).collect())
}
