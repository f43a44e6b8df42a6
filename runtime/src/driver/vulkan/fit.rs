//! What a load takes of a plan's part for a device: modules, entries, and the sizes of the buffers
//! that they make. [`requirements`](super::requirements) tells people the same.

use std::ops::Range;

use onebit_plan::fit::Scale;
use onebit_plan::gpu::{GpuEntry, GpuPlan, GpuWindow, step};
use onebit_plan::manifest::Manifest;
use onebit_vulkan::DeviceInfo;

use super::kernels::{self, Selection};
use super::{GpuError, Matrices, pieces};

/// The sizes of a plan's windows with so many slots, at most those of the plan.
pub(super) fn scale(manifest: &Manifest, slots: u32) -> Scale {
    Scale {
        slots: slots.clamp(1, manifest.memory.slots).into(),
        context: manifest.model.context.into(),
        vocabulary: manifest.model.vocabulary.into(),
    }
}

/// Modules and entries for a device, and the buffers that they make.
pub(super) struct Fit<'a> {
    pub(super) selection: Selection<'a>,
    /// By name and bytes; a name may stand for several.
    pub(super) buffers: Vec<(&'static str, u64)>,
}

/// What a load takes from the plan.
///
/// # Errors
/// [`GpuError::NoEntry`], [`GpuError::Window`], [`GpuError::Buffer`] and [`GpuError::Room`]: what
/// no device like this can hold or run.
pub(super) fn fit<'a>(
    plan: &'a GpuPlan,
    info: &DeviceInfo,
    scale: Scale,
    matrices: Matrices,
) -> Result<Fit<'a>, GpuError> {
    let selection = kernels::select(plan, info, scale, matrices)?;
    let buffers = buffers(plan, &selection.entries, info, scale);
    let device = || info.name.clone();
    let most = info.limits.buffer;
    if let Some(&(what, bytes)) = buffers.iter().find(|(_, bytes)| *bytes > most) {
        return Err(GpuError::Buffer { what, bytes, device: device(), most });
    }
    let fit = Fit { selection, buffers };
    let (bytes, most) = (fit.bytes(), info.limits.memory);
    if bytes > most {
        return Err(GpuError::Room { bytes, device: device(), most });
    }
    Ok(fit)
}

impl Fit<'_> {
    /// Bytes of all buffers.
    pub(super) fn bytes(&self) -> u64 {
        self.buffers.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }
}

/// The buffers of `super::record::Buffers`, by name and bytes.
pub(super) fn buffers(
    plan: &GpuPlan,
    entries: &[&GpuEntry],
    info: &DeviceInfo,
    scale: Scale,
) -> Vec<(&'static str, u64)> {
    let cut = |windows| pieces::partition(windows, info.limits.buffer);
    let bytes = |piece: Range<u64>| piece.end - piece.start;
    let weights = cut(weight_windows(entries)).into_iter().map(|it| ("weights", bytes(it)));
    let cache = cut(cache_windows(entries, scale)).into_iter();
    let cache = cache.map(|it| ("key/value cache", bytes(it)));
    let tables = plan.tables.iter();
    let tables = tables.map(|it| ("rotations", 8 * scale.context * it.frequencies.len() as u64));
    let rows = entries.iter().map(|entry| entry.max_rows).max().unwrap_or(1);
    let logits = ("logits", 4 * scale.vocabulary * u64::from(rows));
    let rest = [("arena", plan.arena), logits, ("step", 4 * step::COUNT as u64)];
    weights.chain(cache).chain(tables).chain(rest).collect()
}

/// Windows of the weights.
pub(super) fn weight_windows(entries: &[&GpuEntry]) -> Vec<Range<u64>> {
    let windows = entries.iter().flat_map(|entry| &entry.dispatches).flat_map(|it| &it.windows);
    let weights = windows.filter_map(|window| match *window {
        GpuWindow::Weights { offset, length } => Some(offset..offset + length),
        _ => None,
    });
    weights.collect()
}

/// Windows of the cache with all slots.
pub(super) fn cache_windows(entries: &[&GpuEntry], scale: Scale) -> Vec<Range<u64>> {
    let windows = entries.iter().flat_map(|entry| &entry.dispatches).flat_map(|it| &it.windows);
    let cache = windows.filter_map(|window| match *window {
        GpuWindow::Cache { offset, length } => {
            Some(scale.slots * offset..scale.slots * (offset + length))
        }
        _ => None,
    });
    cache.collect()
}
