//! Gives every text that merging can reach a symbol: a token's id, or a number after the last token's.

use super::hash::NONE;
use super::{Algorithm, BuildError};
use crate::bytelevel;
use crate::spec::TokenizerSpec;
use std::collections::{HashMap, HashSet};

/// The merges as symbols: tokens, and texts that only merges name.
pub(super) struct Merges {
    /// (left, right, rank, merged), each pair once.
    pub entries: Vec<[u32; 4]>,
    /// Spelling of each symbol that is no token; the first has the id after the last token's.
    pub extras: Vec<Vec<u8>>,
    extra_ids: HashMap<Vec<u8>, u32>,
    tokens: usize,
}

impl Merges {
    /// Gives both sides and the union of every merge a symbol.
    pub fn resolve(
        spec: &TokenizerSpec,
        algorithm: Algorithm,
        tokens: usize,
        ids: &HashMap<&[u8], u32>,
    ) -> Result<Self, BuildError> {
        let mut merges =
            Self { entries: Vec::new(), extras: Vec::new(), extra_ids: HashMap::new(), tokens };
        if algorithm == Algorithm::Scores {
            return Ok(merges);
        }
        let mut seen = HashSet::with_capacity(spec.merges.len());
        for (index, merge) in spec.merges.iter().enumerate() {
            // A text may itself begin with a space, so the separator is looked for after the first byte.
            let space = merge.iter().skip(1).position(|&byte| byte == b' ').map(|at| at + 1);
            let parts = space.map(|at| (&merge[..at], &merge[at + 1..]));
            let Some((left, right)) = parts.filter(|(_, right)| !right.is_empty()) else {
                let merge = String::from_utf8_lossy(merge).into_owned();
                return Err(BuildError::Merge { index, merge });
            };
            let rank = u32::try_from(index).map_err(|_| BuildError::TooLarge { bytes: index })?;
            let pair = (merges.symbol(left, ids), merges.symbol(right, ids));
            if seen.insert(pair) {
                let merged = merges.symbol(&[left, right].concat(), ids);
                merges.entries.push([pair.0, pair.1, rank, merged]);
            }
        }
        Ok(merges)
    }

    /// The symbol of a text, made if there is none.
    fn symbol(&mut self, text: &[u8], ids: &HashMap<&[u8], u32>) -> u32 {
        if let Some(&id) = ids.get(text).or_else(|| self.extra_ids.get(text)) {
            return id;
        }
        let id = u32::try_from(self.tokens + self.extras.len()).unwrap_or(NONE);
        self.extras.push(text.to_vec());
        self.extra_ids.insert(text.to_vec(), id);
        id
    }
}

/// Section 6. Byte-level BPE may need symbols for bytes the vocabulary lacks.
pub(super) fn byte_symbols(
    algorithm: Algorithm,
    ids: &HashMap<&[u8], u32>,
    merges: &mut Merges,
) -> Vec<u32> {
    let mut symbol = |byte| match algorithm {
        Algorithm::ByteBpe => merges.symbol(bytelevel::char_of(byte).to_string().as_bytes(), ids),
        Algorithm::Scores | Algorithm::CharBpe => byte_token(byte, ids).unwrap_or(NONE),
    };
    (0..=u8::MAX).map(&mut symbol).collect()
}

/// The token that stands for a byte: `<0xAB>`, or else the byte itself.
pub(super) fn byte_token(byte: u8, ids: &HashMap<&[u8], u32>) -> Option<u32> {
    let name = format!("<0x{byte:02X}>");
    ids.get(name.as_bytes()).or_else(|| ids.get(&[byte][..])).copied()
}
