//! Reads the table where it lies. Nothing here trusts the bytes: a reference out of bounds is "none" or empty text, and
//! every walk has a limit, so damaged tables give wrong tokens but never a panic or an endless loop.

use super::hash::{MAX_PROBES, NONE, hash_pair, hash_text, probes};
use super::{
    Algorithm, DIRECTORY, Flags, HEADER_BYTES, Kind, LONGEST_SPECIAL, MAGIC, SECTIONS, Section,
    VERSION,
};
use thiserror::Error;

/// Why bytes are not a tokenizer table.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TableError {
    /// Fewer bytes than the header has.
    #[error(
        "tokenizer table: {found} bytes are fewer than the header's {HEADER_BYTES}; the plan is truncated"
    )]
    Truncated {
        /// Length of the input.
        found: usize,
    },
    /// The first bytes are not the magic.
    #[error(
        "tokenizer table: it does not begin with the magic `1bit-tok`; this is no tokenizer segment"
    )]
    Magic,
    /// Another version of the format.
    #[error(
        "tokenizer table: format version {found}, but this program reads {VERSION}; compile the model again"
    )]
    Version {
        /// The version in the header.
        found: u32,
    },
    /// A header field holds a number without a meaning.
    #[error("tokenizer table: {field} is {found}, {expected}; the plan is damaged")]
    Field {
        /// The header field.
        field: &'static str,
        /// Its value.
        found: u32,
        /// What it must be.
        expected: &'static str,
    },
    /// A section lies outside the table or has the wrong size.
    #[error(
        "tokenizer table: section {section} is {found} bytes at offset {offset}, {expected}; the plan is damaged"
    )]
    Section {
        /// Name of the section.
        section: &'static str,
        /// Where the directory places it.
        offset: u32,
        /// Its length there.
        found: u32,
        /// What it must be.
        expected: &'static str,
    },
    /// The chat template is not UTF-8.
    #[error("tokenizer table: the chat template is not UTF-8; the plan is damaged")]
    Template,
}

/// An entry of the list of tokens that are matched as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Special<'a> {
    pub id: u32,
    /// Lower values are matched first.
    pub priority: u32,
    /// Swallows the white space before it.
    pub strip_before: bool,
    /// Swallows the white space after it.
    pub strip_after: bool,
    pub text: &'a [u8],
}

/// A checked header over the bytes of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table<'a> {
    sections: [&'a [u8]; SECTIONS],
    pub algorithm: Algorithm,
    pub pre_tokenizer: u32,
    pub flags: Flags,
    /// How many tokens the vocabulary has.
    pub tokens: u32,
    symbols: u32,
    longest_piece: u32,
    longest_walk: u32,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub unknown: Option<u32>,
    pub chat_template: &'a str,
}

