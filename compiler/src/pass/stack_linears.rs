//! Linears of one input become one stacked linear and slices:
//! `linear(x, a), linear(x, b) = slice(s, 0, |a|), slice(s, |a|, |b|)`, `s = stacked(x, a, b)`.
//!
//! On the CPU only weights of one format are stacked, and linears that feed a `gated` stay apart,
//! for their product is consumed column by column. A neural processor has one form for all formats
//! and takes all linears of an input in one call, if it can do that call.

use onebit_ir::{Graph, Op, ValueId};

use crate::rewrite::{Arg, Patch, Rule};
use crate::schedule::array::fits;
use crate::schedule::repack::Placement;

/// Rows of a stacked weight must fill whole tiles, so that no tile mixes two weights.
const TILE_ROWS: usize = onebit_plan::abi::TILE_ROWS;

/// Stacks linears for where their products run.
pub struct StackLinears(pub Placement);

impl Rule for StackLinears {
    fn apply(&self, graph: &Graph, value: ValueId) -> Option<Patch> {
        let (x, weight) = stackable(graph, value, self.0)?;
        let format = graph.ty(weight).elem;
        let mut group: Vec<(ValueId, ValueId)> = graph
            .users(x)
            .into_iter()
            .filter_map(|user| {
                let (input, weight) = stackable(graph, user, self.0)?;
                let alike = self.0 == Placement::Array || graph.ty(weight).elem == format;
                (input == x && alike).then_some((user, weight))
            })
            .collect();
        group.dedup();
        if group.len() < 2 || group[0].0 != value {
            return None;
        }
        if self.0 == Placement::Array {
            let rows = group.iter().filter_map(|&(linear, _)| graph.row_width(linear)).sum();
            // What the array refuses would be a stack for the CPU that its rules do not allow.
            fits(rows, graph.row_width(x)?).then_some(())?;
        }
        let mut stacked = vec![Arg::Old(x)];
        stacked.extend(group.iter().map(|&(_, weight)| Arg::Old(weight)));
        let mut patch = Patch { nodes: vec![(Op::StackedLinear, stacked)], replacements: vec![] };
        let mut start = 0;
        for (linear, _) in group {
            let len = graph.row_width(linear)?;
            patch.replacements.push((linear, patch.nodes.len()));
            patch.nodes.push((Op::Slice { start, len }, vec![Arg::New(0)]));
            start += len;
        }
        Some(patch)
    }
}

/// Input and weight of an unbiased linear that may be stacked.
fn stackable(graph: &Graph, value: ValueId, placement: Placement) -> Option<(ValueId, ValueId)> {
    let (Op::Linear, &[x, weight]) = (graph.op(value), graph.inputs(value).as_slice()) else {
        return None;
    };
    let rows = graph.row_width(value)?;
    let gated = placement == Placement::Cpu
        && graph.users(value).iter().any(|&user| matches!(graph.op(user), Op::Gated(_)));
    let output = graph.outputs().contains(&value);
    (rows.is_multiple_of(TILE_ROWS) && !gated && !output).then_some((x, weight))
}
