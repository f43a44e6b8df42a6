//! The scanners behind the pre-tokenizers: given the rest of a piece, how many bytes does the next word take?
//!
//! Each is the published expression written out, alternatives in order. Runs of white space are looked through once per
//! word, and all but the last of its characters belong to one word, so scanning is linear in the text.

use super::class::{Class, is_letter, is_mark, is_newline, is_number, is_punctuation, is_symbol};

/// Which letter cases a contraction such as `'ll` may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contractions {
    /// Never a word of their own.
    Joined,
    /// `'s|'t|'re|'ve|'m|'ll|'d`, any case, before all other words.
    Split,
    /// The same, but at the end of the word before.
    Suffix,
}

/// What a word of letters is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Letters {
    /// `\p{L}+`
    Plain,
    /// `[\p{L}\p{M}]+`; marks are then no symbols either.
    Marked,
    /// Capitals, then small letters: `camelCase` is two words.
    Cased,
}

/// The family of Llama 3's expression:
/// `[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
/// with contractions before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words {
    pub contractions: Contractions,
    pub letters: Letters,
    /// The longest number.
    pub digits: usize,
    /// What a run of symbols takes with it at its end.
    pub tail: &'static str,
}

/// The expression of Llama 3, which the others vary.
pub(super) const LLAMA3: Words =
    Words { contractions: Contractions::Split, letters: Letters::Plain, digits: 3, tail: "\r\n" };

impl Words {
    /// The length of the word that `rest` begins with; 0 only if `rest` is empty.
    pub fn next(&self, rest: &str) -> usize {
        let Some(first) = rest.chars().next() else { return 0 };
        if self.contractions == Contractions::Split
            && let Some(length) = contraction(rest, <[u8]>::eq_ignore_ascii_case)
        {
            return length;
        }
        if let Some(length) = self.letters(rest, first) {
            return length;
        }
        if is_number(first) {
            return run_of(rest, is_number, self.digits);
        }
        if let Some(length) = self.symbols(rest) {
            return length;
        }
        newlines(rest).or_else(|| spaces(rest)).unwrap_or_else(|| first.len_utf8())
    }

    /// `[^\r\n\p{L}\p{N}]?` and a word of letters.
    fn letters(&self, rest: &str, first: char) -> Option<usize> {
        let prefix = match first {
            _ if self.is_letter(first) || is_newline(first) || is_number(first) => 0,
            _ => first.len_utf8(),
        };
        // A mark may be the prefix of a marked word, but taking it as the word's first letter gives the same end.
        let word = &rest[prefix..];
        let letters = match self.letters {
            Letters::Plain => run_of(word, is_letter, usize::MAX),
            Letters::Marked => run_of(word, is_letter_or_mark, usize::MAX),
            Letters::Cased => cased_word(word),
        };
        let end = prefix + letters;
        let suffix = match self.contractions {
            Contractions::Suffix => {
                contraction(&rest[end..], <[u8]>::eq_ignore_ascii_case).unwrap_or(0)
            }
            Contractions::Joined | Contractions::Split => 0,
        };
        (letters > 0).then_some(end + suffix)
    }

    fn is_letter(&self, c: char) -> bool {
        is_letter(c) || self.letters == Letters::Marked && is_mark(c)
    }

    /// ` ?[^\s\p{L}\p{N}]+` and the tail.
    fn symbols(&self, rest: &str) -> Option<usize> {
        let space = usize::from(rest.starts_with(' '));
        let symbols: usize = (rest[space..].chars())
            .take_while(|&c| !(c.is_whitespace() || self.is_letter(c) || is_number(c)))
            .map(char::len_utf8)
            .sum();
        let end = space + symbols;
        let tail = rest[end..].bytes().take_while(|&byte| self.tail.as_bytes().contains(&byte));
        (symbols > 0).then(|| end + tail.count())
    }
}

fn is_letter_or_mark(c: char) -> bool {
    is_letter(c) || is_mark(c)
}

