//! Writes the sections of a table and lays them out.

use super::build::Vocabulary;
use super::hash::{self, NONE, hash_pair, hash_text};
use super::symbols::{Merges, byte_token};
use super::{
    Algorithm, BuildError, DIRECTORY, Flags, HEADER_BYTES, Kind, LONGEST_SPECIAL, MAGIC, SECTIONS,
    Section, VERSION,
};
use crate::bytelevel;
use crate::pretokenize::PreTokenizer;
use crate::spec::TokenizerSpec;
use std::borrow::Cow;
use std::collections::{HashMap, hash_map};

/// The character SentencePiece vocabularies write for a space.
const SPACE_MARK: &str = "\u{2581}";

/// A symbol's text in section 1, and whether words can reach it through section 4.
struct SymbolText<'a> {
    text: Cow<'a, [u8]>,
    is_piece: bool,
}

fn symbol_text(algorithm: Algorithm, spelling: &[u8], kind: Kind) -> SymbolText<'_> {
    if kind.is(Kind::BYTE)
        && let Some(byte) = byte_value(spelling)
    {
        return SymbolText { text: Cow::Owned(vec![byte]), is_piece: false };
    }
    let special = kind.is_special();
    if algorithm == Algorithm::ByteBpe {
        // A special token is stored as it is spelt; words reach it only where both forms agree.
        return match bytelevel::decode(spelling) {
            Some(text) if !special || text == spelling => {
                SymbolText { text: Cow::Owned(text), is_piece: true }
            }
            _ => SymbolText { text: Cow::Borrowed(spelling), is_piece: false },
        };
    }
    // Words never hold a plain space before it is marked, so a text that does is out of their reach.
    let reachable = !spelling.contains(&b' ');
    match std::str::from_utf8(spelling) {
        Ok(text) if !special && text.contains(SPACE_MARK) => SymbolText {
            text: Cow::Owned(text.replace(SPACE_MARK, " ").into_bytes()),
            is_piece: reachable,
        },
        Ok(text) => SymbolText {
            text: Cow::Borrowed(spelling),
            is_piece: reachable && !text.contains(SPACE_MARK),
        },
        Err(_) => SymbolText { text: Cow::Borrowed(spelling), is_piece: false },
    }
}

/// The value of `<0xAB>`.
fn byte_value(spelling: &[u8]) -> Option<u8> {
    let digits = spelling.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.len() == 2)?;
    u8::from_str_radix(digits, 16).ok()
}

