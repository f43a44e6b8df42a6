//! Gates that an array makes together with the product that reads them.

use onebit_aie::gemm::Gated;
use onebit_ir::{Op, ValueId};
use onebit_plan::abi::ARRAY_COLUMNS;

use super::select::Selector;
use super::{Scope, Step};
use crate::error::CompileError;
use crate::schedule::array::Link;

/// `linear(gated(slice(stacked), slice(stacked)), down)`, seen from the last one.
#[derive(Clone, Copy, Debug)]
pub(super) struct ArrayGate {
    /// Both products, stacked.
    stacked: ValueId,
    /// Weights of the gate, of what it gates, and of what reads them.
    weights: [ValueId; 3],
    gated: Gated,
}

impl Selector<'_, '_, '_> {
    /// Finds gates of two stacked products that nothing else uses, and that one product reads.
    pub(super) fn find_array_gates(&mut self) {
        if !self.store.has_array() {
            return;
        }
        let values: Vec<ValueId> = self.graph.values().collect();
        for value in values {
            if !matches!(self.graph.op(value), Op::Gated(_)) {
                continue;
            }
            if let Some((reader, gate)) = self.array_gate(value) {
                self.array_gates.insert(gate.stacked);
                self.array_readers.insert(reader, gate);
            } else {
                self.store.notice_apart();
            }
        }
    }

    /// The gate `value` and the product that reads it.
    fn array_gate(&mut self, value: ValueId) -> Option<(ValueId, ArrayGate)> {
        let graph = self.graph;
        let Op::Gated(function) = *graph.op(value) else { return None };
        let only_user = |value: ValueId| match graph.users(value)[..] {
            [user] if !graph.outputs().contains(&value) => Some(user),
            _ => None,
        };
        let reader = only_user(value)?;
        let (Op::Linear, &[_, down]) = (graph.op(reader), graph.inputs(reader).as_slice()) else {
            return None;
        };
        let &[gate, up] = graph.inputs(value).as_slice() else { return None };
        let slice = |value: ValueId| match *graph.op(value) {
            Op::Slice { start, .. } => only_user(value).map(|_| (graph.inputs(value)[0], start)),
            _ => None,
        };
        let ((stacked, gate_start), (of_up, up_start)) = (slice(gate)?, slice(up)?);
        let inputs = graph.inputs(stacked);
        let (Op::StackedLinear, &[_, first, second]) = (graph.op(stacked), inputs.as_slice())
        else {
            return None;
        };
        let is_apart = stacked != of_up
            || graph.users(stacked).len() != 2
            || graph.outputs().contains(&stacked)
            || !self.store.goes_to_array(graph, &inputs[1..])
            || !self.store.goes_to_array(graph, &[down]);
        if is_apart {
            return None;
        }
        let (gate, up) = if gate_start < up_start { (first, second) } else { (second, first) };
        let gated = self.store.gates(graph, function, [gate, down])?;
        Some((reader, ArrayGate { stacked, weights: [gate, up, down], gated }))
    }

    /// The gate, and the product `value` that reads it.
    pub(super) fn select_array_gate(
        &mut self,
        value: ValueId,
        gate: ArrayGate,
    ) -> Result<(), CompileError> {
        let ArrayGate { stacked, weights: [first, second, down], gated } = gate;
        let x = self.graph.inputs(stacked)[0];
        let activation = self.contiguous(x)?;
        // Codes, and a scale for each column of the array.
        let codes = self.buffer("codes", Scope::Shared, gated.outputs as usize + ARRAY_COLUMNS);
        let weight = self.store.linked_array(self.graph, &[first, second], Link::Gate(gated))?;
        let rows = self.rows(stacked);
        self.push(stacked, Step::ArrayGate { weight, activation, out: codes, rows });
        let width = self.width(value);
        let out = self.buffer("product", Scope::Shared, width);
        let rows = self.rows(value);
        let weight = self.store.linked_array(self.graph, &[down], Link::Reader(gated))?;
        self.placed.insert(value, out);
        self.push(value, Step::Array { weight, activation: codes.buffer, out, rows });
        Ok(())
    }
}
