//! What a traced step tells: the time of every region, and the values that were asked for.
//!
//! A traced entry calls [`note`] after every step, when the whole team has done it. The first
//! thread takes the time and copies values; the others go on to the next step's end. The time that
//! copying takes counts for no step.

use std::slice;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use onebit_plan::abi::{StepContext, TRACE_START};
use onebit_plan::manifest::{Scratch, Tap, TapRows, TracedEntry};

use crate::driver::TappedValue;

/// What to keep of a traced step besides its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: for measurements.
    Times,
    /// All tapped values of one row, by its index in the step.
    Row(usize),
}

/// One step of a traced entry, in order of execution.
#[derive(Clone, Debug, PartialEq)]
pub struct TracedRegion {
    /// Index among the manifest's regions.
    pub region: usize,
    /// From the end of the step before to the end of this one, on the team's first thread.
    pub time: Duration,
    pub values: Vec<TappedValue>,
}

/// Takes notes during one step; made before it.
pub(super) struct Recorder<'p> {
    entry: &'p TracedEntry,
    /// Index of the kept row, and among the outputs if it is one.
    row: Option<(usize, Option<usize>)>,
    state: Mutex<State>,
}

struct State {
    /// When the last step was noted.
    last: Instant,
    regions: Vec<TracedRegion>,
}

impl<'p> Recorder<'p> {
    /// `outputs` are the rows whose logits are wanted.
    pub(super) fn new(entry: &'p TracedEntry, keep: Keep, outputs: &[i32]) -> Self {
        let row = match keep {
            Keep::Times => None,
            Keep::Row(row) => Some((row, outputs.iter().position(|&at| at as usize == row))),
        };
        let regions = Vec::with_capacity(entry.steps.len());
        let state = Mutex::new(State { last: Instant::now(), regions });
        Self { entry, row, state }
    }

    /// What was noted. A step that wants no logits ends before the regions that make them.
    pub(super) fn finish(self) -> Vec<TracedRegion> {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).regions
    }

    /// `step` has ended now.
    fn note(&self, context: &StepContext, step: u32) {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // The code is trusted, but a number out of range must not panic inside it.
        if step != TRACE_START
            && let Some(known) = self.entry.steps.get(step as usize)
        {
            let time = now.duration_since(state.last);
            let values = known.taps.iter().filter_map(|tap| self.copy(context, tap)).collect();
            state.regions.push(TracedRegion { region: known.region as usize, time, values });
        }
        state.last = Instant::now();
    }

    fn copy(&self, context: &StepContext, tap: &Tap) -> Option<TappedValue> {
        let (row, output) = self.row?;
        let row = match tap.rows {
            TapRows::All => row,
            TapRows::Outputs => output?,
        };
        let memory = match tap.scratch {
            Scratch::Arena => context.arena,
            Scratch::Private => context.private,
        };
        let columns = tap.columns as usize;
        let start = tap.offset as usize + 4 * row * columns;
        let source = memory.wrapping_add(start).cast::<f32>().cast_const();
        // SAFETY: the checks of plans put all rows of a tap inside this memory, at a multiple of
        // 64, and the row is one of the step's. It is the team's first thread that reads; until it
        // has come to its next barrier no thread writes what the step left (`TraceFn`).
        let row = unsafe { slice::from_raw_parts(source, columns) }.to_vec();
        Some(TappedValue { value: tap.value.clone(), op: tap.op.clone(), row })
    }
}

/// [`onebit_plan::abi::TraceFn`] over the [`Recorder`] at `StepContext::trace`.
///
/// # Safety
/// `context` is valid; its `trace` points at a [`Recorder`] for the entry that calls, its memory
/// is that which the plan asks for.
pub(super) unsafe extern "C" fn note(context: *const StepContext, step: u32) {
    // SAFETY: valid by the contract.
    let context = unsafe { &*context };
    let recorder = context.trace.cast::<Recorder<'_>>();
    if context.thread != 0 || recorder.is_null() {
        return;
    }
    // SAFETY: a recorder by the contract.
    unsafe { &*recorder }.note(context, step);
}