impl<'a> Table<'a> {
    /// Checks the header and where the sections lie. Reads the chat template and nothing else of their content.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TableError> {
        let header =
            bytes.get(..HEADER_BYTES).ok_or(TableError::Truncated { found: bytes.len() })?;
        let field = |offset| u32_at(header, offset).unwrap_or(NONE);
        if header[..8] != MAGIC {
            return Err(TableError::Magic);
        }
        if field(8) != VERSION {
            return Err(TableError::Version { found: field(8) });
        }
        let mut table = Self {
            sections: [&[]; SECTIONS],
            algorithm: algorithm(field(12))?,
            pre_tokenizer: field(16),
            flags: Flags::from_bits(field(20)),
            tokens: field(24),
            symbols: field(28),
            longest_piece: field(32),
            longest_walk: within(
                "the longest walk",
                field(36),
                MAX_PROBES,
                "expected at most 256",
            )?,
            bos: None,
            eos: None,
            unknown: None,
            chat_template: "",
        };
        within("the number of tokens", table.tokens, table.symbols, "more than the symbols")?;
        let role = |offset| Some(field(offset)).filter(|&id| id < table.tokens);
        (table.bos, table.eos, table.unknown) = (role(40), role(44), role(48));
        for (index, (section, rule)) in RULES.into_iter().enumerate() {
            table.sections[index] = locate(bytes, index, section, rule, &table)?;
        }
        table.chat_template = std::str::from_utf8(table.section(Section::ChatTemplate))
            .map_err(|_| TableError::Template)?;
        Ok(table)
    }

    fn section(&self, section: Section) -> &'a [u8] {
        self.sections[section as usize]
    }

    fn entry(&self, section: Section, index: usize) -> Option<u32> {
        u32_at(self.section(section), index.checked_mul(4)?)
    }

    /// The part of `section` that the ascending `ends` give to `index`, in units of `unit` bytes.
    fn slice(&self, ends: Section, section: Section, index: u32, unit: usize) -> &'a [u8] {
        let end_of = |index: u32| Some(self.entry(ends, index as usize)? as usize);
        let range = || {
            let end = end_of(index)?.checked_mul(unit)?;
            let start = index.checked_sub(1).map_or(Some(0), end_of)?.checked_mul(unit)?;
            self.section(section).get(start..end)
        };
        range().unwrap_or(&[])
    }

    /// The text of a symbol; empty when there is no such symbol.
    pub fn text(&self, symbol: u32) -> &'a [u8] {
        self.slice(Section::TextEnds, Section::Texts, symbol, 1)
    }

    /// What kind of token `id` is.
    pub fn kind(&self, id: u32) -> Kind {
        self.section(Section::Kinds).get(id as usize).map_or(Kind::UNDEFINED, |&bits| Kind(bits))
    }

    /// The merge score of a SentencePiece token.
    pub fn score(&self, id: u32) -> f32 {
        self.entry(Section::Scores, id as usize).map_or(0.0, f32::from_bits)
    }

    /// The symbol whose text is exactly `text`.
    pub fn piece(&self, text: &[u8]) -> Option<u32> {
        if text.len() > self.longest_piece as usize {
            return None;
        }
        let capacity = self.section(Section::Pieces).len() / 4;
        probes(hash_text(text), capacity, self.longest_walk)
            .map_while(|slot| {
                self.entry(Section::Pieces, slot).filter(|&symbol| symbol < self.symbols)
            })
            .find(|&symbol| self.text(symbol) == text)
    }

    /// What two adjacent symbols merge into, as (rank, symbol).
    pub fn merge(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        let slots = self.section(Section::Merges);
        probes(hash_pair(left, right), slots.len() / 16, self.longest_walk)
            .map_while(|slot| {
                let slot = slots.get(slot * 16..)?;
                let (slot_left, slot_right) = (u32_at(slot, 0)?, u32_at(slot, 4)?);
                (slot_left != NONE).then_some((slot_left == left && slot_right == right, slot))
            })
            .find_map(|(found, slot)| found.then_some(slot))
            .and_then(|slot| Some((u32_at(slot, 8)?, u32_at(slot, 12)?)))
    }

    /// The symbol or token that section 6 gives for a byte.
    pub fn byte(&self, byte: u8) -> Option<u32> {
        self.entry(Section::Bytes, usize::from(byte)).filter(|&symbol| symbol < self.symbols)
    }

    /// Whether a symbol is a token of the vocabulary.
    pub fn is_token(&self, symbol: u32) -> bool {
        symbol < self.tokens
    }

    /// The tokens that spell a symbol that is none itself.
    pub fn spelling(&self, symbol: u32) -> impl Iterator<Item = u32> + use<'a> {
        let ids = symbol.checked_sub(self.tokens).map_or(&[][..], |index| {
            self.slice(Section::SpellingEnds, Section::Spellings, index, 4)
        });
        ids.chunks_exact(4).filter_map(|id| u32_at(id, 0))
    }

    /// How many tokens are matched as a whole.
    pub fn specials(&self) -> u32 {
        u32::try_from(self.section(Section::Specials).len() / 12).unwrap_or(NONE)
    }

    /// An entry of the list of special tokens, which is sorted by text.
    pub fn special(&self, index: u32) -> Option<Special<'a>> {
        let entry = self.section(Section::Specials).get((index as usize).checked_mul(12)?..)?;
        let id = u32_at(entry, 0).filter(|&id| id < self.tokens)?;
        let text = self.text(id);
        let strip = u32_at(entry, 8)?;
        (text.len() <= LONGEST_SPECIAL).then_some(Special {
            id,
            priority: u32_at(entry, 4)?,
            strip_before: strip & 1 != 0,
            strip_after: strip & 2 != 0,
            text,
        })
    }

    /// The specials whose text begins with `byte`.
    pub fn specials_from(&self, byte: u8) -> std::ops::Range<u32> {
        let start = |index| self.entry(Section::SpecialStarts, index).unwrap_or(0);
        let byte = usize::from(byte);
        start(byte)..start(byte + 1).min(self.specials())
    }

    /// The tokens that end a generation, ascending.
    pub fn end_ids(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.section(Section::EndIds).chunks_exact(4).filter_map(|id| u32_at(id, 0))
    }
}

