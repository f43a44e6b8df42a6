//! Text to tokens and back, over small vocabularies.

mod common;

use common::{PARSED, PLAIN, byte_bpe, sentence_piece};
use onebit_tokenizer::{
    BuildError, Detokenizer, EncodeOptions, Position, Tokenizer, TokenizerSpec, build, token_type,
};

const MERGES: &[(&str, &str)] =
    &[("l", "l"), ("h", "e"), ("he", "ll"), ("hell", "o"), (" ", "w"), ("\n", "\n"), ("é", "é")];

/// The tokens of a text, each as it prints, with bars between.
fn pieces(tokenizer: &Tokenizer<'_>, text: &str, options: EncodeOptions) -> String {
    let piece = |id| String::from_utf8_lossy(tokenizer.token_bytes_with_markers(id)).into_owned();
    tokenizer.encode(text, options).into_iter().map(piece).collect::<Vec<_>>().join("|")
}

#[track_caller]
fn check(spec: &TokenizerSpec, options: EncodeOptions, cases: &[(&str, &str)]) {
    let table = build(spec).unwrap();
    let tokenizer = Tokenizer::from_bytes(&table).unwrap();
    for (text, expected) in cases {
        assert_eq!(pieces(&tokenizer, text, options), *expected, "{text:?}");
    }
}

#[test]
fn byte_bpe_merges_inside_words() {
    check(
        &byte_bpe("gpt-2", &MERGES[..6]),
        PLAIN,
        &[
            ("", ""),
            ("hello", "hello"),
            ("hell", "hell"),
            ("lll", "ll|l"),
            ("hehello", "he|hello"),
            ("hello world", "hello| w|o|r|l|d"),
            ("l l", "l| |l"),
            ("\n\n\n", "\n\n|\n"),
            ("a<|end|>", "a|<|||e|n|d|||>"),
            ("a  b", "a|  |b"),
        ],
    );
}

#[test]
fn markers_are_tokens_only_on_request() {
    check(
        &byte_bpe("gpt-2", &MERGES[..6]),
        PARSED,
        &[
            ("hello<|im_end|>\n", "hello|<|im_end|>|\n"),
            ("<|end|><|end|>", "<|end|>|<|end|>"),
            ("<|end|", "<|||e|n|d||"),
            ("   x", "  | |x"),
        ],
    );
}

#[test]
fn unions_outside_the_vocabulary_are_spelt_by_their_parts() {
    // "ab" is no token, but the way to one; left over, it is spelt by the characters the vocabulary has.
    let mut spec = byte_bpe("gpt-2", &[("c", "d")]);
    spec.merges.extend([b"a b".to_vec(), b"ab cd".to_vec()]);
    spec.tokens.push(b"abcd".to_vec());
    spec.types.push(token_type::NORMAL);
    check(&spec, PLAIN, &[("abcd", "abcd"), ("abx", "a|b|x"), ("ab", "a|b")]);
}

#[test]
fn llama3_takes_whole_words_and_begins_with_bos() {
    let mut spec = byte_bpe("llama-bpe", MERGES);
    spec.tokens.push("Ġmagic".into());
    spec.types.push(token_type::NORMAL);
    check(&spec, PLAIN, &[("a magic", "a| magic"), ("a magical", "a| |m|a|g|i|c|a|l")]);
    check(&spec, EncodeOptions::default(), &[("", "<|end|>"), ("he", "<|end|>|he")]);
}

#[test]
fn sentence_piece_joins_the_best_scored_pair_first() {
    let spec =
        sentence_piece(&["▁", "▁a", "bc", "ab", "a", "b", "c", "▁abc", "▁▁", "é", "\u{301}"]);
    check(
        &spec,
        PLAIN,
        &[
            ("", ""),
            ("a", " a"),
            ("abc", " abc"),
            ("abb", " a|b|b"),
            ("bab", " |b|ab"),
            ("  a", "  | a"),
            ("a▁a", " a| a"),
            ("é", " |é"),
        ],
    );
    let table = build(&spec).unwrap();
    let tokenizer = Tokenizer::from_bytes(&table).unwrap();
    let byte = |byte: u8| 3 + u32::from(byte);
    assert_eq!(tokenizer.encode("ß\n", PLAIN), [259, byte(0xC3), byte(0x9F), byte(b'\n')]);
    assert_eq!(tokenizer.encode("", EncodeOptions::default()), [1]);
    let parsed = tokenizer.encode("a</s>a", PARSED);
    assert_eq!(parsed, [260, 2, 260], "a text after a marker begins with a space again");
}

#[test]
fn without_byte_tokens_unknown_characters_become_the_unknown_token() {
    let mut spec = sentence_piece(&["▁", "a"]);
    spec.tokens.drain(3..259);
    spec.types.drain(3..259);
    spec.scores.drain(3..259);
    check(&spec, PLAIN, &[("a!", " |a|<unk>")]);
}

#[test]
fn phi3_markers_swallow_the_white_space_after_them() {
    let mut spec = sentence_piece(&["▁", "▁x", "x"]);
    spec.model_name = Some("Phi-3 mini".into());
    check(&spec, PARSED, &[("</s> \n x", "</s>| x"), ("<s> x", "<s>| | x")]);
}

