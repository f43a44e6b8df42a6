//! The array, and the controller that runs an instruction stream on it.
//!
//! The controller does its operations one after the other. At a sync it waits: then every group
//! of columns that shares no stream, memory or lock with the others runs on its own, as far as it
//! can get without the controller, groups in parallel. So what the controller writes between two
//! syncs comes at once, before anything moves. That is the hardest case for the tasks' queues.

use std::collections::{BTreeMap, VecDeque};

use onebit_aie::program::{RegisterAddress, RegisterOp};
use onebit_aie::txn::{self, Txn, TxnOp};
use onebit_aie::xclbin::Xclbin;
use rayon::prelude::*;

use crate::Fault;
use crate::ddr::{self, Ddr};
use crate::engine::{Engine, Pace, number};
use crate::geometry::{COLUMNS, ChannelId, Direction, ROWS, TileId, TileKind};
use crate::registers::Register;
use crate::report::{CLOCK_HZ, DDR_BYTES_A_SECOND, Report, Span, Token, Traffic};
use crate::routes::{End, Routes};
use crate::tile::Tile;

/// What reading memory that nobody wrote is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unwritten {
    /// A fault.
    #[default]
    Refused,
    /// Zeros for a core; still a fault for a DMA. Compiled kernels load ahead of what they need.
    ZerosForCores,
}

/// What writing a register that nothing is known of is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownRegisters {
    /// Something for [`Report::unknown_registers`].
    #[default]
    Listed,
    /// A fault.
    Refused,
}

/// What data that is under way when the instruction stream ends is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leftover {
    /// A fault.
    #[default]
    Refused,
    /// Kept for the next run: designs may fetch ahead.
    Kept,
}

/// How long the results of cores take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Latency {
    /// As short as a program must be right with.
    Shortest,
    /// As documented.
    #[default]
    Documented,
    /// As long as a program must be right with.
    Longest,
    /// As documented; a program that would notice another latency is a fault.
    Checked,
}

/// How a run is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A seed for the order of events that happen at once, for stalls and for the sizes of bursts;
    /// None for a fixed order.
    pub seed: Option<u64>,
    /// Reading memory that nobody wrote.
    pub unwritten: Unwritten,
    /// Writing registers that nothing is known of.
    pub unknown_registers: UnknownRegisters,
    /// Data under way at the end.
    pub leftover: Leftover,
    /// The cores' latencies.
    pub latency: Latency,
    /// Whether [`Report::spans`] is filled.
    pub spans: Spans,
    /// Words that a core may execute without waiting for a lock; more are a fault. The slowest
    /// compiled kernels need a few million.
    pub longest_turn: u64,
    /// Work that a group of tiles may do until it waits for the controller; more is a fault. It
    /// is counted in words, executed and sent, and an event counts as 16 more. A product of
    /// 134 million weights comes to 2 * 10^8, so that one of 151936 by 4096 would to 10^9; the
    /// default of 2 * 10^10 leaves room for kernels that take longer.
    pub longest_settle: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            seed: None,
            unwritten: Unwritten::default(),
            unknown_registers: UnknownRegisters::default(),
            leftover: Leftover::default(),
            latency: Latency::default(),
            spans: Spans::default(),
            longest_turn: 100_000_000,
            longest_settle: 20_000_000_000,
        }
    }
}

/// Whether a run notes who worked when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spans {
    /// No.
    #[default]
    Left,
    /// Yes.
    Recorded,
}

/// An array with the state that configurations and runs left in it.
#[derive(Clone, Debug)]
pub struct Array {
    tiles: Vec<Tile>,
    /// Cycle of the controller.
    now: u64,
    tokens: BTreeMap<ChannelId, VecDeque<u64>>,
    /// Whether columns use their neighbours' memories beside streams.
    is_one_group: bool,
    options: Options,
}

impl Array {
    /// An array after a reset.
    pub fn new(options: Options) -> Self {
        Array {
            tiles: TileId::all().map(Tile::new).collect(),
            now: 0,
            tokens: BTreeMap::new(),
            is_one_group: false,
            options,
        }
    }

    /// An array with the design of an xclbin, given its bytes.
    ///
    /// # Errors
    /// When it cannot be read, or the registers do not allow what it writes to them.
    pub fn configure(xclbin: &[u8], options: Options) -> Result<Self, Fault> {
        let mut array = Array::new(options);
        array.apply(&Xclbin::parse(xclbin)?)?;
        Ok(array)
    }

    /// Does the register writes of `xclbin`'s design.
    ///
    /// # Errors
    /// When the registers do not allow what it writes to them.
    pub fn apply(&mut self, xclbin: &Xclbin) -> Result<(), Fault> {
        let program = xclbin.partition.pdi.cdo.program();
        program.ops.iter().try_for_each(|op| self.write(op))
    }

