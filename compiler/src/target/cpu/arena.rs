//! Addresses of an entry's buffers: live ranges by step, then the memory plan.

use onebit_plan::abi::{BUFFER_ALIGN, q8_bytes};

use crate::schedule::memory::{self, Live};
use crate::schedule::steps::{Binding, BufferId, Contents, RowStep, Schedule, Scope, Step};

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

fn live_ranges(schedule: &Schedule) -> Vec<Live> {
    let bytes = |contents: Contents| match contents {
        Contents::F32 { width } => schedule.max_rows * width * 4,
        Contents::Q8 { width } => q8_bytes(schedule.max_rows, width),
    };
    let mut lives: Vec<Live> = schedule
        .buffers
        .iter()
        .map(|buffer| Live { first: usize::MAX, last: 0, bytes: bytes(buffer.contents) })
        .collect();
    for (index, scheduled) in schedule.steps.iter().enumerate() {
        for buffer in touched(&scheduled.step) {
            let live = &mut lives[buffer.0];
            live.first = live.first.min(index);
            live.last = live.last.max(index + LINGER);
        }
    }
    lives
}

/// Every buffer that `step` reads or writes.
fn touched(step: &Step) -> Vec<BufferId> {
    match step {
        Step::Gather { out, .. } | Step::RopeTable { out, .. } => vec![out.buffer],
        Step::Rows(rows) => bound(rows).collect(),
        Step::Matmul { product, .. } => vec![product.activation, product.out.buffer],
        Step::Array { activation, out, .. } => vec![*activation, out.buffer],
        Step::Gated { gate, up, epilogue } => {
            let mut all = vec![gate.activation, gate.out.buffer, up.activation, up.out.buffer];
            all.extend(bound(epilogue));
            all
        }
        Step::KvWrite { k, v, .. } => vec![k.buffer, v.buffer],
        Step::Attention { q, out, .. } => vec![q.buffer, out.buffer],
    }
}

fn bound(step: &RowStep) -> impl Iterator<Item = BufferId> {
    step.bindings.iter().filter_map(|binding| match binding {
        Binding::Read(view) | Binding::Write(view) => Some(view.buffer),
        Binding::Vector(_) => None,
    })
}
