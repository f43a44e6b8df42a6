//! What a traced entry says of its steps: the region of each, and the values it leaves in memory.

use onebit_ir::Graph;
use onebit_plan::manifest::{Scratch, Tap, TracedStep};

use super::arena::Arena;
use super::u32_of;
use crate::schedule::steps::{Binding, BufferId, RowStep, Schedule, ScheduledStep, Scope, Step};
use crate::schedule::taps;

/// One for each step of `schedule`. Steps of all entries stand for the same regions: entries come
/// from one graph and differ only in how the team shares the work.
pub fn steps(graph: &Graph, schedule: &Schedule, arena: &Arena) -> Vec<TracedStep> {
    let step = |(index, scheduled): (usize, &ScheduledStep)| TracedStep {
        region: u32_of(index),
        taps: taps(graph, schedule, arena, &scheduled.step),
    };
    schedule.steps.iter().enumerate().map(step).collect()
}

fn taps(graph: &Graph, schedule: &Schedule, arena: &Arena, step: &Step) -> Vec<Tap> {
    let tap = |buffer: BufferId| {
        let scratch = match schedule.buffers[buffer.0].scope {
            Scope::Shared => Scratch::Arena,
            Scope::Private => Scratch::Private,
            Scope::Logits => return None,
        };
        taps::tap(graph, schedule, buffer, (scratch, arena.offset(buffer) as u64))
    };
    written(step).into_iter().filter_map(tap).collect()
}

/// The buffers that hold results of `step` when it has ended.
fn written(step: &Step) -> Vec<BufferId> {
    match step {
        Step::Gather { out, .. } | Step::RopeTable { out, .. } => vec![out.buffer],
        Step::Rows(rows) => results(rows),
        Step::Matmul { product, .. } => vec![product.out.buffer],
        Step::Array { out, .. } | Step::Attention { out, .. } => vec![out.buffer],
        Step::Gated { gate, up, epilogue } => {
            let mut all = vec![gate.out.buffer, up.out.buffer];
            all.extend(results(epilogue));
            all
        }
        // Codes, which an array keeps to itself.
        Step::ArrayGate { .. } | Step::KvWrite { .. } => Vec::new(),
    }
}

fn results(step: &RowStep) -> Vec<BufferId> {
    let written = |binding: &Binding| match binding {
        Binding::Write(view) => Some(view.buffer),
        Binding::Read(_) | Binding::Vector(_) => None,
    };
    step.bindings.iter().filter_map(written).collect()
}
