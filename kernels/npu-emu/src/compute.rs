//! A core's turn, and what the core sees of the array.

use crate::Fault;
use crate::array::{Latency, Unwritten};
use crate::bus::Bus;
use crate::core::{Core, LatencyModel, Status};
use crate::descriptor::{Run, WORD_BYTES};
use crate::engine::{Actor, Engine, number};
use crate::geometry::{ChannelId, TileId, TileKind};
use crate::lock::LockId;
use crate::memory::Refusal;
use crate::report::Span;
use crate::tile::{Store, Tile};

/// The first address of the first of four windows: south, west, north, its own tile.
const WINDOWS: u32 = 0x40000;
const WINDOW_BYTES: u32 = 0x10000;
const LOCKS_IN_WINDOW: u32 = 16;

/// The compute tile that a core calls its southern (0), western (1), northern (2) neighbour or
/// itself (3).
fn neighbour(tile: TileId, window: u32) -> Option<TileId> {
    let neighbour = match window {
        0 => tile.offset(0, -1),
        1 => tile.offset(-1, 0),
        2 => tile.offset(0, 1),
        3 => Some(tile),
        _ => None,
    };
    neighbour.filter(|tile| tile.kind() == TileKind::Compute)
}

/// The lock that the core of `tile` calls `lock`.
fn lock_id(tile: TileId, lock: u32) -> Option<LockId> {
    let index = u8::try_from(lock % LOCKS_IN_WINDOW).ok()?;
    Some(LockId { tile: neighbour(tile, lock / LOCKS_IN_WINDOW)?, index })
}

impl Tile {
    /// What its core waits for; None when it does not.
    pub(crate) fn core_waits_for(&self) -> Option<String> {
        match self.core_status {
            Status::WaitsForLock { lock, value } if self.core_runs() => {
                let name = match lock_id(self.id, lock) {
                    Some(lock) => lock.to_string(),
                    None => format!("lock {lock}"),
                };
                let what = if value < 0 { "at least " } else { "" };
                let value = value.unsigned_abs();
                Some(format!("{} core waits for {name} to be {what}{value}", self.id))
            }
            _ => None,
        }
    }

    fn new_core(&self, latency: Latency) -> Result<Box<Core>, Fault> {
        let (shortest, longest) = (LatencyModel::minimum(), LatencyModel::maximum());
        let mut core = match latency {
            Latency::Shortest => Core::new(&shortest),
            Latency::Documented => Core::new(&LatencyModel::documented()),
            Latency::Longest => Core::new(&longest),
            Latency::Checked => Core::checked(&shortest, &longest),
        };
        core.write_program(0, &self.program).map_err(|cause| {
            let fault = Fault::Core { pc: 0, word: String::new(), cause };
            Fault::InCore { tile: self.id, fault: Box::new(fault) }
        })?;
        // Row in bits 4 to 0, column in bits 22 to 16 (Xilinx/aie_api `detail/aie2/tile.hpp`,
        // `tile_id_hw`).
        core.set_core_id(u32::from(self.id.column) << 16 | u32::from(self.id.row));
        core.enable();
        Ok(Box::new(core))
    }
}

/// Bytes from one to another of a tile's memory.
type Stretch = (u64, u64);

/// Memory of the tile at `place` that a channel is at work on.
struct Guard {
    place: usize,
    channel: ChannelId,
    /// From the first to the last byte.
    bounds: Stretch,
    stretches: Vec<Stretch>,
}

impl Guard {
    fn new(place: usize, channel: &crate::channel::Channel) -> Option<Self> {
        let stretches = stretches(channel)?;
        let end = stretches.iter().map(|stretch| stretch.1).max()?;
        let bounds = (stretches.first()?.0, end);
        Some(Guard { place, channel: channel.id, bounds, stretches })
    }

    fn meets(&self, place: usize, bytes: Stretch) -> bool {
        self.place == place && self.bounds.0 < bytes.1 && bytes.0 < self.bounds.1
    }
}

