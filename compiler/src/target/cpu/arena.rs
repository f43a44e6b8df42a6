//! Addresses of an entry's buffers: live ranges by step, then the memory plan.

use onebit_plan::abi::{BUFFER_ALIGN, q8_bytes};

use crate::schedule::memory::{self, Live};
use crate::schedule::steps::uses::{self, Memory, Uses};
use crate::schedule::steps::{Buffer, BufferId, Contents, Schedule, Scope, Step};

/// Steps that a shared buffer stays in place after its last use: reusing memory at once would
/// need a barrier that the schedule does not otherwise have.
const LINGER: usize = 2;

/// Offsets of all buffers of a schedule.
#[derive(Clone, Debug)]
pub struct Arena {
    /// By buffer; within the arena, or within the thread's private memory.
    offsets: Vec<usize>,
    sizes: Vec<usize>,
    pub shared_bytes: usize,
    pub private_bytes: usize,
}

impl Arena {
    pub fn plan(schedule: &Schedule) -> Self {
        let lives = live_ranges(schedule);
        let mut arena = Self {
            offsets: vec![0; lives.len()],
            sizes: lives.iter().map(|live| live.bytes).collect(),
            shared_bytes: 0,
            private_bytes: 0,
        };
        arena.shared_bytes = arena.place(schedule, &lives, Scope::Shared);
        arena.private_bytes = arena.place(schedule, &lives, Scope::Private);
        arena
    }

    pub fn offset(&self, buffer: BufferId) -> usize {
        self.offsets[buffer.0]
    }

    /// Size of `buffer`.
    pub fn bytes(&self, buffer: BufferId) -> usize {
        self.sizes[buffer.0]
    }

    /// Whether two buffers that the team shares have bytes in common.
    pub fn overlap(&self, schedule: &Schedule, a: BufferId, b: BufferId) -> bool {
        let scope = |id: BufferId| schedule.buffers[id.0].scope;
        if a == b {
            return true;
        }
        let (x, y) = (self.offset(a), self.offset(b));
        scope(a) == scope(b) && x < y + self.sizes[b.0] && y < x + self.sizes[a.0]
    }

    fn place(&mut self, schedule: &Schedule, lives: &[Live], scope: Scope) -> usize {
        let members: Vec<usize> =
            (0..lives.len()).filter(|&i| schedule.buffers[i].scope == scope).collect();
        let ranges: Vec<Live> = members.iter().map(|&i| lives[i]).collect();
        let layout = memory::assign(&ranges, BUFFER_ALIGN);
        for (&buffer, &offset) in members.iter().zip(&layout.offsets) {
            self.offsets[buffer] = offset;
        }
        layout.bytes
    }
}

/// First and last step that touch each buffer; `None` for those that no step does.
pub fn used(schedule: &Schedule) -> Vec<Option<(usize, usize)>> {
    let mut used: Vec<Option<(usize, usize)>> = vec![None; schedule.buffers.len()];
    for (index, scheduled) in schedule.steps.iter().enumerate() {
        for buffer in touched(&scheduled.step) {
            let (first, last) = used[buffer.0].get_or_insert((index, index));
            (*first, *last) = ((*first).min(index), (*last).max(index));
        }
    }
    used
}

fn live_ranges(schedule: &Schedule) -> Vec<Live> {
    let bytes = |contents: Contents| match contents {
        Contents::F32 { width } => schedule.max_rows * width * 4,
        Contents::Q8 { width } => q8_bytes(schedule.max_rows, width),
    };
    let live = |(buffer, used): (&Buffer, Option<(usize, usize)>)| {
        let (first, last) = used.map_or((usize::MAX, 0), |(first, last)| (first, last + LINGER));
        Live { first, last, bytes: bytes(buffer.contents) }
    };
    schedule.buffers.iter().zip(used(schedule)).map(live).collect()
}

/// Every buffer that `step` reads or writes.
fn touched(step: &Step) -> impl Iterator<Item = BufferId> {
    let Uses { reads, writes } = uses::uses(step);
    reads.into_iter().chain(writes).filter_map(|memory| match memory {
        Memory::Buffer(buffer) => Some(buffer),
        Memory::Cache(_) => None,
    })
}
