//! Any text survives a round trip; any bytes are safe to open and use.

mod common;

use common::{PARSED, PLAIN, byte_bpe, sentence_piece};
use onebit_tokenizer::{Tokenizer, TokenizerSpec, build};
use proptest::prelude::*;

const MERGES: &[(&str, &str)] =
    &[("a", "b"), (" ", "a"), ("ab", "c"), (" ", " "), ("é", "a"), ("1", "2"), ("\r", "\n")];

fn specs() -> Vec<TokenizerSpec> {
    let pres = ["default", "smollm", "qwen35", "llama-bpe", "tekken", "gpt-4o", "deepseek-llm"];
    let mut specs: Vec<TokenizerSpec> = pres.iter().map(|pre| byte_bpe(pre, MERGES)).collect();
    specs.extend(["deepseek-v3", "deepseek-coder", "viking"].map(|pre| byte_bpe(pre, MERGES)));
    specs
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,60}",
        "[ab c1é\r\n\t'sSlL./日]{0,60}",
        "(<\\|end\\|>|<\\|im_|  |a|</s>|\u{2581}){0,20}",
    ]
}

/// Uses everything a table can be used for.
fn exercise(table: &[u8]) {
    let Ok(tokenizer) = Tokenizer::from_bytes(table) else { return };
    for text in ["", "ab abc  <|end|>é日\n\n1234 </s> ab", "\u{0}\u{10FFFF}'ll"] {
        for options in [PLAIN, PARSED] {
            for id in tokenizer.encode(text, options) {
                tokenizer.token_bytes(id);
                tokenizer.is_end_of_generation(id);
            }
        }
    }
    for id in [0, 1, 255, 300, u32::MAX] {
        tokenizer.token_bytes_with_markers(id);
    }
}

proptest! {
    #[test]
    fn byte_level_text_survives_a_round_trip(text in any_text()) {
        for spec in specs() {
            let table = build(&spec).unwrap();
            let tokenizer = Tokenizer::from_bytes(&table).unwrap();
            for options in [PLAIN, PARSED] {
                let ids = tokenizer.encode(&text, options);
                let bytes: Vec<u8> = (ids.iter())
                    .flat_map(|&id| tokenizer.token_bytes_with_markers(id))
                    .copied()
                    .collect();
                prop_assert_eq!(bytes, text.as_bytes());
            }
        }
    }

    #[test]
    fn sentence_piece_text_survives_a_round_trip(text in any_text()) {
        let mut spec = sentence_piece(&["▁", "ab", "▁a", "c", "日"]);
        spec.add_space_prefix = Some(false);
        let table = build(&spec).unwrap();
        let tokenizer = Tokenizer::from_bytes(&table).unwrap();
        let ids = tokenizer.encode(&text, PLAIN);
        let bytes: Vec<u8> =
            ids.iter().flat_map(|&id| tokenizer.token_bytes(id)).copied().collect();
        prop_assert_eq!(String::from_utf8(bytes).unwrap(), text.replace('\u{2581}', " "));
    }

    #[test]
    fn any_bytes_are_safe(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        exercise(&bytes);
    }

    #[test]
    fn damaged_tables_are_safe(
        kind in 0_usize..2,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        header in proptest::collection::vec((12_usize..160, any::<u8>()), 0..2),
        length in any::<prop::sample::Index>(),
        truncate in proptest::bool::weighted(0.1),
    ) {
        let spec = match kind {
            0 => byte_bpe("llama-bpe", MERGES),
            _ => sentence_piece(&["▁", "ab", "▁a", "c", "日"]),
        };
        let mut table = build(&spec).unwrap();
        for (place, byte) in damage {
            let place = 160 + place.index(table.len() - 160);
            table[place] = byte;
        }
        for (place, byte) in header {
            table[place] = byte;
        }
        if truncate {
            table.truncate(length.index(table.len()));
        }
        exercise(&table);
    }
}
