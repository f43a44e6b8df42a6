//! Products that go to a neural processor's array instead of to the CPU.
//!
//! The step program calls [`offload`] where it would call the CPU's kernel. One thread packs the
//! activations, hands the product over, waits, and scales the results; the others go on to the
//! barrier that the plan has before the output is read. A gate is only packed: it is handed over
//! together with the product that reads it, and its codes never come here.

use std::ops::Range;
use std::slice;
use std::sync::{Mutex, PoisonError};

use onebit_cpu::array::{
    GateRow, pack_activations, pack_gate, unpack_results, unpack_scales, weights_of,
};
use onebit_plan::abi::{
    ARRAY_BLOCK, ARRAY_BRICK, ARRAY_COLUMNS, ARRAY_GROUP, ARRAY_ROWS, ARRAY_SHIFTS, ArrayProduct,
    ArrayRole, StepContext,
};
use onebit_plan::manifest::{ArrayPlan, SegmentKind};
use onebit_plan::trust::AllowedPlan;

use crate::Error;
use crate::driver::npu::{BufferId, Call, Context};

/// A plan's array products on a device.
pub struct Array {
    plan: AllowedPlan,
    state: Mutex<State>,
}

struct State {
    context: Box<dyn Context>,
    /// By product: made at load, so that a step allocates nothing.
    calls: Vec<Call>,
    /// The products of each submission.
    groups: Vec<Range<usize>>,
    /// By product: the submission that it begins, if it does.
    starts: Vec<Option<usize>>,
    activations: BufferId,
    /// By place in a submission.
    results: Vec<BufferId>,
    /// Scale of each row and group of activations.
    scales: Vec<f32>,
    /// Rows of the gate that was packed last.
    gate: [GateRow; ARRAY_ROWS],
    /// Why the array did not do what it was asked in this step.
    failure: Option<Error>,
}

impl Array {
    /// Hands the plan's instruction streams and weights to `context`.
    ///
    /// # Errors
    /// What the device refuses.
    pub fn load(
        plan: &AllowedPlan,
        part: &ArrayPlan,
        mut context: Box<dyn Context>,
    ) -> Result<Self, Error> {
        // Offsets are inside their segments: the plan was checked.
        let streams = plan.segment(SegmentKind::ArrayCalls);
        let segment = plan.segment(SegmentKind::Weights);
        let range = |offset: u64, length: u64| offset as usize..(offset + length) as usize;
        let mut programs = Vec::with_capacity(part.calls.len());
        for call in &part.calls {
            programs.push(context.program(&streams[range(call.offset, call.length)])?);
        }
        let most = |bytes: fn(&onebit_plan::manifest::ArrayCall) -> u64| {
            part.calls.iter().map(bytes).max().unwrap_or(0)
        };
        let activations = context.allocate(most(|call| call.activations))?;
        let mut results = Vec::new();
        let mut calls = Vec::with_capacity(part.products.len());
        let mut starts = vec![None; part.products.len()];
        let mut groups = Vec::with_capacity(part.groups.len());
        for (index, group) in part.groups.iter().enumerate() {
            let group = group.first as usize..(group.first + group.count) as usize;
            // A gate only packs; what reads it begins.
            let gated = usize::from(part.products[group.start].role.is_gate());
            starts[group.start + gated] = Some(index);
            for (place, product) in part.products[group.clone()].iter().enumerate() {
                let weights = context.allocate(product.bytes)?;
                let bytes = &segment[range(product.offset, product.bytes)];
                context.bytes_mut(weights)?[..bytes.len()].copy_from_slice(bytes);
                if place == results.len() {
                    results.push(context.allocate(most(|call| call.results))?);
                }
                let activations = match product.role {
                    ArrayRole::Gated if place > 0 => results[place - 1],
                    _ => activations,
                };
                calls.push(Call {
                    program: programs[product.call as usize],
                    arguments: vec![activations, weights, results[place]],
                });
            }
            groups.push(group);
        }
        let most_groups = part.products.iter().map(|p| p.columns.div_ceil(p.group)).max();
        let state = Mutex::new(State {
            context,
            calls,
            groups,
            starts,
            activations,
            results,
            scales: vec![0.0; ARRAY_ROWS * most_groups.unwrap_or(0) as usize],
            gate: [GateRow::default(); ARRAY_ROWS],
            failure: None,
        });
        Ok(Self { plan: plan.clone(), state })
    }

    /// Takes what went wrong since it was last asked.
    pub fn take_failure(&self) -> Option<Error> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).failure.take()
    }
}

impl State {
    /// Packs the activations `x`, `[m][k]`, of a gate, which is submitted with what reads it.
    fn pack(&mut self, gate: &ArrayProduct, x: &[f32], weights: &[u8]) -> Result<(), Error> {
        let disagree = || Error::ArrayProduct { index: gate.index };
        let words = weights.get(gate.scales as usize..).and_then(|words| words.first_chunk::<16>());
        let words = words.ok_or_else(disagree)?.as_chunks::<4>().0;
        let words = std::array::from_fn(|word| u32::from_le_bytes(words[word]));
        let packed = self.context.bytes_mut(self.activations)?;
        let bytes = gate.activation_bytes() + 2 * ARRAY_ROWS * ARRAY_BRICK;
        let packed = packed.get_mut(..bytes).ok_or_else(disagree)?;
        if gate.k as usize > ARRAY_GROUP {
            return Err(disagree());
        }
        pack_gate(gate, &weights_of(words), x, packed, &mut self.gate);
        Ok(())
    }

