//! Byte-pair encoding: words of a pre-tokenizer, merged by rank.

use crate::merge::Merger;
use crate::pretokenize::PreTokenizer;
use crate::table::{NONE, Table};

/// Appends the tokens of `text` by BPE over bytes (GPT-2's way).
pub(crate) fn encode_bytes(table: &Table<'_>, pre: &PreTokenizer, text: &str, ids: &mut Vec<u32>) {
    let mut merger = Merger::default();
    for word in pre.split(text) {
        let word = &text.as_bytes()[word];
        if table.flags.whole_words
            && let Some(token) = table.piece(word).filter(|&symbol| table.is_token(symbol))
        {
            ids.push(token);
            continue;
        }
        merger.clear();
        word.iter().for_each(|&byte| merger.push(1, table.byte(byte).unwrap_or(NONE)));
        merger.run(|left, right| table.merge(left.symbol, right.symbol));
        merger.parts().for_each(|part| push_symbol(table, part.symbol, ids));
    }
}

/// Appends the tokens of `text`, whose spaces stand for themselves, by BPE over characters (Gemma 4's way).
///
/// Characters the vocabulary lacks become byte tokens.
pub(crate) fn encode_chars(table: &Table<'_>, pre: &PreTokenizer, text: &str, ids: &mut Vec<u32>) {
    let mut merger = Merger::default();
    for word in pre.split(text) {
        let word = &text[word];
        // Merges do not cross line breaks, yet runs of them are tokens.
        if word.starts_with('\n')
            && let Some(token) = table.piece(word.as_bytes()).filter(|&id| table.is_token(id))
        {
            ids.push(token);
            continue;
        }
        merger.clear();
        let mut utf8 = [0; 4];
        for c in word.chars() {
            let c = c.encode_utf8(&mut utf8);
            merger.push(c.len() as u32, table.piece(c.as_bytes()).unwrap_or(NONE));
        }
        merger.run(|left, right| table.merge(left.symbol, right.symbol));
        for part in merger.parts() {
            match part.symbol {
                NONE => {
                    let (start, end) = (part.start as usize, (part.start + part.len) as usize);
                    push_bytes(table, &word.as_bytes()[start..end], ids);
                }
                symbol => push_symbol(table, symbol, ids),
            }
        }
    }
}

fn push_symbol(table: &Table<'_>, symbol: u32, ids: &mut Vec<u32>) {
    if table.is_token(symbol) {
        ids.push(symbol);
    } else {
        ids.extend(table.spelling(symbol).filter(|&id| table.is_token(id)));
    }
}

/// Appends the byte tokens of a character no piece covers; bytes without a token are left out, or become the unknown
/// token if there is one.
pub(crate) fn push_bytes(table: &Table<'_>, character: &[u8], ids: &mut Vec<u32>) {
    // A space is written as U+2581 in the vocabulary, and so are the bytes it falls back to.
    let bytes = if character == b" " { "\u{2581}".as_bytes() } else { character };
    ids.extend(bytes.iter().filter_map(|&byte| table.byte(byte).or(table.unknown)));
}
