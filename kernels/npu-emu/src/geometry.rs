//! Where things are in the array: tiles, their kinds and sizes, and the names of DMA channels.
//!
//! Sizes: aie-rt `driver/src/global/xaie2pgbl_reginit.c`; mlir-aie `AIETargetModel.h`, npu2.

use std::fmt;

/// Columns of the array.
pub const COLUMNS: u8 = 8;
/// Rows of the array: the shim, the memory tiles, four rows of compute tiles.
pub const ROWS: u8 = 6;

/// A tile's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// From the west, 0 to 7.
    pub column: u8,
    /// From the south: 0 shim, 1 memory, 2 to 5 compute.
    pub row: u8,
}

impl TileId {
    /// The tile at `column` and `row`; None outside the array.
    pub fn new(column: u32, row: u32) -> Option<Self> {
        let (column, row) = (u8::try_from(column).ok()?, u8::try_from(row).ok()?);
        (column < COLUMNS && row < ROWS).then_some(TileId { column, row })
    }

    /// What stands there.
    pub const fn kind(self) -> TileKind {
        match self.row {
            0 => TileKind::Shim,
            1 => TileKind::Memory,
            _ => TileKind::Compute,
        }
    }

    /// The tile `columns` to the east and `rows` to the north; None outside the array.
    pub fn offset(self, columns: i8, rows: i8) -> Option<Self> {
        let column = self.column.checked_add_signed(columns)?;
        let row = self.row.checked_add_signed(rows)?;
        (column < COLUMNS && row < ROWS).then_some(TileId { column, row })
    }

    /// Every tile, column by column, from the south.
    pub fn all() -> impl Iterator<Item = TileId> {
        (0..COLUMNS).flat_map(|column| (0..ROWS).map(move |row| TileId { column, row }))
    }
}

impl fmt::Display for TileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile ({},{})", self.column, self.row)
    }
}

/// What a tile is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// The array's way to the memory of the machine.
    Shim,
    /// 512 KiB of memory and its DMA.
    Memory,
    /// A core, 64 KiB of memory and its DMA.
    Compute,
}

impl TileKind {
    /// Bytes of data memory.
    pub const fn data_bytes(self) -> usize {
        match self {
            TileKind::Shim => 0,
            TileKind::Memory => 512 << 10,
            TileKind::Compute => 64 << 10,
        }
    }

    /// How many locks it has.
    pub const fn locks(self) -> u8 {
        match self {
            TileKind::Shim | TileKind::Compute => 16,
            TileKind::Memory => 64,
        }
    }

    /// How many buffer descriptors its DMA has.
    pub const fn descriptors(self) -> u8 {
        match self {
            TileKind::Shim | TileKind::Compute => 16,
            TileKind::Memory => 48,
        }
    }

    /// How many DMA channels it has in each direction.
    pub const fn channels(self) -> u8 {
        match self {
            TileKind::Shim | TileKind::Compute => 2,
            TileKind::Memory => 6,
        }
    }
}

/// Which way a DMA channel moves data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From a stream into memory (S2MM).
    StreamToMemory,
    /// From memory into a stream (MM2S).
    MemoryToStream,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::StreamToMemory => "S2MM",
            Direction::MemoryToStream => "MM2S",
        })
    }
}

/// A DMA channel of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId {
    /// The tile.
    pub tile: TileId,
    /// Which way it moves data.
    pub direction: Direction,
    /// Its number among those of its direction.
    pub index: u8,
}

impl ChannelId {
    /// Whether the array has it.
    pub fn exists(self) -> bool {
        let TileId { column, row } = self.tile;
        column < COLUMNS && row < ROWS && self.index < self.tile.kind().channels()
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.tile, self.direction, self.index)
    }
}

/// Bits `high` to `low` of `word`, both included.
pub const fn bits(word: u32, high: u32, low: u32) -> u32 {
    word << (31 - high) >> (31 - high + low)
}

/// Bits `high` to `low` of `word` as a two's complement number.
pub const fn signed_bits(word: u32, high: u32, low: u32) -> i32 {
    (word << (31 - high)).cast_signed() >> (31 - high + low)
}