    /// The tiles, in the order of [`TileId::all`].
    pub fn tiles(&self) -> &[Tile] {
        &self.tiles
    }

    /// The routes of the configuration as it is.
    ///
    /// # Errors
    /// A switch that is set to what it cannot do.
    pub fn routes(&self) -> Result<Routes, Fault> {
        Routes::trace(&self.tiles)
    }

    /// Runs an instruction stream, given its bytes, with the kernel's arguments.
    ///
    /// # Errors
    /// The first fault. The array and the arguments are then as they were before.
    pub fn run(&mut self, txn: &[u8], arguments: &mut [Vec<u8>]) -> Result<Report, Fault> {
        let txn = Txn::parse(txn)?;
        let header = txn.header;
        if header.generation != 4 || header.rows != ROWS {
            let (generation, rows) = (header.generation, header.rows);
            return Err(Fault::OtherArray { generation, rows });
        }
        loop {
            let mut array = self.clone();
            let mut run = Run::new(&mut array, arguments.to_vec());
            match run.all(&txn) {
                Ok(report) => {
                    arguments.clone_from_slice(&run.arguments);
                    *self = array;
                    return Ok(report);
                }
                Err(Fault::NeedsMerge { .. }) if !self.is_one_group => self.is_one_group = true,
                Err(fault) => return Err(fault),
            }
        }
    }

    fn write(&mut self, op: &RegisterOp) -> Result<(), Fault> {
        match op {
            RegisterOp::Write32 { address, value } => {
                self.write_word(*address, 0, u32::MAX, *value)
            }
            RegisterOp::MaskWrite { address, mask, value } => {
                self.write_word(*address, 0, *mask, *value)
            }
            RegisterOp::BlockWrite { address, data } => (0u32..)
                .step_by(4)
                .zip(data)
                .try_for_each(|(byte, &word)| self.write_word(*address, byte, u32::MAX, word)),
        }
    }

    fn write_word(
        &mut self,
        address: RegisterAddress,
        byte: u32,
        mask: u32,
        value: u32,
    ) -> Result<(), Fault> {
        let address = RegisterAddress::from_bits(address.bits().wrapping_add(byte));
        let id = tile_at(address)?;
        let offset = address.offset();
        let is_refused = self.options.unknown_registers == UnknownRegisters::Refused;
        if is_refused && Register::at(id.kind(), offset) == Register::Unknown {
            return Err(Fault::UnknownRegister { tile: id, offset });
        }
        self.tiles[number(id)].write(offset, mask, value, self.now)
    }

    /// Which columns run together: those that share a route, or whose memory tiles' descriptors
    /// reach over.
    fn groups(&self, routes: &Routes) -> Vec<Vec<TileId>> {
        let mut group_of: Vec<u8> = (0..COLUMNS).collect();
        let mut join = |one: u8, other: u8| {
            let (one, other) = (group_of[usize::from(one)], group_of[usize::from(other)]);
            for group in &mut group_of {
                if *group == one.max(other) {
                    *group = one.min(other);
                }
            }
        };
        for (source, route) in &routes.from {
            for branch in route.paths().flat_map(|path| &path.branches) {
                if let End::Channel(channel) = branch.end {
                    join(source.tile.column, channel.tile.column);
                }
            }
            // Two sources whose packets meet in an arbiter have an end in common, or a port.
            for master in route.paths().flat_map(|path| &path.arbitrated) {
                join(source.tile.column, master.tile.column);
            }
        }
        if self.is_one_group {
            (1..COLUMNS).for_each(|column| join(0, column));
        }
        let mut groups: BTreeMap<u8, Vec<TileId>> = BTreeMap::new();
        for id in TileId::all() {
            groups.entry(group_of[usize::from(id.column)]).or_default().push(id);
        }
        groups.into_values().collect()
    }
}

/// One run of an instruction stream.
struct Run<'a> {
    array: &'a mut Array,
    arguments: Vec<Vec<u8>>,
    report: Report,
    routes: Routes,
    /// Words each channel had moved before.
    words_before: Vec<u64>,
    /// The number of the operation.
    index: usize,
}

impl<'a> Run<'a> {
    fn new(array: &'a mut Array, arguments: Vec<Vec<u8>>) -> Self {
        let channels = array.tiles.iter().flat_map(|tile| &tile.channels);
        Run {
            words_before: channels.map(|channel| channel.words).collect(),
            array,
            arguments,
            report: Report::default(),
            routes: Routes::default(),
            index: 0,
        }
    }

