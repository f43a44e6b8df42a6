//! The neural processor of AMD's Strix Halo (XDNA 2): what the array does of a plan.
//!
//! The CPU's step programs stay in charge: where a product goes to the array they call
//! [`KernelId::Array`](onebit_plan::abi::KernelId::Array), which hands it over or, on a machine
//! without the array, does it with the same bits. Here the array's side is made: one configuration
//! for the whole plan, one instruction stream for each shape.
//!
//! Nothing made here has run on the silicon; docs/npu-verification.md says what is known.

use onebit_aie::gemm::Shape;
use onebit_plan::manifest::{ArrayCall, ArrayGroup, ArrayPlan, ArrayWeights};

use crate::error::CompileError;
use crate::schedule::array::{Link, Rounding};
use crate::schedule::repack::WeightStore;

/// Calls of one submission at most: what a chain of the driver's commands holds
/// (amd/xdna-driver `src/driver/amdxdna/aie2_message.c`, `aie2_cmdlist_fill_npu_cf`: slots of 112
/// bytes in 4096).
const CALLS_AT_MOST: u32 = 36;

/// Everything that the array is given.
pub struct NpuProgram {
    /// xclbin.
    pub configuration: Vec<u8>,
    /// All instruction streams, one behind the other.
    pub calls: Vec<u8>,
    records: Vec<(Asked, ArrayCall)>,
}

/// What a call is made for.
type Asked = (Shape, Link);

/// Lowers the products that the schedule placed on the array; `None` when there are none.
pub fn lower(store: &WeightStore<'_>) -> Result<Option<NpuProgram>, CompileError> {
    if store.arrays().is_empty() {
        return Ok(None);
    }
    let failed = |error: &dyn std::fmt::Display| CompileError::Array { reason: error.to_string() };
    let design = store.design()?;
    let xclbin = design.xclbin().map_err(|error| failed(&error))?;
    let configuration = xclbin.to_bytes().map_err(|error| failed(&error))?;
    let (mut calls, mut records) = (Vec::new(), Vec::<(Asked, ArrayCall)>::new());
    let blocks = store.arrays().iter().flat_map(|matrix| {
        matrix.blocks.iter().map(|block| (matrix.shape(block.rows), matrix.link))
    });
    for asked in blocks {
        if records.iter().any(|(known, _)| *known == asked) {
            continue;
        }
        let (shape, link) = asked;
        let call = match link {
            Link::None => design.call(&shape),
            Link::Gate(gated) => design.gated_call(&gated),
            Link::Reader(gated) => design.call_of_gated(&gated, shape.n),
        };
        let call = call.map_err(|error| failed(&error))?;
        let modelled_seconds = match link {
            Link::None | Link::Gate(_) => call.cost.total(),
            // Submitted with what it reads.
            Link::Reader(_) => call.cost.streaming(),
        };
        records.push((
            asked,
            ArrayCall {
                offset: calls.len() as u64,
                length: call.txn.len() as u64,
                activations: call.buffers.activations,
                weights: call.buffers.weights,
                results: call.buffers.results,
                modelled_seconds,
                modelled_bound: call.cost.memory_bound,
            },
        ));
        calls.extend_from_slice(&call.txn);
    }
    Ok(Some(NpuProgram { configuration, calls, records }))
}

impl NpuProgram {
    /// What the manifest says of the array, with the rounding of each product.
    pub fn plan(self, store: &WeightStore<'_>, roundings: &[Rounding]) -> ArrayPlan {
        let small = |value: usize| u32::try_from(value).expect("products and rows fit u32");
        let group_seconds = store.array_limits().group_seconds;
        let (mut products, mut groups) = (Vec::new(), Vec::new());
        for matrix in store.arrays() {
            let first = products.len();
            for block in &matrix.blocks {
                let shape = matrix.shape(block.rows);
                let asked = (shape, matrix.link);
                let call = self.records.iter().position(|(known, _)| *known == asked);
                let Rounding { relative, expected_error } = roundings[products.len()];
                products.push(ArrayWeights {
                    tensors: matrix.tensors.clone(),
                    format: matrix.format_names(),
                    first_row: small(block.first_row),
                    rows: shape.n,
                    columns: small(matrix.columns),
                    group: shape.group,
                    role: matrix.link.role(),
                    call: small(call.expect("each shape has its call")),
                    offset: block.offset,
                    bytes: block.bytes,
                    rounding: relative,
                    expected_error,
                });
            }
            match matrix.link {
                Link::None => {}
                // The schedule makes both at once, one after the other.
                Link::Gate(_) => {
                    groups.push(ArrayGroup { first: small(first), count: 2 });
                    continue;
                }
                Link::Reader(_) => continue,
            }
            let seconds =
                |product: &ArrayWeights| self.records[product.call as usize].1.modelled_seconds;
            let seconds: Vec<f64> = products[first..].iter().map(seconds).collect();
            groups.extend(submissions(small(first), &seconds, group_seconds));
        }
        let calls = self.records.into_iter().map(|(_, call)| call).collect();
        ArrayPlan { calls, products, groups, group_seconds }
    }
}

/// Groups calls that follow each other, of so many modelled seconds each, into as few submissions
/// as their time and the driver's chains allow. `first` is the plan's number of the first call.
fn submissions(first: u32, seconds: &[f64], group_seconds: f64) -> Vec<ArrayGroup> {
    let mut groups: Vec<ArrayGroup> = Vec::new();
    let mut used = 0.0;
    for (index, seconds) in (first..).zip(seconds) {
        match groups.last_mut() {
            Some(group) if group.count < CALLS_AT_MOST && used + seconds <= group_seconds => {
                group.count += 1;
                used += seconds;
            }
            _ => {
                groups.push(ArrayGroup { first: index, count: 1 });
                used = *seconds;
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn submissions_keep_to_their_time_and_to_what_a_chain_holds() {
        let sizes = |seconds: &[f64], limit| -> Vec<(u32, u32)> {
            let groups = submissions(7, seconds, limit);
            groups.iter().map(|group| (group.first, group.count)).collect()
        };
        assert_eq!(sizes(&[0.5], 0.25), [(7, 1)]);
        assert_eq!(sizes(&[0.125, 0.125, 0.125], 0.25), [(7, 2), (9, 1)]);
        assert_eq!(sizes(&[0.125, 0.25, 0.125, 0.125], 0.25), [(7, 1), (8, 1), (9, 2)]);
        // 42 are more than a chain holds, however short they are.
        assert_eq!(sizes(&[1e-6; 42], 0.25), [(7, 36), (43, 6)]);
        assert_eq!(sizes(&[], 0.25), []);
    }
}