/// The bytes of its tile's memory that `channel` is at work on, in order; None when it is not.
fn stretches(channel: &crate::channel::Channel) -> Option<Vec<Stretch>> {
    let runs = channel.holding()?.descriptor.walk().runs();
    let mut stretches: Vec<Stretch> = runs
        .filter_map(|run| match run {
            Run::Words { first, count } => Some((first * WORD_BYTES, (first + count) * WORD_BYTES)),
            Run::Zeros(_) => None,
        })
        .collect();
    stretches.sort_unstable();
    Some(stretches)
}

/// The first byte of `bytes` in one of the sorted `stretches`.
fn common(stretches: &[Stretch], bytes: Stretch) -> Option<u64> {
    let before = &stretches[..stretches.partition_point(|stretch| stretch.0 < bytes.1)];
    // Dimensions may overlap, so the one that starts last need not be the one that ends last.
    let met = before.iter().filter(|stretch| stretch.1 > bytes.0);
    met.map(|stretch| stretch.0.max(bytes.0)).min()
}

/// What a core sees in one turn.
struct View<'e, 'a> {
    engine: &'e mut Engine<'a>,
    actor: Actor,
    tile: TileId,
    /// Cycles up to which the core has worked.
    time: u64,
    /// Whether a lock was refused only because its time has not come.
    is_early: bool,
    /// A neighbour in another group.
    merge: Option<Fault>,
    /// What channels are at work on; no channel moves in a core's turn.
    guards: Vec<Guard>,
    /// The tiles that `guards` covers.
    guarded: Vec<usize>,
}

impl View<'_, '_> {
    /// The place in the engine and the byte of a core's address.
    fn locate(&mut self, address: u32) -> Result<(usize, u32), Fault> {
        let none = Fault::NoSuchAddress { address };
        let inside = address.checked_sub(WINDOWS).ok_or(none.clone())?;
        let tile = neighbour(self.tile, inside / WINDOW_BYTES).ok_or(none)?;
        Ok((self.place(tile)?, inside % WINDOW_BYTES))
    }

    fn place(&mut self, tile: TileId) -> Result<usize, Fault> {
        if let Some(place) = self.engine.places[number(tile)] {
            return Ok(place);
        }
        let fault = Fault::NeedsMerge { tile: self.tile, neighbour: tile };
        self.merge = Some(fault.clone());
        Err(fault)
    }

    /// Notes a store, and refuses one where a channel holds its lock and has not given it back:
    /// the core has taken no lock since that could have put the two in an order.
    fn note_store(&mut self, place: usize, bytes: Stretch) -> Result<(), Fault> {
        let tile = &mut self.engine.tiles[place];
        if !self.guarded.contains(&place) {
            self.guarded.push(place);
            tile.stores.retain(|store| store.time > self.engine.now);
            self.guards
                .extend(tile.channels.iter().filter_map(|channel| Guard::new(place, channel)));
        }
        let memory = tile.id;
        tile.stores.push(Store { by: self.tile, time: self.time, bytes });
        for guard in self.guards.iter().filter(|guard| guard.meets(place, bytes)) {
            if let Some(address) = common(&guard.stretches, bytes) {
                let (tile, channel) = (self.tile, guard.channel);
                return Err(Fault::StoreDuringTransfer { tile, memory, channel, address });
            }
        }
        Ok(())
    }

    fn lock(&mut self, lock: u32) -> Result<LockId, Fault> {
        let unknown = LockId { tile: self.tile, index: u8::try_from(lock).unwrap_or(u8::MAX) };
        let lock = lock_id(self.tile, lock).ok_or(Fault::NoSuchLock { lock: unknown })?;
        self.place(lock.tile)?;
        Ok(lock)
    }
}

