//! What a DMA channel does at its turn: locks, descriptors, and data from memory into streams and
//! back.

use crate::Fault;
use crate::channel::{Active, Phase, Task};
use crate::descriptor::{Descriptor, Run, WORD_BYTES, advance_iteration, has_misplaced_padding};
use crate::engine::{Actor, Engine};
use crate::geometry::{ChannelId, Direction, TileId, TileKind};
use crate::lock::LockId;
use crate::memory::Refusal;
use crate::report::{Span, Token};
use crate::routes::{Branch, End, Path, Route};

/// The most words that move in one event: it bounds how coarse modelled time gets.
const BURST: u64 = 4096;
/// The most with a seed, where order is to be tried and not speed.
const SEEDED_BURST: u64 = 96;
/// The most stretches of a descriptor's walk that are looked at one by one. Real designs have a
/// few thousand; a hostile one of the shim has up to 2^32.
const STRETCHES_LOOKED_AT: usize = 1 << 20;
/// Words of a memory tile; its DMA sees its western neighbour's, its own, its eastern one's.
const MEMORY_WORDS: u64 = (TileKind::Memory.data_bytes() as u64) / WORD_BYTES;
/// Channels of a memory tile below this reach its neighbours (mlir-aie `AIETargetModel.h`,
/// `getMaxChannelNumForAdjacentMemTile`).
const CHANNELS_WITH_NEIGHBOURS: u8 = 4;

/// The lock that `channel`'s descriptors call `lock`.
///
/// # Errors
/// When the channel reaches no such lock.
pub(crate) fn lock_id(channel: ChannelId, lock: u8) -> Result<LockId, Fault> {
    let kind = channel.tile.kind();
    let unreachable = Fault::UnreachableLock { channel, number: lock };
    if kind != TileKind::Memory {
        let known = lock < kind.locks();
        return if known {
            Ok(LockId { tile: channel.tile, index: lock })
        } else {
            Err(unreachable)
        };
    }
    let index = lock % kind.locks();
    let tile = neighbour(channel, lock / kind.locks()).ok_or(unreachable)?;
    Ok(LockId { tile, index })
}

/// The memory tile in window `window` of a memory tile's channel.
fn neighbour(channel: ChannelId, window: u8) -> Option<TileId> {
    match window {
        1 => Some(channel.tile),
        0 | 2 if channel.index < CHANNELS_WITH_NEIGHBOURS => {
            channel.tile.offset(if window == 0 { -1 } else { 1 }, 0)
        }
        _ => None,
    }
}

