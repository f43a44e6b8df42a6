//! Small vocabularies, made by code.

use onebit_tokenizer::{EncodeOptions, RoleIds, TokenizerSpec, token_type};

/// The character that spells a byte in GPT-2's alphabet.
fn byte_char(byte: u8) -> char {
    let is_printable = |b: u8| matches!(b, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    if is_printable(byte) {
        return char::from(byte);
    }
    let hidden = (0..byte).filter(|&b| !is_printable(b)).count() as u32;
    char::from_u32(256 + hidden).expect("all are below U+0144")
}

/// The alphabet's spelling of a text.
fn spell(text: &str) -> String {
    text.bytes().map(byte_char).collect()
}

/// Appends tokens of one type.
fn extend(spec: &mut TokenizerSpec, kind: i32, texts: &[&str]) {
    for text in texts {
        spec.tokens.push(text.as_bytes().to_vec());
        spec.types.push(kind);
    }
}

/// Byte-level BPE: ids 0 to 255 are the bytes, then come the unions of `merges`, then two markers and a user-defined
/// token: `<|end|>`, `<|im_end|>`, and two spaces.
pub fn byte_bpe(pre: &str, merges: &[(&str, &str)]) -> TokenizerSpec {
    let mut spec = TokenizerSpec {
        model: "gpt2".into(),
        pre: Some(pre.into()),
        chat_template: Some("{{ messages }}".into()),
        ..TokenizerSpec::default()
    };
    for byte in 0..=u8::MAX {
        extend(&mut spec, token_type::NORMAL, &[&byte_char(byte).to_string()]);
    }
    for (left, right) in merges {
        extend(&mut spec, token_type::NORMAL, &[&spell(&format!("{left}{right}"))]);
        spec.merges.push(format!("{} {}", spell(left), spell(right)).into_bytes());
    }
    extend(&mut spec, token_type::CONTROL, &["<|end|>", "<|im_end|>"]);
    extend(&mut spec, token_type::USER_DEFINED, &["  "]);
    let end = spec.tokens.len() as u32 - 3;
    spec.roles = RoleIds { bos: Some(end), eos: Some(end), ..RoleIds::default() };
    spec
}

/// SentencePiece: 0 unknown, 1 `<s>`, 2 `</s>`, 3 to 258 the bytes, then `pieces`, scored from -1 downwards.
pub fn sentence_piece(pieces: &[&str]) -> TokenizerSpec {
    let mut spec = TokenizerSpec { model: "llama".into(), ..TokenizerSpec::default() };
    extend(&mut spec, token_type::UNKNOWN, &["<unk>"]);
    extend(&mut spec, token_type::CONTROL, &["<s>", "</s>"]);
    for byte in 0..=u8::MAX {
        extend(&mut spec, token_type::BYTE, &[&format!("<0x{byte:02X}>")]);
    }
    spec.scores = vec![0.0; spec.tokens.len()];
    extend(&mut spec, token_type::NORMAL, pieces);
    spec.scores.extend((1..=pieces.len()).map(|place| -(place as f32)));
    spec
}

/// Options that add nothing to the text and read no markers.
pub const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };

/// Options that read markers.
pub const PARSED: EncodeOptions = EncodeOptions { add_special: false, parse_special: true };
