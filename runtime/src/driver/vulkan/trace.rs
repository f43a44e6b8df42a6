//! What the dispatches of a step leave in the arena, for checks.
//!
//! The entry is recorded anew, with a copy after every dispatch that leaves a value of the graph.
//! Everything waits for everything, so that a value is copied before anything writes over it.

use onebit_plan::gpu::GpuEntry;
use onebit_plan::manifest::{Tap, TapRows};
use onebit_vulkan::{Buffer, Place};

use super::{GpuError, VulkanDriver};
use crate::Error;
use crate::driver::{Row, TappedValue};
use crate::verify::Traced;

/// A tapped value: after which dispatch, and which row.
pub(super) struct Pick<'p> {
    pub(super) dispatch: usize,
    pub(super) tap: &'p Tap,
    pub(super) row: u64,
}

impl Traced for VulkanDriver {
    fn entry_rows(&self) -> Vec<usize> {
        self.entries.iter().map(|entry| entry.max_rows).collect()
    }

    fn step_with_values(
        &mut self,
        rows: &[Row],
        logits: &mut [f32],
        keep: usize,
    ) -> Result<Vec<TappedValue>, Error> {
        self.check.check(rows, logits.len())?;
        Ok(self.step_and_copy(rows, logits, keep)?)
    }
}

impl VulkanDriver {
    fn step_and_copy(
        &mut self,
        rows: &[Row],
        logits: &mut [f32],
        keep: usize,
    ) -> Result<Vec<TappedValue>, GpuError> {
        let plan = self.plan.clone();
        let index = self.fitting(rows.len()).index;
        let Some(gpu) = &plan.manifest().gpu else { return Err(GpuError::NoPart) };
        let entry = &gpu.entries[index];
        let picks = picks(entry, rows, keep);
        let bytes = picks.iter().map(|pick| 4 * u64::from(pick.tap.columns)).sum::<u64>();
        let outputs = 4 * logits.len() as u64;
        // A buffer is never empty.
        let size = (bytes + outputs).max(4);
        let to = Buffer::new(&self.device, "values of the graph", size, Place::Readback)?;
        let commands = self.buffers.record_traced(
            &self.device,
            entry,
            &self.pipelines,
            (&picks, outputs),
            &to,
        )?;
        self.fill_step(rows)?;
        self.run(&[&commands])?;
        let mut all = vec![0.0f32; size as usize / 4];
        to.read(0, bytemuck::cast_slice_mut(&mut all))?;
        let mut rest = &all[..];
        let mut values = Vec::with_capacity(picks.len());
        for pick in &picks {
            let (row, after) = rest.split_at(pick.tap.columns as usize);
            rest = after;
            let (value, op) = (pick.tap.value.clone(), pick.tap.op.clone());
            values.push(TappedValue { value, op, row: row.to_vec() });
        }
        logits.copy_from_slice(&rest[..logits.len()]);
        Ok(values)
    }
}

/// The taps of an entry that have row `keep` of the step.
fn picks<'p>(entry: &'p GpuEntry, rows: &[Row], keep: usize) -> Vec<Pick<'p>> {
    let output = rows[..keep].iter().filter(|row| row.output).count();
    let is_output = rows.get(keep).is_some_and(|row| row.output);
    let mut picks = Vec::new();
    for (dispatch, it) in entry.dispatches.iter().enumerate() {
        for tap in &it.taps {
            let row = match tap.rows {
                TapRows::All => keep,
                TapRows::Outputs if is_output => output,
                TapRows::Outputs => continue,
            };
            picks.push(Pick { dispatch, tap, row: row as u64 });
        }
    }
    picks
}