impl Engine<'_> {
    /// One turn of a channel: as far as it gets without waiting, or until time has to pass.
    pub(crate) fn step_channel(&mut self, actor: Actor) -> Result<(), Fault> {
        let now = self.now;
        let channel = self.channel(actor);
        channel.time = channel.time.max(now);
        loop {
            let Some(active) = &self.channel(actor).active else {
                let Some(task) = self.channel(actor).queue.pop_front() else { return Ok(()) };
                self.start(actor, task)?;
                continue;
            };
            match (active.phase, self.channel(actor).id.direction) {
                (Phase::Acquire, _) => {
                    if !self.acquire_lock(actor)? {
                        return Ok(());
                    }
                }
                (Phase::Move, Direction::MemoryToStream) => return self.send(actor),
                (Phase::Move, Direction::StreamToMemory) => return self.take_arrived(actor),
                (Phase::Finish, _) => self.finish(actor)?,
            }
        }
    }

    fn channel(&mut self, actor: Actor) -> &mut crate::channel::Channel {
        &mut self.tiles[actor.tile].channels[actor.part]
    }

    fn id(&self, actor: Actor) -> ChannelId {
        self.tiles[actor.tile].channels[actor.part].id
    }

    fn start(&mut self, actor: Actor, task: Task) -> Result<(), Fault> {
        let active = self.load(actor, task, task.repeats, task.descriptor)?;
        let channel = self.channel(actor);
        channel.time = channel.time.max(task.queued);
        channel.active = Some(active);
        Ok(())
    }

    /// Reads descriptor `index` for `task`.
    fn load(&self, actor: Actor, task: Task, runs_left: u32, index: u8) -> Result<Active, Fault> {
        let (tile, channel) = (&self.tiles[actor.tile], self.id(actor));
        let kind = tile.id.kind();
        let words = tile.descriptors.get(usize::from(index));
        let reachable = match kind {
            TileKind::Memory => (index >= kind.descriptors() / 2) == (channel.index % 2 == 1),
            TileKind::Shim | TileKind::Compute => true,
        };
        let Some(words) = words.filter(|_| reachable) else {
            return Err(Fault::UnreachableDescriptor { channel, descriptor: index });
        };
        let descriptor = Descriptor::decode(kind, words);
        if !descriptor.valid {
            return Err(Fault::InvalidDescriptor { channel, descriptor: index });
        }
        let pads =
            |dimension: &crate::descriptor::Dimension| dimension.before + dimension.after > 0;
        let pads = descriptor.dimensions.iter().any(pads);
        let into_memory = channel.direction == Direction::StreamToMemory;
        let what = match descriptor.unsupported {
            Some(what) => Some(what),
            None if pads && into_memory => Some("zeros can only be sent"),
            None if has_misplaced_padding(&descriptor) => Some("zeros behind an open dimension"),
            None => None,
        };
        if let Some(what) = what {
            return Err(Fault::BadDescriptor { channel, descriptor: index, what });
        }
        let walk = descriptor.walk();
        let owes_header = descriptor.packet.is_some() && !into_memory;
        Ok(Active {
            task,
            runs_left,
            index,
            walk,
            descriptor,
            phase: Phase::Acquire,
            owes_header,
            since: 0,
        })
    }

    fn acquire_lock(&mut self, actor: Actor) -> Result<bool, Fault> {
        let channel = self.channel(actor);
        let (id, acquire) =
            (channel.id, channel.active.as_ref().and_then(|a| a.descriptor.acquire));
        if let Some(lock) = acquire {
            let value = lock.value;
            let lock = lock_id(id, lock.lock)?;
            if !self.acquire(actor, lock, value)? {
                return Ok(false);
            }
        }
        let channel = self.channel(actor);
        let time = channel.time;
        if let Some(active) = &mut channel.active {
            active.phase = Phase::Move;
            active.since = time;
        }
        self.check_bounds(actor)?;
        self.work += self.check_alone(actor)?;
        self.check_stores(actor)?;
        if id.direction == Direction::StreamToMemory {
            self.wake_sources(id);
        }
        Ok(true)
    }

    fn finish(&mut self, actor: Actor) -> Result<(), Fault> {
        let (now, traces) = (self.now, self.pace.traces);
        let kind = self.tiles[actor.tile].id.kind();
        let Some(active) = self.channel(actor).active.take() else { return Ok(()) };
        let id = self.id(actor);
        let index = usize::from(active.index);
        advance_iteration(kind, &mut self.tiles[actor.tile].descriptors[index]);
        if traces {
            let (tile, who) = (id.tile, format!("{} {}", id.direction, id.index));
            let what = format!("descriptor {}, {} words", active.index, active.descriptor.length);
            self.spans.push(Span { tile, who, what, start: active.since, end: now });
        }
        if let Some(lock) = active.descriptor.release {
            self.release(lock_id(id, lock.lock)?, lock.value)?;
        }
        let next = match active.descriptor.next {
            Some(next) => Some((active.runs_left, next)),
            None if active.runs_left > 1 => Some((active.runs_left - 1, active.task.descriptor)),
            None => None,
        };
        if let Some((runs_left, index)) = next {
            let active = self.load(actor, active.task, runs_left, index)?;
            self.channel(actor).active = Some(active);
            return Ok(());
        }
        if active.task.tells {
            let controller = self.channel(actor).controller();
            if !self.routes.tokens.contains(&(id.tile, controller)) {
                return Err(Fault::LostToken { channel: id, controller });
            }
            self.tokens.push(Token { channel: id, time: now });
        }
        Ok(())
    }

    /// Sends what fits.
    fn send(&mut self, actor: Actor) -> Result<(), Fault> {
        let id = self.id(actor);
        let routes = self.routes;
        let Some(route) = routes.from.get(&id) else {
            let end = String::from("its own port of the stream switch");
            return Err(Fault::DeadEnd { source_channel: id, end });
        };
        let channel = self.channel(actor);
        let left = channel.active.as_ref().map_or(0, |active| active.walk.left());
        let owes = channel.active.as_ref().is_some_and(|active| active.owes_header);
        if left == 0 && !owes {
            return self.after_move(actor);
        }
        let path = match route {
            Route::Circuit(path) => path,
            Route::Packets(paths) => match self.enter_packet(actor, paths)? {
                Some(path) => path,
                None => return Ok(()),
            },
        };
        let burst = match self.pace.seed {
            Some(_) => 1 + self.draw(SEEDED_BURST),
            None => BURST,
        };
        let room = self.room(id, path)?.min(burst);
        if room == 0 {
            return Ok(());
        }
        let mut words = std::mem::take(&mut self.scratch);
        words.clear();
        let now = self.now;
        self.channel(actor).begin_words(now);
        let header = self.header(actor);
        words.extend(header.into_iter().flat_map(u32::to_le_bytes));
        let count = room.min(left + u64::from(header.is_some())) - u64::from(header.is_some());
        self.read_words(actor, count, &mut words)?;
        for branch in &path.branches {
            let drops = branch.drops_header && self.channel(actor).packet_begins;
            let words = if drops { &words[4..] } else { &words[..] };
            self.deliver(branch, words)?;
        }
        let moved = words.len() as u64 / WORD_BYTES;
        self.scratch = words;
        let channel = self.channel(actor);
        channel.packet_begins = false;
        channel.words += moved;
        channel.time += moved;
        self.work += moved;
        self.after_move(actor)
    }

    /// Goes on with sending, or ends the descriptor, when the words are gone.
    fn after_move(&mut self, actor: Actor) -> Result<(), Fault> {
        let channel = self.channel(actor);
        let (time, is_sender) = (channel.time, channel.id.direction == Direction::MemoryToStream);
        let mut ends_packet = false;
        if let Some(active) = &mut channel.active
            && active.walk.left() == 0
            && !active.owes_header
        {
            active.phase = Phase::Finish;
            ends_packet = is_sender && !active.descriptor.suppresses_last;
        }
        if ends_packet {
            channel.packet = None;
            self.let_go(actor);
        }
        self.schedule(actor, time);
        Ok(())
    }

    /// The header that `actor` still has to send, which it now does.
    fn header(&mut self, actor: Actor) -> Option<u32> {
        let active = self.channel(actor).active.as_mut()?;
        let packet = active.descriptor.packet.filter(|_| active.owes_header)?;
        active.owes_header = false;
        Some(header_word(packet.kind, packet.id, self.id(actor).tile))
    }

    /// The path of the packet that `actor` is in, or begins; None when it has to wait.
    fn enter_packet<'r>(
        &mut self,
        actor: Actor,
        paths: &'r std::collections::BTreeMap<u8, Path>,
    ) -> Result<Option<&'r Path>, Fault> {
        let id = self.id(actor);
        let packet = match self.channel(actor).packet {
            Some(packet) => packet,
            None => self.next_packet(actor)?,
        };
        let Some(path) = paths.get(&packet) else {
            let end = format!("a switch without a slot for packets of id {packet}");
            return Err(Fault::DeadEnd { source_channel: id, end });
        };
        if !self.hold(actor, &path.arbitrated) {
            return Ok(None);
        }
        let channel = self.channel(actor);
        channel.packet_begins |= channel.packet.is_none();
        channel.packet = Some(packet);
        Ok(Some(path))
    }

    /// The id of the packet that comes next: of the header that is owed, or of the first word of
    /// data, which is then the header.
    fn next_packet(&mut self, actor: Actor) -> Result<u8, Fault> {
        let Some(active) = &self.channel(actor).active else { return Ok(0) };
        if let Some(packet) = active.descriptor.packet.filter(|_| active.owes_header) {
            return Ok(packet.id);
        }
        let walk = active.walk.clone();
        let mut word = Vec::new();
        self.read_words(actor, 1, &mut word)?;
        if let Some(active) = &mut self.channel(actor).active {
            active.walk = walk;
        }
        Ok(word.first().copied().unwrap_or(0) & 31)
    }

    /// How many words every end of `path` can take.
    fn room(&self, source: ChannelId, path: &Path) -> Result<u64, Fault> {
        let mut room = u64::MAX;
        for branch in &path.branches {
            let End::Channel(channel) = branch.end else {
                let end = branch.end.to_string();
                return Err(Fault::DeadEnd { source_channel: source, end });
            };
            let actor = self.actor_of(channel);
            let actor =
                actor.ok_or(Fault::NeedsMerge { tile: source.tile, neighbour: channel.tile })?;
            let state = &self.tiles[actor.tile].channels[actor.part];
            let direct = state.moving().filter(|_| state.arrived.is_empty());
            let buffer = self.routes.room.get(&channel).copied().unwrap_or(0);
            room = room.min(match direct {
                Some(active) => active.walk.left(),
                None => buffer.saturating_sub(state.arrived.len()) as u64,
            });
        }
        Ok(if room == u64::MAX { 0 } else { room })
    }

    fn deliver(&mut self, branch: &Branch, words: &[u8]) -> Result<(), Fault> {
        let End::Channel(channel) = branch.end else { return Ok(()) };
        let Some(actor) = self.actor_of(channel) else { return Ok(()) };
        let state = self.channel(actor);
        if state.moving().is_some() && state.arrived.is_empty() {
            return self.write_words(actor, words);
        }
        let (words, _) = words.as_chunks::<4>();
        state.arrived.extend(words.iter().map(|&word| u32::from_le_bytes(word)));
        Ok(())
    }

    /// Takes what has arrived before the channel was ready.
    fn take_arrived(&mut self, actor: Actor) -> Result<(), Fault> {
        let channel = self.channel(actor);
        let left = channel.active.as_ref().map_or(0, |active| active.walk.left());
        let count = channel.arrived.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if count > 0 {
            let words: Vec<u8> =
                channel.arrived.drain(..count).flat_map(u32::to_le_bytes).collect();
            let id = channel.id;
            self.write_words(actor, &words)?;
            self.wake_sources(id);
        } else if left == 0 {
            return self.after_move(actor);
        }
        Ok(())
    }

    /// Appends the next `count` words of `actor`'s walk to `bytes`.
    fn read_words(&mut self, actor: Actor, count: u64, bytes: &mut Vec<u8>) -> Result<(), Fault> {
        let id = self.id(actor);
        let Some(mut active) = self.channel(actor).active.take() else { return Ok(()) };
        let mut left = count;
        while let Some(run) = active.walk.next_run(left) {
            left -= run.count();
            match run {
                Run::Zeros(count) => {
                    let end = bytes.len() + to_bytes(count);
                    bytes.resize(end, 0);
                }
                Run::Words { first, count } => {
                    self.read_run(id, active.index, first, count, bytes)?
                }
            }
        }
        self.channel(actor).active = Some(active);
        Ok(())
    }

    fn read_run(
        &mut self,
        channel: ChannelId,
        descriptor: u8,
        first: u64,
        count: u64,
        bytes: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        if channel.tile.kind() == TileKind::Shim {
            let address = first * WORD_BYTES;
            if self.ddr.read(address, count * WORD_BYTES, bytes) {
                return Ok(());
            }
            return Err(Fault::OutOfBounds { channel, descriptor, address });
        }
        for piece in pieces(channel, first, count) {
            let (tile, byte, length) = piece.ok_or(outside(channel, descriptor, first))?;
            let place = self.place_of(channel.tile, tile)?;
            match self.tiles[place].memory.read(byte, length) {
                Ok(data) => bytes.extend_from_slice(data),
                Err(Refusal::Outside) => return Err(outside(channel, descriptor, first)),
                Err(Refusal::Unwritten(address)) => {
                    return Err(Fault::UnwrittenSent { channel, descriptor, tile, address });
                }
            }
        }
        Ok(())
    }

    /// Writes `words` along `actor`'s walk; time passes for it, and its descriptor ends with its
    /// last word.
    fn write_words(&mut self, actor: Actor, words: &[u8]) -> Result<(), Fault> {
        let id = self.id(actor);
        let now = self.now;
        self.channel(actor).begin_words(now);
        let Some(mut active) = self.channel(actor).active.take() else { return Ok(()) };
        let mut rest = words;
        while !rest.is_empty() {
            let Some(run) = active.walk.next_run(rest.len() as u64 / WORD_BYTES) else { break };
            let (data, behind) = rest.split_at(to_bytes(run.count()));
            rest = behind;
            // Zeros are a sender's only; `load` has seen to it.
            let Run::Words { first, .. } = run else { continue };
            self.write_run(id, active.index, first, data)?;
        }
        let moved = words.len() as u64 / WORD_BYTES;
        let is_done = active.walk.left() == 0;
        let channel = self.channel(actor);
        channel.words += moved;
        channel.time = channel.time.max(now) + moved;
        channel.active = Some(active);
        if is_done {
            self.after_move(actor)?;
        }
        Ok(())
    }

    fn write_run(
        &mut self,
        channel: ChannelId,
        descriptor: u8,
        first: u64,
        data: &[u8],
    ) -> Result<(), Fault> {
        if channel.tile.kind() == TileKind::Shim {
            let address = first * WORD_BYTES;
            if self.ddr.write(address, data) {
                return Ok(());
            }
            return Err(Fault::OutOfBounds { channel, descriptor, address });
        }
        let mut rest = data;
        for piece in pieces(channel, first, data.len() as u64 / WORD_BYTES) {
            let (tile, byte, length) = piece.ok_or(outside(channel, descriptor, first))?;
            let place = self.place_of(channel.tile, tile)?;
            let (here, behind) = rest.split_at(length);
            rest = behind;
            let written = self.tiles[place].memory.write(byte, here);
            written.map_err(|_| outside(channel, descriptor, first))?;
        }
        Ok(())
    }

    /// Checks that the whole of the descriptor `actor` begins is inside its memory.
    fn check_bounds(&self, actor: Actor) -> Result<(), Fault> {
        let channel = self.id(actor);
        let Some(active) = &self.tiles[actor.tile].channels[actor.part].active else {
            return Ok(());
        };
        let descriptor = active.index;
        let inside = |first: u64, end: u64| match channel.tile.kind() {
            TileKind::Shim => self.ddr.holds(first * WORD_BYTES, (end - first) * WORD_BYTES),
            _ => pieces(channel, first, end - first).all(|piece| piece.is_some()),
        };
        let (first, end) = active.walk.bounds();
        if first == end || inside(first, end) {
            return Ok(());
        }
        // The bounds are exact: either a word is outside, or the walk goes from one argument of
        // the machine's memory to another. Look for the first word outside.
        for run in active.walk.clone().runs().take(STRETCHES_LOOKED_AT) {
            let Run::Words { first, count } = run else { continue };
            if !inside(first, first + count) {
                let address = first_outside(first, count, inside) * WORD_BYTES;
                return Err(Fault::OutOfBounds { channel, descriptor, address });
            }
        }
        if !inside(end - 1, end) {
            let address = (end - 1) * WORD_BYTES;
            return Err(Fault::OutOfBounds { channel, descriptor, address });
        }
        if active.walk.clone().runs().nth(STRETCHES_LOOKED_AT).is_none() {
            return Ok(());
        }
        let (most, other) = (STRETCHES_LOOKED_AT, "the edge of an argument".into());
        Err(Fault::TooScattered { channel, descriptor, most, other })
    }

    /// Checks that nobody else is at work on the memory that `actor` begins to work on. Returns
    /// how many stretches of memory were compared.
    fn check_alone(&self, actor: Actor) -> Result<u64, Fault> {
        let this = &self.tiles[actor.tile].channels[actor.part];
        let Some(active) = &this.active else { return Ok(0) };
        let mut compared = 0;
        let mine = space(this.id, active.descriptor.walk().bounds());
        for tile in &self.tiles {
            if !may_meet(this.id.tile, tile.id) {
                continue;
            }
            for other in tile.channels.iter().filter(|other| other.id != this.id) {
                let Some(theirs) = other.holding() else { continue };
                let reads = |id: ChannelId| id.direction == Direction::MemoryToStream;
                let bounds = space(other.id, theirs.descriptor.walk().bounds());
                if reads(this.id) && reads(other.id) || bounds.0 >= mine.1 || mine.0 >= bounds.1 {
                    continue;
                }
                let mine = stretches(this.id, active, other.id)?;
                let theirs = stretches(other.id, theirs, this.id)?;
                compared += (mine.len() + theirs.len()) as u64;
                if let Some(word) = first_common(&mine, &theirs) {
                    let address = word * WORD_BYTES;
                    return Err(Fault::ConcurrentAccess {
                        first: other.id,
                        second: this.id,
                        address,
                    });
                }
            }
        }
        Ok(compared)
    }
}

