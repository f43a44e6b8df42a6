//! Buffer descriptors: their fields, and the addresses they walk over.
//!
//! Fields: npu4's register tables in aie-rt, `driver/src/dma/xaie_dma_aieml.c`, functions
//! `_XAieMl_TileDmaWriteBd`, `_XAieMl_MemTileDmaWriteBd`, `_XAieMl_ShimDmaWriteBd`. Steps and the
//! number of iterations are stored less one; the wraps of dimensions are not.

use crate::geometry::{TileKind, bits, signed_bits};

/// Words of a descriptor's registers; a compute tile uses six of them.
pub const WORDS: usize = 8;
/// Bytes of a stream's word.
pub const WORD_BYTES: u64 = 4;

/// One dimension of a walk, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dimension {
    /// Words between two neighbours.
    pub step: u64,
    /// How many neighbours; None when the dimension goes on to the descriptor's end.
    pub wrap: Option<u64>,
    /// Zeros before the data of each round.
    pub before: u64,
    /// Zeros behind the data of each round.
    pub after: u64,
}

/// A lock and the value to take from it or to add to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockUse {
    /// The number of the lock as the tile's DMA counts: a memory tile sees its western
    /// neighbour's, its own and its eastern neighbour's, 64 each.
    pub lock: u8,
    /// The value, as the descriptor's field holds it.
    pub value: i32,
}

/// The header that goes before a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketHeader {
    /// What switches route by, 5 bits.
    pub id: u8,
    /// Three bits that switches carry along.
    pub kind: u8,
}

/// How often a descriptor moves on, and by how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Iteration {
    /// Words from one run of the descriptor to the next.
    pub step: u64,
    /// After how many runs it starts over.
    pub wrap: u32,
    /// Which run is next.
    pub current: u32,
}

/// A descriptor's fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Whether it may be used.
    pub valid: bool,
    /// The first byte, as the tile's DMA counts.
    pub base: u64,
    /// How many words go over the stream, padding included, the packet's header not.
    pub length: u64,
    /// Dimensions, innermost first. The last one has no wrap.
    pub dimensions: Vec<Dimension>,
    /// How it moves on from run to run.
    pub iteration: Iteration,
    /// The lock to take first.
    pub acquire: Option<LockUse>,
    /// The lock to give back at the end.
    pub release: Option<LockUse>,
    /// The descriptor to go on with.
    pub next: Option<u8>,
    /// The header to send.
    pub packet: Option<PacketHeader>,
    /// Whether the last word is not marked as a packet's last.
    pub suppresses_last: bool,
    /// A feature that is asked for and not emulated.
    pub unsupported: Option<&'static str>,
}

/// Where a kind of tile keeps a descriptor's fields: (word, high bit, low bit).
type Field = (usize, u32, u32);

struct Layout {
    length: Field,
    step: &'static [Field],
    wrap: &'static [Field],
    before: &'static [Field],
    after: &'static [Field],
    iteration_step: Field,
    iteration_wrap: Field,
    iteration_current: Field,
    /// Enable, type and id of the packet header.
    packet: [Field; 3],
    next: Field,
    use_next: Field,
    suppress_last: Field,
    valid: Field,
    release_value: Field,
    release_lock: Field,
    acquire_enable: Field,
    acquire_value: Field,
    acquire_lock: Field,
    compression: Option<Field>,
}

static COMPUTE: Layout = Layout {
    length: (0, 13, 0),
    step: &[(2, 12, 0), (2, 25, 13), (3, 12, 0)],
    wrap: &[(3, 20, 13), (3, 28, 21)],
    before: &[],
    after: &[],
    iteration_step: (4, 12, 0),
    iteration_wrap: (4, 18, 13),
    iteration_current: (4, 24, 19),
    packet: [(1, 30, 30), (1, 18, 16), (1, 23, 19)],
    next: (5, 30, 27),
    use_next: (5, 26, 26),
    suppress_last: (5, 31, 31),
    valid: (5, 25, 25),
    release_value: (5, 24, 18),
    release_lock: (5, 16, 13),
    acquire_enable: (5, 12, 12),
    acquire_value: (5, 11, 5),
    acquire_lock: (5, 3, 0),
    compression: Some((1, 31, 31)),
};

