//! What a tile's addresses are: registers, memories, and those that change no data.
//!
//! From aie-rt `driver/src/global/xaie2pgbl_params.h`, the modules CORE, MEMORY, MEM_TILE, NOC
//! and PL. Nothing here is shared with the code that writes our register programs.

use crate::geometry::{Direction, TileKind};

/// What stands at an address of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// Data memory, at this byte.
    DataMemory(u32),
    /// Program memory, at this byte.
    ProgramMemory(u32),
    /// The value of a lock.
    Lock(u8),
    /// A word of a buffer descriptor.
    Descriptor {
        /// Which descriptor.
        index: u8,
        /// Which of its words.
        word: u8,
    },
    /// A DMA channel's control word.
    ChannelControl(Direction, u8),
    /// A DMA channel's task queue.
    ChannelQueue(Direction, u8),
    /// A DMA channel's status, to be read only.
    ChannelStatus(Direction, u8),
    /// A master port of the stream switch.
    Master(u8),
    /// A slave port of the stream switch.
    Slave(u8),
    /// A packet slot of a slave port.
    Slot {
        /// Which slave port.
        slave: u8,
        /// Which of its four slots.
        slot: u8,
    },
    /// What the shim's south slave ports are connected to.
    ShimMux,
    /// What the shim's south master ports are connected to.
    ShimDemux,
    /// The core's enable and reset bits.
    CoreControl,
    /// The core's status, to be read only.
    CoreStatus,
    /// Which neighbours the cascade connects.
    CascadeControl,
    /// Something that watches and moves no data: events, trace, counters, timers.
    Inert,
    /// Nothing this emulator knows.
    Unknown,
}

/// A stretch of a tile's addresses: `count` registers `stride` bytes apart.
struct Region {
    start: u32,
    stride: u32,
    count: u32,
    /// The register, given its number in the region and the byte inside it.
    what: fn(u32, u32) -> Register,
}

const fn region(start: u32, stride: u32, count: u32, what: fn(u32, u32) -> Register) -> Region {
    Region { start, stride, count, what }
}

fn narrow(number: u32) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn at_start(byte: u32, register: Register) -> Register {
    if byte == 0 { register } else { Register::Unknown }
}

fn data(_: u32, byte: u32) -> Register {
    Register::DataMemory(byte)
}

fn program(_: u32, byte: u32) -> Register {
    Register::ProgramMemory(byte)
}

fn lock(number: u32, byte: u32) -> Register {
    at_start(byte, Register::Lock(narrow(number)))
}

fn descriptor<const WORDS: u32>(number: u32, byte: u32) -> Register {
    if byte / 4 >= WORDS {
        return Register::Unknown;
    }
    Register::Descriptor { index: narrow(number), word: narrow(byte / 4) }
}

fn channel(direction: Direction, number: u32, byte: u32) -> Register {
    match byte {
        0 => Register::ChannelControl(direction, narrow(number)),
        _ => Register::ChannelQueue(direction, narrow(number)),
    }
}

fn into_memory(number: u32, byte: u32) -> Register {
    channel(Direction::StreamToMemory, number, byte)
}

fn from_memory(number: u32, byte: u32) -> Register {
    channel(Direction::MemoryToStream, number, byte)
}

fn into_memory_status(number: u32, _: u32) -> Register {
    Register::ChannelStatus(Direction::StreamToMemory, narrow(number))
}

fn from_memory_status(number: u32, _: u32) -> Register {
    Register::ChannelStatus(Direction::MemoryToStream, narrow(number))
}

fn master(number: u32, _: u32) -> Register {
    Register::Master(narrow(number))
}

fn slave(number: u32, _: u32) -> Register {
    Register::Slave(narrow(number))
}

fn slot(number: u32, byte: u32) -> Register {
    Register::Slot { slave: narrow(number), slot: narrow(byte / 4) }
}

fn inert(_: u32, _: u32) -> Register {
    Register::Inert
}

