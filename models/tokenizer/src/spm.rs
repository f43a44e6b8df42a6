//! SentencePiece by score: of all neighbours whose union is a token, the pair with the best score is joined first.

use crate::bpe::push_bytes;
use crate::merge::Merger;
use crate::table::{NONE, Table};

/// Appends the tokens of `text`, whose spaces stand for themselves. Characters that are no token become byte tokens.
pub(crate) fn encode(table: &Table<'_>, text: &str, ids: &mut Vec<u32>) {
    let mut merger = Merger::default();
    let mut utf8 = [0; 4];
    let token = |text: &[u8]| table.piece(text).filter(|&symbol| table.is_token(symbol));
    for c in text.chars() {
        let c = c.encode_utf8(&mut utf8);
        merger.push(c.len() as u32, token(c.as_bytes()).unwrap_or(NONE));
    }
    merger.run(|left, right| {
        let union = text.as_bytes().get(left.start as usize..(right.start + right.len) as usize)?;
        let merged = token(union)?;
        Some((rank(table.score(merged)), merged))
    });
    for part in merger.parts() {
        match part.symbol {
            NONE => {
                let (start, end) = (part.start as usize, (part.start + part.len) as usize);
                push_bytes(table, &text.as_bytes()[start..end], ids);
            }
            token => ids.push(token),
        }
    }
}

/// An integer that is smaller for better scores, in the order of the numbers.
fn rank(score: f32) -> u32 {
    // Adding zero makes the two zeros equal.
    let bits = (score + 0.0).to_bits();
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    !ascending
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn better_scores_have_smaller_ranks() {
        let scores = [1e9, 1.0, 1e-40, 0.0, -1e-40, -1.0, -2.5, -1e9, f32::NEG_INFINITY];
        assert!(scores.windows(2).all(|pair| rank(pair[0]) < rank(pair[1])));
        assert_eq!(rank(0.0), rank(-0.0));
    }
}
