//! The merge loop all tokenizers share: join the best pair of neighbours until no pair can be joined.
//!
//! Parts are a linked list over an array and candidate pairs a heap, so a word of n parts costs O(n log n) however long
//! it is.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// No neighbour.
const END: u32 = u32::MAX;

/// A stretch of text that is one symbol so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    /// Where it begins in the text, in bytes.
    pub start: u32,
    /// Its length in bytes; 0 once it is merged into the part before.
    pub len: u32,
    /// The symbol, or [`crate::table::NONE`] for a character that is none.
    pub symbol: u32,
    previous: u32,
    next: u32,
}

/// A pair that can be joined; the smallest is joined first, the leftmost among equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: u32,
    right: u32,
    /// Lengths when the candidate was made: if either has changed since, it is out of date.
    left_len: u32,
    right_len: u32,
    merged: u32,
}

/// The state of one word, kept between words to spare allocations.
#[derive(Debug, Default)]
pub(crate) struct Merger {
    parts: Vec<Part>,
    candidates: BinaryHeap<Reverse<Candidate>>,
}

impl Merger {
    /// Starts a word.
    pub fn clear(&mut self) {
        self.parts.clear();
        self.candidates.clear();
    }

    /// Appends a part of `len` bytes after the last.
    pub fn push(&mut self, len: u32, symbol: u32) {
        let index = self.parts.len() as u32;
        let (start, previous) = match self.parts.last_mut() {
            Some(last) => {
                last.next = index;
                (last.start + last.len, index - 1)
            }
            None => (0, END),
        };
        self.parts.push(Part { start, len, symbol, previous, next: END });
    }

    /// Joins pairs until `pair` knows no more. `pair` gives the rank and symbol of two neighbours' union.
    pub fn run(&mut self, pair: impl Fn(&Part, &Part) -> Option<(u32, u32)>) {
        for left in 1..self.parts.len() as u32 {
            self.consider(left - 1, left, &pair);
        }
        while let Some(Reverse(candidate)) = self.candidates.pop() {
            if self.join(&candidate) {
                let Part { previous, next, .. } = self.parts[candidate.left as usize];
                self.consider(previous, candidate.left, &pair);
                self.consider(candidate.left, next, &pair);
            }
        }
    }

    /// The symbols of the word, in order.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| part.len > 0)
    }

    fn consider(
        &mut self,
        left: u32,
        right: u32,
        pair: impl Fn(&Part, &Part) -> Option<(u32, u32)>,
    ) {
        if left == END || right == END {
            return;
        }
        let (before, after) = (&self.parts[left as usize], &self.parts[right as usize]);
        if let Some((rank, merged)) = pair(before, after) {
            let (left_len, right_len) = (before.len, after.len);
            let candidate = Candidate { rank, left, right, left_len, right_len, merged };
            self.candidates.push(Reverse(candidate));
        }
    }

    /// Joins a candidate's parts, unless one of them has been joined to another since.
    fn join(&mut self, candidate: &Candidate) -> bool {
        let right = self.parts[candidate.right as usize];
        let left = &mut self.parts[candidate.left as usize];
        if left.len != candidate.left_len || right.len != candidate.right_len {
            return false;
        }
        left.len += right.len;
        left.symbol = candidate.merged;
        left.next = right.next;
        self.parts[candidate.right as usize].len = 0;
        if let Some(next) = self.parts.get_mut(right.next as usize) {
            next.previous = candidate.left;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Merges letters of `word` by `rules`, the first rule first, and returns the parts with bars between.
    fn merge(word: &str, rules: &[(&str, &str)]) -> String {
        let mut merger = Merger::default();
        word.bytes().for_each(|byte| merger.push(1, u32::from(byte)));
        let text = |part: &Part| &word[part.start as usize..(part.start + part.len) as usize];
        merger.run(|left, right| {
            let rank = rules.iter().position(|rule| *rule == (text(left), text(right)))?;
            Some((rank as u32, 0))
        });
        merger.parts().map(text).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn best_pairs_join_first_and_leftmost_among_equals() {
        for (word, rules, expected) in [
            ("", &[][..], ""),
            ("abc", &[], "a|b|c"),
            ("aaa", &[("a", "a")], "aa|a"),
            ("abc", &[("b", "c"), ("a", "b")], "a|bc"),
            ("abcd", &[("a", "b"), ("c", "d"), ("ab", "cd")], "abcd"),
            ("abab", &[("a", "b"), ("b", "a"), ("ab", "ab")], "abab"),
        ] {
            assert_eq!(merge(word, rules), expected, "{word}");
        }
    }
}
