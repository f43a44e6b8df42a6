//! The CPU's schedule as text.

use super::arena::Arena;
use crate::schedule::repack::{WeightId, WeightStore};
use crate::schedule::steps::{Binding, BufferId, RowStep, Schedule, Scope, Step};

/// The schedule as text: one step a line, `|` where the team waits, buffers as
/// `name.id@offset`.
pub fn listing(
    schedule: &Schedule,
    arena: &Arena,
    barriers: &[bool],
    store: &WeightStore<'_>,
) -> String {
    let buffer = |id: BufferId| {
        let scope = match schedule.buffers[id.0].scope {
            Scope::Shared => "shared",
            Scope::Private => "private",
            Scope::Logits => "logits",
        };
        format!("{}.{}[{scope}+{}]", schedule.buffers[id.0].name, id.0, arena.offset(id))
    };
    let matrix = |id: WeightId| {
        let m = store.matrix_at(id);
        format!("{:?}[{}, {}]", m.class, m.rows, m.columns)
    };
    let bound = |step: &RowStep| {
        let part = |binding: &Binding| match binding {
            Binding::Read(view) => Some(buffer(view.buffer)),
            Binding::Write(view) => Some(format!("-> {}", buffer(view.buffer))),
            Binding::Vector(_) => None,
        };
        step.bindings.iter().filter_map(part).collect::<Vec<_>>().join(", ")
    };
    let mut text = format!(
        "schedule @{} rows <= {} arena {} private {} barriers {}\n",
        schedule.name,
        schedule.max_rows,
        arena.shared_bytes,
        arena.private_bytes,
        barriers.iter().filter(|&&b| b).count()
    );
    for (scheduled, &wait) in schedule.steps.iter().zip(barriers) {
        let what = match &scheduled.step {
            Step::Gather { weight, out, .. } => {
                format!("gather {} -> {}", matrix(*weight), buffer(out.buffer))
            }
            Step::RopeTable { table, out, .. } => {
                format!("rope_table {table} -> {}", buffer(out.buffer))
            }
            Step::Rows(step) => format!("rows({}) {}", scheduled.ops.join(" "), bound(step)),
            Step::Matmul { product, .. } => format!(
                "matmul {} {} -> {}",
                matrix(product.weight),
                buffer(product.activation),
                buffer(product.out.buffer)
            ),
            Step::Array { weight, activation, out, .. } => {
                let m = store.array_at(*weight);
                let (x, out) = (buffer(*activation), buffer(out.buffer));
                format!("array int8/{}[{}, {}] {x} -> {out}", m.group, m.rows, m.columns)
            }
            Step::ArrayGate { weight, activation, out, .. } => {
                let m = store.array_at(*weight);
                let (x, out) = (buffer(*activation), buffer(out.buffer));
                format!("array gate int8[{}, {}] {x} -> {out}", m.rows, m.columns)
            }
            Step::Gated { gate, up, epilogue } => format!(
                "gated {} {} {}; {}",
                matrix(gate.weight),
                matrix(up.weight),
                buffer(gate.activation),
                bound(epilogue)
            ),
            Step::KvWrite { k, v, .. } => {
                format!("kv_write {}, {}", buffer(k.buffer), buffer(v.buffer))
            }
            Step::Attention { q, out, .. } => {
                format!("attention {} -> {}", buffer(q.buffer), buffer(out.buffer))
            }
        };
        let bar = if wait { '|' } else { ' ' };
        text.push_str(&format!("{bar} @{}: {what}\n", scheduled.name));
    }
    text
}
