//! Where the team must wait: a step that touches memory another thread may still be using.
//!
//! Two accesses need no barrier between them when both only read, or when both split one buffer
//! over the team in the same way, so that each thread meets its own part again.

use super::arena::Arena;
use crate::schedule::steps::{
    Binding, BufferId, Product, RowStep, Rows, Schedule, Scope, Sharing, Step, View,
};

/// How an access is shared by the team.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Split {
    /// Thread t touches its range of rows.
    Rows(Rows),
    /// Thread t touches its range of columns, in units, of a product with so many.
    Columns { columns: usize, unit: usize },
    /// Any thread may touch anything.
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    Buffer(BufferId),
    /// Cache of one layer.
    Cache(usize),
}

#[derive(Clone, Copy, Debug)]
struct Access {
    resource: Resource,
    write: bool,
    split: Split,
}

/// Columns of a product are split over the team in tiles, those of a gated pair in int8 blocks.
pub const GATED_UNIT: usize = onebit_plan::abi::BLOCK;
/// See [`GATED_UNIT`].
pub const PRODUCT_UNIT: usize = onebit_plan::abi::TILE_ROWS;

/// For every step, whether the team waits before it.
pub fn place(schedule: &Schedule, arena: &Arena) -> Vec<bool> {
    let mut open: Vec<Access> = Vec::new();
    let mut barriers = Vec::with_capacity(schedule.steps.len());
    for scheduled in &schedule.steps {
        let accesses: Vec<Access> = accesses(schedule, &scheduled.step)
            .into_iter()
            .filter(|access| is_shared(schedule, access.resource))
            .collect();
        let conflict = accesses
            .iter()
            .any(|new| open.iter().any(|old| conflicts(schedule, arena, *old, *new)));
        if conflict {
            open.clear();
        }
        open.extend(accesses);
        barriers.push(conflict);
    }
    barriers
}

fn is_shared(schedule: &Schedule, resource: Resource) -> bool {
    match resource {
        Resource::Buffer(buffer) => schedule.buffers[buffer.0].scope != Scope::Private,
        Resource::Cache(_) => true,
    }
}

fn conflicts(schedule: &Schedule, arena: &Arena, a: Access, b: Access) -> bool {
    if !a.write && !b.write {
        return false;
    }
    match (a.resource, b.resource) {
        (Resource::Buffer(x), Resource::Buffer(y)) => {
            let own_part = x == y && a.split == b.split && a.split != Split::None;
            !own_part && arena.overlap(schedule, x, y)
        }
        (Resource::Cache(x), Resource::Cache(y)) => x == y,
        _ => false,
    }
}

fn accesses(schedule: &Schedule, step: &Step) -> Vec<Access> {
    let of = |view: &View, write: bool, split: Split| Access {
        resource: Resource::Buffer(view.buffer),
        write,
        split,
    };
    match step {
        Step::Gather { out, sharing, .. } | Step::RopeTable { out, sharing, .. } => {
            vec![of(out, true, split_of(Rows::All, *sharing))]
        }
        Step::Rows(rows) => row_accesses(rows, split_of(rows.rows, rows.sharing)),
        Step::Matmul { product, .. } => {
            let split = columns(schedule, product, PRODUCT_UNIT);
            vec![activation(product.activation), of(&product.out, true, split)]
        }
        // The CPU splits such a product by units, the array leaves all of it to one thread.
        Step::Array { activation: x, out, .. } | Step::ArrayGate { activation: x, out, .. } => {
            vec![activation(*x), of(out, true, Split::None)]
        }
        Step::Gated { gate, up, epilogue } => {
            let split = columns(schedule, gate, GATED_UNIT);
            let mut all = vec![activation(gate.activation), activation(up.activation)];
            all.extend([of(&gate.out, true, split), of(&up.out, true, split)]);
            all.extend(row_accesses(epilogue, split));
            all
        }
        Step::KvWrite { shape, k, v } => {
            let own = Split::Rows(Rows::All);
            let cache = Access { resource: Resource::Cache(*shape), write: true, split: own };
            vec![of(k, false, own), of(v, false, own), cache]
        }
        Step::Attention { shape, q, out } => {
            let resource = Resource::Cache(*shape);
            let cache = Access { resource, write: false, split: Split::None };
            vec![of(q, false, Split::None), of(out, true, Split::None), cache]
        }
    }
}

/// A row loop over output rows reads gathered rows, which other threads may own.
fn row_accesses(step: &RowStep, split: Split) -> Vec<Access> {
    use onebit_ir::rows::Arg;
    let mut accesses = Vec::new();
    for (binding, arg) in step.bindings.iter().zip(&step.program.args) {
        let gathered = matches!(arg, Arg::Rows { gathered: true, .. });
        let split = if gathered { Split::None } else { split };
        match binding {
            Binding::Read(view) => {
                let resource = Resource::Buffer(view.buffer);
                accesses.push(Access { resource, write: false, split });
            }
            Binding::Write(view) => {
                let resource = Resource::Buffer(view.buffer);
                accesses.push(Access { resource, write: true, split });
            }
            Binding::Vector(_) => {}
        }
    }
    accesses
}

fn activation(buffer: BufferId) -> Access {
    let resource = Resource::Buffer(buffer);
    Access { resource, write: false, split: Split::None }
}

fn split_of(rows: Rows, sharing: Sharing) -> Split {
    match sharing {
        Sharing::Split => Split::Rows(rows),
        Sharing::Repeat => Split::None,
    }
}

fn columns(schedule: &Schedule, product: &Product, unit: usize) -> Split {
    use crate::schedule::steps::Contents;
    let Contents::F32 { width } = schedule.buffers[product.out.buffer.0].contents else {
        return Split::None;
    };
    Split::Columns { columns: width, unit }
}
