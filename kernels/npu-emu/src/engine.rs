//! The events of one group of tiles: DMA channels and cores, in the order of modelled time.
//!
//! Who can move has an event at the cycle up to which it has worked. The earliest event goes
//! first; equal ones go in a fixed order, or in one that a seed draws. A channel moves as many
//! words at once as its stream's ends can take, a core runs up to its next lock operation. Locks
//! and streams change only at the time of an event, so nobody sees the future.
//!
//! Time is a model: a stream carries a word a cycle, a core executes a word a cycle, everything
//! else takes none. The results do not depend on it unless the program's do, which other seeds
//! show.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use crate::Fault;
use crate::channel::Phase;
use crate::ddr::Ddr;
use crate::geometry::{ChannelId, Direction, ROWS, TileId};
use crate::lock::LockId;
use crate::random::Random;
use crate::report::{Span, Token};
use crate::routes::Routes;
use crate::switch::MasterId;
use crate::tile::Tile;

/// Who moves: a place in the group's tiles, and the channel's place there or the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Actor {
    pub tile: usize,
    pub part: usize,
}

impl Actor {
    /// The part that is the core, behind all channels of any tile.
    pub const CORE: usize = 15;
    const PARTS: usize = 16;

    const fn place(self) -> usize {
        self.tile * Self::PARTS + self.part
    }
}

/// How the model is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Draws the order of equal events, the sizes of bursts and stalls.
    pub seed: Option<u64>,
    /// Whether spans are recorded.
    pub traces: bool,
    /// What a core does that reads memory nobody wrote.
    pub unwritten: crate::array::Unwritten,
    /// How long a core's results take.
    pub latency: crate::array::Latency,
    /// Words that a core may execute in one turn.
    pub longest_turn: u64,
    /// Work of the group until it comes to rest.
    pub longest_settle: u64,
}

/// What an event counts as beside the words that it moves or executes, in words: it takes about
/// as long, and one that does nothing must not be free.
const EVENT_WORK: u64 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Move(Actor),
    /// A core gives a lock back; it may have run on since.
    Release(LockId, i32),
}

/// A group of tiles that shares nothing with others until the next sync.
pub(crate) struct Engine<'a> {
    pub tiles: Vec<Tile>,
    /// Where each tile of the array is in `tiles`.
    pub places: Vec<Option<usize>>,
    pub routes: &'a Routes,
    pub ddr: Ddr<'a>,
    pub pace: Pace,
    pub tokens: Vec<Token>,
    pub spans: Vec<Span>,
    /// Instruction words that cores executed.
    pub core_words: u64,
    /// Words executed and words sent so far, and [`EVENT_WORK`] for each event.
    pub(crate) work: u64,
    pub(crate) now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    scheduled: Vec<Option<u64>>,
    lock_waiters: BTreeMap<LockId, BTreeSet<Actor>>,
    /// Master ports in the middle of a packet, and whose it is.
    held: BTreeMap<MasterId, Actor>,
    port_waiters: BTreeSet<Actor>,
    random: Option<Random>,
    pub(crate) scratch: Vec<u8>,
}

impl<'a> Engine<'a> {
    /// A group of `tiles`, ready to run.
    pub fn new(tiles: Vec<Tile>, routes: &'a Routes, ddr: Ddr<'a>, pace: Pace) -> Self {
        let mut places = vec![None; TileId::all().count()];
        for (place, tile) in tiles.iter().enumerate() {
            places[number(tile.id)] = Some(place);
        }
        let stream = tiles.first().map_or(0, |tile| number(tile.id)) as u64;
        let mut engine = Engine {
            scheduled: vec![None; tiles.len() * Actor::PARTS],
            tiles,
            places,
            routes,
            ddr,
            pace,
            tokens: Vec::new(),
            spans: Vec::new(),
            core_words: 0,
            work: 0,
            now: 0,
            events: BinaryHeap::new(),
            lock_waiters: BTreeMap::new(),
            held: BTreeMap::new(),
            port_waiters: BTreeSet::new(),
            random: pace.seed.map(|seed| Random::new(seed, stream)),
            scratch: Vec::new(),
        };
        engine.take_ports_back();
        engine.schedule_all();
        engine
    }

