//! One tile: its memories, locks, descriptors, channels and switch, and what writes to them do.

use std::collections::BTreeMap;

use crate::Fault;
use crate::channel::Channel;
use crate::core::{Core, Status};
use crate::descriptor::WORDS;
use crate::geometry::{ChannelId, Direction, TileId, TileKind, bits};
use crate::lock::Locks;
use crate::memory::Memory;
use crate::registers::Register;
use crate::switch::Switch;

/// A tile.
#[derive(Clone, Debug)]
pub struct Tile {
    /// Which one.
    pub id: TileId,
    /// Its data memory; empty in the shim.
    pub memory: Memory,
    /// Its program memory; empty but in compute tiles.
    pub program: Vec<u8>,
    /// Its locks.
    pub locks: Locks,
    /// Its buffer descriptors' registers.
    pub descriptors: Vec<[u32; WORDS]>,
    /// Its DMA channels: those into memory, then those from memory.
    pub channels: Vec<Channel>,
    /// Its stream switch.
    pub switch: Switch,
    /// What the shim's south slave ports are connected to.
    pub shim_mux: u32,
    /// What the shim's south master ports are connected to.
    pub shim_demux: u32,
    /// The control register of its core.
    pub core_control: u32,
    /// Its core, from its first cycle after a reset on.
    pub core: Option<Box<Core>>,
    /// What its core did last.
    pub core_status: Status,
    /// Cycles up to which its core has worked.
    pub core_time: u64,
    /// What cores stored to its memory in their last turns.
    pub stores: Vec<Store>,
    /// Registers that were written and mean nothing to data.
    pub others: BTreeMap<u32, u32>,
}

/// A core's store.
#[derive(Clone, Copy, Debug)]
pub struct Store {
    /// The core's tile.
    pub by: TileId,
    /// The cycle in which it landed.
    pub time: u64,
    /// Its bytes in the memory: the first, and the first behind them.
    pub bytes: (u64, u64),
}

/// Bytes of program memory.
const PROGRAM_BYTES: usize = 16 << 10;
/// The controller-id, finish-on-TLAST and out-of-order fields of a channel's control word.
const FINISH_ON_LAST: u32 = 0x3_0000;
const OUT_OF_ORDER: u32 = 1 << 3;
const COMPRESSION: u32 = 1 << 4;
const CORE_ENABLE: u32 = 1;
const CORE_RESET: u32 = 2;
const CORE_DONE: u32 = 1 << 20;

impl Tile {
    /// The tile at `id` after a reset of the array.
    pub fn new(id: TileId) -> Self {
        let kind = id.kind();
        let channels = [Direction::StreamToMemory, Direction::MemoryToStream]
            .into_iter()
            .flat_map(|direction| (0..kind.channels()).map(move |index| (direction, index)))
            .map(|(direction, index)| Channel::new(ChannelId { tile: id, direction, index }));
        let program = if kind == TileKind::Compute { PROGRAM_BYTES } else { 0 };
        Tile {
            id,
            memory: Memory::new(kind.data_bytes()),
            program: vec![0; program],
            locks: Locks::new(id),
            descriptors: vec![[0; WORDS]; usize::from(kind.descriptors())],
            channels: channels.collect(),
            switch: Switch::new(id),
            shim_mux: 0,
            shim_demux: 0,
            core_control: CORE_RESET,
            core: None,
            core_status: Status::Disabled,
            core_time: 0,
            stores: Vec::new(),
            others: BTreeMap::new(),
        }
    }

    /// Where channel `index` of `direction` stands in [`Self::channels`].
    pub fn channel_place(&self, direction: Direction, index: u8) -> usize {
        let before = match direction {
            Direction::StreamToMemory => 0,
            Direction::MemoryToStream => self.id.kind().channels(),
        };
        usize::from(before + index)
    }

