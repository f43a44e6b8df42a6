//! The two hash functions of the table format and the builder of its open-addressing arrays.
//!
//! Slots are probed one after the other from the home slot, which is the top bits of a 64-bit hash. The builder records
//! the longest walk any key needs, so a reader's walk is bounded even in a table that somebody has tampered with.

/// An id that stands for "none": empty slots, absent roles.
pub(crate) const NONE: u32 = u32::MAX;

/// The longest walk the builder accepts before it doubles an array.
pub(crate) const MAX_PROBES: u32 = 256;

/// 2^64 divided by the golden ratio: spreads keys over the top bits.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// FNV-1a over the bytes, then spread to the top bits.
pub(crate) fn hash_text(text: &[u8]) -> u64 {
    let fnv = text.iter().fold(0xCBF2_9CE4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    });
    fnv.wrapping_mul(GOLDEN)
}

/// Hash of a pair of symbols.
pub(crate) fn hash_pair(left: u32, right: u32) -> u64 {
    let pair = (u64::from(left) << 32) | u64::from(right);
    (pair ^ (pair >> 29)).wrapping_mul(GOLDEN)
}

/// The slots a key may lie in: from its home slot, wrapping around, at most `limit` of them.
///
/// `capacity` is a power of two.
pub(crate) fn probes(hash: u64, capacity: usize, limit: u32) -> impl Iterator<Item = usize> {
    let bits = capacity.trailing_zeros();
    let home = if bits == 0 { 0 } else { (hash >> (64 - bits)) as usize };
    let mask = capacity.wrapping_sub(1);
    (0..capacity.min(limit as usize)).map(move |step| home.wrapping_add(step) & mask)
}

/// An array of entries, each within [`MAX_PROBES`] of its home slot.
pub(crate) struct Placed {
    /// For every slot, the index of its entry or [`NONE`].
    pub slots: Vec<u32>,
    /// The longest walk to an entry; 0 when there is none.
    pub longest_walk: u32,
}

/// Places `hashes` (the index is the entry) in the smallest array that keeps every walk short; `None` when many keys
/// collide, which only keys made for it do.
pub(crate) fn place(hashes: &[u64]) -> Option<Placed> {
    let smallest = hashes.len().saturating_mul(2).next_power_of_two();
    (0..4).find_map(|doublings| place_in(hashes, smallest.checked_shl(doublings)?))
}

fn place_in(hashes: &[u64], capacity: usize) -> Option<Placed> {
    let mut slots = vec![NONE; capacity];
    let mut longest_walk = 0;
    for (entry, &hash) in (0_u32..).zip(hashes) {
        let (step, slot) =
            (1..).zip(probes(hash, capacity, MAX_PROBES)).find(|&(_, slot)| slots[slot] == NONE)?;
        slots[slot] = entry;
        longest_walk = longest_walk.max(step);
    }
    Some(Placed { slots, longest_walk })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_within_the_recorded_walk() {
        let hashes: Vec<u64> = (0..5000_u32).map(|id| hash_pair(id % 71, id / 71)).collect();
        let placed = place(&hashes).unwrap();
        for (entry, &hash) in (0..).zip(&hashes) {
            assert!(
                probes(hash, placed.slots.len(), placed.longest_walk)
                    .any(|slot| placed.slots[slot] == entry)
            );
        }
    }

    #[test]
    fn keys_made_to_collide_are_refused() {
        assert!(place(&[7; 300]).is_none());
        assert!(place(&[]).is_some());
    }
}
