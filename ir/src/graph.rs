//! The graph: nodes in petgraph, one result each, typed as they are added.
//!
//! Invariants: inputs exist before their user; every node's type is what [`crate::infer`] gives.
//! petgraph stays private to this file. After a model is built, only the compiler's rewrite
//! driver edits a graph.

use std::fmt;

use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;

use crate::infer::{self, TypeError};
use crate::op::Op;
use crate::types::{Dim, Elem, TensorType};

/// A value of a graph, printed `%7`. Also names the node that computes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(u32);

impl fmt::Display for ValueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

impl ValueId {
    fn node(self) -> NodeIndex {
        NodeIndex::new(self.0 as usize)
    }

    fn from_node(node: NodeIndex) -> Self {
        Self(u32::try_from(node.index()).expect("a graph has fewer than 2^32 nodes"))
    }

    /// A dense index, smaller than [`Graph::id_bound`], for side tables.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Clone, Debug)]
struct Node {
    op: Op,
    ty: TensorType,
}

/// A function from a step's rows to the values in `outputs`.
#[derive(Clone, Debug)]
pub struct Graph {
    name: String,
    /// An edge runs from an argument to its user; its weight is the argument's place.
    nodes: StableDiGraph<Node, u32>,
    outputs: Vec<ValueId>,
}

impl Graph {
    /// An empty graph; `name` is for people and prints as `@name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), nodes: StableDiGraph::new(), outputs: Vec::new() }
    }

    /// The name it was made with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds `op` over `inputs`; its type is inferred. Panics when an input is not of this graph,
    /// as every function here that takes a [`ValueId`] does except [`Self::contains`].
    pub fn add(&mut self, op: Op, inputs: &[ValueId]) -> Result<ValueId, TypeError> {
        let types: Vec<&TensorType> = inputs.iter().map(|&v| self.ty(v)).collect();
        let ty = infer::result_type(&op, &types)?;
        Ok(self.insert(op, ty, inputs))
    }

    /// Adds a weight of the model file.
    pub fn weight(&mut self, name: impl Into<String>, ty: TensorType) -> ValueId {
        self.insert(Op::Weight(name.into()), ty, &[])
    }

    fn insert(&mut self, op: Op, ty: TensorType, inputs: &[ValueId]) -> ValueId {
        let node = self.nodes.add_node(Node { op, ty });
        for (place, input) in (0u32..).zip(inputs) {
            self.nodes.add_edge(input.node(), node, place);
        }
        ValueId::from_node(node)
    }

    /// Replaces the outputs.
    pub fn set_outputs(&mut self, outputs: Vec<ValueId>) {
        self.outputs = outputs;
    }

    /// What the graph computes, in the caller's order.
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// Whether `value` is in the graph, neither removed nor of another graph with more values.
    pub fn contains(&self, value: ValueId) -> bool {
        self.nodes.contains_node(value.node())
    }

    /// What computes `value`.
    pub fn op(&self, value: ValueId) -> &Op {
        &self.nodes[value.node()].op
    }

    /// The type given to `value` when it was added.
    pub fn ty(&self, value: ValueId) -> &TensorType {
        &self.nodes[value.node()].ty
    }

    /// Arguments in order.
    pub fn inputs(&self, value: ValueId) -> Vec<ValueId> {
        let edges = self.nodes.edges_directed(value.node(), Direction::Incoming);
        let mut inputs: Vec<(u32, ValueId)> =
            edges.map(|e| (*e.weight(), ValueId::from_node(e.source()))).collect();
        inputs.sort_unstable();
        inputs.into_iter().map(|(_, v)| v).collect()
    }

    /// Users, ascending, each once per use.
    pub fn users(&self, value: ValueId) -> Vec<ValueId> {
        let edges = self.nodes.edges_directed(value.node(), Direction::Outgoing);
        let mut users: Vec<ValueId> = edges.map(|e| ValueId::from_node(e.target())).collect();
        users.sort_unstable();
        users
    }

    /// All values, ascending by id.
    pub fn values(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.nodes.node_indices().map(ValueId::from_node)
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.nodes.node_count()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One more than the largest [`ValueId::index`].
    pub fn id_bound(&self) -> usize {
        self.nodes.node_indices().map(|n| n.index() + 1).max().unwrap_or(0)
    }

    /// Values such that arguments precede users; ties go to the smaller id, so the order is a
    /// function of the graph alone. `None` when the graph has a cycle.
    pub fn order(&self) -> Option<Vec<ValueId>> {
        let order = self.acyclic_part();
        (order.len() == self.len()).then_some(order)
    }

    /// [`Self::order`] of the values that neither are on a cycle nor need one that is.
    pub(crate) fn acyclic_part(&self) -> Vec<ValueId> {
        let mut waiting = vec![0usize; self.id_bound()];
        let mut ready = std::collections::BTreeSet::new();
        for value in self.values() {
            waiting[value.index()] = self.inputs(value).len();
            if waiting[value.index()] == 0 {
                ready.insert(value);
            }
        }
        let mut order = Vec::with_capacity(self.len());
        while let Some(value) = ready.pop_first() {
            order.push(value);
            for user in self.users(value) {
                waiting[user.index()] -= 1;
                if waiting[user.index()] == 0 {
                    ready.insert(user);
                }
            }
        }
        order
    }

    /// Makes every user of `old`, outputs included, use `new`.
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId) {
        let uses: Vec<_> = self
            .nodes
            .edges_directed(old.node(), Direction::Outgoing)
            .map(|e| (e.id(), e.target(), *e.weight()))
            .collect();
        for (edge, user, place) in uses {
            if user != new.node() {
                self.nodes.remove_edge(edge);
                self.nodes.add_edge(new.node(), user, place);
            }
        }
        for output in &mut self.outputs {
            if *output == old {
                *output = new;
            }
        }
    }

