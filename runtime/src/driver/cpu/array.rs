//! Products that go to a neural processor's array instead of to the CPU.
//!
//! The step program calls [`offload`] where it would call the CPU's kernel. One thread packs the
//! activations, hands the product over, waits, and scales the results; the others go on to the
//! barrier that the plan has before the output is read.

use std::slice;
use std::sync::{Mutex, PoisonError};

use onebit_cpu::array::{pack_activations, unpack_results};
use onebit_plan::PlanFile;
use onebit_plan::abi::{ARRAY_ROWS, ArrayProduct, StepContext};
use onebit_plan::manifest::{ArrayPlan, SegmentKind};

use crate::Error;
use crate::driver::npu::{BufferId, Call, Context};

/// A plan's array products on a device.
pub struct Array(Mutex<State>);

struct State {
    context: Box<dyn Context>,
    /// By product: made at load, so that a step allocates nothing.
    calls: Vec<[Call; 1]>,
    activations: BufferId,
    results: BufferId,
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
        plan: &PlanFile,
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
        let results = context.allocate(most(|call| call.results))?;
        let mut calls = Vec::with_capacity(part.products.len());
        for product in &part.products {
            let weights = context.allocate(product.bytes)?;
            let bytes = &segment[range(product.offset, product.bytes)];
            context.bytes_mut(weights)?[..bytes.len()].copy_from_slice(bytes);
            calls.push([Call {
                program: programs[product.call as usize],
                arguments: vec![activations, weights, results],
            }]);
        }
        let groups = part.products.iter().map(|p| p.columns / p.group).max().unwrap_or(0);
        Ok(Self(Mutex::new(State {
            context,
            calls,
            activations,
            results,
            scales: vec![0.0; ARRAY_ROWS * groups as usize],
            failure: None,
        })))
    }

    /// Takes what went wrong since it was last asked.
    pub fn take_failure(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).failure.take()
    }
}

impl State {
    /// `x` is `[m][k]`; row r of `out` starts at `r * out_stride`.
    fn product(
        &mut self,
        product: &ArrayProduct,
        x: &[f32],
        scales: &[f32],
        out: &mut [f32],
    ) -> Result<(), Error> {
        let m = x.len() / product.k as usize;
        // The code's constants and the manifest come from one compile; if they do not agree, that
        // is said instead of a panic, which could not leave a function that compiled code called.
        let disagree = || Error::ArrayProduct { index: product.index };
        let d = self.scales.get_mut(..m * product.groups()).ok_or_else(disagree)?;
        let call = self.calls.get(product.index as usize).ok_or_else(disagree)?;
        let packed = self.context.bytes_mut(self.activations)?;
        let packed = packed.get_mut(..product.activation_bytes()).ok_or_else(disagree)?;
        pack_activations(product, x, packed, d);
        self.context.run(call)?;
        let results = self.context.bytes(self.results)?;
        let results = results.get(..product.result_bytes()).ok_or_else(disagree)?;
        unpack_results(product, results, d, scales, out);
        Ok(())
    }
}

/// [`ArrayFn`](onebit_plan::abi::ArrayFn) over the [`Array`] at `StepContext::array`.
///
/// # Safety
/// As `ArrayFn` demands; `array` points at an [`Array`] that was loaded from the same plan.
pub unsafe extern "C" fn offload(
    context: *const StepContext,
    product: *const ArrayProduct,
    x: *const f32,
    out: *mut f32,
    m: u32,
) {
    // SAFETY: valid by the contract.
    let context = unsafe { &*context };
    if context.thread != 0 || m == 0 {
        return;
    }
    // SAFETY: valid by the contract.
    let product = unsafe { &*product };
    // SAFETY: an array by the contract.
    let array = unsafe { &*context.array.cast::<Array>() };
    let (m, n, k) = (m as usize, product.n as usize, product.k as usize);
    // SAFETY: m rows of k.
    let x = unsafe { slice::from_raw_parts(x, m * k) };
    // SAFETY: inside the weight segment.
    let scales = unsafe { context.weights.add(product.scales as usize) }.cast();
    // SAFETY: one for each group and output; they follow weights of whole granules.
    let scales = unsafe { slice::from_raw_parts(scales, product.groups() * n) };
    let length = (m - 1) * product.out_stride as usize + n;
    // SAFETY: m rows, the last of n; no other thread touches them before the next barrier.
    let out = unsafe { slice::from_raw_parts_mut(out, length) };
    let mut state = array.0.lock().unwrap_or_else(PoisonError::into_inner);
    if state.failure.is_none() {
        state.failure = state.product(product, x, scales, out).err();
    }
}
