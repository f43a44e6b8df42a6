//! Where dispatches wait for each other, and where their buffers lie in the arena.
//!
//! Dispatches between two waits run in any order. So a buffer lives for whole phases, from the
//! one of its first use to the one of its last, and buffers of one phase never share bytes.

use std::collections::BTreeMap;

use onebit_plan::gpu::WINDOW_ALIGN;

use crate::schedule::memory::{self, Live};
use crate::schedule::steps::{BufferId, ShapeId};

/// What dispatches read and write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    Buffer(BufferId),
    /// Partial results of the attention with this shape.
    Partial(ShapeId),
    /// Candidates for the next tokens.
    Candidates,
    /// One layer's cache.
    Cache(ShapeId),
    Logits,
    Step,
}

impl Resource {
    fn in_arena(self) -> bool {
        matches!(self, Self::Buffer(_) | Self::Partial(_) | Self::Candidates)
    }
}

/// What one dispatch touches.
#[derive(Clone, Debug, Default)]
pub struct Accesses {
    pub reads: Vec<Resource>,
    pub writes: Vec<Resource>,
}

/// For every dispatch, whether it waits for all before it.
pub fn waits(dispatches: &[Accesses]) -> Vec<bool> {
    let mut open = Accesses::default();
    let mut waits = Vec::with_capacity(dispatches.len());
    for next in dispatches {
        let among = |found: &[Resource], of: &[Resource]| found.iter().any(|r| of.contains(r));
        let wait = among(&next.reads, &open.writes)
            || among(&next.writes, &open.writes)
            || among(&next.writes, &open.reads);
        if wait {
            open = Accesses::default();
        }
        open.reads.extend(&next.reads);
        open.writes.extend(&next.writes);
        waits.push(wait);
    }
    waits
}

/// Bytes at the start that nothing is read from: what looks ahead may write there.
const RESERVED: u64 = WINDOW_ALIGN;

/// Places of everything in the arena.
#[derive(Debug)]
pub struct Arena {
    offsets: BTreeMap<Resource, u64>,
    /// A multiple of [`WINDOW_ALIGN`].
    pub bytes: u64,
}

impl Arena {
    /// Plans the arena of `dispatches`; `bytes_of` gives the size of a resource in it.
    pub fn plan(
        dispatches: &[Accesses],
        waits: &[bool],
        bytes_of: impl Fn(Resource) -> usize,
    ) -> Self {
        let mut lives: BTreeMap<Resource, Live> = BTreeMap::new();
        let mut phase = 0;
        for (accesses, &wait) in dispatches.iter().zip(waits) {
            phase += usize::from(wait);
            let touched = accesses.reads.iter().chain(&accesses.writes).copied();
            for resource in touched.filter(|resource| resource.in_arena()) {
                let new = Live { first: phase, last: phase, bytes: bytes_of(resource) };
                lives.entry(resource).or_insert(new).last = phase;
            }
        }
        let ranges: Vec<Live> = lives.values().copied().collect();
        let align = usize::try_from(WINDOW_ALIGN).expect("a small constant");
        let layout = memory::assign(&ranges, align);
        let offsets = layout.offsets.iter().map(|&offset| RESERVED + offset as u64);
        let bytes = RESERVED + layout.bytes as u64;
        Self { offsets: lives.into_keys().zip(offsets).collect(), bytes }
    }

    /// Bytes from the start of the arena.
    ///
    /// # Panics
    /// When no dispatch touches `resource`, or it is not in the arena.
    pub fn offset(&self, resource: Resource) -> u64 {
        self.offsets[&resource]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(id: usize) -> Resource {
        Resource::Buffer(BufferId(id))
    }

    fn accesses(reads: &[Resource], writes: &[Resource]) -> Accesses {
        Accesses { reads: reads.to_vec(), writes: writes.to_vec() }
    }

    #[test]
    fn a_dispatch_waits_for_what_it_reads_and_for_readers_of_what_it_writes() {
        let [a, b, c] = [0, 1, 2].map(buffer);
        let dispatches = [
            accesses(&[a], &[b]),
            accesses(&[a], &[c]),
            accesses(&[b], &[]),
            accesses(&[], &[c]),
            accesses(&[], &[c]),
        ];
        assert_eq!(waits(&dispatches), [false, false, true, false, true]);
    }

    #[test]
    fn buffers_of_one_phase_are_apart() {
        let [a, b, c] = [0, 1, 2].map(buffer);
        let dispatches = [accesses(&[], &[a]), accesses(&[a], &[b]), accesses(&[b], &[c])];
        let waits = waits(&dispatches);
        let arena = Arena::plan(&dispatches, &waits, |_| 256);
        assert_ne!(arena.offset(a), arena.offset(b));
        assert_ne!(arena.offset(b), arena.offset(c));
        assert_eq!(arena.offset(a), arena.offset(c), "a is dead when c is written");
        assert_eq!(arena.bytes, RESERVED + 512);
    }
}
