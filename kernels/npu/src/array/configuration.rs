//! A whole configuration, checked while it is collected.

use std::collections::BTreeMap;

use super::ArrayError;
use super::descriptor::{Descriptor, DescriptorId};
use super::route::{Port, Side, connection};
use super::tile::{COLUMNS, Channel, LockId, ROWS, Tile, TileKind};
use crate::program::{RegisterAddress, RegisterOp, RegisterProgram};
use crate::txn::Direction;

const PROGRAM_MEMORY: u32 = 0x2_0000;
const PROGRAM_BYTES: u64 = 16 << 10;
/// Bit 0 enables the core, bit 1 holds it in reset.
const CORE_CONTROL: u32 = 0x3_2000;
const CORE_ENABLE: u32 = 1;
const CORE_RESET: u32 = 2;
/// In a channel's control register.
const CHANNEL_RESET: u32 = 2;
/// In a switch's port registers.
const PORT_ENABLE: u32 = 1 << 31;
/// Which shim inputs come from the DMA, and which outputs go to it; two bits a port, 1 is the DMA.
const SHIM_MUX: u32 = 0x1_f000;
const SHIM_DEMUX: u32 = 0x1_f004;

/// The id that reports of a channel carry to reach the controller of the array, and the lowest bit
/// of it in the channel's control register (compiled designs; aie-rt `XAie_DmaSetControllerId`).
const CONTROLLER: u32 = 15;
const CONTROLLER_SHIFT: u32 = 8;
const CONTROLLER_MASK: u32 = 0x1f << CONTROLLER_SHIFT;
/// A slot of a packet-switched input: packets with all five bits of [`CONTROLLER`] go to arbiter 5
/// as message 3; the output takes that from there. Arbiter and message are those of
/// compiled designs.
const PACKETS: u32 = 1 << 30;
const REPORT_SLOT: u32 = CONTROLLER << 24 | 0x1f << 16 | 1 << 8 | 3 << 4 | 5;
const REPORT_OUTPUT: u32 = 1 << (3 + 3) | 5;
const SWITCH_SLOTS: u32 = 0x3_f200;

/// How a channel runs a chain of descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first descriptor.
    pub first: DescriptorId,
    /// How often, 1 to 256. A chain without end runs once.
    pub times: u32,
    /// Whether the controller is told when it is done.
    pub reports: Reports,
}

/// Whether a channel sends a token to the controller when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reports {
    /// It does.
    Yes,
    /// It does not.
    No,
}

impl Run {
    /// Starts the chain at `first` once, without a report.
    pub const fn once(first: DescriptorId) -> Self {
        Run { first, times: 1, reports: Reports::No }
    }

    /// The word for the queue of `channel`.
    ///
    /// # Errors
    /// A number of times outside 1 to 256.
    pub fn word(&self, channel: Channel) -> Result<u32, ArrayError> {
        channel.tile.range("how often a chain runs", self.times.into(), [1, 256])?;
        let token = u32::from(self.reports == Reports::Yes) << 31;
        Ok(token | (self.times - 1) << 16 | u32::from(self.first.0))
    }
}

/// The register that starts `channel`.
///
/// # Errors
/// A channel that the tile does not have.
pub fn queue_register(channel: Channel) -> Result<RegisterAddress, ArrayError> {
    channel.check()?;
    Ok(channel.tile.register(channel.control() + 4))
}

/// The write that addresses the reports of `channel` to the controller.
///
/// # Errors
/// A channel that the tile does not have.
pub fn report_to_controller(channel: Channel) -> Result<RegisterOp, ArrayError> {
    channel.check()?;
    let value = CONTROLLER << CONTROLLER_SHIFT;
    Ok(mask_write(channel.tile, channel.control(), CONTROLLER_MASK, value))
}

/// The register of the first word of a descriptor.
///
/// # Errors
/// A descriptor that the tile does not have.
pub fn descriptor_register(tile: Tile, id: DescriptorId) -> Result<RegisterAddress, ArrayError> {
    let registers = tile.kind().registers();
    tile.check("descriptor", id.0.into(), registers.descriptor_count.into())?;
    Ok(tile.register(registers.descriptors + 0x20 * u32::from(id.0)))
}

