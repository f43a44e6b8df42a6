//! Buffer descriptors: what a DMA channel does next.

use super::tile::Channel;
use super::{ArrayError, LockId, Tile, TileKind};

/// A descriptor of a tile's DMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DescriptorId(pub u8);

/// What a descriptor waits for before it moves data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquire {
    /// The lock.
    pub lock: LockId,
    /// It must have this much, which is taken. 1 to 64.
    pub at_least: u8,
}

/// What a descriptor gives when it has moved its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// The lock.
    pub lock: LockId,
    /// What is added. 1 to 63.
    pub amount: u8,
}

/// Consecutive bytes to read or to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The first byte: in the tile's memory; in a shim, in the machine's memory or from the start
    /// of the kernel's argument that is patched in.
    pub address: u64,
    /// How many bytes.
    pub bytes: u64,
    /// What it waits for.
    pub acquire: Option<Acquire>,
    /// What it gives.
    pub release: Option<Release>,
    /// The descriptor that follows.
    pub next: Option<DescriptorId>,
}

/// Where a shim's descriptor finds its bytes when they do not follow each other: blocks of `bytes`,
/// `every` bytes from the start of one to the start of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Bytes of a block.
    pub bytes: u64,
    /// Bytes from block to block.
    pub every: u64,
}

/// The memory tile's own memory as its DMA sees it, in words: the western neighbour's comes first
/// (mlir-aie `AIETargetModel.cpp`; the addresses in compiled designs).
const MEMORY_TILE_OWN: u64 = 0x8_0000 / 4;
/// Likewise its own locks (aie-rt `xaie_locks_aieml.c`; compiled designs).
const MEMORY_TILE_OWN_LOCKS: u32 = 64;

/// Longest bursts, and AXI cache attributes: what compiled designs ask of the shim.
const SHIM_BURST: u32 = 3 << 30;
const SHIM_CACHE: u32 = 2 << 24;

impl Descriptor {
    /// The descriptor's words in a tile of this kind: six in a compute tile, eight in the others.
    ///
    /// # Errors
    /// What the tile has no room for.
    pub fn words(&self, tile: Tile) -> Result<Vec<u32>, ArrayError> {
        let length = tile.words("a descriptor's length", self.bytes)?;
        let base = tile.words("a descriptor's address", self.address)?;
        let most = match tile.kind() {
            TileKind::Shim => u64::from(u32::MAX),
            TileKind::Memory => (1 << 17) - 1,
            TileKind::Compute => (1 << 14) - 1,
        };
        tile.range(
            "a descriptor's length in words",
            length.cast_signed(),
            [1, most.cast_signed()],
        )?;
        self.check(tile)?;
        let (length, next) = (length as u32, self.next.map_or(0, |next| u32::from(next.0)));
        let chained = u32::from(self.next.is_some());
        let locks = self.locks(tile);
        Ok(match tile.kind() {
            TileKind::Compute => {
                let last = 1 << 25 | next << 27 | chained << 26 | locks.compute();
                vec![(base as u32) << 14 | length, 0, 0, 0, 0, last]
            }
            TileKind::Memory => {
                let base = (base + MEMORY_TILE_OWN) as u32;
                let last = 1 << 31 | locks.memory();
                vec![length, next << 20 | chained << 19 | base, 0, 0, 0, 0, 0, last]
            }
            TileKind::Shim => {
                let (low, high) = (self.address as u32, (self.address >> 32) as u32);
                let last = 1 << 25 | next << 27 | chained << 26 | locks.compute();
                vec![length, low, high, 0, SHIM_BURST, SHIM_CACHE, 0, last]
            }
        })
    }

    /// The same for bytes that lie in `blocks`, in a shim.
    ///
    /// Three dimensions: a run of words, runs of a block, blocks. Wraps have ten bits, steps twenty and
    /// are stored less one (aie-rt `xaie_dma_aieml.c`); what is left of the length ends the last.
    ///
    /// # Errors
    /// What the tile has no room for; any tile but a shim.
    pub fn words_of_blocks(&self, tile: Tile, blocks: Blocks) -> Result<Vec<u32>, ArrayError> {
        const WRAP: i64 = (1 << 10) - 1;
        const STEP: i64 = 1 << 20;
        let mut words = self.words(tile)?;
        let is_shim = i64::from(tile.kind() == TileKind::Shim);
        tile.range("dimensions of this tile's descriptors", is_shim, [1, 1])?;
        let block = tile.words("a block's length", blocks.bytes)?.cast_signed();
        let every = tile.words("a block's distance", blocks.every)?.cast_signed();
        tile.range("a block's distance in words", every, [1, STEP])?;
        let run = (1..=WRAP).rev().find(|run| block % run == 0).unwrap_or(1);
        tile.range("runs of a block", block / run, [1, WRAP])?;
        words[3] |= (run as u32) << 20;
        words[4] |= ((block / run) as u32) << 20 | (run - 1) as u32;
        words[5] |= (every - 1) as u32;
        Ok(words)
    }

