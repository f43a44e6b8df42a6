//! Products that go to a neural processor's array instead of to the CPU.
//!
//! The step program calls [`offload`] where it would call the CPU's kernel. One thread packs the
//! activations, hands the product over, waits, and scales the results; the others go on to the
//! barrier that the plan has before the output is read.

use std::ops::Range;
use std::slice;
use std::sync::{Mutex, PoisonError};

use onebit_cpu::array::{pack_activations, unpack_results};
use onebit_plan::abi::{ARRAY_ROWS, ArrayProduct, StepContext};
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
            starts[group.start] = Some(index);
            for (place, product) in part.products[group.clone()].iter().enumerate() {
                let weights = context.allocate(product.bytes)?;
                let bytes = &segment[range(product.offset, product.bytes)];
                context.bytes_mut(weights)?[..bytes.len()].copy_from_slice(bytes);
                if place == results.len() {
                    results.push(context.allocate(most(|call| call.results))?);
                }
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
    // SAFETY: m rows of k.
    let x = unsafe { slice::from_raw_parts(x, m * first.k as usize) };
    let n: usize = products.iter().map(|product| product.n as usize).sum();
    let length = (m - 1) * first.out_stride as usize + n;
    // SAFETY: m rows, the last of n; no other thread touches them before the next barrier.
    let out = unsafe { slice::from_raw_parts_mut(out, length) };
    let mut state = array.state.lock().unwrap_or_else(PoisonError::into_inner);
    if state.failure.is_none() {
        let weights = array.plan.segment(SegmentKind::Weights);
        state.failure = state.products(products, x, weights, out).err();
    }
}
