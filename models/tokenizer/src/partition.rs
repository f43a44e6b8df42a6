//! Finds the special tokens in a text: what is left between them is encoded.
//!
//! Longer tokens win over shorter ones wherever they stand, then lower ids; among occurrences of one token the leftmost
//! wins (llama.cpp's `tokenizer_st_partition`).

use crate::table::{Special, Table};
use std::collections::BTreeMap;
use std::ops::Range;

/// A stretch of text, or a token found in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fragment {
    /// Bytes of the text, never empty, on character boundaries.
    Text(Range<usize>),
    Token(u32),
}

/// Cuts `text` at its special tokens. Markers count only if `parse_markers` says so.
pub(crate) fn partition(table: &Table<'_>, text: &str, parse_markers: bool) -> Vec<Fragment> {
    let mut fragments = Vec::new();
    if !text.is_empty() {
        fragments.push(Fragment::Text(0..text.len()));
    }
    for special in occurring(table, text, parse_markers) {
        let Ok(pattern) = std::str::from_utf8(special.text) else { continue };
        let mut finer = Vec::with_capacity(fragments.len());
        for fragment in fragments {
            match fragment {
                Fragment::Text(range) => cut(text, range, &special, pattern, &mut finer),
                Fragment::Token(_) => finer.push(fragment),
            }
        }
        fragments = finer;
    }
    fragments
}

/// The special tokens that occur in `text` at all, by priority.
fn occurring<'a>(
    table: &Table<'a>,
    text: &str,
    parse_markers: bool,
) -> impl Iterator<Item = Special<'a>> + use<'a> {
    let mut found = BTreeMap::new();
    let starts: Vec<Range<u32>> = (0..=u8::MAX).map(|byte| table.specials_from(byte)).collect();
    let text = text.as_bytes();
    for (at, &first) in text.iter().enumerate() {
        let candidates = starts[usize::from(first)].clone();
        if !candidates.is_empty() {
            find_prefixes(table, &text[at..], candidates, |special| {
                if parse_markers || !table.kind(special.id).is_marker() {
                    found.insert((special.priority, special.id), special);
                }
            });
        }
    }
    found.into_values()
}

/// Calls `found` with every special in `candidates` that `rest` begins with.
///
/// `candidates` are sorted and share their first byte with `rest`; each further byte narrows them.
fn find_prefixes<'a>(
    table: &Table<'a>,
    rest: &[u8],
    mut candidates: Range<u32>,
    mut found: impl FnMut(Special<'a>),
) {
    let byte_at = |index: u32, depth: usize| table.special(index)?.text.get(depth).copied();
    for depth in 1.. {
        while let Some(special) = table.special(candidates.start)
            && !candidates.is_empty()
            && special.text.len() == depth
        {
            found(special);
            candidates.start += 1;
        }
        let Some(&byte) = rest.get(depth) else { return };
        candidates.start = partition_point(&candidates, |at| byte_at(at, depth) < Some(byte));
        candidates.end = partition_point(&candidates, |at| byte_at(at, depth) <= Some(byte));
        // In a damaged table the order may be wrong; without this check the walk could outlast every text.
        if candidates.is_empty() || byte_at(candidates.start, depth) != Some(byte) {
            return;
        }
    }
}

/// The first index in `range` for which `before` no longer holds.
fn partition_point(range: &Range<u32>, before: impl Fn(u32) -> bool) -> u32 {
    let Range { mut start, mut end } = *range;
    while start < end {
        let middle = start + (end - start) / 2;
        if before(middle) { start = middle + 1 } else { end = middle }
    }
    start
}

/// Cuts a stretch of text at every occurrence of one special token.
fn cut(
    text: &str,
    range: Range<usize>,
    special: &Special<'_>,
    pattern: &str,
    fragments: &mut Vec<Fragment>,
) {
    let Range { mut start, end } = range;
    while start < end
        && let Some(at) = text[start..end].find(pattern)
    {
        let mut before = &text[start..start + at];
        if special.strip_before {
            before = before.trim_end_matches(is_c_space);
        }
        if !before.is_empty() {
            fragments.push(Fragment::Text(start..start + before.len()));
        }
        fragments.push(Fragment::Token(special.id));
        start += at + pattern.len();
        if special.strip_after {
            start = end - text[start..end].trim_start_matches(is_c_space).len();
        }
    }
    if start < end {
        fragments.push(Fragment::Text(start..end));
    }
}

/// C's `isspace`.
fn is_c_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}