/// The address of byte `offset` of a tile's data memory, for `bytes` bytes.
///
/// # Errors
/// Bytes that the tile does not have, or that are not whole words.
pub fn data_register(tile: Tile, offset: u32, bytes: u32) -> Result<RegisterAddress, ArrayError> {
    let size = tile.kind().registers().memory_bytes;
    let (start, end) = (u64::from(offset), u64::from(offset) + u64::from(bytes));
    if end > size {
        return Err(ArrayError::OutsideMemory { tile, start, end, size });
    }
    tile.words("an address", start)?;
    Ok(tile.register(offset))
}

/// What is set so far.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    programs: BTreeMap<Tile, Vec<u32>>,
    data: Vec<(RegisterAddress, Vec<u32>)>,
    locks: BTreeMap<(Tile, LockId), i8>,
    descriptors: BTreeMap<(Tile, DescriptorId), Descriptor>,
    runs: BTreeMap<(Tile, u32), (Channel, Run)>,
    /// For each output, its input and the numbers of both.
    routes: BTreeMap<(Tile, Port), (Port, u32, u32)>,
    shim_channels: Vec<Channel>,
    /// Tiles whose reports leave the array, with the numbers of the input and the output.
    report_routes: Vec<(Tile, u32, u32)>,
}

impl Configuration {
    /// Gives a compute tile's core its program.
    ///
    /// # Errors
    /// A tile without a core, code that is too long or not whole words, a second program.
    pub fn program(&mut self, tile: Tile, code: &[u8]) -> Result<(), ArrayError> {
        tile.check("core", 0, u64::from(tile.kind() == TileKind::Compute))?;
        tile.words("a program's length", code.len() as u64)?;
        let (end, size) = (code.len() as u64, PROGRAM_BYTES);
        if end > size {
            return Err(ArrayError::OutsideMemory { tile, start: 0, end, size });
        }
        let words = code.as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect();
        match self.programs.insert(tile, words) {
            None => Ok(()),
            Some(_) => Err(ArrayError::SetTwice { tile, what: "program", index: 0 }),
        }
    }

    /// Writes words into a tile's data memory.
    ///
    /// # Errors
    /// Bytes that the tile does not have.
    pub fn data(&mut self, tile: Tile, offset: u32, words: Vec<u32>) -> Result<(), ArrayError> {
        let bytes = u32::try_from(4 * words.len()).unwrap_or(u32::MAX);
        self.data.push((data_register(tile, offset, bytes)?, words));
        Ok(())
    }

    /// Gives a lock its first value.
    ///
    /// # Errors
    /// A lock that the tile does not have, a value outside 0 to 63, a second value.
    pub fn lock(&mut self, tile: Tile, lock: LockId, value: i8) -> Result<(), ArrayError> {
        tile.check("lock", lock.0.into(), tile.kind().registers().lock_count.into())?;
        tile.range("a lock's first value", value.into(), [0, 63])?;
        match self.locks.insert((tile, lock), value) {
            None => Ok(()),
            Some(_) => Err(ArrayError::SetTwice { tile, what: "lock", index: lock.0.into() }),
        }
    }

    /// Writes a descriptor.
    ///
    /// # Errors
    /// What the tile has no room for, a descriptor written twice.
    pub fn descriptor(
        &mut self,
        tile: Tile,
        id: DescriptorId,
        descriptor: Descriptor,
    ) -> Result<(), ArrayError> {
        descriptor_register(tile, id)?;
        descriptor.words(tile)?;
        match self.descriptors.insert((tile, id), descriptor) {
            None => Ok(()),
            Some(_) => Err(ArrayError::SetTwice { tile, what: "descriptor", index: id.0.into() }),
        }
    }

    /// Starts a channel.
    ///
    /// # Errors
    /// A channel or a number of times that do not exist, a channel started twice.
    pub fn start(&mut self, channel: Channel, run: Run) -> Result<(), ArrayError> {
        channel.check()?;
        run.word(channel)?;
        let tile = channel.tile;
        match self.runs.insert((tile, channel.control()), (channel, run)) {
            None => Ok(()),
            Some(_) => {
                Err(ArrayError::SetTwice { tile, what: "channel", index: channel.index.into() })
            }
        }
    }

