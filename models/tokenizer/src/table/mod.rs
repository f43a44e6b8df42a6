//! The tokenizer segment of a plan: a flat, little-endian table that is used where it lies.
//!
//! [`build`] writes it once, at compile time; [`crate::Tokenizer::from_bytes`] checks the header and the section bounds and reads
//! nothing that grows with the vocabulary except the list of special tokens. The same spec always gives the same bytes.
//!
//! # Header (160 bytes)
//!
//! | offset | type | meaning |
//! |---|---|---|
//! | 0 | 8 bytes | the magic `1bit-tok` |
//! | 8 | u32 | format version, 1; other versions are refused |
//! | 12 | u32 | algorithm: 0 byte-level BPE, 1 SentencePiece by score, 2 BPE over characters |
//! | 16 | u32 | code of the pre-tokenizer (`pretokenize/mod.rs`); 0 for algorithm 1 |
//! | 20 | u32 | flags: 1 begin texts with BOS, 2 end texts with EOS, 4 begin texts with a space, 8 a word that is a token is never split |
//! | 24 | u32 | T, the number of tokens |
//! | 28 | u32 | S >= T, the number of symbols: the tokens and then the texts that only merges name |
//! | 32 | u32 | length in bytes of the longest text found through *pieces* |
//! | 36 | u32 | longest walk, in slots, to an entry of *pieces* or *merges*; at most 256 |
//! | 40 | u32 | id of BOS; absent ids are 0xFFFFFFFF, here and everywhere |
//! | 44 | u32 | id of EOS |
//! | 48 | u32 | id of the unknown token |
//! | 52 | u32 | zero |
//! | 56 | 13 x (u32, u32) | offset from the start of the table and length in bytes of each section below |
//!
//! # Sections, in this order, each at a multiple of 8
//!
//! | section | content |
//! |---|---|
//! | 0 text ends | u32 x S: where each symbol's text ends in *texts*; it begins where the one before ends |
//! | 1 texts | the texts. Special tokens: as the model file spells them. Byte tokens: the byte. Others: the bytes they print |
//! | 2 kinds | u8 x T: bit 0 unknown, 1 unused, 2 normal, 3 control, 4 user-defined, 5 byte |
//! | 3 scores | f32 x T for algorithm 1, otherwise empty |
//! | 4 pieces | u32 slots, a power of two of them: ids of symbols hashed by text |
//! | 5 merges | 16-byte slots (left, right, rank, merged), a power of two of them, hashed by (left, right); a left of 0xFFFFFFFF is empty. Lower ranks merge first |
//! | 6 bytes | u32 x 256: the symbol that begins a word's byte (algorithm 0) or the token that stands for a byte no piece covers (1, 2) |
//! | 7 spelling ends | u32 x (S - T): where each merge-only symbol's ids end in *spellings*, counted in ids |
//! | 8 spellings | u32: the tokens that spell a merge-only symbol when it is left over |
//! | 9 specials | 12-byte entries (id, priority, strip) sorted by text: tokens matched as a whole; lower priorities first; strip bit 0: also swallows white space before it, bit 1: after it |
//! | 10 special starts | u32 x 257: the first entry of *specials* whose text begins with at least this byte |
//! | 11 end ids | u32: tokens that end a generation, ascending |
//! | 12 chat template | UTF-8; empty when the model has none |
//!
//! A text's hash is FNV-1a (64 bits), a pair's is `p ^ p >> 29` of `p = left << 32 | right`; both are then multiplied by
//! 0x9E3779B97F4A7C15, and the home slot is the top bits. Collisions walk to the next slot.
//!
//! In texts of algorithms 1 and 2 that are not special, U+2581 is written as the space it stands for.

mod build;
mod hash;
mod roles;
mod symbols;
mod view;
mod write;

pub use build::{BuildError, build};
pub use view::TableError;

pub(crate) use hash::NONE;
pub(crate) use view::{Special, Table};

/// The first bytes of every table.
const MAGIC: [u8; 8] = *b"1bit-tok";

/// The version this crate writes and reads.
const VERSION: u32 = 1;

/// Where the section directory begins, and what it holds.
const DIRECTORY: usize = 56;
const SECTIONS: usize = 13;
const HEADER_BYTES: usize = DIRECTORY + SECTIONS * 8;

/// Special tokens longer than this are never matched: the bound keeps the search linear in the text.
const LONGEST_SPECIAL: usize = 1024;

/// Places of the sections in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    TextEnds,
    Texts,
    Kinds,
    Scores,
    Pieces,
    Merges,
    Bytes,
    SpellingEnds,
    Spellings,
    Specials,
    SpecialStarts,
    EndIds,
    ChatTemplate,
}

/// How text becomes tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// BPE over bytes, inside the words of a pre-tokenizer (`gpt2`).
    ByteBpe = 0,
    /// SentencePiece: the pair whose union has the best score merges first (`llama`).
    Scores = 1,
    /// BPE over characters, with byte tokens for the ones it lacks (`gemma4`).
    CharBpe = 2,
}

/// What texts begin and end with, and how words are treated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    /// Texts begin with BOS.
    pub add_bos: bool,
    /// Texts end with EOS.
    pub add_eos: bool,
    /// SentencePiece text begins with a space.
    pub space_prefix: bool,
    /// A word that is a token is taken whole, whatever the merges say.
    pub whole_words: bool,
}

impl Flags {
    fn to_bits(self) -> u32 {
        [self.add_bos, self.add_eos, self.space_prefix, self.whole_words]
            .into_iter()
            .rev()
            .fold(0, |bits, flag| bits << 1 | u32::from(flag))
    }

    fn from_bits(bits: u32) -> Self {
        let bit = |place: u32| bits >> place & 1 == 1;
        Self { add_bos: bit(0), add_eos: bit(1), space_prefix: bit(2), whole_words: bit(3) }
    }
}

/// What a token is: the bits of section 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind(u8);

impl Kind {
    pub const UNDEFINED: Self = Self(0);
    pub const UNKNOWN: Self = Self(1);
    pub const UNUSED: Self = Self(1 << 1);
    pub const NORMAL: Self = Self(1 << 2);
    pub const CONTROL: Self = Self(1 << 3);
    pub const USER_DEFINED: Self = Self(1 << 4);
    pub const BYTE: Self = Self(1 << 5);

    /// Both kinds at once.
    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it is at least one of the kinds in `other`.
    pub const fn is(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Printed only on request, and matched in text only when special tokens are parsed.
    pub const fn is_marker(self) -> bool {
        self.is(Self::CONTROL.and(Self::UNKNOWN))
    }

    /// Matched in text as a whole, before anything else.
    const fn is_special(self) -> bool {
        self.is_marker() || self.is(Self::USER_DEFINED)
    }

    /// Has text to print.
    pub const fn is_printable(self) -> bool {
        self.is_special() || self.is(Self::NORMAL.and(Self::BYTE))
    }
}