/// `U*W+|U+W*`, where U is a letter but not a small ASCII one and W a letter but not a capital ASCII one.
///
/// Other letters are in both sets. After the run of U comes a run of W; if there is none, the word gives letters back to
/// the last one that is also in W, or else is the whole run of U.
fn cased_word(rest: &str) -> usize {
    let is_upper = |c: char| is_letter(c) && !c.is_ascii_lowercase();
    let is_lower = |c: char| is_letter(c) && !c.is_ascii_uppercase();
    let upper: usize = rest.chars().take_while(|&c| is_upper(c)).map(char::len_utf8).sum();
    let lower: usize = rest[upper..].chars().take_while(|&c| is_lower(c)).map(char::len_utf8).sum();
    if lower > 0 {
        return upper + lower;
    }
    let shared = rest[..upper].char_indices().rfind(|&(_, c)| is_lower(c));
    shared.map_or(upper, |(at, c)| at + c.len_utf8())
}

/// GPT-2's expression: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
pub(super) fn gpt2(rest: &str) -> usize {
    if let Some(length) = contraction(rest, <[u8]>::eq) {
        return length;
    }
    let space = usize::from(rest.starts_with(' '));
    let is_other = |c: char| !(c.is_whitespace() || is_letter(c) || is_number(c));
    for class in [is_letter as Class, is_number, is_other] {
        let length = run_of(&rest[space..], class, usize::MAX);
        if length > 0 {
            return space + length;
        }
    }
    spaces(rest).unwrap_or(0)
}

/// DeepSeek V3's third expression: `[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|
/// ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`. 0 where nothing matches.
pub(super) fn deepseek_v3(rest: &str) -> usize {
    let Some(first) = rest.chars().next() else { return 0 };
    let is_mark_or_sign = |c| is_punctuation(c) || is_symbol(c);
    if first.is_ascii_punctuation() {
        let letters = rest[1..].bytes().take_while(u8::is_ascii_alphabetic).count();
        if letters > 0 {
            return 1 + letters;
        }
    }
    let may_lead = !(is_letter_or_mark(first) || is_newline(first) || is_mark_or_sign(first));
    let lead = if may_lead { first.len_utf8() } else { 0 };
    let letters = run_of(&rest[lead..], is_letter_or_mark, usize::MAX);
    if letters > 0 {
        return lead + letters;
    }
    let space = usize::from(first == ' ');
    let signs = run_of(&rest[space..], is_mark_or_sign, usize::MAX);
    if signs > 0 {
        let end = space + signs;
        return end + run_of(&rest[end..], is_newline, usize::MAX);
    }
    newlines(rest).or_else(|| spaces(rest)).unwrap_or(0)
}

/// `'s|'t|'re|'ve|'m|'ll|'d` at the start of `rest`; `same` compares the letters.
fn contraction(rest: &str, same: fn(&[u8], &[u8]) -> bool) -> Option<usize> {
    let letters = rest.strip_prefix('\'')?.as_bytes();
    ["s", "t", "re", "ve", "m", "ll", "d"].iter().find_map(|ending| {
        let found = letters.get(..ending.len())?;
        same(found, ending.as_bytes()).then_some(1 + ending.len())
    })
}

/// The bytes of the first characters that are in `class`, at most `limit` characters.
pub(super) fn run_of(rest: &str, class: impl Fn(char) -> bool, limit: usize) -> usize {
    rest.chars().take(limit).take_while(|&c| class(c)).map(char::len_utf8).sum()
}

/// `\s*[\r\n]+`: white space up to the last line break in it.
fn newlines(rest: &str) -> Option<usize> {
    let spaces = &rest[..run_of(rest, char::is_whitespace, usize::MAX)];
    spaces.rfind(is_newline).map(|at| at + 1)
}

/// `\s+(?!\S)|\s+`: white space, but not its last character if that is followed by a word and not alone.
fn spaces(rest: &str) -> Option<usize> {
    let length = run_of(rest, char::is_whitespace, usize::MAX);
    let last = rest[..length].chars().next_back()?.len_utf8();
    Some(if length < rest.len() && length > last { length - last } else { length })
}
