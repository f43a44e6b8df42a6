//! Writes the table: checks the spec, gives every merge a symbol, places the hashes.

use super::hash::{self, NONE, hash_pair, hash_text};
use super::{
    Algorithm, DIRECTORY, Flags, HEADER_BYTES, Kind, LONGEST_SPECIAL, MAGIC, SECTIONS, Section,
    VERSION, roles,
};
use crate::bytelevel;
use crate::pretokenize::{self, PreTokenizer};
use crate::spec::{TokenizerSpec, token_type};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet, hash_map};
use thiserror::Error;

/// The character SentencePiece vocabularies write for a space.
const SPACE_MARK: &str = "\u{2581}";

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
    write_symbols(&mut writer, algorithm, &tokens, &vocabulary, &merges)?;
    write_merges(&mut writer, &merges)?;
    write_spellings(&mut writer, algorithm, &ids, &merges);
    write_specials(&mut writer, spec, &tokens, &vocabulary.kinds);
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
struct Vocabulary {
    kinds: Vec<Kind>,
    ends: BTreeSet<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
    unknown: Option<u32>,
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

/// The merges as symbols: tokens, and texts that only merges name.
struct Merges {
    /// (left, right, rank, merged), each pair once.
    entries: Vec<[u32; 4]>,
    /// Spelling of each symbol that is no token; the first has the id after the last token's.
    extras: Vec<Vec<u8>>,
    extra_ids: HashMap<Vec<u8>, u32>,
    tokens: usize,
}

impl Merges {
    fn resolve(
        spec: &TokenizerSpec,
        algorithm: Algorithm,
        tokens: usize,
        ids: &HashMap<&[u8], u32>,
    ) -> Result<Self, BuildError> {
        let mut merges =
            Self { entries: Vec::new(), extras: Vec::new(), extra_ids: HashMap::new(), tokens };
        if algorithm == Algorithm::Scores {
            return Ok(merges);
        }
        let mut seen = HashSet::with_capacity(spec.merges.len());
        for (index, merge) in spec.merges.iter().enumerate() {
            // A text may itself begin with a space, so the separator is looked for after the first byte.
            let space = merge.iter().skip(1).position(|&byte| byte == b' ').map(|at| at + 1);
            let parts = space.map(|at| (&merge[..at], &merge[at + 1..]));
            let Some((left, right)) = parts.filter(|(_, right)| !right.is_empty()) else {
                let merge = String::from_utf8_lossy(merge).into_owned();
                return Err(BuildError::Merge { index, merge });
            };
            let rank = u32::try_from(index).map_err(|_| BuildError::TooLarge { bytes: index })?;
            let pair = (merges.symbol(left, ids), merges.symbol(right, ids));
            if seen.insert(pair) {
                let merged = merges.symbol(&[left, right].concat(), ids);
                merges.entries.push([pair.0, pair.1, rank, merged]);
            }
        }
        Ok(merges)
    }

    /// The symbol of a text, made if there is none.
    fn symbol(&mut self, text: &[u8], ids: &HashMap<&[u8], u32>) -> u32 {
        if let Some(&id) = ids.get(text).or_else(|| self.extra_ids.get(text)) {
            return id;
        }
        let id = u32::try_from(self.tokens + self.extras.len()).unwrap_or(NONE);
        self.extras.push(text.to_vec());
        self.extra_ids.insert(text.to_vec(), id);
        id
    }
}

/// Section 6. Byte-level BPE may need symbols for bytes the vocabulary lacks.
fn byte_symbols(algorithm: Algorithm, ids: &HashMap<&[u8], u32>, merges: &mut Merges) -> Vec<u32> {
    let mut symbol = |byte| match algorithm {
        Algorithm::ByteBpe => merges.symbol(bytelevel::char_of(byte).to_string().as_bytes(), ids),
        Algorithm::Scores | Algorithm::CharBpe => byte_token(byte, ids).unwrap_or(NONE),
    };
    (0..=u8::MAX).map(&mut symbol).collect()
}

/// The token that stands for a byte: `<0xAB>`, or else the byte itself.
fn byte_token(byte: u8, ids: &HashMap<&[u8], u32>) -> Option<u32> {
    let name = format!("<0x{byte:02X}>");
    ids.get(name.as_bytes()).or_else(|| ids.get(&[byte][..])).copied()
}

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
fn write_symbols(
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

fn write_merges(writer: &mut Writer, merges: &Merges) -> Result<(), BuildError> {
    let hashes: Vec<u64> = merges.entries.iter().map(|m| hash_pair(m[0], m[1])).collect();
    let placed =
        hash::place(&hashes).ok_or(BuildError::Collisions { key: "tokenizer.ggml.merges" })?;
    writer.longest_walk = writer.longest_walk.max(placed.longest_walk);
    let slot = |&entry: &u32| merges.entries.get(entry as usize).copied().unwrap_or([NONE; 4]);
    writer.u32s(Section::Merges, placed.slots.iter().flat_map(slot));
    Ok(())
}

/// How each symbol that is no token is written when no merge took it further: byte by byte of its spelling, leaving out
/// bytes the vocabulary lacks.
fn write_spellings(
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
fn write_specials(
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
struct Writer {
    sections: [Vec<u8>; SECTIONS],
    longest_piece: usize,
    longest_walk: u32,
}

impl Writer {
    fn bytes(&mut self, section: Section, bytes: &[u8]) {
        self.sections[section as usize].extend_from_slice(bytes);
    }

    fn u32s(&mut self, section: Section, values: impl IntoIterator<Item = u32>) {
        let bytes = &mut self.sections[section as usize];
        values.into_iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
    }

    /// Lays header and sections out; `counts` are the numbers of tokens and symbols.
    fn finish(
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
