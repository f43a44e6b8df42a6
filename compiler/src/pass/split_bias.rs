//! `linear(x, w, b) = add_bias(linear(x, w), b)`
//!
//! The bias then joins the element-wise loop that consumes the product.

use onebit_ir::{Graph, Op, ValueId};

use crate::rewrite::{Arg, Patch, Rule};

pub struct SplitBias;

impl Rule for SplitBias {
    fn apply(&self, graph: &Graph, value: ValueId) -> Option<Patch> {
        let (Op::Linear, &[x, w, bias]) = (graph.op(value), graph.inputs(value).as_slice()) else {
            return None;
        };
        Some(Patch {
            nodes: vec![
                (Op::Linear, vec![Arg::Old(x), Arg::Old(w)]),
                (Op::AddBias, vec![Arg::New(0), Arg::Old(bias)]),
            ],
            replacements: vec![(value, 1)],
        })
    }
}