static MEMORY: Layout = Layout {
    length: (0, 16, 0),
    step: &[(2, 16, 0), (3, 16, 0), (4, 16, 0), (5, 16, 0)],
    wrap: &[(2, 26, 17), (3, 26, 17), (4, 26, 17)],
    before: &[(1, 31, 26), (3, 31, 27), (4, 30, 27)],
    after: &[(5, 22, 17), (5, 27, 23), (5, 31, 28)],
    iteration_step: (6, 16, 0),
    iteration_wrap: (6, 22, 17),
    iteration_current: (6, 28, 23),
    packet: [(0, 31, 31), (0, 30, 28), (0, 27, 23)],
    next: (1, 25, 20),
    use_next: (1, 19, 19),
    suppress_last: (2, 31, 31),
    valid: (7, 31, 31),
    release_value: (7, 30, 24),
    release_lock: (7, 23, 16),
    acquire_enable: (7, 15, 15),
    acquire_value: (7, 14, 8),
    acquire_lock: (7, 7, 0),
    compression: Some((4, 31, 31)),
};

static SHIM: Layout = Layout {
    length: (0, 31, 0),
    step: &[(3, 19, 0), (4, 19, 0), (5, 19, 0)],
    wrap: &[(3, 29, 20), (4, 29, 20)],
    before: &[],
    after: &[],
    iteration_step: (6, 19, 0),
    iteration_wrap: (6, 25, 20),
    iteration_current: (6, 31, 26),
    packet: [(2, 30, 30), (2, 18, 16), (2, 23, 19)],
    next: (7, 30, 27),
    use_next: (7, 26, 26),
    suppress_last: (7, 31, 31),
    valid: (7, 25, 25),
    release_value: (7, 24, 18),
    release_lock: (7, 16, 13),
    acquire_enable: (7, 12, 12),
    acquire_value: (7, 11, 5),
    acquire_lock: (7, 3, 0),
    compression: None,
};

fn layout(kind: TileKind) -> &'static Layout {
    match kind {
        TileKind::Compute => &COMPUTE,
        TileKind::Memory => &MEMORY,
        TileKind::Shim => &SHIM,
    }
}

fn base(kind: TileKind, words: &[u32; WORDS]) -> u64 {
    match kind {
        TileKind::Compute => u64::from(bits(words[0], 27, 14)) * WORD_BYTES,
        TileKind::Memory => u64::from(bits(words[1], 18, 0)) * WORD_BYTES,
        TileKind::Shim => u64::from(words[1] & !3) | u64::from(bits(words[2], 15, 0)) << 32,
    }
}