    fn check(&self, tile: Tile) -> Result<(), ArrayError> {
        let registers = tile.kind().registers();
        let end = self.address.saturating_add(self.bytes);
        let size = match tile.kind() {
            TileKind::Shim => 1 << 48,
            TileKind::Memory | TileKind::Compute => registers.memory_bytes,
        };
        if end > size {
            return Err(ArrayError::OutsideMemory { tile, start: self.address, end, size });
        }
        if let Some(next) = self.next {
            tile.check("descriptor", next.0.into(), registers.descriptor_count.into())?;
        }
        let locks = [self.acquire.map(|use_| use_.lock), self.release.map(|use_| use_.lock)];
        for lock in locks.into_iter().flatten() {
            tile.check("lock", lock.0.into(), registers.lock_count.into())?;
        }
        if let Some(acquire) = self.acquire {
            tile.range("what a descriptor takes", acquire.at_least.into(), [1, 64])?;
        }
        if let Some(release) = self.release {
            tile.range("what a descriptor gives", release.amount.into(), [1, 63])?;
        }
        Ok(())
    }

    fn locks(&self, tile: Tile) -> LockFields {
        let own = match tile.kind() {
            TileKind::Memory => MEMORY_TILE_OWN_LOCKS,
            TileKind::Shim | TileKind::Compute => 0,
        };
        let acquire = self.acquire;
        LockFields {
            acquires: acquire.is_some().into(),
            acquire_lock: acquire.map_or(0, |acquire| own + u32::from(acquire.lock.0)),
            // Two's complement in seven bits: minus n says "at least n" (aie-rt `XAie_LockInit`).
            acquire_value: acquire.map_or(0, |acquire| (128 - u32::from(acquire.at_least)) & 0x7f),
            release_lock: self.release.map_or(0, |release| own + u32::from(release.lock.0)),
            release_value: self.release.map_or(0, |release| release.amount.into()),
        }
    }

    /// Whether `channel` can use descriptor `id`: a memory tile's even channels use the first
    /// half, its odd ones the second (mlir-aie `AIETargetModel.cpp`, `isBdChannelAccessible`).
    pub(super) fn is_for(id: DescriptorId, channel: Channel) -> bool {
        match channel.tile.kind() {
            TileKind::Memory => (id.0 >= 24) == (channel.index % 2 == 1),
            TileKind::Shim | TileKind::Compute => true,
        }
    }
}

struct LockFields {
    acquires: u32,
    acquire_lock: u32,
    acquire_value: u32,
    release_lock: u32,
    release_value: u32,
}

impl LockFields {
    /// The low 25 bits of the last word in compute and shim tiles.
    fn compute(&self) -> u32 {
        self.release_value << 18
            | self.release_lock << 13
            | self.acquires << 12
            | self.acquire_value << 5
            | self.acquire_lock
    }

    /// The low 31 bits of the last word in memory tiles.
    fn memory(&self) -> u32 {
        self.release_value << 24
            | self.release_lock << 16
            | self.acquires << 15
            | self.acquire_value << 8
            | self.acquire_lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(row: u8) -> Tile {
        Tile::new(0, row).unwrap()
    }

    /// Words that a compiled design distributed for this silicon writes (1bit-systems, file
    /// `final_i8_G_llama.xclbin`), and what they say.
    #[test]
    fn words_are_those_of_compiled_designs() {
        let linear = |address, bytes, (take, give): (u8, u8), next| Descriptor {
            address,
            bytes,
            acquire: Some(Acquire { lock: LockId(take), at_least: 1 }),
            release: Some(Release { lock: LockId(give), amount: 1 }),
            next: Some(DescriptorId(next)),
        };
        let compute = linear(0xa000, 0x800, (0, 1), 1).words(tile(2)).unwrap();
        assert_eq!(compute, [0x0a00_0200, 0, 0, 0, 0, 0x0e04_3fe0]);
        let memory = linear(0x1_0000, 0x2000, (8, 9), 1).words(tile(1)).unwrap();
        assert_eq!(memory, [0x800, 0x001a_4000, 0, 0, 0, 0, 0, 0x8149_ff48]);
        let shim = Descriptor { address: 0, bytes: 512, acquire: None, release: None, next: None };
        let shim = shim.words(tile(0)).unwrap();
        // That design's has two dimensions; ours is their linear form.
        assert_eq!(shim, [0x80, 0, 0, 0, 0xc000_0000, 0x0200_0000, 0, 0x0200_0000]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let good = Descriptor { address: 0, bytes: 4, acquire: None, release: None, next: None };
        let lock = |lock| Some(Acquire { lock: LockId(lock), at_least: 1 });
        for (row, bad) in [
            (2, Descriptor { address: 2, ..good }),
            (2, Descriptor { bytes: 0, ..good }),
            (2, Descriptor { bytes: 1 << 16, ..good }),
            (2, Descriptor { address: 0xfffc, bytes: 8, ..good }),
            (2, Descriptor { acquire: lock(16), ..good }),
            (1, Descriptor { acquire: lock(64), ..good }),
            (1, Descriptor { bytes: 1 << 19, ..good }),
            (1, Descriptor { next: Some(DescriptorId(48)), ..good }),
            (0, Descriptor { next: Some(DescriptorId(16)), ..good }),
            (0, Descriptor { address: u64::MAX - 3, ..good }),
            (2, Descriptor { release: Some(Release { lock: LockId(0), amount: 64 }), ..good }),
            (2, Descriptor { acquire: Some(Acquire { lock: LockId(0), at_least: 65 }), ..good }),
        ] {
            assert!(bad.words(tile(row)).is_err(), "{bad:?}");
        }
        assert!(good.words(tile(2)).is_ok());
    }
}