    /// Runs the gate that was packed and the product that reads it, with m rows.
    fn gated(
        &mut self,
        reader: &ArrayProduct,
        m: usize,
        weights: &[u8],
        out: &mut [f32],
    ) -> Result<(), Error> {
        let disagree = || Error::ArrayProduct { index: reader.index };
        let group = self.starts.get(reader.index as usize).copied().flatten();
        let group = group.and_then(|group| self.groups.get(group)).ok_or_else(disagree)?;
        let &[codes, results, ..] = &self.results[..] else { return Err(disagree()) };
        let calls = self.calls.get(group.clone()).ok_or_else(disagree)?;
        self.context.run(calls)?;
        let d = self.scales.get_mut(..m * reader.groups()).ok_or_else(disagree)?;
        let column = 2 * ARRAY_ROWS * reader.group as usize;
        let bytes = ARRAY_COLUMNS * (column + ARRAY_ROWS / ARRAY_BLOCK * ARRAY_SHIFTS);
        let codes = self.context.bytes(codes)?.get(..bytes).ok_or_else(disagree)?;
        unpack_scales(codes, &self.gate, d);
        let results = self.context.bytes(results)?;
        let results = results.get(..reader.result_bytes()).ok_or_else(disagree)?;
        let scales = product_scales(reader, weights).ok_or_else(disagree)?;
        unpack_results(reader, results, d, scales, out);
        Ok(())
    }

    /// `x` is `[m][k]`; row r of the outputs of all products starts at `r * out_stride` of `out`.
    /// `weights` is the weight segment.
    fn products(
        &mut self,
        products: &[ArrayProduct],
        x: &[f32],
        weights: &[u8],
        out: &mut [f32],
    ) -> Result<(), Error> {
        // The code's constants and the manifest come from one compile; if they do not agree, that
        // is said instead of a panic, which could not leave a function that compiled code called.
        let Some(first) = products.first() else { return Ok(()) };
        let disagree = || Error::ArrayProduct { index: first.index };
        let m = x.len() / first.k as usize;
        let d = self.scales.get_mut(..m * first.groups()).ok_or_else(disagree)?;
        let packed = self.context.bytes_mut(self.activations)?;
        let packed = packed.get_mut(..first.activation_bytes()).ok_or_else(disagree)?;
        pack_activations(first, x, packed, d);
        let (mut rest, mut column) = (products, 0);
        while let Some(next) = rest.first() {
            let group = self.starts.get(next.index as usize).copied().flatten();
            let group = group.and_then(|group| self.groups.get(group)).ok_or_else(disagree)?;
            let (now, later) = rest.split_at_checked(group.len()).ok_or_else(disagree)?;
            self.context.run(&self.calls[group.clone()])?;
            for (product, &results) in now.iter().zip(&self.results) {
                if (product.k, product.group) != (first.k, first.group) {
                    return Err(disagree());
                }
                let results = self.context.bytes(results)?;
                let results = results.get(..product.result_bytes()).ok_or_else(disagree)?;
                let scales = product_scales(product, weights).ok_or_else(disagree)?;
                let out = out.get_mut(column..).ok_or_else(disagree)?;
                unpack_results(product, results, d, scales, out);
                column += product.n as usize;
            }
            rest = later;
        }
        Ok(())
    }
}

/// The scales behind a product's weights: one for each group and output.
fn product_scales<'a>(product: &ArrayProduct, weights: &'a [u8]) -> Option<&'a [f32]> {
    let bytes = product.groups() * product.n as usize * size_of::<f32>();
    let scales = weights.get(product.scales as usize..)?.get(..bytes)?;
    bytemuck::try_cast_slice(scales).ok()
}

/// [`ArrayFn`](onebit_plan::abi::ArrayFn) over the [`Array`] at `StepContext::array`.
///
/// # Safety
/// As `ArrayFn` demands; `array` points at an [`Array`] that was loaded from the same plan.
pub unsafe extern "C" fn offload(
    context: *const StepContext,
    products: *const ArrayProduct,
    count: u32,
    x: *const f32,
    out: *mut f32,
    m: u32,
) {
    // SAFETY: valid by the contract.
    let context = unsafe { &*context };
    if context.thread != 0 || m == 0 {
        return;
    }
    // SAFETY: so many products by the contract.
    let products = unsafe { slice::from_raw_parts(products, count as usize) };
    // SAFETY: an array by the contract.
    let array = unsafe { &*context.array.cast::<Array>() };
    let Some(first) = products.first() else { return };
    let m = m as usize;
    let mut state = array.state.lock().unwrap_or_else(PoisonError::into_inner);
    let weights = array.plan.segment(SegmentKind::Weights);
    if state.failure.is_some() {
        return;
    }
    // SAFETY: m rows of k; of what reads a gate they are longer.
    let x = unsafe { slice::from_raw_parts(x, m * first.k as usize) };
    if first.is_gate() {
        state.failure = state.pack(first, x, weights).err();
        return;
    }
    let n: usize = products.iter().map(|product| product.n as usize).sum();
    let length = (m - 1) * first.out_stride as usize + n;
    // SAFETY: m rows, the last of n; no other thread touches them before the next barrier.
    let out = unsafe { slice::from_raw_parts_mut(out, length) };
    state.failure = match first.role() {
        Some(ArrayRole::Gated) => state.gated(first, m, weights, out).err(),
        _ => state.products(products, x, weights, out).err(),
    };
}
