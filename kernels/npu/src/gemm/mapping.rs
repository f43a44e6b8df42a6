//! The array's configuration: streams, rings, locks. The same for every shape.
//!
//! Each column of the array has its own weights and all rows of activations; each compute tile of
//! a column has eight of the rows. Activations enter through the shim of column 0 and go along the
//! shims to every column; in a memory tile they part by rows. A column's weights go to its four
//! compute tiles at once. Results return through the memory tile to the column's own shim.
//!
//! Every buffer is a ring of granules with one writer and one reader; its descriptors form a loop
//! that never ends, so that a call only starts the shims. No stream waits for another but through
//! a core, which takes activations and weights in a fixed order and results last; each ring has
//! room for what its core takes at a time. So the array cannot deadlock as long as the shims
//! deliver what the core's loops count.

use super::gated::Factor;
use super::kernel::lock;
use super::memory::{
    ACTIVATION_GRANULES, ACTIVATION_RING, OUTPUT_GRANULES, OUTPUT_RING, PARAMETERS, ROW_BITS,
    WEIGHT_GRANULES, WEIGHT_RING, ZEROS, table,
};
use super::{
    ACTIVATION_GRANULE_BYTES, ACTIVATION_PIECE_BYTES, OUTPUT_GRANULE_BYTES, WEIGHT_GRANULE_BYTES,
};
use crate::array::{
    Acquire, ArrayError, COLUMNS, Channel, Configuration, Descriptor, DescriptorId, LockId, Port,
    ROWS, Release, Run, Side, Tile,
};

/// Compute tiles of a column.
pub const TILES: u8 = ROWS - FIRST_COMPUTE_ROW;
const FIRST_COMPUTE_ROW: u8 = 2;

/// The shim's channels: activations in column 0, weights, results.
pub const ACTIVATION_CHANNEL: u8 = 0;
/// Likewise.
pub const WEIGHT_CHANNEL: u8 = 1;
/// Likewise.
pub const RESULT_CHANNEL: u8 = 0;

// Rings of a memory tile, in granules, and where they start.
const STAGED_ACTIVATIONS: u8 = 2;
const STAGED_WEIGHTS: u8 = 8;
const STAGED_RESULTS: u8 = 2;
const ACTIVATIONS_AT: u32 = 0;
const WEIGHTS_AT: u32 = 0x1_0000;
const RESULTS_AT: u32 = 0x2_0000;

/// Streams northward between a memory tile and the tile above: one for each compute tile's
/// activations, and the weights.
const WEIGHT_LANE: u8 = TILES;
/// Streams along the shims and from a shim to the memory tile.
const ACTIVATION_LANE: u8 = 0;
const SHIM_WEIGHT_LANE: u8 = 1;

/// A ring of granules in a tile's memory, and the lock pair that guards it.
#[derive(Clone, Copy)]
struct Ring {
    at: u32,
    granule: u32,
    granules: u8,
    free: LockId,
    full: LockId,
}

/// What a descriptor does to a ring.
#[derive(Clone, Copy)]
enum Access {
    Fill,
    Drain,
}

impl Ring {
    /// The descriptor of granule `index`, followed by `next`.
    fn descriptor(&self, access: Access, index: u8, next: DescriptorId) -> Descriptor {
        let (take, give) = match access {
            Access::Fill => (self.free, self.full),
            Access::Drain => (self.full, self.free),
        };
        Descriptor {
            address: u64::from(self.at + self.granule * u32::from(index)),
            bytes: self.granule.into(),
            acquire: Some(Acquire { lock: take, at_least: 1 }),
            release: Some(Release { lock: give, amount: 1 }),
            next: Some(next),
        }
    }

    fn locks(&self, to: &mut Configuration, tile: Tile) -> Result<(), ArrayError> {
        to.lock(tile, self.free, self.granules.cast_signed())?;
        to.lock(tile, self.full, 0)
    }

    /// A channel that goes round this ring for ever, with descriptors from `first` on.
    fn turn(
        self,
        to: &mut Configuration,
        channel: Channel,
        access: Access,
        first: u8,
    ) -> Result<(), ArrayError> {
        turn(to, channel, access, first, &[self])
    }
}

