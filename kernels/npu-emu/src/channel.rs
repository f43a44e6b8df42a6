//! The state of one DMA channel: its queue of tasks and the descriptor it is at.

use std::collections::VecDeque;

use crate::Fault;
use crate::descriptor::{Descriptor, Walk};
use crate::geometry::{ChannelId, Direction, bits};

/// Tasks that a queue holds besides the one that runs.
const QUEUE_DEPTH: usize = 4;

/// A task: a chain of descriptors, run so many times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// The first descriptor.
    pub descriptor: u8,
    /// How often the chain runs.
    pub repeats: u32,
    /// Whether its end is told to the controller.
    pub tells: bool,
    /// When it was queued.
    pub queued: u64,
}

/// What a channel does with its descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It needs the lock.
    Acquire,
    /// It moves data.
    Move,
    /// All data is moved.
    Finish,
}

/// A task that runs.
#[derive(Clone, Debug)]
pub struct Active {
    /// The task.
    pub task: Task,
    /// Runs of the chain that are left, this one included.
    pub runs_left: u32,
    /// The number of the descriptor it is at.
    pub index: u8,
    /// The descriptor it is at.
    pub descriptor: Descriptor,
    /// Where in memory it is.
    pub walk: Walk,
    /// What it does.
    pub phase: Phase,
    /// Whether the packet's header still has to be sent.
    pub owes_header: bool,
    /// When its first word moved, or when it could have.
    pub since: u64,
}

/// A DMA channel.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Which one.
    pub id: ChannelId,
    /// Its control word.
    pub control: u32,
    /// Tasks that wait.
    pub queue: VecDeque<Task>,
    /// The task that runs.
    pub active: Option<Active>,
    /// Cycles up to which it has worked.
    pub time: u64,
    /// Words that arrived and were not taken yet.
    pub arrived: VecDeque<u32>,
    /// The packet that is half sent.
    pub packet: Option<u8>,
    /// Whether the next word is the first of its packet.
    pub packet_begins: bool,
    /// Words moved since the start.
    pub words: u64,
}

impl Channel {
    /// An idle channel.
    pub fn new(id: ChannelId) -> Self {
        Channel {
            id,
            control: 0,
            queue: VecDeque::new(),
            active: None,
            time: 0,
            arrived: VecDeque::new(),
            packet: None,
            packet_begins: false,
            words: 0,
        }
    }

    /// Puts the task that `word` describes into the queue.
    ///
    /// # Errors
    /// When the queue is full.
    pub fn push(&mut self, word: u32, now: u64) -> Result<(), Fault> {
        let room = QUEUE_DEPTH + usize::from(self.active.is_none());
        if self.queue.len() >= room {
            return Err(Fault::QueueOverflow { channel: self.id });
        }
        self.queue.push_back(Task {
            descriptor: u8::try_from(bits(word, 5, 0)).unwrap_or(u8::MAX),
            repeats: bits(word, 23, 16) + 1,
            tells: bits(word, 31, 31) != 0,
            queued: now,
        });
        Ok(())
    }

    /// Forgets everything it was to do.
    pub fn reset(&mut self) {
        self.queue.clear();
        self.active = None;
        self.arrived.clear();
        self.packet = None;
    }

    /// The id of the controller that its tokens go to.
    pub fn controller(&self) -> u8 {
        u8::try_from(bits(self.control, 15, 8)).unwrap_or(u8::MAX)
    }

    /// Whether it works on descriptor `index`, or has a task that starts with it.
    pub fn uses(&self, index: u8) -> bool {
        self.active.as_ref().is_some_and(|active| active.index == index)
            || self.queue.iter().any(|task| task.descriptor == index)
    }

    /// Notes that words move from cycle `now` on.
    pub fn begin_words(&mut self, now: u64) {
        if let Some(active) = &mut self.active
            && active.walk.left() == active.descriptor.length
        {
            active.since = now;
        }
    }

    /// Whether it moves data right now.
    pub fn moving(&self) -> Option<&Active> {
        self.active.as_ref().filter(|active| active.phase == Phase::Move)
    }

    /// Whether it has its lock and has not given it back: its memory is its own.
    pub fn holding(&self) -> Option<&Active> {
        self.active.as_ref().filter(|active| active.phase != Phase::Acquire)
    }

    /// The status register, as far as a controller polls it: state, running bit, tasks that wait,
    /// current descriptor.
    pub fn status(&self) -> u32 {
        let queued = u32::try_from(self.queue.len()).unwrap_or(u32::MAX).min(7) << 20;
        let Some(active) = &self.active else { return queued | u32::from(queued > 0) << 19 };
        let stalled = match (active.phase, self.id.direction) {
            (Phase::Acquire, _) => 1 << 2,
            (Phase::Move, _) => 1 << 4,
            (Phase::Finish, _) => 0,
        };
        u32::from(active.index) << 24 | queued | 1 << 19 | stalled | 2
    }

    /// What it waits for; None when it has nothing to do.
    pub fn waits_for(&self) -> Option<String> {
        let active = self.active.as_ref()?;
        let left = active.walk.left();
        let what = match (active.phase, self.id.direction) {
            (Phase::Acquire, _) => match active.descriptor.acquire {
                Some(lock) if lock.value < 0 => {
                    format!("its lock {} to be at least {}", lock.lock, -lock.value)
                }
                Some(lock) => format!("its lock {} to be {}", lock.lock, lock.value),
                None => String::from("its turn"),
            },
            (Phase::Move, Direction::StreamToMemory) => format!("{left} words to arrive"),
            (Phase::Move, Direction::MemoryToStream) => format!("{left} words to be taken"),
            (Phase::Finish, _) => String::from("its turn"),
        };
        Some(format!("{} at descriptor {} waits for {what}", self.id, active.index))
    }
}
