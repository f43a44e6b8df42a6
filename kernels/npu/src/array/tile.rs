//! Tiles: where they are and what they have.

use std::fmt;

use super::ArrayError;
use crate::program::RegisterAddress;
use crate::txn::Direction;

/// Columns of an npu4 (mlir-aie `AIETargetModel.h`, npu2).
pub const COLUMNS: u8 = 8;
/// Rows: the shim, the memory tiles, four of compute tiles.
pub const ROWS: u8 = 6;

/// A tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    column: u8,
    row: u8,
}

impl Tile {
    /// The tile at `column` and `row`; None outside the array.
    pub const fn new(column: u8, row: u8) -> Option<Self> {
        if column >= COLUMNS || row >= ROWS {
            return None;
        }
        Some(Tile { column, row })
    }

    /// Counted from the west.
    pub const fn column(self) -> u8 {
        self.column
    }

    /// Counted from the south.
    pub const fn row(self) -> u8 {
        self.row
    }

    /// What stands there.
    pub const fn kind(self) -> TileKind {
        match self.row {
            0 => TileKind::Shim,
            1 => TileKind::Memory,
            _ => TileKind::Compute,
        }
    }

    /// The register at byte `offset` of the tile.
    pub(super) fn register(self, offset: u32) -> RegisterAddress {
        RegisterAddress::new(self.column.into(), self.row.into(), offset)
            .expect("offsets of the register table are inside a tile")
    }

    pub(super) fn check(
        self,
        what: &'static str,
        index: u64,
        count: u64,
    ) -> Result<(), ArrayError> {
        if index < count {
            return Ok(());
        }
        Err(ArrayError::NoSuchPart { tile: self, what, index, count })
    }

    pub(super) fn range(
        self,
        field: &'static str,
        found: i64,
        [least, most]: [i64; 2],
    ) -> Result<(), ArrayError> {
        if (least..=most).contains(&found) {
            return Ok(());
        }
        Err(ArrayError::OutOfRange { tile: self, field, least, most, found })
    }

    pub(super) fn words(self, field: &'static str, bytes: u64) -> Result<u64, ArrayError> {
        if bytes.is_multiple_of(4) {
            return Ok(bytes / 4);
        }
        Err(ArrayError::NotWords { tile: self, field, found: bytes })
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile ({},{})", self.column, self.row)
    }
}

/// What a tile is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// The way to the machine's memory.
    Shim,
    /// Memory and a DMA with six channels each way.
    Memory,
    /// A core, its memories, and a DMA with two channels each way.
    Compute,
}

/// Where a kind of tile has its registers, and how many.
pub(super) struct Registers {
    pub locks: u32,
    pub lock_count: u8,
    pub descriptors: u32,
    pub descriptor_count: u8,
    pub channel_count: u8,
    /// First channel from a stream into memory, and first the other way.
    pub channels: [u32; 2],
    pub switch_masters: u32,
    pub switch_slaves: u32,
    pub memory_bytes: u64,
}

impl TileKind {
    /// The register table: aie-rt `xaie2pgbl_params.h`, modules MEMORY, MEM_TILE and NOC.
    pub(super) const fn registers(self) -> Registers {
        match self {
            TileKind::Shim => Registers {
                locks: 0x1_4000,
                lock_count: 16,
                descriptors: 0x1_d000,
                descriptor_count: 16,
                channel_count: 2,
                channels: [0x1_d200, 0x1_d210],
                switch_masters: 0x3_f000,
                switch_slaves: 0x3_f100,
                memory_bytes: 0,
            },
            TileKind::Memory => Registers {
                locks: 0xc_0000,
                lock_count: 64,
                descriptors: 0xa_0000,
                descriptor_count: 48,
                channel_count: 6,
                channels: [0xa_0600, 0xa_0630],
                switch_masters: 0xb_0000,
                switch_slaves: 0xb_0100,
                memory_bytes: 512 << 10,
            },
            TileKind::Compute => Registers {
                locks: 0x1_f000,
                lock_count: 16,
                descriptors: 0x1_d000,
                descriptor_count: 16,
                channel_count: 2,
                channels: [0x1_de00, 0x1_de10],
                switch_masters: 0x3_f000,
                switch_slaves: 0x3_f100,
                memory_bytes: 64 << 10,
            },
        }
    }
}

/// A lock of a tile, by the tile's own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockId(pub u8);

/// A DMA channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Its tile.
    pub tile: Tile,
    /// Which way it moves data.
    pub direction: Direction,
    /// Its number among those of its direction.
    pub index: u8,
}

impl Channel {
    /// A channel from a stream into `tile`'s memory.
    pub const fn into_memory(tile: Tile, index: u8) -> Self {
        Channel { tile, direction: Direction::StreamToMemory, index }
    }

    /// A channel from `tile`'s memory into a stream.
    pub const fn from_memory(tile: Tile, index: u8) -> Self {
        Channel { tile, direction: Direction::MemoryToStream, index }
    }

    /// The channel's control register; its queue is the next one.
    pub(super) fn control(self) -> u32 {
        let [into_memory, from_memory] = self.tile.kind().registers().channels;
        let first = match self.direction {
            Direction::StreamToMemory => into_memory,
            Direction::MemoryToStream => from_memory,
        };
        first + 8 * u32::from(self.index)
    }

    pub(super) fn check(self) -> Result<(), ArrayError> {
        let count = self.tile.kind().registers().channel_count;
        self.tile.check("DMA channel", self.index.into(), count.into())
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.direction {
            Direction::StreamToMemory => "S2MM",
            Direction::MemoryToStream => "MM2S",
        };
        write!(f, "{} {name} {}", self.tile, self.index)
    }
}