/// Where the walk of a channel's descriptor is in memory, sorted, for a comparison with `other`.
///
/// # Errors
/// A walk of more stretches than are looked at: it could have one for each of 2^32 words.
fn stretches(
    channel: ChannelId,
    active: &Active,
    other: ChannelId,
) -> Result<Vec<(u64, u64)>, Fault> {
    let runs = active.descriptor.walk().runs().take(STRETCHES_LOOKED_AT + 1);
    let words = runs.filter_map(|run| match run {
        Run::Words { first, count } => Some(space(channel, (first, first + count))),
        Run::Zeros(_) => None,
    });
    let mut stretches: Vec<(u64, u64)> = words.collect();
    if stretches.len() > STRETCHES_LOOKED_AT {
        let (descriptor, most) = (active.index, STRETCHES_LOOKED_AT);
        let other = other.to_string();
        return Err(Fault::TooScattered { channel, descriptor, most, other });
    }
    stretches.sort_unstable();
    Ok(stretches)
}

/// The first word of a stretch that is outside: inside is what comes before it.
fn first_outside(first: u64, count: u64, inside: impl Fn(u64, u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, count);
    // So many words from the first are inside; not so many.
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if inside(first, first + middle) { low = middle } else { high = middle }
    }
    first + low
}

/// A packet's header (mlir-aie, packet headers of the stream network): id in bits 4 to 0, type in
/// 14 to 12, source row in 20 to 16, source column in 27 to 21, odd parity in bit 31.
fn header_word(kind: u8, id: u8, tile: TileId) -> u32 {
    let word = u32::from(id)
        | u32::from(kind) << 12
        | u32::from(tile.row) << 16
        | u32::from(tile.column) << 21;
    let parity = (word.count_ones() + 1) % 2;
    word | parity << 31
}

