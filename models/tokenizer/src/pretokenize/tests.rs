//! Words of each pre-tokenizer, as the published expressions give them.

use super::*;

#[track_caller]
fn check(name: &str, text: &str, expected: &[&str]) {
    let words: Vec<&str> =
        by_name(name).unwrap().split(text).into_iter().map(|word| &text[word]).collect();
    assert_eq!(words, expected, "{name}");
}

#[test]
fn gpt2_words() {
    check("gpt-2", "", &[]);
    check("gpt-2", "Hello world", &["Hello", " world"]);
    check("gpt-2", "I'll, I'LL", &["I", "'ll", ",", " I", "'", "LL"]);
    check("gpt-2", "a  b \n\n c ", &["a", " ", " b", " \n\n", " c", " "]);
    check("gpt-2", "3.14x²", &["3", ".", "14", "x", "²"]);
    check("gpt-2", " \u{301}é", &[" \u{301}", "é"]);
}

#[test]
fn numbers_are_cut_as_each_family_cuts_them() {
    check("smollm", "a 123", &["a", " ", "1", "2", "3"]);
    check("llama-bpe", "12345", &["123", "45"]);
    check("qwen2", "12345", &["1", "2", "3", "4", "5"]);
    check("deepseek-v3", "12345a", &["123", "45", "a"]);
    check("falcon", "12345", &["123", "45"]);
    check("minicpm5", "12345", &["123", "45"]);
}

#[test]
fn llama3_words() {
    check("llama-bpe", "I'LL go", &["I", "'LL", " go"]);
    check("llama-bpe", "(x)!\n\ny", &["(x", ")!\n\n", "y"]);
    check("llama-bpe", "a \n \n  b", &["a", " \n \n", " ", " b"]);
    check("llama-bpe", "\tfn  ", &["\tfn", "  "]);
    check("llama-bpe", "x\u{a0}y", &["x", "\u{a0}y"]);
}

#[test]
fn relatives_of_llama3() {
    check("qwen35", "ne\u{301}e", &["ne\u{301}e"]);
    check("qwen2", "ne\u{301}e", &["ne", "\u{301}e"]);
    check("tekken", "camelCase HTTPServer É", &["camel", "Case", " HTTPServer", " É"]);
    check("gpt-4o", "don't a/\n", &["don't", " a", "/\n"]);
    check("seed-coder", "a!\n", &["a", "!", "\n"]);
    check("ufakzeka", "I'm", &["I", "'m"]);
    check("laguna", "a \nb", &["a", " ", "\n", "b"]);
}

#[test]
fn deepseek_words() {
    check("deepseek-v3", "!ab你好x", &["!ab", "你好", "x"]);
    check("deepseek-v3", "a, b)\n", &["a", ",", " b", ")\n"]);
    check("deepseek-llm", "ab  12 ", &["ab", "  ", "12", " "]);
    check("deepseek-coder", "a\n b1", &["a", "\n", " b", "1"]);
}

#[test]
fn names_and_codes_are_unique() {
    let all = || PRE_TOKENIZERS.iter().chain([&LINES]);
    let mut codes: Vec<u32> = all().map(|pre| pre.code).collect();
    let mut names: Vec<&str> = all().flat_map(|pre| pre.names).copied().collect();
    let counts = (codes.len(), names.len());
    codes.sort_unstable();
    codes.dedup();
    names.sort_unstable();
    names.dedup();
    assert_eq!((codes.len(), names.len()), counts);
}

#[test]
fn words_cover_the_text_in_order() {
    let text = "Mixed 123 текст\r\n\t 日本語、ß \u{1F469}\u{200D}\u{1F680}  it's\u{85}x\u{3000}。 ";
    for pre in PRE_TOKENIZERS {
        let mut end = 0;
        for word in pre.split(text) {
            assert!(word.start == end && word.end > end, "{}", pre.names[0]);
            end = word.end;
        }
        assert_eq!(end, text.len());
    }
}