static COMPUTE: [Region; 22] = [
    region(0, 0x10000, 1, data),
    region(0x11000, 0x1000, 1, inert), // performance counters of the memory module
    region(0x14000, 0x1000, 1, inert), // events, trace and timer of the memory module
    region(0x1d000, 0x20, 16, descriptor::<6>),
    region(0x1de00, 8, 2, into_memory),
    region(0x1de10, 8, 2, from_memory),
    region(0x1df00, 4, 2, into_memory_status),
    region(0x1df10, 4, 2, from_memory_status),
    region(0x1f000, 0x10, 16, lock),
    region(0x20000, 0x4000, 1, program),
    region(0x31500, 0x100, 1, inert), // performance counters of the core module
    region(0x32000, 4, 1, |_, _| Register::CoreControl),
    region(0x32004, 4, 1, |_, _| Register::CoreStatus),
    region(0x34000, 0x1000, 1, inert), // events, trace and timer of the core module
    region(0x36060, 4, 1, |_, _| Register::CascadeControl),
    region(0x3f000, 4, 23, master),
    region(0x3f100, 4, 25, slave),
    region(0x3f200, 0x10, 25, slot),
    region(0x36040, 4, 1, inert),    // clock gating of an idle tile
    region(0x60000, 4, 1, inert),    // clocks of the tile's modules
    region(0x31100, 0x40, 1, inert), // program counter, stack pointer, link register
    region(0x32010, 0x10, 1, inert), // debug control
];

static MEMORY: [Region; 14] = [
    region(0, 0x80000, 1, data),
    region(0x91000, 0x1000, 1, inert), // performance counters
    region(0x94000, 0x1000, 1, inert), // events, trace and timer
    region(0xa0000, 0x20, 48, descriptor::<8>),
    region(0xa0600, 8, 6, into_memory),
    region(0xa0630, 8, 6, from_memory),
    region(0xa0660, 4, 6, into_memory_status),
    region(0xa0680, 4, 6, from_memory_status),
    region(0xb0000, 4, 17, master),
    region(0xb0100, 4, 18, slave),
    region(0xb0200, 0x10, 18, slot),
    region(0xc0000, 0x10, 64, lock),
    region(0x96040, 4, 1, inert), // clock gating of an idle tile
    region(0xfff00, 4, 1, inert), // clocks of the tile's modules
];

static SHIM: [Region; 15] = [
    region(0x14000, 0x10, 16, lock),
    region(0x15000, 0x1000, 1, inert), // second level of interrupts
    region(0x1d000, 0x20, 16, descriptor::<8>),
    region(0x1d200, 8, 2, into_memory),
    region(0x1d210, 8, 2, from_memory),
    region(0x1d220, 4, 2, into_memory_status),
    region(0x1d228, 4, 2, from_memory_status),
    region(0x1f000, 4, 1, |_, _| Register::ShimMux),
    region(0x1f004, 4, 1, |_, _| Register::ShimDemux),
    region(0x31000, 0x1000, 1, inert), // performance counters
    region(0x34000, 0x2000, 1, inert), // events, trace, timer, first level of interrupts
    region(0x3f000, 4, 22, master),
    region(0x3f100, 4, 24, slave),
    region(0x3f200, 0x10, 24, slot),
    region(0xfff00, 0x40, 1, inert), // clocks of the tile's modules and of the column
];

impl Register {
    /// What stands at byte `offset` of a tile of this kind.
    pub fn at(kind: TileKind, offset: u32) -> Self {
        let regions: &[Region] = match kind {
            TileKind::Compute => &COMPUTE,
            TileKind::Memory => &MEMORY,
            TileKind::Shim => &SHIM,
        };
        let found = regions.iter().find_map(|region| {
            let from_start = offset.checked_sub(region.start)?;
            let number = from_start / region.stride;
            (number < region.count).then(|| (region.what)(number, from_start % region.stride))
        });
        found.unwrap_or(Register::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{MemoryToStream, StreamToMemory};

    #[test]
    fn addresses_of_the_register_tables() {
        let expected = [
            (TileKind::Compute, 0x1d0a4, Register::Descriptor { index: 5, word: 1 }),
            (TileKind::Compute, 0x1d0b8, Register::Unknown),
            (TileKind::Compute, 0x1de0c, Register::ChannelQueue(StreamToMemory, 1)),
            (TileKind::Compute, 0x1de10, Register::ChannelControl(MemoryToStream, 0)),
            (TileKind::Compute, 0x1f0f0, Register::Lock(15)),
            (TileKind::Compute, 0x1f0f4, Register::Unknown),
            (TileKind::Compute, 0x20010, Register::ProgramMemory(16)),
            (TileKind::Memory, 0xa0634, Register::ChannelQueue(MemoryToStream, 0)),
            (TileKind::Memory, 0xb0224, Register::Slot { slave: 2, slot: 1 }),
            (TileKind::Shim, 0x1d204, Register::ChannelQueue(StreamToMemory, 0)),
            (TileKind::Shim, 0x3f058, Register::Unknown),
            (TileKind::Shim, 0x3f15c, Register::Slave(23)),
        ];
        for (kind, offset, register) in expected {
            assert_eq!(Register::at(kind, offset), register, "{kind:?} {offset:#x}");
        }
    }
}
