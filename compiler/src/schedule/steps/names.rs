//! Names of regions: those of the weights that they read, as far as they read any.
//!
//! A name says where in the model a step stands and does not change when other steps come or go,
//! so that two plans can be compared by it.

use std::collections::HashSet;

use onebit_ir::{Graph, Op, ValueId};

use super::{BufferId, ScheduledStep, Step};

/// `blk.3.ffn_gate` for what reads that weight, `blk.3.attn_q.rope` for what makes the queries of
/// an attention without one, `blk.3.attention.merge_heads` for what reads its result.
pub fn name(graph: &Graph, value: ValueId) -> String {
    let op = graph.op(value);
    if let Op::Attention(spec) = op {
        return format!("blk.{}.attention", spec.layer);
    }
    let inputs = graph.inputs(value);
    let behind = inputs.iter().flat_map(|&input| graph.inputs(input));
    let weight = inputs.iter().copied().chain(behind).find_map(|v| weight_name(graph, v));
    let place = weight.map(str::to_owned).or_else(|| {
        let place = attended(graph, value).or_else(|| origin(graph, value))?;
        Some(format!("{place}.{}", op.name()))
    });
    place.unwrap_or_else(|| format!("{}.{}", op.name(), value.index()))
}

/// Gives a suffix to names that occurred before; a product with a weight that was read already,
/// which makes the logits, is called so.
pub fn make_unique(steps: &mut [ScheduledStep], logits: BufferId) {
    let mut known = HashSet::new();
    for ScheduledStep { step, name, ops } in steps {
        if known.insert(name.clone()) {
            continue;
        }
        let base = match (&*step, ops.last()) {
            (Step::Matmul { product, .. }, _) if product.out.buffer == logits => "logits".into(),
            (Step::Array { out, .. }, _) if out.buffer == logits => "logits".into(),
            (Step::Rows(_), Some(op)) => format!("{name}.{op}"),
            (Step::Rows(_), None) => format!("{name}.rows"),
            _ => name.clone(),
        };
        let numbered = (2..).map(|number| format!("{base}.{number}"));
        let mut candidates = std::iter::once(base.clone()).chain(numbered);
        if let Some(unique) = candidates.find(|candidate| !known.contains(candidate)) {
            known.insert(unique.clone());
            *name = unique;
        }
    }
}

fn weight_name(graph: &Graph, value: ValueId) -> Option<&str> {
    match graph.op(value) {
        Op::Weight(name) => Some(name.trim_end_matches(".weight")),
        _ => None,
    }
}

/// The operand of an attention that `value` is, seen through ops that move no bytes.
fn attended(graph: &Graph, value: ValueId) -> Option<String> {
    graph.users(value).iter().find_map(|&user| match graph.op(user) {
        Op::Attention(spec) => {
            let at = graph.inputs(user).iter().position(|&input| input == value)?;
            let operand = ["q", "k", "v"].get(at)?;
            Some(format!("blk.{}.attn_{operand}", spec.layer))
        }
        Op::SplitHeads { .. } | Op::Slice { .. } => attended(graph, user),
        _ => None,
    })
}

/// The nearest attention or weight on the way of the first inputs.
fn origin(graph: &Graph, value: ValueId) -> Option<String> {
    let mut at = value;
    while let Some(&input) = graph.inputs(at).first() {
        if let Op::Attention(spec) = graph.op(input) {
            return Some(format!("blk.{}.attention", spec.layer));
        }
        let weights = graph.inputs(input);
        if let Some(weight) = weights.into_iter().find_map(|v| weight_name(graph, v)) {
            return Some(weight.to_owned());
        }
        at = input;
    }
    None
}
