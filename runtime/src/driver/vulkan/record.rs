//! A plan's buffers on a device, and its entries as recorded commands.

use std::ops::Range;
use std::sync::Arc;

use onebit_plan::PlanFile;
use onebit_plan::fit::Scale;
use onebit_plan::gpu::{GpuDispatch, GpuEntry, GpuPlan, GpuWindow, WINDOW_ALIGN, step};
use onebit_plan::manifest::SegmentKind;
use onebit_vulkan::{
    Buffer, Commands, Device, Pipeline, Place, Recorder, Transfer, VulkanError, Window,
};

use super::fit::{cache_windows, weight_windows};
use super::pieces::Pieces;
use super::rope;
use super::trace::Pick;

/// All that dispatches see.
pub(super) struct Buffers {
    weights: Pieces,
    cache: Pieces,
    arena: Option<Arc<Buffer>>,
    ropes: Vec<Arc<Buffer>>,
    pub(super) step: Arc<Buffer>,
    pub(super) logits: Arc<Buffer>,
    slots: u64,
    row: u64,
}

/// Whether a recording notes the time after each dispatch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    Off,
    Each,
}

impl Buffers {
    /// Allocates for these entries and uploads what they read. Scratch and cache are zeros.
    pub(super) fn new(
        device: &Arc<Device>,
        file: &PlanFile,
        plan: &GpuPlan,
        entries: &[&GpuEntry],
        scale: Scale,
    ) -> Result<Self, VulkanError> {
        let mut transfer = Transfer::new(device);
        let weights = Pieces::new(device, "weights", weight_windows(entries))?;
        upload(&mut transfer, &weights, file.segment(SegmentKind::Weights))?;
        let cache = Pieces::new(device, "key/value cache", cache_windows(entries, scale))?;
        for (_, buffer) in cache.iter() {
            transfer.clear(&buffer.window())?;
        }
        let arena = match plan.arena {
            0 => None,
            bytes => Some(Buffer::new(device, "arena", bytes, Place::Device)?),
        };
        arena.iter().try_for_each(|arena| transfer.clear(&arena.window()))?;
        let context = scale.context as u32;
        let ropes = plan.tables.iter().map(|table| {
            let values = rope::fill(table, context);
            let bytes: &[u8] = bytemuck::cast_slice(&values);
            let buffer = Buffer::new(device, "rotations", bytes.len() as u64, Place::Device)?;
            transfer.write(&buffer, 0, bytes)?;
            Ok(buffer)
        });
        let ropes = ropes.collect::<Result<Vec<_>, VulkanError>>()?;
        let rows = entries.iter().map(|entry| entry.max_rows).max().unwrap_or(1);
        let row = 4 * scale.vocabulary;
        let logits = Buffer::new(device, "logits", u64::from(rows) * row, Place::Device)?;
        let step = Buffer::new(device, "step", 4 * step::COUNT as u64, Place::Shared)?;
        step.write(0, &[0; 4 * step::COUNT])?;
        Ok(Self { weights, cache, arena, ropes, step, logits, slots: scale.slots, row })
    }

    /// Bytes of weights on the device.
    pub(super) fn weight_bytes(&self) -> u64 {
        self.weights.bytes()
    }

    /// Records an entry. Everything of earlier submissions ends before its first dispatch.
    pub(super) fn record(
        &self,
        device: &Arc<Device>,
        entry: &GpuEntry,
        pipelines: &[Option<Arc<Pipeline>>],
        clock: Clock,
    ) -> Result<Commands, VulkanError> {
        let timestamps = match clock {
            Clock::Off => 0,
            Clock::Each => entry.dispatches.len() as u32 + 1,
        };
        let mut recorder = Recorder::new(device, &entry.name, timestamps)?;
        recorder.copy_barrier();
        if clock == Clock::Each {
            recorder.timestamp()?;
        }
        for dispatch in &entry.dispatches {
            if dispatch.wait {
                recorder.barrier();
            }
            self.dispatch(&mut recorder, entry, dispatch, pipelines)?;
            if clock == Clock::Each {
                recorder.timestamp()?;
            }
        }
        recorder.host_barrier();
        recorder.finish()
    }