    /// Runs until nobody can move.
    ///
    /// # Errors
    /// The first fault in modelled time; [`Fault::Runaway`] when there is no end.
    pub fn run(&mut self) -> Result<(), Fault> {
        while let Some(Reverse((time, _, event))) = self.events.pop() {
            self.now = time;
            match event {
                Event::Release(lock, value) => self.release(lock, value)?,
                Event::Move(actor) => {
                    if self.scheduled[actor.place()] != Some(time) {
                        continue;
                    }
                    self.scheduled[actor.place()] = None;
                    if actor.part == Actor::CORE {
                        self.step_core(actor.tile)?;
                    } else {
                        self.step_channel(actor)?;
                    }
                    self.count_event(actor)?;
                }
            }
        }
        Ok(())
    }

    /// Descriptors may follow themselves without a lock, and cores may go round on locks that are
    /// always free: such a group moves for ever.
    fn count_event(&mut self, actor: Actor) -> Result<(), Fault> {
        self.work += EVENT_WORK;
        if self.work <= self.pace.longest_settle {
            return Ok(());
        }
        let tile = &self.tiles[actor.tile];
        let who = match tile.channels.get(actor.part) {
            Some(channel) => channel.id.to_string(),
            None => format!("core of {}", tile.id),
        };
        let what = "words and events without coming to rest";
        Err(Fault::Runaway { who, steps: self.work, what })
    }

    /// Plans a move of `actor` at cycle `time`, or now if that is over.
    pub(crate) fn schedule(&mut self, actor: Actor, time: u64) {
        let delay = self.draw(4);
        let time = time.max(self.now) + delay;
        let planned = &mut self.scheduled[actor.place()];
        if planned.is_some_and(|planned| planned <= time) {
            return;
        }
        *planned = Some(time);
        let tie = self.draw(u64::MAX);
        self.events.push(Reverse((time, tie, Event::Move(actor))));
    }

    /// Plans that `lock` gets `value` at cycle `time`.
    pub(crate) fn schedule_release(&mut self, lock: LockId, value: i32, time: u64) {
        let tie = self.draw(u64::MAX);
        self.events.push(Reverse((time.max(self.now), tie, Event::Release(lock, value))));
    }

    /// A number below `bound`; zero without a seed.
    pub(crate) fn draw(&mut self, bound: u64) -> u64 {
        self.random.as_mut().map_or(0, |random| random.below(bound))
    }

    /// Where the tile is in this group.
    ///
    /// # Errors
    /// [`Fault::NeedsMerge`] when it is in another one.
    pub(crate) fn place_of(&self, user: TileId, tile: TileId) -> Result<usize, Fault> {
        self.places[number(tile)].ok_or(Fault::NeedsMerge { tile: user, neighbour: tile })
    }

    /// The actor of a channel, if it is in this group.
    pub(crate) fn actor_of(&self, channel: ChannelId) -> Option<Actor> {
        let tile = self.places[number(channel.tile)]?;
        let part = self.tiles[tile].channel_place(channel.direction, channel.index);
        Some(Actor { tile, part })
    }

    /// Takes `value` from `lock`, or notes that `actor` waits for it.
    pub(crate) fn acquire(
        &mut self,
        actor: Actor,
        lock: LockId,
        value: i32,
    ) -> Result<bool, Fault> {
        let user = self.tiles[actor.tile].id;
        let place = self.place_of(user, lock.tile)?;
        let taken = self.tiles[place].locks.acquire(lock.index, value)?;
        if taken {
            // A smaller value may be what somebody waits for: locks can be asked for exactly.
            self.wake_waiters(lock);
        } else {
            self.lock_waiters.entry(lock).or_default().insert(actor);
        }
        Ok(taken)
    }

    /// Adds `value` to `lock` now.
    pub(crate) fn release(&mut self, lock: LockId, value: i32) -> Result<(), Fault> {
        let place = self.place_of(lock.tile, lock.tile)?;
        self.tiles[place].locks.release(lock.index, value)?;
        self.wake_waiters(lock);
        Ok(())
    }