/// A channel that goes round granule 0 of each ring, then granule 1 of each, and so on for ever.
fn turn(
    to: &mut Configuration,
    channel: Channel,
    access: Access,
    first: u8,
    rings: &[Ring],
) -> Result<(), ArrayError> {
    let granules = rings.iter().flat_map(|ring| 0..ring.granules).max().map_or(0, |last| last + 1);
    let steps: Vec<(u8, &Ring)> =
        (0..granules).flat_map(|index| rings.iter().map(move |ring| (index, ring))).collect();
    for (id, (index, ring)) in (first..).zip(&steps) {
        let next = first + (id - first + 1) % steps.len() as u8;
        let descriptor = ring.descriptor(access, *index, DescriptorId(next));
        to.descriptor(channel.tile, DescriptorId(id), descriptor)?;
    }
    to.start(channel, Run::once(DescriptorId(first)))
}

/// The configuration of all eight columns, with `code` in every core.
///
/// # Errors
/// A program that is too long or not whole words.
pub fn configuration(code: &[u8]) -> Result<Configuration, ArrayError> {
    let mut to = Configuration::default();
    for column in 0..COLUMNS {
        shim(&mut to, tile(column, 0)?)?;
        memory(&mut to, tile(column, 1)?)?;
        for index in 0..TILES {
            let tile = compute_tile(column, index)?;
            compute(&mut to, tile, index)?;
            to.program(tile, code)?;
        }
    }
    Ok(to)
}

/// The tile at `column` and `row`.
///
/// # Errors
/// A place outside the array.
pub(super) fn tile(column: u8, row: u8) -> Result<Tile, ArrayError> {
    // The array's first tile stands for one that is not there.
    let origin = Tile::new(0, 0).expect("the array has a first tile");
    Tile::new(column, row).ok_or(ArrayError::NoSuchPart {
        tile: origin,
        what: "column",
        index: column.into(),
        count: COLUMNS.into(),
    })
}

/// The compute tile with rows `8 * index` and up.
///
/// # Errors
/// A place outside the array.
pub(super) fn compute_tile(column: u8, index: u8) -> Result<Tile, ArrayError> {
    tile(column, FIRST_COMPUTE_ROW + index)
}

fn shim(to: &mut Configuration, tile: Tile) -> Result<(), ArrayError> {
    let port = Port::new;
    let activations = match tile.column() {
        0 => to.shim_port(Channel::from_memory(tile, ACTIVATION_CHANNEL))?,
        _ => port(Side::West, ACTIVATION_LANE),
    };
    to.connect(tile, activations, port(Side::North, ACTIVATION_LANE))?;
    if tile.column() + 1 < COLUMNS {
        to.connect(tile, activations, port(Side::East, ACTIVATION_LANE))?;
    }
    let weights = to.shim_port(Channel::from_memory(tile, WEIGHT_CHANNEL))?;
    to.connect(tile, weights, port(Side::North, SHIM_WEIGHT_LANE))?;
    let results = to.shim_port(Channel::into_memory(tile, RESULT_CHANNEL))?;
    to.connect(tile, port(Side::North, 0), results)?;
    to.report_route(tile)
}