    /// Removes every value that no output needs. Returns how many went.
    pub fn remove_dead(&mut self) -> usize {
        let mut live = vec![false; self.id_bound()];
        let mut stack = self.outputs.clone();
        while let Some(value) = stack.pop() {
            if !std::mem::replace(&mut live[value.index()], true) {
                stack.extend(self.inputs(value));
            }
        }
        let before = self.len();
        self.nodes.retain_nodes(|_, node| live[node.index()]);
        before - self.len()
    }

    /// The width of `value` when it is `f32[T, width]` or `f32[R, width]`.
    pub fn row_width(&self, value: ValueId) -> Option<usize> {
        let ty = self.ty(value);
        match (ty.elem, ty.shape.as_slice()) {
            (Elem::F32, [Dim::Rows | Dim::Outputs, Dim::Size(width)]) => Some(*width),
            _ => None,
        }
    }

    /// Whether both graphs are the same once their values are numbered in [`Self::order`]: name,
    /// ops with attributes, types, arguments and outputs. `false` when either has a cycle.
    pub fn same_structure(&self, other: &Self) -> bool {
        let (Some(ours), Some(theirs)) = (self.order(), other.order()) else { return false };
        if self.name != other.name || ours.len() != theirs.len() {
            return false;
        }
        let mut twin = vec![None; self.id_bound()];
        for (&a, &b) in ours.iter().zip(&theirs) {
            twin[a.index()] = Some(b);
        }
        let agree = |a: &[ValueId], b: &[ValueId]| {
            let mapped = a.iter().map(|v| twin[v.index()]);
            mapped.eq(b.iter().map(|&v| Some(v)))
        };
        agree(&self.outputs, &other.outputs)
            && ours.iter().zip(&theirs).all(|(&a, &b)| {
                self.op(a) == other.op(b)
                    && self.ty(a) == other.ty(b)
                    && agree(&self.inputs(a), &other.inputs(b))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Function;
    use crate::quant::Format;

    /// `silu(x) + x` with `x = embed(table, tokens)`; tokens, table, x, silu, sum.
    fn residual(name: &str) -> (Graph, [ValueId; 5]) {
        let mut graph = Graph::new(name);
        let tokens = graph.add(Op::Tokens, &[]).unwrap();
        let table = graph.weight("table", TensorType::weight(Format::F16, &[5, 4]));
        let x = graph.add(Op::Embed, &[table, tokens]).unwrap();
        let silu = graph.add(Op::Unary(Function::Silu), &[x]).unwrap();
        let sum = graph.add(Op::Add, &[silu, x]).unwrap();
        graph.set_outputs(vec![sum]);
        (graph, [tokens, table, x, silu, sum])
    }

    #[test]
    fn arguments_keep_their_places_and_users_their_number() {
        let (mut graph, [_, _, x, silu, sum]) = residual("g");
        let square = graph.add(Op::Mul, &[x, x]).unwrap();
        assert_eq!(graph.inputs(sum), [silu, x]);
        assert_eq!(graph.users(x), [silu, sum, square, square]);
        assert_eq!(graph.row_width(x), Some(4));
    }

    #[test]
    fn a_replaced_value_keeps_its_place_in_users_and_outputs() {
        let (mut graph, [_, _, x, silu, sum]) = residual("g");
        graph.set_outputs(vec![sum, x]);
        // The new value reads the old one and must go on doing so.
        let scaled = graph.add(Op::Scale { factor: 2.0 }, &[x]).unwrap();
        graph.replace_uses(x, scaled);
        assert_eq!(graph.inputs(sum), [silu, scaled]);
        assert_eq!(graph.inputs(silu), [scaled]);
        assert_eq!(graph.inputs(scaled), [x]);
        assert_eq!(graph.outputs(), [sum, scaled]);
        let order = graph.order().unwrap();
        let place = |value| order.iter().position(|&v| v == value);
        assert!(place(scaled) < place(silu), "{order:?}");
    }

    #[test]
    fn dead_values_go_and_ids_stay() {
        let (mut graph, [tokens, table, x, silu, sum]) = residual("g");
        graph.set_outputs(vec![x]);
        assert_eq!(graph.remove_dead(), 2);
        assert_eq!(graph.values().collect::<Vec<_>>(), [tokens, table, x]);
        assert!(graph.contains(x) && !graph.contains(silu) && !graph.contains(sum));
        assert_eq!((graph.len(), graph.id_bound()), (3, 3));
        assert_eq!(graph.remove_dead(), 0);
    }

    #[test]
    fn structure_is_ops_types_arguments_outputs_and_name() {
        let (graph, [_, _, x, silu, _]) = residual("g");
        assert!(graph.same_structure(&graph.clone()));
        assert!(!graph.same_structure(&residual("h").0));
        let mut other_output = graph.clone();
        other_output.set_outputs(vec![silu]);
        assert!(!graph.same_structure(&other_output));
        let mut other_arguments = residual("g").0;
        other_arguments.replace_uses(silu, x);
        assert!(!graph.same_structure(&other_arguments));
        let of_type = |format| {
            let mut graph = Graph::new("g");
            graph.weight("table", TensorType::weight(format, &[5, 4]));
            graph
        };
        assert!(of_type(Format::F16).same_structure(&of_type(Format::F16)));
        assert!(!of_type(Format::F16).same_structure(&of_type(Format::BF16)));
    }
}