    fn all(&mut self, txn: &Txn) -> Result<Report, Fault> {
        let start = self.array.now;
        for (index, op) in txn.ops.iter().enumerate() {
            self.index = index;
            self.operation(op)?;
        }
        self.settle()?;
        self.check_end()?;
        let mut report = std::mem::take(&mut self.report);
        report.cycles = self.array.now - start;
        report.operations = txn.ops.len();
        let channels = self.array.tiles.iter().flat_map(|tile| &tile.channels);
        let traffic = channels.zip(&self.words_before).map(|(channel, &before)| Traffic {
            channel: channel.id,
            words: channel.words - before,
        });
        report.traffic = traffic.filter(|traffic| traffic.words > 0).collect();
        let unknown = self.array.tiles.iter();
        let unknown = unknown.flat_map(|tile| tile.unknown().map(|offset| (tile.id, offset)));
        report.unknown_registers = unknown.collect();
        Ok(report)
    }

    fn operation(&mut self, op: &TxnOp) -> Result<(), Fault> {
        match op {
            TxnOp::Register(op) => self.array.write(op),
            TxnOp::TaggedBlockWrite { address, data } => {
                self.array.write(&RegisterOp::BlockWrite { address: *address, data: data.clone() })
            }
            TxnOp::MaskPoll { address, mask, value, .. } => self.poll(*address, *mask, *value),
            TxnOp::Noop | TxnOp::Preempt { .. } => Ok(()),
            TxnOp::LoadPdi { .. } => {
                Err(Fault::UnsupportedOperation { index: self.index, what: "loading a PDI" })
            }
            TxnOp::Sync { column, row, columns, rows, direction, channel } => {
                let direction = match direction {
                    txn::Direction::StreamToMemory => Direction::StreamToMemory,
                    txn::Direction::MemoryToStream => Direction::MemoryToStream,
                };
                self.report.syncs += 1;
                let span = |first: u8, count: u8| first..=first.saturating_add(count.max(1) - 1);
                let tiles = span(*column, *columns)
                    .flat_map(|column| span(*row, *rows).map(move |row| TileId { column, row }));
                let channels = tiles.map(|tile| ChannelId { tile, direction, index: *channel });
                // All of them first: waiting for some would change what is under way.
                if let Some(channel) = channels.clone().find(|channel| !channel.exists()) {
                    return Err(Fault::NoSuchChannel { index: self.index, channel });
                }
                channels.into_iter().try_for_each(|channel| self.sync(channel))
            }
            TxnOp::AddressPatch { register, argument, addend } => {
                self.patch(*register, *argument, *addend)
            }
        }
    }

    /// Puts the address of an argument into a descriptor. The word that was there is replaced and
    /// not added to: streams in use write the addend into it as well.
    fn patch(
        &mut self,
        register: RegisterAddress,
        argument: u32,
        addend: u64,
    ) -> Result<(), Fault> {
        if self.arguments.len() <= argument as usize {
            return Err(Fault::NoSuchArgument { index: self.index, argument });
        }
        let address = ddr::address_of(argument).wrapping_add(addend);
        let [low, high] = [address, address >> 32].map(|half| half as u32);
        self.array.write_word(register, 0, u32::MAX, low)?;
        self.array.write_word(register, 4, 0xffff, high)
    }

    /// Waits for one token of `channel`.
    fn sync(&mut self, channel: ChannelId) -> Result<(), Fault> {
        if let Some(time) = self.take_token(channel) {
            self.array.now = self.array.now.max(time);
            return Ok(());
        }
        let waiting = self.settle()?;
        let Some(time) = self.take_token(channel) else {
            let waits_for = format!("waits for a task-complete token of {channel}");
            return Err(Fault::Deadlock { index: self.index, waits_for, waiting });
        };
        self.array.now = self.array.now.max(time);
        Ok(())
    }

    fn take_token(&mut self, channel: ChannelId) -> Option<u64> {
        self.array.tokens.get_mut(&channel)?.pop_front()
    }