    fn wake_waiters(&mut self, lock: LockId) {
        for actor in self.lock_waiters.remove(&lock).unwrap_or_default() {
            self.schedule(actor, self.now);
        }
    }

    /// Keeps the arbitrated ports of a packet for `actor`; false, and a note, when one is taken.
    pub(crate) fn hold(&mut self, actor: Actor, ports: &[MasterId]) -> bool {
        let taken = |port| self.held.get(port).is_some_and(|&holder| holder != actor);
        if ports.iter().any(taken) {
            self.port_waiters.insert(actor);
            return false;
        }
        self.held.extend(ports.iter().map(|&port| (port, actor)));
        true
    }

    /// Gives all arbitrated ports of `actor` back.
    pub(crate) fn let_go(&mut self, actor: Actor) {
        self.held.retain(|_, &mut holder| holder != actor);
        for waiter in std::mem::take(&mut self.port_waiters) {
            self.schedule(waiter, self.now);
        }
    }

    /// Wakes whoever sends to `channel`.
    pub(crate) fn wake_sources(&mut self, channel: ChannelId) {
        let routes = self.routes;
        for &source in routes.sources.get(&channel).into_iter().flatten() {
            if let Some(actor) = self.actor_of(source) {
                self.schedule(actor, self.now);
            }
        }
    }

    /// Packets that were half sent at the last sync still hold their ports.
    fn take_ports_back(&mut self) {
        let routes = self.routes;
        for tile in 0..self.tiles.len() {
            for part in 0..self.tiles[tile].channels.len() {
                let channel = &self.tiles[tile].channels[part];
                let route = routes.from.get(&channel.id);
                if let (Some(id), Some(crate::routes::Route::Packets(paths))) =
                    (channel.packet, route)
                    && let Some(path) = paths.get(&id)
                {
                    self.hold(Actor { tile, part }, &path.arbitrated);
                }
            }
        }
    }

    fn schedule_all(&mut self) {
        for tile in 0..self.tiles.len() {
            for part in 0..self.tiles[tile].channels.len() {
                let channel = &self.tiles[tile].channels[part];
                if channel.active.is_some() || !channel.queue.is_empty() {
                    let time = channel.time;
                    self.schedule(Actor { tile, part }, time);
                }
            }
            if self.tiles[tile].core_runs() {
                let time = self.tiles[tile].core_time;
                self.schedule(Actor { tile, part: Actor::CORE }, time);
            }
        }
    }

    /// What everybody who has something to do waits for.
    pub fn waiting(&self) -> Vec<String> {
        let mut waiting = Vec::new();
        for tile in &self.tiles {
            for channel in &tile.channels {
                let Some(mut text) = channel.waits_for() else { continue };
                if channel.id.direction == Direction::MemoryToStream
                    && channel.moving().is_some()
                    && let Some(route) = self.routes.from.get(&channel.id)
                {
                    let branches = route.paths().flat_map(|path| &path.branches);
                    let ends: Vec<String> = branches.map(|branch| branch.end.to_string()).collect();
                    text.push_str(&format!(" by {}", ends.join(", ")));
                }
                if let Some((lock, value)) = self.lock_of(channel) {
                    text.push_str(&format!(" ({lock} is {value})"));
                }
                waiting.push(text);
            }
            waiting.extend(tile.core_waits_for());
        }
        waiting
    }

    fn lock_of(&self, channel: &crate::channel::Channel) -> Option<(LockId, i32)> {
        let active = channel.active.as_ref().filter(|active| active.phase == Phase::Acquire)?;
        let lock = crate::transfer::lock_id(channel.id, active.descriptor.acquire?.lock).ok()?;
        let place = self.places[number(lock.tile)]?;
        Some((lock, self.tiles[place].locks.value(lock.index)))
    }
}

/// The number of a tile in the order of [`TileId::all`].
pub(crate) fn number(tile: TileId) -> usize {
    usize::from(tile.column) * usize::from(ROWS) + usize::from(tile.row)
}
