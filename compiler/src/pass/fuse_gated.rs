//! `mul(f(gate), up) = gated(f)(gate, up)`, in either argument order.

use onebit_ir::{Graph, Op, ValueId};

use crate::rewrite::{Arg, Patch, Rule};

pub struct FuseGated;

impl Rule for FuseGated {
    fn apply(&self, graph: &Graph, value: ValueId) -> Option<Patch> {
        let (Op::Mul, &[a, b]) = (graph.op(value), graph.inputs(value).as_slice()) else {
            return None;
        };
        let fuse = |active: ValueId, up: ValueId| {
            let Op::Unary(function) = graph.op(active) else {
                return None;
            };
            let gate = graph.inputs(active)[0];
            Some(Patch {
                nodes: vec![(Op::Gated(*function), vec![Arg::Old(gate), Arg::Old(up)])],
                replacements: vec![(value, 0)],
            })
        };
        fuse(a, b).or_else(|| fuse(b, a))
    }
}