impl Bus for View<'_, '_> {
    fn load(&mut self, address: u32, bytes: &mut [u8]) -> Result<(), Fault> {
        let (place, byte) = self.locate(address)?;
        let tile = &self.engine.tiles[place];
        let data = match tile.memory.read(byte, bytes.len()) {
            Ok(data) => data,
            Err(Refusal::Outside) => return Err(Fault::NoSuchAddress { address }),
            Err(Refusal::Unwritten(address)) => match self.engine.pace.unwritten {
                Unwritten::Refused => {
                    return Err(Fault::UnwrittenLoaded { tile: tile.id, address });
                }
                Unwritten::ZerosForCores => {
                    let data = tile.memory.raw(byte, bytes.len());
                    data.ok_or(Fault::NoSuchAddress { address })?
                }
            },
        };
        bytes.copy_from_slice(data);
        Ok(())
    }

    fn store(&mut self, address: u32, bytes: &[u8]) -> Result<(), Fault> {
        let (place, byte) = self.locate(address)?;
        self.note_store(place, (byte.into(), u64::from(byte) + bytes.len() as u64))?;
        let written = self.engine.tiles[place].memory.write(byte, bytes);
        written.map_err(|_| Fault::NoSuchAddress { address })
    }

    fn acquire(&mut self, lock: u32, value: i32) -> Result<bool, Fault> {
        let lock = self.lock(lock)?;
        if self.time > self.engine.now {
            self.is_early = true;
            return Ok(false);
        }
        self.engine.acquire(self.actor, lock, value)
    }

    fn release(&mut self, lock: u32, value: i32) -> Result<(), Fault> {
        let lock = self.lock(lock)?;
        self.engine.schedule_release(lock, value, self.time);
        Ok(())
    }
}

impl Engine<'_> {
    /// Checks that no core that is ahead of `actor` has stored what `actor` begins to work on: it
    /// gave back no lock between, or `actor` would come later.
    pub(crate) fn check_stores(&self, actor: Actor) -> Result<(), Fault> {
        let tile = &self.tiles[actor.tile];
        let channel = &tile.channels[actor.part];
        let mut ahead = tile.stores.iter().filter(|store| store.time > self.now).peekable();
        if tile.id.kind() != TileKind::Compute || ahead.peek().is_none() {
            return Ok(());
        }
        let stretches = stretches(channel).unwrap_or_default();
        for store in ahead {
            if let Some(address) = common(&stretches, store.bytes) {
                let (memory, channel) = (tile.id, channel.id);
                return Err(Fault::StoreDuringTransfer {
                    tile: store.by,
                    memory,
                    channel,
                    address,
                });
            }
        }
        Ok(())
    }

    /// One turn of a core: up to a lock that it does not get now, or to its end.
    pub(crate) fn step_core(&mut self, place: usize) -> Result<(), Fault> {
        let latency = self.pace.latency;
        let state = &mut self.tiles[place];
        let mut core = match state.core.take() {
            Some(core) => core,
            None => state.new_core(latency)?,
        };
        let tile = state.id;
        let start = state.core_time.max(self.now);
        let actor = Actor { tile: place, part: Actor::CORE };
        let mut view = View {
            engine: self,
            actor,
            tile,
            time: start,
            is_early: false,
            merge: None,
            guards: Vec::new(),
            guarded: Vec::new(),
        };
        let status = loop {
            match core.step(&mut view) {
                Ok(Status::Ran) => view.time += 1,
                Ok(status) => break status,
                Err(fault) => {
                    let in_core = Fault::InCore { tile, fault: Box::new(fault) };
                    return Err(view.merge.unwrap_or(in_core));
                }
            }
            let cycles = view.time - start;
            if cycles > view.engine.pace.longest_turn {
                let who = format!("core of {tile}");
                let what = "words without waiting for a lock";
                return Err(Fault::Runaway { who, steps: cycles, what });
            }
        };
        let (end, is_early) = (view.time, view.is_early);
        self.core_words += end - start;
        self.work += end - start;
        if self.pace.traces && end > start {
            let (who, what) = (String::from("core"), format!("{} words", end - start));
            self.spans.push(Span { tile, who, what, start, end });
        }
        let state = &mut self.tiles[place];
        state.core = Some(core);
        state.core_time = end;
        state.core_status = status;
        if is_early {
            self.schedule(actor, end);
        }
        Ok(())
    }
}