/// How long a section must be.
#[derive(Clone, Copy)]
enum Rule {
    /// Any length.
    Any,
    /// One entry of this many bytes per symbol.
    PerSymbol(u64),
    /// One entry of this many bytes per token.
    PerToken(u64),
    /// A score per token, or none.
    Scores,
    /// A u32 per symbol that is no token.
    PerSpelling,
    /// A power of two of slots of this many bytes.
    Slots(u64),
    /// A multiple of this many bytes.
    Entries(u64),
    /// Exactly this many bytes.
    Exactly(u64),
}

/// The sections in file order.
const RULES: [(&str, Rule); SECTIONS] = [
    ("text ends", Rule::PerSymbol(4)),
    ("texts", Rule::Any),
    ("kinds", Rule::PerToken(1)),
    ("scores", Rule::Scores),
    ("pieces", Rule::Slots(4)),
    ("merges", Rule::Slots(16)),
    ("bytes", Rule::Exactly(256 * 4)),
    ("spelling ends", Rule::PerSpelling),
    ("spellings", Rule::Entries(4)),
    ("specials", Rule::Entries(12)),
    ("special starts", Rule::Exactly(257 * 4)),
    ("end ids", Rule::Entries(4)),
    ("chat template", Rule::Any),
];

impl Rule {
    /// Whether `bytes` is a right length, and otherwise what is.
    fn check(self, bytes: u32, table: &Table<'_>) -> Result<(), &'static str> {
        let bytes = u64::from(bytes);
        let (tokens, symbols) = (u64::from(table.tokens), u64::from(table.symbols));
        let (fits, expected) = match self {
            Self::Any => (true, ""),
            Self::PerSymbol(unit) => (bytes == unit * symbols, "expected one entry per symbol"),
            Self::PerToken(unit) => (bytes == unit * tokens, "expected one entry per token"),
            Self::Scores => {
                let expected = if table.algorithm == Algorithm::Scores { 4 * tokens } else { 0 };
                (bytes == expected, "expected one score per token of a SentencePiece vocabulary")
            }
            Self::PerSpelling => {
                (bytes == 4 * (symbols - tokens), "expected one entry per symbol that is no token")
            }
            Self::Slots(unit) => (
                bytes % unit == 0 && (bytes / unit).is_power_of_two(),
                "expected a power of two of slots",
            ),
            Self::Entries(unit) => (bytes % unit == 0, "expected whole entries"),
            Self::Exactly(length) => (bytes == length, "expected one entry per byte value"),
        };
        if fits { Ok(()) } else { Err(expected) }
    }
}

/// The bytes of a section, once its place and length are found right.
fn locate<'a>(
    bytes: &'a [u8],
    index: usize,
    section: &'static str,
    rule: Rule,
    table: &Table<'_>,
) -> Result<&'a [u8], TableError> {
    let place = DIRECTORY + index * 8;
    let offset = u32_at(bytes, place).unwrap_or(NONE);
    let found = u32_at(bytes, place + 4).unwrap_or(NONE);
    let error = |expected| TableError::Section { section, offset, found, expected };
    rule.check(found, table).map_err(error)?;
    let end = (offset as usize).checked_add(found as usize);
    end.and_then(|end| bytes.get(offset as usize..end))
        .ok_or_else(|| error("which is outside the table"))
}

fn algorithm(code: u32) -> Result<Algorithm, TableError> {
    [Algorithm::ByteBpe, Algorithm::Scores, Algorithm::CharBpe]
        .into_iter()
        .find(|&algorithm| algorithm as u32 == code)
        .ok_or(TableError::Field {
            field: "the algorithm",
            found: code,
            expected: "expected 0 to 2",
        })
}

fn within(
    field: &'static str,
    found: u32,
    limit: u32,
    expected: &'static str,
) -> Result<u32, TableError> {
    if found <= limit { Ok(found) } else { Err(TableError::Field { field, found, expected }) }
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let word = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}