#[test]
fn character_bpe_keeps_runs_of_line_breaks_whole() {
    let mut spec = sentence_piece(&["▁", "a", "b", "ab", "▁ab", "\n", "\n\n"]);
    spec.model = "gemma4".into();
    spec.merges = ["a b", "▁ ab"].map(|merge| merge.as_bytes().to_vec()).to_vec();
    check(&spec, PLAIN, &[("ab ab", "ab| ab"), ("\n\na", "\n\n|a"), ("ba", "b|a")]);
}

#[test]
fn ends_of_generation_are_found_by_role_and_by_name() {
    let table = build(&byte_bpe("gpt-2", &MERGES[..1])).unwrap();
    let tokenizer = Tokenizer::from_bytes(&table).unwrap();
    assert_eq!(tokenizer.vocabulary(), 260);
    assert_eq!(tokenizer.end_of_generation().collect::<Vec<_>>(), [257, 258]);
    assert!(tokenizer.is_end_of_generation(258) && !tokenizer.is_end_of_generation(259));
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(257), Some(257)));
    assert_eq!(tokenizer.token_bytes(257), b"");
    assert_eq!(tokenizer.token_bytes_with_markers(257), b"<|end|>");
    assert_eq!(tokenizer.token_bytes(259), b"  ");
    assert_eq!(tokenizer.token_bytes(u32::MAX), b"");
    assert_eq!(tokenizer.chat_template(), Some("{{ messages }}"));
    assert!(!tokenizer.add_bos_by_default());
}

#[test]
fn characters_come_out_whole() {
    let table = build(&byte_bpe("gpt-2", &MERGES[..1])).unwrap();
    let tokenizer = Tokenizer::from_bytes(&table).unwrap();
    for (bytes, expected) in [
        (&b"a\xC3\xA9"[..], &["a", "", "é"][..]),
        (b"\xF0\x9F\x98\x80!", &["", "", "", "😀", "!"]),
        (b"\xFFa", &["\u{FFFD}", "a"]),
        (b"\xC3a", &["", "\u{FFFD}a"]),
    ] {
        let mut stream = Detokenizer::new(tokenizer, Position::Continuation);
        let texts: Vec<String> = bytes.iter().map(|&byte| stream.push(byte.into())).collect();
        assert_eq!(texts, expected);
        assert_eq!(stream.finish(), "");
    }
    let mut cut = Detokenizer::new(tokenizer, Position::Continuation);
    assert_eq!(cut.push(0xE2), "");
    assert_eq!(cut.finish(), "\u{FFFD}");
}

#[test]
fn the_space_in_front_is_taken_away_at_the_start_only() {
    let table = build(&sentence_piece(&["▁", "▁a"])).unwrap();
    let tokenizer = Tokenizer::from_bytes(&table).unwrap();
    let decode = |position, ids: &[u32]| {
        let mut stream = Detokenizer::new(tokenizer, position).with_markers();
        ids.iter().map(|&id| stream.push(id)).collect::<String>() + &stream.finish()
    };
    assert_eq!(decode(Position::Start, &[1, 260, 260]), "<s>a a");
    assert_eq!(decode(Position::Continuation, &[260, 260]), " a a");
}

#[test]
fn wrong_specs_are_refused_with_the_key_to_look_at() {
    let base = || byte_bpe("gpt-2", &MERGES[..1]);
    let fail = |change: fn(&mut TokenizerSpec)| {
        let mut spec = base();
        change(&mut spec);
        build(&spec).unwrap_err()
    };
    assert!(matches!(fail(|s| s.model = "bert".into()), BuildError::UnknownModel { .. }));
    let unknown = fail(|s| s.pre = Some("nonsense".into()));
    assert!(unknown.to_string().contains("smollm, "), "{unknown}");
    assert_eq!(fail(|s| s.tokens.clear()), BuildError::NoTokens);
    assert!(matches!(fail(|s| s.merges.clear()), BuildError::NoMerges { .. }));
    assert!(matches!(fail(|s| s.scores.push(1.0)), BuildError::Length { found: 1, .. }));
    assert!(matches!(fail(|s| s.roles.eos = Some(9999)), BuildError::Role { id: 9999, .. }));
    assert!(matches!(fail(|s| s.merges.push(b"ab".to_vec())), BuildError::Merge { index: 1, .. }));
}

#[test]
fn the_same_spec_gives_the_same_bytes() {
    let spec = byte_bpe("qwen2", MERGES);
    assert_eq!(build(&spec).unwrap(), build(&spec).unwrap());
}

#[test]
fn long_runs_take_linear_time() {
    let spaces = " ".repeat(1 << 18);
    let table = build(&byte_bpe("deepseek-llm", MERGES)).unwrap();
    let tokenizer = Tokenizer::from_bytes(&table).unwrap();
    for text in ["l".repeat(1 << 18), "\n".repeat(1 << 18), spaces.clone() + "1", spaces] {
        let ids = tokenizer.encode(&text, PARSED);
        let bytes: usize = ids.iter().map(|&id| tokenizer.token_bytes(id).len()).sum();
        assert_eq!(bytes, text.len());
    }
}
