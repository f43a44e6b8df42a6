//! Small vocabularies that encode and decode any text.
//!
//! Both hold all 256 bytes, a few merged pieces of "Hello" and "the world", and chat markers.

use crate::gguf::{GgufWriter, MetadataValue};

/// `llama_token_type` of llama.cpp's `llama.h`.
mod token_type {
    pub(super) const NORMAL: i32 = 1;
    pub(super) const UNKNOWN: i32 = 2;
    pub(super) const CONTROL: i32 = 3;
    pub(super) const UNUSED: i32 = 5;
    pub(super) const BYTE: i32 = 6;
}

/// Merges of the byte-level vocabulary, most important first; `Ġ` is a space.
const MERGES: [&str; 18] = [
    "h e", "l l", "Ġ t", "Ġt he", "i n", "o r", "e r", "Ġ w", "Ġw or", "l d", "Ġwor ld", "H e",
    "He ll", "Hell o", "a n", "an d", "Ġ a", "r e",
];

/// Pieces of the SentencePiece vocabulary, best score first; `▁` is a space.
const PIECES: [&str; 16] = [
    "he", "ll", "▁t", "▁the", "in", "or", "er", "▁w", "▁wor", "ld", "▁world", "He", "Hell",
    "Hello", "▁Hello", "▁",
];

const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' \
    + message['content'] + '<|im_end|>\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

const TURNS: &str = "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + \
    message['role'] + '\n' + message['content'] + '<end_of_turn>\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}";

/// Which kind of tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VocabularyKind {
    /// Byte-level BPE (`gpt2`): the token of byte b is b; no token before the text.
    Bpe,
    /// SentencePiece (`llama`) with scores and byte tokens; `<s>` before the text.
    SentencePiece,
}

/// A vocabulary as GGUF metadata spells it.
#[derive(Clone, Debug, PartialEq)]
pub struct TinyVocabulary {
    pub kind: VocabularyKind,
    pub tokens: Vec<Vec<u8>>,
    /// One per token, or empty.
    pub scores: Vec<f32>,
    pub types: Vec<i32>,
    pub merges: Vec<String>,
    pub bos: u32,
    pub eos: u32,
    pub unknown: Option<u32>,
    pub chat_template: &'static str,
}

/// The vocabulary of that kind, filled up to `size` tokens with unused ones. Panics if it has
/// more than `size` without them; 320 are enough.
pub fn tiny_vocabulary(kind: VocabularyKind, size: usize) -> TinyVocabulary {
    let mut vocabulary = match kind {
        VocabularyKind::Bpe => bpe(),
        VocabularyKind::SentencePiece => sentence_piece(),
    };
    let used = vocabulary.tokens.len();
    assert!(used <= size, "the {kind:?} vocabulary has {used} tokens, more than {size}");
    for index in used..size {
        vocabulary.add(&format!("[unused{index}]"), token_type::UNUSED, -1e4);
    }
    vocabulary
}

/// A byte-level vocabulary of a real model's size: special tokens at their ids, then all bytes and
/// the few merges of the tiny one, then words that text never encodes to and that decode to
/// ` w<id>`, so that generated text tells its tokens. Panics if an id is beyond `size`.
pub fn large_vocabulary(
    size: usize,
    specials: &[(u32, &str)],
    bos: u32,
    eos: u32,
) -> TinyVocabulary {
    let mut vocabulary = TinyVocabulary::new(VocabularyKind::Bpe, CHATML);
    let letters = byte_letters().map(String::from);
    let mut pieces = letters.chain(MERGES.iter().map(|merge| merge.replace(' ', "")));
    for id in 0..size as u32 {
        match specials.iter().find(|(special, _)| *special == id) {
            Some((_, name)) => vocabulary.add(name, token_type::CONTROL, 0.0),
            None => {
                let piece = pieces.next().unwrap_or_else(|| format!("\u{120}w{id}"));
                vocabulary.add(&piece, token_type::NORMAL, 0.0)
            }
        };
    }
    assert!(specials.iter().all(|(id, _)| (*id as usize) < size), "special tokens beyond {size}");
    vocabulary.merges = MERGES.iter().map(|&merge| merge.to_owned()).collect();
    (vocabulary.bos, vocabulary.eos) = (bos, eos);
    vocabulary
}

impl TinyVocabulary {
    fn new(kind: VocabularyKind, chat_template: &'static str) -> Self {
        Self {
            kind,
            tokens: Vec::new(),
            scores: Vec::new(),
            types: Vec::new(),
            merges: Vec::new(),
            bos: 0,
            eos: 0,
            unknown: None,
            chat_template,
        }
    }