/// Where words of a channel are in a space that it shares with whoever may meet it there: the
/// row of memory tiles, one compute tile's memory, or the machine's.
fn space(channel: ChannelId, (first, end): (u64, u64)) -> (u64, u64) {
    let shift = match channel.tile.kind() {
        TileKind::Memory => u64::from(channel.tile.column) * MEMORY_WORDS,
        TileKind::Shim | TileKind::Compute => 0,
    };
    (first + shift, end + shift)
}

fn may_meet(one: TileId, other: TileId) -> bool {
    match one.kind() {
        TileKind::Compute => one == other,
        TileKind::Memory => other.row == one.row && one.column.abs_diff(other.column) <= 2,
        TileKind::Shim => other.row == one.row,
    }
}

/// The first word that two sorted lists of stretches share.
fn first_common(one: &[(u64, u64)], other: &[(u64, u64)]) -> Option<u64> {
    let (mut left, mut right) = (one.iter().peekable(), other.iter().peekable());
    while let (Some(&&a), Some(&&b)) = (left.peek(), right.peek()) {
        if a.0.max(b.0) < a.1.min(b.1) {
            return Some(a.0.max(b.0));
        }
        if a.1 <= b.1 {
            left.next();
        } else {
            right.next();
        }
    }
    None
}

/// The tiles, bytes and lengths of `count` words from word `first`; None for what is nowhere.
fn pieces(
    channel: ChannelId,
    first: u64,
    count: u64,
) -> impl Iterator<Item = Option<(TileId, u32, usize)>> {
    let window = match channel.tile.kind() {
        TileKind::Memory => MEMORY_WORDS,
        _ => channel.tile.kind().data_bytes() as u64 / WORD_BYTES,
    };
    let mut next = first;
    let end = first + count;
    std::iter::from_fn(move || {
        if next >= end {
            return None;
        }
        let (number, inside) = (next / window, next % window);
        let length = (window - inside).min(end - next);
        next += length;
        let tile = match channel.tile.kind() {
            TileKind::Memory => u8::try_from(number).ok().and_then(|n| neighbour(channel, n)),
            _ => (number == 0).then_some(channel.tile),
        };
        let byte = u32::try_from(inside * WORD_BYTES).ok();
        Some(tile.zip(byte).map(|(tile, byte)| (tile, byte, to_bytes(length))))
    })
}

fn outside(channel: ChannelId, descriptor: u8, first: u64) -> Fault {
    Fault::OutOfBounds { channel, descriptor, address: first * WORD_BYTES }
}

/// Bytes of so many words, which are in this process's memory.
#[expect(clippy::cast_possible_truncation, reason = "bounded by what a descriptor can move")]
fn to_bytes(words: u64) -> usize {
    (words * WORD_BYTES) as usize
}