    fn poll(&mut self, register: RegisterAddress, mask: u32, value: u32) -> Result<(), Fault> {
        let tile = tile_at(register)?;
        let is_there = |run: &Run<'_>| {
            run.array.tiles[number(tile)].read(register.offset()) & mask == value & mask
        };
        if is_there(self) {
            return Ok(());
        }
        let waiting = self.settle()?;
        if is_there(self) {
            return Ok(());
        }
        let waits_for = format!("polls {tile}, register {:#x}", register.offset());
        Err(Fault::Deadlock { index: self.index, waits_for, waiting })
    }

    /// Lets everything run until nothing can move. Returns who waits, and for what.
    fn settle(&mut self) -> Result<Vec<String>, Fault> {
        self.routes = Routes::trace(&self.array.tiles)?;
        let groups = self.array.groups(&self.routes);
        let mut tiles: Vec<Option<Tile>> = self.array.tiles.drain(..).map(Some).collect();
        let (options, routes, arguments) = (self.array.options, &self.routes, &self.arguments);
        let pace = Pace {
            seed: options.seed,
            traces: options.spans == Spans::Recorded,
            unwritten: options.unwritten,
            latency: options.latency,
            longest_turn: options.longest_turn,
            longest_settle: options.longest_settle,
        };
        let engines: Vec<Engine<'_>> = groups
            .iter()
            .map(|group| {
                let tiles = group.iter().filter_map(|&id| tiles[number(id)].take()).collect();
                Engine::new(tiles, routes, Ddr::new(arguments), pace)
            })
            .collect();
        self.report.groups = self.report.groups.max(engines.len());
        let settled: Vec<Result<Settled, Fault>> =
            engines.into_par_iter().map(Settled::of).collect();
        // The first in the order of columns, whichever thread was first.
        let settled: Vec<Settled> = settled.into_iter().collect::<Result<_, _>>()?;
        self.gather(settled)
    }

    fn gather(&mut self, settled: Vec<Settled>) -> Result<Vec<String>, Fault> {
        let start = self.array.now;
        let (mut end, mut bytes) = (start, 0);
        let mut waiting = Vec::new();
        let mut changes = Vec::new();
        let mut tiles = Vec::new();
        for group in settled {
            for token in group.tokens {
                self.array.tokens.entry(token.channel).or_default().push_back(token.time);
                end = end.max(token.time);
            }
            bytes += group.changes.read + group.changes.written;
            self.report.bytes_read += group.changes.read;
            self.report.bytes_written += group.changes.written;
            self.report.core_words += group.core_words;
            self.report.spans.extend(group.spans);
            waiting.extend(group.waiting);
            let column = group.tiles.first().map_or(0, |tile| tile.id.column);
            changes.push((column, group.changes));
            tiles.extend(group.tiles);
        }
        ddr::commit(&mut self.arguments, &changes)?;
        tiles.sort_by_key(|tile| tile.id);
        self.array.tiles = tiles;
        // The memory's bandwidth is all shims' together, which run on their own here: a stretch
        // takes what the array needs or what the memory needs, whichever is longer.
        let memory = (u128::from(bytes) * u128::from(CLOCK_HZ)).div_ceil(DDR_BYTES_A_SECOND.into());
        let memory = start + u64::try_from(memory).unwrap_or(u64::MAX);
        self.report.memory_cycles += memory.saturating_sub(end);
        self.array.now = end.max(memory);
        self.report.waiting.clone_from(&waiting);
        Ok(waiting)
    }

    /// Checks that nothing is half done.
    fn check_end(&self) -> Result<(), Fault> {
        let channels = self.array.tiles.iter().flat_map(|tile| &tile.channels);
        for channel in channels {
            let is_busy = channel.active.is_some() || !channel.queue.is_empty();
            if channel.id.tile.kind() == TileKind::Shim && is_busy {
                return Err(Fault::UnfinishedTask { channel: channel.id });
            }
            let unsent = channel.moving().map_or(0, |active| match channel.id.direction {
                Direction::MemoryToStream => active.walk.left(),
                Direction::StreamToMemory if active.walk.left() < active.descriptor.length => {
                    active.descriptor.length - active.walk.left()
                }
                Direction::StreamToMemory => 0,
            });
            let words = unsent + channel.arrived.len() as u64;
            if words > 0 && self.array.options.leftover == Leftover::Refused {
                return Err(Fault::LeftoverData { channel: channel.id, words });
            }
        }
        Ok(())
    }
}

/// What a group did.
struct Settled {
    tiles: Vec<Tile>,
    tokens: Vec<Token>,
    spans: Vec<Span>,
    waiting: Vec<String>,
    changes: ddr::Changes,
    core_words: u64,
}

impl Settled {
    fn of(mut engine: Engine<'_>) -> Result<Self, Fault> {
        engine.run()?;
        let waiting = engine.waiting();
        Ok(Settled {
            waiting,
            core_words: engine.core_words,
            tiles: engine.tiles,
            tokens: engine.tokens,
            spans: engine.spans,
            changes: engine.ddr.changes,
        })
    }
}

fn tile_at(address: RegisterAddress) -> Result<TileId, Fault> {
    let (column, row) = (address.column(), address.row());
    TileId::new(column, row).ok_or(Fault::NoSuchTile { column, row })
}