    fn add(&mut self, token: &str, ty: i32, score: f32) -> u32 {
        let id = u32::try_from(self.tokens.len()).expect("a small vocabulary");
        self.tokens.push(token.into());
        self.types.push(ty);
        if self.kind == VocabularyKind::SentencePiece {
            self.scores.push(score);
        }
        id
    }

    /// Sets the `tokenizer.*` keys of `writer`.
    pub fn write(&self, writer: &mut GgufWriter) {
        let strings = |strings: &[Vec<u8>]| strings.iter().cloned().collect::<MetadataValue>();
        match self.kind {
            VocabularyKind::Bpe => {
                let merges = self.merges.iter().map(String::as_str).collect::<MetadataValue>();
                writer.set("tokenizer.ggml.model", "gpt2");
                writer.set("tokenizer.ggml.pre", "gpt-2");
                writer.set("tokenizer.ggml.merges", merges);
                writer.set("tokenizer.ggml.add_bos_token", false);
            }
            VocabularyKind::SentencePiece => {
                let scores = self.scores.iter().copied().collect::<MetadataValue>();
                writer.set("tokenizer.ggml.model", "llama");
                writer.set("tokenizer.ggml.pre", "default");
                writer.set("tokenizer.ggml.scores", scores);
                writer.set("tokenizer.ggml.add_bos_token", true);
            }
        }
        let types = self.types.iter().copied().collect::<MetadataValue>();
        writer.set("tokenizer.ggml.tokens", strings(&self.tokens));
        writer.set("tokenizer.ggml.token_type", types);
        writer.set("tokenizer.ggml.bos_token_id", self.bos);
        writer.set("tokenizer.ggml.eos_token_id", self.eos);
        if let Some(unknown) = self.unknown {
            writer.set("tokenizer.ggml.unknown_token_id", unknown);
        }
        writer.set("tokenizer.ggml.add_eos_token", false);
        writer.set("tokenizer.ggml.add_space_prefix", false);
        writer.set("tokenizer.chat_template", self.chat_template);
    }
}

fn bpe() -> TinyVocabulary {
    let mut vocabulary = TinyVocabulary::new(VocabularyKind::Bpe, CHATML);
    for letter in byte_letters() {
        vocabulary.add(&letter.to_string(), token_type::NORMAL, 0.0);
    }
    for merge in MERGES {
        vocabulary.add(&merge.replace(' ', ""), token_type::NORMAL, 0.0);
        vocabulary.merges.push(merge.to_owned());
    }
    vocabulary.bos = vocabulary.add("<|endoftext|>", token_type::CONTROL, 0.0);
    vocabulary.add("<|im_start|>", token_type::CONTROL, 0.0);
    vocabulary.eos = vocabulary.add("<|im_end|>", token_type::CONTROL, 0.0);
    vocabulary
}

/// How GPT-2's byte-level BPE spells each byte: printable Latin-1 as itself, the others as the
/// characters from U+0100 on, in order (`bytes_to_unicode` of openai/gpt-2).
fn byte_letters() -> impl Iterator<Item = char> {
    let mut next = 0x100;
    (0..=255u8).map(move |byte| match byte {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => {
            next += 1;
            char::from_u32(next - 1).expect("U+0100 to U+0143 are characters")
        }
    })
}

fn sentence_piece() -> TinyVocabulary {
    let mut vocabulary = TinyVocabulary::new(VocabularyKind::SentencePiece, TURNS);
    vocabulary.unknown = Some(vocabulary.add("<unk>", token_type::UNKNOWN, 0.0));
    vocabulary.bos = vocabulary.add("<s>", token_type::CONTROL, 0.0);
    vocabulary.eos = vocabulary.add("</s>", token_type::CONTROL, 0.0);
    for byte in 0..=255 {
        vocabulary.add(&format!("<0x{byte:02X}>"), token_type::BYTE, 0.0);
    }
    let letters = ('a'..='z').chain(['H', '.', ',', '!']).map(String::from);
    let pieces = PIECES.iter().copied().map(String::from).chain(letters);
    for (rank, piece) in pieces.enumerate() {
        vocabulary.add(&piece, token_type::NORMAL, -1.0 - rank as f32);
    }
    vocabulary.add("<start_of_turn>", token_type::CONTROL, 0.0);
    vocabulary.add("<end_of_turn>", token_type::CONTROL, 0.0);
    vocabulary
}
