//! The neural processor of AMD's Strix Halo (XDNA 2): what the array does of a plan.
//!
//! The CPU's step programs stay in charge: where a product goes to the array they call
//! [`KernelId::Array`](onebit_plan::abi::KernelId::Array), which hands it over or, on a machine
//! without the array, does it with the same bits. Here the array's side is made: one configuration
//! for the whole plan, one instruction stream for each shape.
//!
//! Nothing made here has run on the silicon; docs/npu-verification.md says what is known.

use onebit_aie::gemm::{Design, Shape};
use onebit_plan::manifest::{ArrayCall, ArrayPlan, ArrayWeights};

use crate::error::CompileError;
use crate::schedule::array::ArrayMatrix;
use crate::schedule::repack::WeightStore;

/// Everything that the array is given.
pub struct NpuProgram {
    /// xclbin.
    pub configuration: Vec<u8>,
    /// All instruction streams, one behind the other.
    pub calls: Vec<u8>,
    records: Vec<(Shape, ArrayCall)>,
}

/// Lowers the products that the schedule placed on the array; `None` when there are none.
pub fn lower(store: &WeightStore<'_>) -> Result<Option<NpuProgram>, CompileError> {
    if store.arrays().is_empty() {
        return Ok(None);
    }
    let failed = |error: &dyn std::fmt::Display| CompileError::Array { reason: error.to_string() };
    let design = Design::new().map_err(|error| failed(&error))?;
    let xclbin = design.xclbin().map_err(|error| failed(&error))?;
    let configuration = xclbin.to_bytes().map_err(|error| failed(&error))?;
    let (mut calls, mut records) = (Vec::new(), Vec::<(Shape, ArrayCall)>::new());
    for matrix in store.arrays() {
        let shape = matrix.shape();
        if records.iter().any(|(known, _)| *known == shape) {
            continue;
        }
        let call = design.call(&shape).map_err(|error| failed(&error))?;
        records.push((
            shape,
            ArrayCall {
                offset: calls.len() as u64,
                length: call.txn.len() as u64,
                activations: call.buffers.activations,
                weights: call.buffers.weights,
                results: call.buffers.results,
                modelled_seconds: call.cost.total(),
                modelled_bound: call.cost.memory_bound,
            },
        ));
        calls.extend_from_slice(&call.txn);
    }
    Ok(Some(NpuProgram { configuration, calls, records }))
}

impl NpuProgram {
    /// What the manifest says of the array, with the rounding of each matrix.
    pub fn plan(self, store: &WeightStore<'_>, roundings: &[f32]) -> ArrayPlan {
        let records = &self.records;
        let call_of = |matrix: &ArrayMatrix| {
            let shape = matrix.shape();
            let place = records.iter().position(|(known, _)| *known == shape);
            u32::try_from(place.expect("each shape has its call")).expect("shapes are few")
        };
        let products = store
            .arrays()
            .iter()
            .zip(roundings)
            .map(|(matrix, &rounding)| {
                let Shape { n, k, group, .. } = matrix.shape();
                ArrayWeights {
                    tensors: matrix.tensors.clone(),
                    format: matrix.format.name().into(),
                    rows: n,
                    columns: k,
                    group,
                    call: call_of(matrix),
                    offset: matrix.offset,
                    bytes: matrix.bytes,
                    rounding,
                }
            })
            .collect();
        ArrayPlan { calls: self.records.into_iter().map(|(_, call)| call).collect(), products }
    }
}