    /// Writes the bits of `mask` of the word at `offset`, at cycle `now`.
    ///
    /// # Errors
    /// What the register does not allow. An unknown register is only kept in [`Self::others`].
    pub fn write(&mut self, offset: u32, mask: u32, value: u32, now: u64) -> Result<(), Fault> {
        let register = Register::at(self.id.kind(), offset);
        let word = match mask {
            u32::MAX => value,
            _ => self.read_register(register, offset) & !mask | value & mask,
        };
        match register {
            Register::DataMemory(byte) => {
                // A word of the tile's own addresses is inside its memory.
                let _ = self.memory.write(byte, &word.to_le_bytes());
            }
            Register::ProgramMemory(byte) => {
                let byte = byte as usize;
                if let Some(place) = self.program.get_mut(byte..byte + 4) {
                    place.copy_from_slice(&word.to_le_bytes());
                }
                // A core that has begun keeps its own copy, decoded, and goes on with what is
                // there when it comes to it.
                if let Some(core) = &mut self.core {
                    let written = core.write_program(byte as u32, &word.to_le_bytes());
                    debug_assert!(written.is_ok(), "a word of the tile's own addresses");
                }
            }
            Register::Lock(index) => self.locks.set(index, word),
            Register::Descriptor { index, word: number } => {
                return self.write_descriptor(index, number, word);
            }
            Register::ChannelControl(direction, index) => {
                return self.write_control(direction, index, offset, word);
            }
            Register::ChannelQueue(direction, index) => {
                let place = self.channel_place(direction, index);
                return self.channels[place].push(word, now);
            }
            Register::Master(number) => return self.switch.write_master(number, word),
            Register::Slave(number) => self.switch.write_slave(number, word),
            Register::Slot { slave, slot } => self.switch.write_slot(slave, slot, word),
            Register::ShimMux => self.shim_mux = word,
            Register::ShimDemux => self.shim_demux = word,
            Register::CoreControl => {
                self.core_control = word;
                if word & CORE_RESET != 0 {
                    self.core = None;
                    self.core_status = Status::Disabled;
                }
            }
            Register::CascadeControl => {
                self.others.insert(offset, word);
            }
            Register::ChannelStatus(..)
            | Register::CoreStatus
            | Register::Inert
            | Register::Unknown => {
                self.others.insert(offset, word);
            }
        }
        Ok(())
    }

    /// The word at `offset`, as the controller reads it.
    pub fn read(&self, offset: u32) -> u32 {
        self.read_register(Register::at(self.id.kind(), offset), offset)
    }

    /// Whether its core is to run: enabled and not held in reset.
    pub const fn core_runs(&self) -> bool {
        self.core_control & (CORE_ENABLE | CORE_RESET) == CORE_ENABLE
    }

    /// Registers that were written and that nothing is known of.
    pub fn unknown(&self) -> impl Iterator<Item = u32> + '_ {
        let kind = self.id.kind();
        let offsets = self.others.keys().copied();
        offsets.filter(move |&offset| Register::at(kind, offset) == Register::Unknown)
    }

    fn read_register(&self, register: Register, offset: u32) -> u32 {
        match register {
            Register::DataMemory(byte) => self.memory.peek(byte),
            Register::ProgramMemory(byte) => {
                let byte = byte as usize;
                let word = self.program.get(byte..byte + 4).and_then(|word| word.try_into().ok());
                word.map_or(0, u32::from_le_bytes)
            }
            Register::Lock(index) => self.locks.value(index).cast_unsigned(),
            Register::Descriptor { index, word } => {
                let words = self.descriptors.get(usize::from(index));
                words.map_or(0, |words| words[usize::from(word)])
            }
            Register::ChannelControl(direction, index) => {
                self.channels[self.channel_place(direction, index)].control
            }
            Register::ChannelQueue(..) => 0,
            Register::ChannelStatus(direction, index) => {
                self.channels[self.channel_place(direction, index)].status()
            }
            Register::Master(_) | Register::Slave(_) | Register::Slot { .. } => {
                self.switch.raw(register)
            }
            Register::ShimMux => self.shim_mux,
            Register::ShimDemux => self.shim_demux,
            Register::CoreControl => self.core_control,
            Register::CoreStatus => match self.core_status {
                Status::Done => self.core_control | CORE_DONE,
                Status::Ran | Status::WaitsForLock { .. } | Status::Disabled => self.core_control,
            },
            Register::CascadeControl | Register::Inert | Register::Unknown => {
                self.others.get(&offset).copied().unwrap_or(0)
            }
        }
    }

    fn write_descriptor(&mut self, index: u8, number: u8, word: u32) -> Result<(), Fault> {
        if let Some(channel) = self.channels.iter().find(|channel| channel.uses(index)) {
            return Err(Fault::DescriptorInUse { channel: channel.id, descriptor: index });
        }
        if let Some(words) = self.descriptors.get_mut(usize::from(index)) {
            words[usize::from(number)] = word;
        }
        Ok(())
    }

    fn write_control(
        &mut self,
        direction: Direction,
        index: u8,
        offset: u32,
        word: u32,
    ) -> Result<(), Fault> {
        let place = self.channel_place(direction, index);
        let channel = &mut self.channels[place];
        channel.control = word;
        let unsupported = |what| Err(Fault::Unsupported { tile: self.id, offset, what });
        if word & FINISH_ON_LAST != 0 {
            return unsupported("ending a descriptor at a packet's last word");
        }
        if word & OUT_OF_ORDER != 0 {
            return unsupported("descriptors out of order");
        }
        match self.id.kind() {
            // The shim's channels have no reset: bits 1 and 2 pause them (aie-rt, NOC module).
            TileKind::Shim if bits(word, 2, 1) != 0 => return unsupported("pausing a channel"),
            TileKind::Shim => {}
            _ if word & COMPRESSION != 0 => return unsupported("compression"),
            _ if bits(word, 1, 1) != 0 => channel.reset(),
            _ => {}
        }
        Ok(())
    }
}