/// Descriptors: even channels have 0 to 23, odd ones 24 to 47. All 48 are in use.
fn memory(to: &mut Configuration, tile: Tile) -> Result<(), ArrayError> {
    let pair = |index: u8| (LockId(2 * index), LockId(2 * index + 1));
    let ring = |pair: (LockId, LockId), at, granule, granules| Ring {
        at,
        granule,
        granules,
        free: pair.0,
        full: pair.1,
    };
    let activations: [Ring; TILES as usize] = std::array::from_fn(|index| {
        let bytes = ACTIVATION_PIECE_BYTES * u32::from(STAGED_ACTIVATIONS);
        let at = ACTIVATIONS_AT + bytes * index as u32;
        ring(pair(index as u8), at, ACTIVATION_PIECE_BYTES, STAGED_ACTIVATIONS)
    });
    let results: [Ring; TILES as usize] = std::array::from_fn(|index| {
        let at = RESULTS_AT + OUTPUT_GRANULE_BYTES * u32::from(STAGED_RESULTS) * index as u32;
        ring(pair(TILES + index as u8), at, OUTPUT_GRANULE_BYTES, STAGED_RESULTS)
    });
    let weights = ring(pair(2 * TILES), WEIGHTS_AT, WEIGHT_GRANULE_BYTES, STAGED_WEIGHTS);
    for ring in activations.iter().chain(&results).chain([&weights]) {
        ring.locks(to, tile)?;
    }

    let (into, from) = (Channel::into_memory, Channel::from_memory);
    turn(to, into(tile, 0), Access::Fill, 0, &activations)?;
    weights.turn(to, into(tile, 1), Access::Fill, 24)?;
    for (index, first) in (0..TILES).zip([8, 32, 10, 34]) {
        activations[usize::from(index)].turn(to, from(tile, index), Access::Drain, first)?;
    }
    weights.turn(to, from(tile, 4), Access::Drain, 12)?;
    for (index, first) in (0..TILES).zip([20, 36, 22, 38]) {
        results[usize::from(index)].turn(to, into(tile, 2 + index), Access::Fill, first)?;
    }
    turn(to, from(tile, 5), Access::Drain, 40, &results)?;

    let port = Port::new;
    to.connect(tile, port(Side::South, ACTIVATION_LANE), port(Side::Dma, 0))?;
    to.connect(tile, port(Side::South, SHIM_WEIGHT_LANE), port(Side::Dma, 1))?;
    for index in 0..TILES {
        to.connect(tile, port(Side::Dma, index), port(Side::North, index))?;
        to.connect(tile, port(Side::North, index), port(Side::Dma, 2 + index))?;
    }
    to.connect(tile, port(Side::Dma, 4), port(Side::North, WEIGHT_LANE))?;
    to.connect(tile, port(Side::Dma, 5), port(Side::South, 0))
}

fn compute(to: &mut Configuration, tile: Tile, index: u8) -> Result<(), ArrayError> {
    let ring = |at: u32, granule, granules: u32, free, full| Ring {
        at,
        granule,
        granules: granules as u8,
        free: LockId(free),
        full: LockId(full),
    };
    let activations = ring(
        ACTIVATION_RING.start,
        ACTIVATION_GRANULE_BYTES,
        ACTIVATION_GRANULES,
        lock::ACTIVATION_FREE,
        lock::ACTIVATION_FULL,
    );
    let weights = ring(
        WEIGHT_RING.start,
        WEIGHT_GRANULE_BYTES,
        WEIGHT_GRANULES,
        lock::WEIGHT_FREE,
        lock::WEIGHT_FULL,
    );
    let results = ring(
        OUTPUT_RING.start,
        OUTPUT_GRANULE_BYTES,
        OUTPUT_GRANULES,
        lock::OUTPUT_FREE,
        lock::OUTPUT_FULL,
    );
    for ring in [activations, weights, results] {
        ring.locks(to, tile)?;
    }
    activations.turn(to, Channel::into_memory(tile, 0), Access::Fill, 0)?;
    weights.turn(to, Channel::into_memory(tile, 1), Access::Fill, 8)?;
    results.turn(to, Channel::from_memory(tile, 0), Access::Drain, 12)?;
    for zeros in [ZEROS, PARAMETERS, ROW_BITS] {
        to.data(tile, zeros.start, vec![0; zeros.len() / 4])?;
    }
    for factor in Factor::ALL {
        to.data(tile, table(factor), factor.table().to_vec())?;
    }

    let port = Port::new;
    to.connect(tile, port(Side::South, index), port(Side::Dma, 0))?;
    to.connect(tile, port(Side::South, WEIGHT_LANE), port(Side::Dma, 1))?;
    to.connect(tile, port(Side::Dma, 0), port(Side::South, index))?;
    // What the tiles above need passes by, and what they have comes down.
    for above in index + 1..TILES {
        to.connect(tile, port(Side::South, above), port(Side::North, above))?;
        to.connect(tile, port(Side::North, above), port(Side::South, above))?;
    }
    if index + 1 < TILES {
        to.connect(tile, port(Side::South, WEIGHT_LANE), port(Side::North, WEIGHT_LANE))?;
    }
    Ok(())
}
