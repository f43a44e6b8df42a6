//! The rewrite driver: the only code that edits a graph after it is built.
//!
//! A [`Rule`] looks at one value and may propose a [`Patch`]; the driver applies it and goes on
//! until no rule fires. Rules are local and directional, so the result does not depend on the
//! order of rules within a pass.

use onebit_ir::infer::TypeError;
use onebit_ir::{Graph, Op, ValueId};

/// A local rewrite with its equation in the implementor's docs.
pub trait Rule {
    /// The patch that applies at `value`, if the rule's pattern is rooted there.
    fn apply(&self, graph: &Graph, value: ValueId) -> Option<Patch>;
}

/// An argument of a patch's node.
#[derive(Clone, Copy, Debug)]
pub enum Arg {
    /// A value that is in the graph already.
    Old(ValueId),
    /// The patch's own node, by place in [`Patch::nodes`].
    New(usize),
}

/// Nodes to add and values they stand in for.
#[derive(Debug, Default)]
pub struct Patch {
    pub nodes: Vec<(Op, Vec<Arg>)>,
    /// Every use of the value becomes a use of the new node.
    pub replacements: Vec<(ValueId, usize)>,
}

/// Applies `rules` until none fires. Returns how many patches were applied.
///
/// # Errors
/// A rule proposed an ill-typed node: a bug in the rule.
pub fn run(graph: &mut Graph, rules: &[&dyn Rule]) -> Result<usize, TypeError> {
    let mut applied = 0;
    while let Some(patch) = find(graph, rules) {
        let mut added: Vec<ValueId> = Vec::with_capacity(patch.nodes.len());
        for (op, args) in patch.nodes {
            let resolve = |arg: &Arg| match arg {
                Arg::Old(value) => *value,
                Arg::New(place) => added[*place],
            };
            let inputs: Vec<ValueId> = args.iter().map(resolve).collect();
            added.push(graph.add(op, &inputs)?);
        }
        for (old, place) in patch.replacements {
            graph.replace_uses(old, added[place]);
        }
        graph.remove_dead();
        applied += 1;
    }
    Ok(applied)
}

fn find(graph: &Graph, rules: &[&dyn Rule]) -> Option<Patch> {
    let values: Vec<ValueId> = graph.values().collect();
    values.iter().find_map(|&value| rules.iter().find_map(|rule| rule.apply(graph, value)))
}