impl Descriptor {
    /// The fields of a descriptor in a tile of this kind.
    pub fn decode(kind: TileKind, words: &[u32; WORDS]) -> Self {
        let layout = layout(kind);
        let get = |(word, high, low): Field| bits(words[word], high, low);
        let signed = |(word, high, low): Field| signed_bits(words[word], high, low);
        let narrow = |field| u8::try_from(get(field)).unwrap_or(u8::MAX);
        let dimension = |index: usize| {
            let pad =
                |fields: &[Field]| fields.get(index).map_or(0, |&field| u64::from(get(field)));
            let wrap = layout.wrap.get(index).map(|&field| u64::from(get(field)));
            Dimension {
                step: u64::from(get(layout.step[index])) + 1,
                wrap: wrap.filter(|&wrap| wrap > 0),
                before: pad(layout.before),
                after: pad(layout.after),
            }
        };
        let release = signed(layout.release_value);
        let compressed = layout.compression.is_some_and(|field| get(field) != 0);
        Descriptor {
            valid: get(layout.valid) != 0,
            base: base(kind, words),
            length: u64::from(get(layout.length)),
            dimensions: (0..layout.step.len()).map(dimension).collect(),
            iteration: Iteration {
                step: u64::from(get(layout.iteration_step)) + 1,
                wrap: get(layout.iteration_wrap) + 1,
                current: get(layout.iteration_current),
            },
            acquire: (get(layout.acquire_enable) != 0).then(|| LockUse {
                lock: narrow(layout.acquire_lock),
                value: signed(layout.acquire_value),
            }),
            release: (release != 0)
                .then(|| LockUse { lock: narrow(layout.release_lock), value: release }),
            next: (get(layout.use_next) != 0).then(|| narrow(layout.next)),
            packet: (get(layout.packet[0]) != 0).then(|| PacketHeader {
                kind: narrow(layout.packet[1]),
                id: narrow(layout.packet[2]),
            }),
            suppresses_last: get(layout.suppress_last) != 0,
            unsupported: compressed.then_some("compression"),
        }
    }

    /// The walk of the next run.
    pub fn walk(&self) -> Walk {
        let first = self.base / WORD_BYTES
            + self.iteration.step * u64::from(self.iteration.current % self.iteration.wrap);
        Walk::new(first, self.length, &self.dimensions)
    }
}

/// Moves the iteration of the descriptor in `words` on by one run.
pub fn advance_iteration(kind: TileKind, words: &mut [u32; WORDS]) {
    let layout = layout(kind);
    let get = |(word, high, low): Field| bits(words[word], high, low);
    let wrap = get(layout.iteration_wrap) + 1;
    let next = (get(layout.iteration_current) + 1) % wrap;
    let (word, high, low) = layout.iteration_current;
    let mask = bits(u32::MAX, high - low, 0) << low;
    words[word] = words[word] & !mask | next << low;
}

/// Why a descriptor's padding cannot be walked: behind a dimension without a wrap there is no
/// place for zeros (aie-rt, `_XAieMl_DmaMemTileCheckPaddingConfig`).
pub fn has_misplaced_padding(descriptor: &Descriptor) -> bool {
    let mut dimensions = descriptor.dimensions.iter();
    let Some(open) = dimensions.find(|dimension| dimension.wrap.is_none()) else { return false };
    open.after > 0 || dimensions.any(|dimension| dimension.before > 0 || dimension.after > 0)
}

/// A stretch of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// Neighbouring words of memory.
    Words {
        /// The first word's number.
        first: u64,
        /// How many.
        count: u64,
    },
    /// Zeros that are not in memory.
    Zeros(u64),
}

impl Run {
    /// How many words it has.
    pub const fn count(self) -> u64 {
        match self {
            Run::Words { count, .. } | Run::Zeros(count) => count,
        }
    }
}

/// A place in a descriptor's walk over memory.
#[derive(Clone, Debug)]
pub struct Walk {
    first: u64,
    left: u64,
    dimensions: Vec<Dimension>,
    place: Vec<u64>,
}

impl Walk {
    /// A walk of `length` words from word `first`.
    pub fn new(first: u64, length: u64, dimensions: &[Dimension]) -> Self {
        let dimensions = merged(dimensions);
        Walk { first, left: length, place: vec![0; dimensions.len()], dimensions }
    }

    /// How many words are left.
    pub const fn left(&self) -> u64 {
        self.left
    }

    /// The next stretch of at most `limit` words; None at the end.
    pub fn next_run(&mut self, limit: u64) -> Option<Run> {
        let limit = limit.min(self.left);
        if limit == 0 {
            return None;
        }
        let run = self.here(limit);
        self.left -= run.count();
        self.advance(run.count());
        Some(run)
    }

    /// Every stretch that is left.
    pub fn runs(mut self) -> impl Iterator<Item = Run> {
        std::iter::from_fn(move || self.next_run(u64::MAX))
    }