    /// Records an entry that copies what it leaves after its dispatches, and at its end `outputs`
    /// bytes of logits, to `to`, one behind the other.
    pub(super) fn record_traced(
        &self,
        device: &Arc<Device>,
        entry: &GpuEntry,
        pipelines: &[Option<Arc<Pipeline>>],
        (picks, outputs): (&[Pick<'_>], u64),
        to: &Arc<Buffer>,
    ) -> Result<Commands, VulkanError> {
        let mut recorder = Recorder::new(device, &entry.name, 0)?;
        let (mut picks, mut at) = (picks.iter().peekable(), 0);
        for (index, dispatch) in entry.dispatches.iter().enumerate() {
            recorder.copy_barrier();
            self.dispatch(&mut recorder, entry, dispatch, pipelines)?;
            recorder.copy_barrier();
            while let Some(pick) = picks.next_if(|pick| pick.dispatch == index) {
                let length = 4 * u64::from(pick.tap.columns);
                let offset = pick.tap.offset + pick.row * length;
                let from = self.arena.as_ref().map(|arena| arena.slice(offset, length));
                recorder.copy(&from.ok_or_else(|| missing(offset))?, &to.slice(at, length))?;
                at += length;
            }
        }
        if outputs > 0 {
            recorder.copy_barrier();
            recorder.copy(&self.logits.slice(0, outputs), &to.slice(at, outputs))?;
        }
        recorder.host_barrier();
        recorder.finish()
    }

    fn dispatch(
        &self,
        recorder: &mut Recorder,
        entry: &GpuEntry,
        dispatch: &GpuDispatch,
        pipelines: &[Option<Arc<Pipeline>>],
    ) -> Result<(), VulkanError> {
        let windows = dispatch.windows.iter().map(|window| self.window(window, entry.max_rows));
        let windows = windows.collect::<Result<Vec<_>, _>>()?;
        let Some(pipeline) = &pipelines[dispatch.kernel as usize] else {
            return Err(missing(dispatch.kernel.into()));
        };
        recorder.dispatch(pipeline, &windows, &dispatch.immediates, dispatch.groups)
    }

    /// Commands that bring the first `rows` of the logits to where the host reads fast.
    pub(super) fn record_readback(
        &self,
        device: &Arc<Device>,
        rows: u64,
        to: &Arc<Buffer>,
    ) -> Result<Commands, VulkanError> {
        let mut recorder = Recorder::new(device, "logits to the host", 0)?;
        recorder.copy_barrier();
        recorder.copy(&self.logits.slice(0, rows * self.row), &to.slice(0, rows * self.row))?;
        recorder.host_barrier();
        recorder.finish()
    }

    fn window(&self, window: &GpuWindow, rows: u32) -> Result<Window, VulkanError> {
        let found = match *window {
            GpuWindow::Weights { offset, length } => self.weights.window(offset, length),
            GpuWindow::Arena { offset, length } => {
                self.arena.as_ref().map(|arena| arena.slice(offset, length))
            }
            GpuWindow::Cache { offset, length } => {
                self.cache.window(offset * self.slots, length * self.slots)
            }
            GpuWindow::Rope { table } => self.ropes.get(table as usize).map(Buffer::window),
            GpuWindow::Step => Some(self.step.window()),
            GpuWindow::Logits => Some(self.logits.slice(0, u64::from(rows) * self.row)),
        };
        found.ok_or_else(|| missing(0))
    }
}

/// Something that the checks of plans exclude.
fn missing(found: u64) -> VulkanError {
    let (what, allowed) = ("what a dispatch names".into(), "what the plan has".into());
    VulkanError::Limit { what, found, allowed }
}

/// Copies pieces of the segment, with zeros where windows end behind it.
fn upload(transfer: &mut Transfer, pieces: &Pieces, weights: &[u8]) -> Result<(), VulkanError> {
    const ZEROS: [u8; 2 * WINDOW_ALIGN as usize] = [0; 2 * WINDOW_ALIGN as usize];
    let end = weights.len() as u64;
    for (piece, buffer) in pieces.iter() {
        let Range { start, end } = piece.start.min(end)..piece.end.min(end);
        transfer.write(buffer, 0, &weights[start as usize..end as usize])?;
        // The checks let windows end so little behind the segment that the zeros suffice.
        let rest = (piece.end - piece.start) - (end - start);
        transfer.write(buffer, end - start, &ZEROS[..rest as usize])?;
    }
    Ok(())
}