/// Sections 0, 1, 2 and 4.
pub(super) fn symbols(
    writer: &mut Writer,
    algorithm: Algorithm,
    tokens: &[Cow<'_, [u8]>],
    vocabulary: &Vocabulary,
    merges: &Merges,
) -> Result<(), BuildError> {
    let spellings = (tokens.iter().map(AsRef::as_ref).zip(vocabulary.kinds.iter().copied()))
        .chain(merges.extras.iter().map(|extra| (extra.as_slice(), Kind::NORMAL)));
    let (mut texts, mut ends) = (Vec::new(), Vec::new());
    let mut pieces: HashMap<Vec<u8>, usize> = HashMap::new();
    let (mut hashes, mut symbols) = (Vec::new(), Vec::new());
    for (symbol, (spelling, kind)) in (0_u32..).zip(spellings) {
        let SymbolText { text, is_piece } = symbol_text(algorithm, spelling, kind);
        texts.extend_from_slice(&text);
        ends.push(texts.len());
        if is_piece {
            writer.longest_piece = writer.longest_piece.max(text.len());
            match pieces.entry(text.into_owned()) {
                hash_map::Entry::Occupied(place) => symbols[*place.get()] = symbol,
                hash_map::Entry::Vacant(place) => {
                    hashes.push(hash_text(place.key()));
                    place.insert(symbols.len());
                    symbols.push(symbol);
                }
            }
        }
    }
    let placed =
        hash::place(&hashes).ok_or(BuildError::Collisions { key: "tokenizer.ggml.tokens" })?;
    writer.longest_walk = writer.longest_walk.max(placed.longest_walk);
    let slot = |&entry: &u32| symbols.get(entry as usize).copied().unwrap_or(NONE);
    writer.u32s(Section::Pieces, placed.slots.iter().map(slot));
    if u32::try_from(texts.len()).is_err() {
        return Err(BuildError::TooLarge { bytes: texts.len() });
    }
    // The check above is the reason why no end is cut short.
    writer.u32s(Section::TextEnds, ends.iter().map(|&end| end as u32));
    writer.bytes(Section::Texts, &texts);
    let kinds: Vec<u8> = vocabulary.kinds.iter().map(|kind| kind.0).collect();
    writer.bytes(Section::Kinds, &kinds);
    Ok(())
}

/// Section 5.
pub(super) fn merges(writer: &mut Writer, merges: &Merges) -> Result<(), BuildError> {
    let hashes: Vec<u64> = merges.entries.iter().map(|m| hash_pair(m[0], m[1])).collect();
    let placed =
        hash::place(&hashes).ok_or(BuildError::Collisions { key: "tokenizer.ggml.merges" })?;
    writer.longest_walk = writer.longest_walk.max(placed.longest_walk);
    let slot = |&entry: &u32| merges.entries.get(entry as usize).copied().unwrap_or([NONE; 4]);
    writer.u32s(Section::Merges, placed.slots.iter().flat_map(slot));
    Ok(())
}

/// Sections 7 and 8: how each symbol that is no token is written when no merge took it further: byte by byte of its spelling, leaving out
/// bytes the vocabulary lacks.
pub(super) fn spellings(
    writer: &mut Writer,
    algorithm: Algorithm,
    ids: &HashMap<&[u8], u32>,
    merges: &Merges,
) {
    let token = |&byte: &u8| match algorithm {
        Algorithm::ByteBpe => ids.get(&[byte][..]).copied(),
        Algorithm::Scores | Algorithm::CharBpe => byte_token(byte, ids),
    };
    let (mut ends, mut spelt) = (Vec::new(), Vec::new());
    for extra in &merges.extras {
        spelt.extend(extra.iter().filter_map(token));
        ends.push(u32::try_from(spelt.len()).unwrap_or(NONE));
    }
    writer.u32s(Section::SpellingEnds, ends);
    writer.u32s(Section::Spellings, spelt);
}

/// Sections 9 and 10. Longer texts have priority, then lower ids.
pub(super) fn specials(
    writer: &mut Writer,
    spec: &TokenizerSpec,
    tokens: &[Cow<'_, [u8]>],
    kinds: &[Kind],
) {
    let mut specials: Vec<(&[u8], u32)> = (0..)
        .zip(tokens.iter().map(AsRef::as_ref).zip(kinds))
        .filter(|(_, (text, kind))| {
            // Text is UTF-8, so a spelling that is not cannot occur in it.
            kind.is_special() && text.len() <= LONGEST_SPECIAL && std::str::from_utf8(text).is_ok()
        })
        .map(|(id, (text, _))| (text, id))
        .collect();
    specials.sort_by_key(|&(text, id)| (std::cmp::Reverse(text.len()), id));
    let mut entries: Vec<(&[u8], [u32; 3])> = (0..)
        .zip(specials)
        .map(|(priority, (text, id))| (text, [id, priority, strip_bits(spec, text)]))
        .collect();
    entries.sort();
    let starts = (0..=256_usize).map(|byte| {
        let before = |(text, _): &(&[u8], _)| usize::from(text[0]) < byte;
        u32::try_from(entries.partition_point(before)).unwrap_or(NONE)
    });
    writer.u32s(Section::SpecialStarts, starts);
    writer.u32s(Section::Specials, entries.iter().flat_map(|&(_, entry)| entry));
}

/// Which white space a special token swallows. The model files do not say; Phi-3's tokenizer swallows what follows its
/// markers and is known only by name (as in llama.cpp).
fn strip_bits(spec: &TokenizerSpec, text: &[u8]) -> u32 {
    const AFTER: u32 = 2;
    let name = spec.model_name.as_deref().unwrap_or("").to_lowercase();
    let phi3 = name.contains("phi-3") || name.contains("phi3");
    let excepted = [&b"<unk>"[..], b"<s>", b"<|endoftext|>"].contains(&text);
    if phi3 && !excepted { AFTER } else { 0 }
}

/// Collects the sections.
#[derive(Default)]
pub(super) struct Writer {
    sections: [Vec<u8>; SECTIONS],
    longest_piece: usize,
    longest_walk: u32,
}

impl Writer {
    /// Appends bytes to a section.
    pub fn bytes(&mut self, section: Section, bytes: &[u8]) {
        self.sections[section as usize].extend_from_slice(bytes);
    }

    /// Appends words to a section.
    pub fn u32s(&mut self, section: Section, values: impl IntoIterator<Item = u32>) {
        let bytes = &mut self.sections[section as usize];
        values.into_iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
    }

    /// Lays header and sections out; `counts` are the numbers of tokens and symbols.
    pub fn finish(
        self,
        algorithm: Algorithm,
        pre: Option<&PreTokenizer>,
        flags: Flags,
        counts: [usize; 2],
        vocabulary: &Vocabulary,
    ) -> Result<Vec<u8>, BuildError> {
        let aligned = |length: usize| length.next_multiple_of(8);
        let bytes = HEADER_BYTES
            + self.sections.iter().map(|section| aligned(section.len())).sum::<usize>();
        let u32_of =
            |value: usize| u32::try_from(value).map_err(|_| BuildError::TooLarge { bytes });
        u32_of(bytes)?;
        let mut table = Vec::with_capacity(bytes);
        table.extend_from_slice(&MAGIC);
        let id = |role: Option<u32>| role.unwrap_or(NONE);
        let header = [
            VERSION,
            algorithm as u32,
            pre.map_or(0, |pre| pre.code),
            flags.to_bits(),
            u32_of(counts[0])?,
            u32_of(counts[1])?,
            u32_of(self.longest_piece)?,
            self.longest_walk,
            id(vocabulary.bos),
            id(vocabulary.eos),
            id(vocabulary.unknown),
            0,
        ];
        header.iter().for_each(|field| table.extend_from_slice(&field.to_le_bytes()));
        debug_assert_eq!(table.len(), DIRECTORY);
        let mut offset = HEADER_BYTES;
        for section in &self.sections {
            table.extend_from_slice(&u32_of(offset)?.to_le_bytes());
            table.extend_from_slice(&u32_of(section.len())?.to_le_bytes());
            offset += aligned(section.len());
        }
        for section in &self.sections {
            table.extend_from_slice(section);
            table.resize(aligned(table.len()), 0);
        }
        Ok(table)
    }
}