    /// The first word and the one behind the last word of a walk that has not begun; twice the
    /// first word when it is all zeros.
    pub fn bounds(&self) -> (u64, u64) {
        let end = last_word(&self.dimensions, self.left).map_or(0, |last| last + 1);
        (self.first, self.first + end)
    }

    fn here(&self, limit: u64) -> Run {
        let mut first = self.first;
        let mut is_padding = false;
        for (dimension, &place) in self.dimensions.iter().zip(&self.place).skip(1) {
            match dimension.position(place) {
                Some(position) => first += position * dimension.step,
                None => is_padding = true,
            }
        }
        let (inner, place) = (&self.dimensions[0], self.place[0]);
        let end = inner.before + inner.wrap.unwrap_or(u64::MAX / 2);
        let total = end + inner.after;
        if is_padding || place >= end {
            return Run::Zeros((total - place).min(limit));
        }
        let Some(position) = inner.position(place) else {
            return Run::Zeros((inner.before - place).min(limit));
        };
        let count = if inner.step == 1 { end - place } else { 1 };
        Run::Words { first: first + position * inner.step, count: count.min(limit) }
    }

    fn advance(&mut self, count: u64) {
        self.place[0] += count;
        for index in 0..self.dimensions.len() {
            let Some(total) = self.dimensions[index].total() else { return };
            if self.place[index] < total {
                return;
            }
            self.place[index] = 0;
            if let Some(next) = self.place.get_mut(index + 1) {
                *next += 1;
            }
        }
    }
}

impl Dimension {
    /// Which element stands at `place` of a round; None for a zero.
    fn position(&self, place: u64) -> Option<u64> {
        let position = place.checked_sub(self.before)?;
        self.wrap.is_none_or(|wrap| position < wrap).then_some(position)
    }

    /// Words of a round, zeros included.
    fn total(&self) -> Option<u64> {
        self.wrap.map(|wrap| self.before + wrap + self.after)
    }

    fn is_plain(&self) -> bool {
        self.before == 0 && self.after == 0
    }
}

/// The largest distance from its first word that a walk of `count` words over `dimensions` comes
/// to; None when these words are all zeros. Every step is positive, so the largest distance is in
/// the last whole round of the outermost dimension or in the part of a round behind it.
fn last_word(dimensions: &[Dimension], count: u64) -> Option<u64> {
    let Some((outer, inner)) = dimensions.split_last() else { return (count > 0).then_some(0) };
    // Only the outermost dimension has no wrap, see `merged`.
    let round: u64 = inner.iter().filter_map(Dimension::total).product();
    let (whole, rest) = (count / round, count % round);
    let end = outer.wrap.map_or(u64::MAX, |wrap| outer.before + wrap);
    let in_whole = || {
        let last = whole.min(end).checked_sub(outer.before + 1)?;
        Some(last * outer.step + last_word(inner, round)?)
    };
    let in_rest = || {
        let place = outer.position(whole)?;
        Some(place * outer.step + last_word(inner, rest)?)
    };
    in_whole().max(in_rest())
}

/// The same walk with fewer dimensions, where one goes on just behind the last.
fn merged(dimensions: &[Dimension]) -> Vec<Dimension> {
    let mut merged: Vec<Dimension> = Vec::with_capacity(dimensions.len());
    for &dimension in dimensions {
        let last = merged.last_mut().filter(|last| last.is_plain() && dimension.is_plain());
        match last.and_then(|last| last.wrap.map(|wrap| (last, wrap))) {
            Some((last, wrap)) if dimension.step == wrap * last.step => {
                last.wrap = dimension.wrap.map(|outer| wrap * outer);
            }
            _ => merged.push(dimension),
        }
        // Nothing behind a dimension without a wrap is ever reached.
        if merged.last().is_some_and(|last| last.wrap.is_none()) {
            break;
        }
    }
    merged
}
