//! What steps read and write: buffers, and the caches of attentions.

use std::collections::HashMap;

use super::{Binding, BufferId, Product, RowStep, Schedule, ShapeId, Step};

/// Memory that steps meet on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Memory {
    Buffer(BufferId),
    /// Keys and values of one layer.
    Cache(ShapeId),
}

/// Memory that a step uses.
#[derive(Clone, Debug, Default)]
pub struct Uses {
    pub reads: Vec<Memory>,
    pub writes: Vec<Memory>,
}

/// Everything that `step` reads and writes.
pub fn uses(step: &Step) -> Uses {
    let buffer = Memory::Buffer;
    match step {
        Step::Gather { out, .. } | Step::RopeTable { out, .. } => {
            Uses { reads: Vec::new(), writes: vec![buffer(out.buffer)] }
        }
        Step::Rows(rows) => row_uses(rows),
        Step::Matmul { product, .. } => product_uses(product),
        Step::Array { activation, out, .. } | Step::ArrayGate { activation, out, .. } => {
            Uses { reads: vec![buffer(*activation)], writes: vec![buffer(out.buffer)] }
        }
        Step::Gated { gate, up, epilogue } => {
            let mut all = product_uses(gate);
            for more in [product_uses(up), row_uses(epilogue)] {
                all.reads.extend(more.reads);
                all.writes.extend(more.writes);
            }
            all
        }
        Step::KvWrite { shape, k, v } => Uses {
            reads: vec![buffer(k.buffer), buffer(v.buffer)],
            writes: vec![Memory::Cache(*shape)],
        },
        Step::Attention { shape, q, out } => Uses {
            reads: vec![buffer(q.buffer), Memory::Cache(*shape)],
            writes: vec![buffer(out.buffer)],
        },
    }
}

/// For each step, the steps before it whose results it reads, ascending.
pub fn edges(schedule: &Schedule) -> Vec<Vec<usize>> {
    let mut writers: HashMap<Memory, Vec<usize>> = HashMap::new();
    let mut edges = Vec::with_capacity(schedule.steps.len());
    for (index, scheduled) in schedule.steps.iter().enumerate() {
        let Uses { reads, writes } = uses(&scheduled.step);
        let mut from: Vec<usize> =
            reads.iter().filter_map(|memory| writers.get(memory)).flatten().copied().collect();
        from.sort_unstable();
        from.dedup();
        edges.push(from);
        for memory in writes {
            writers.entry(memory).or_default().push(index);
        }
    }
    edges
}

fn product_uses(product: &Product) -> Uses {
    let (read, write) = (product.activation, product.out.buffer);
    Uses { reads: vec![Memory::Buffer(read)], writes: vec![Memory::Buffer(write)] }
}

fn row_uses(step: &RowStep) -> Uses {
    let mut uses = Uses::default();
    for binding in &step.bindings {
        match binding {
            Binding::Read(view) => uses.reads.push(Memory::Buffer(view.buffer)),
            Binding::Write(view) => uses.writes.push(Memory::Buffer(view.buffer)),
            Binding::Vector(_) => {}
        }
    }
    uses
}