    /// Connects an input of a tile's switch to an output. An input may go to several outputs, and
    /// waits until all of them take what it has.
    ///
    /// # Errors
    /// A connection that is not there, an output that has another input already.
    pub fn connect(&mut self, tile: Tile, from: Port, to: Port) -> Result<(), ArrayError> {
        let (slave, master) = connection(tile, from, to)?;
        match self.routes.insert((tile, to), (from, slave, master)) {
            None => Ok(()),
            Some((first, ..)) => Err(ArrayError::DrivenTwice { tile, to, first, second: from }),
        }
    }

    /// Connects a channel of a shim's DMA to the switch: from memory at south inputs 3 and 7, into
    /// memory at south outputs 2 and 3 (aie-rt `xaie_plif.c`). The port.
    ///
    /// # Errors
    /// A channel that is not a shim's.
    pub fn shim_port(&mut self, channel: Channel) -> Result<Port, ArrayError> {
        channel.check()?;
        let is_shim = channel.tile.kind() == TileKind::Shim;
        channel.tile.check("way to the machine's memory", 0, u64::from(is_shim))?;
        self.shim_channels.push(channel);
        let index = match channel.direction {
            Direction::MemoryToStream => 3 + 4 * channel.index,
            Direction::StreamToMemory => 2 + channel.index,
        };
        Ok(Port::new(Side::South, index))
    }

    /// Lets the reports of a shim's own channels out of the array, to the controller: packets from
    /// its control port to south output 0.
    ///
    /// # Errors
    /// A tile that is not a shim, or one whose way out is in use.
    pub fn report_route(&mut self, tile: Tile) -> Result<(), ArrayError> {
        let is_shim = tile.kind() == TileKind::Shim;
        tile.check("way to the controller", 0, u64::from(is_shim))?;
        let (from, to) = (Port::new(Side::Control, 0), Port::new(Side::South, 0));
        let (slave, master) = connection(tile, from, to)?;
        if let Some(&(first, ..)) = self.routes.get(&(tile, to)) {
            return Err(ArrayError::DrivenTwice { tile, to, first, second: from });
        }
        self.report_routes.push((tile, slave, master));
        Ok(())
    }

    /// The writes that make the configuration, in the order of compiled designs: programs with
    /// everything in reset, data, locks, descriptors, queues, routes, and at last the cores.
    ///
    /// # Errors
    /// Chains with a descriptor that is not there or not for their channel, locks that were never
    /// set, routes that end between two tiles.
    pub fn register_program(&self) -> Result<RegisterProgram, ArrayError> {
        self.check_chains()?;
        self.check_routes()?;
        let mut ops = Vec::new();
        self.reset_cores(&mut ops);
        for (address, words) in &self.data {
            ops.push(RegisterOp::BlockWrite { address: *address, data: words.clone() });
        }
        for (&(tile, lock), &value) in &self.locks {
            let offset = tile.kind().registers().locks + 0x10 * u32::from(lock.0);
            ops.push(write(tile, offset, u32::from(value.cast_unsigned())));
        }
        for (&(tile, id), descriptor) in &self.descriptors {
            let address = descriptor_register(tile, id)?;
            ops.push(RegisterOp::BlockWrite { address, data: descriptor.words(tile)? });
        }
        for (channel, run) in self.runs.values() {
            ops.push(write(channel.tile, channel.control() + 4, run.word(*channel)?));
        }
        self.set_routes(&mut ops);
        for &tile in self.programs.keys() {
            ops.push(mask_write(tile, CORE_CONTROL, CORE_ENABLE, CORE_ENABLE));
        }
        Ok(RegisterProgram { ops })
    }

    fn reset_cores(&self, ops: &mut Vec<RegisterOp>) {
        for (&tile, code) in &self.programs {
            let channels = [Channel::from_memory as fn(Tile, u8) -> Channel, Channel::into_memory]
                .into_iter()
                .flat_map(|channel| [channel(tile, 0), channel(tile, 1)].map(Channel::control));
            let channels: Vec<u32> = channels.collect();
            ops.push(mask_write(tile, CORE_CONTROL, CORE_ENABLE, 0));
            let resets = |value| {
                channels.iter().map(move |&offset| mask_write(tile, offset, CHANNEL_RESET, value))
            };
            ops.extend(resets(CHANNEL_RESET));
            let address = tile.register(PROGRAM_MEMORY);
            ops.push(RegisterOp::BlockWrite { address, data: code.clone() });
            ops.extend(resets(0));
            ops.push(mask_write(tile, CORE_CONTROL, CORE_RESET, CORE_RESET));
            ops.push(mask_write(tile, CORE_CONTROL, CORE_RESET, 0));
        }
    }

    fn set_routes(&self, ops: &mut Vec<RegisterOp>) {
        for (&(tile, _), &(_, slave, master)) in &self.routes {
            let registers = tile.kind().registers();
            ops.push(write(tile, registers.switch_masters + 4 * master, PORT_ENABLE | slave));
            ops.push(write(tile, registers.switch_slaves + 4 * slave, PORT_ENABLE));
        }
        for &(tile, slave, master) in &self.report_routes {
            let registers = tile.kind().registers();
            let output = PORT_ENABLE | PACKETS | REPORT_OUTPUT;
            ops.push(write(tile, registers.switch_masters + 4 * master, output));
            ops.push(write(tile, registers.switch_slaves + 4 * slave, PORT_ENABLE | PACKETS));
            ops.push(write(tile, SWITCH_SLOTS + 0x10 * slave, REPORT_SLOT));
        }
        for channel in &self.shim_channels {
            let (offset, bit) = match channel.direction {
                Direction::MemoryToStream => (SHIM_MUX, [10, 14][usize::from(channel.index)]),
                Direction::StreamToMemory => (SHIM_DEMUX, [4, 6][usize::from(channel.index)]),
            };
            ops.push(mask_write(channel.tile, offset, 3 << bit, 1 << bit));
        }
    }

    fn check_chains(&self) -> Result<(), ArrayError> {
        for (channel, run) in self.runs.values() {
            let (tile, mut seen, mut next) = (channel.tile, Vec::new(), Some(run.first));
            while let Some(id) = next.filter(|id| !seen.contains(id)) {
                let descriptor = self.descriptors.get(&(tile, id));
                let missing = ArrayError::NoDescriptor { tile, descriptor: id };
                let descriptor = descriptor.ok_or(missing)?;
                if !Descriptor::is_for(id, *channel) {
                    return Err(ArrayError::NotForChannel { channel: *channel, descriptor: id });
                }
                let take = descriptor.acquire.map(|acquire| acquire.lock);
                let give = descriptor.release.map(|release| release.lock);
                for lock in take.into_iter().chain(give) {
                    if !self.locks.contains_key(&(tile, lock)) {
                        return Err(ArrayError::LockNotSet { tile, lock });
                    }
                }
                seen.push(id);
                next = descriptor.next;
            }
        }
        Ok(())
    }

    /// Every output towards a neighbour must be an input there, and the other way round.
    fn check_routes(&self) -> Result<(), ArrayError> {
        let inputs: Vec<(Tile, Port)> =
            self.routes.iter().map(|(&(tile, _), &(from, ..))| (tile, from)).collect();
        for &(tile, port) in self.routes.keys() {
            if let Some(far) = far_end(tile, port)
                && !far.is_some_and(|far| inputs.contains(&far))
            {
                return Err(ArrayError::OpenRoute { tile, port });
            }
        }
        for &(tile, port) in &inputs {
            if let Some(far) = far_end(tile, port)
                && !far.is_some_and(|far| self.routes.contains_key(&far))
            {
                return Err(ArrayError::OpenRoute { tile, port });
            }
        }
        Ok(())
    }
}

/// The port that a port meets: None when it leads to no other tile, Some(None) when that tile is
/// outside the array.
fn far_end(tile: Tile, port: Port) -> Option<Option<(Tile, Port)>> {
    let (side, columns, rows) = port.opposite(tile.kind())?;
    let at = |place: u8, step: i8, count: u8| {
        place.checked_add_signed(step).filter(|&place| place < count)
    };
    let column = at(tile.column(), columns, COLUMNS);
    let row = at(tile.row(), rows, ROWS);
    let far = column.zip(row).and_then(|(column, row)| Tile::new(column, row));
    Some(far.map(|far| (far, Port::new(side, port.index))))
}

fn write(tile: Tile, offset: u32, value: u32) -> RegisterOp {
    RegisterOp::Write32 { address: tile.register(offset), value }
}

fn mask_write(tile: Tile, offset: u32, mask: u32, value: u32) -> RegisterOp {
    RegisterOp::MaskWrite { address: tile.register(offset), mask, value }
}
