//! What must hold in a plan's part for a Vulkan device, so that the runtime can cut windows,
//! allocate buffers and index tables by it without a second look.

use super::spirv;
use super::{COUNT_LIMIT, MEMORY_LIMIT, inside, length_of, present, range};
use crate::PlanError;
use crate::gpu::{
    GPU_ROWS, GpuDispatch, GpuEntry, GpuKernel, GpuModule, GpuPlan, GpuRopeTable, GpuSlot,
    GpuWindow, IMMEDIATE_BYTES, WINDOW_ALIGN, binding,
};
use crate::manifest::{Manifest, Scratch, SegmentKind, Tap};

/// Bytes of a module; ours have some thousands.
const MODULE_LIMIT: u64 = 4 << 20;
/// Invocations of a workgroup, and the largest subgroup that Vulkan knows.
const WORKGROUP_LIMIT: u32 = 1024;
const SUBGROUP_LIMIT: u32 = 128;
/// Bytes that a workgroup shares: far above any device.
const SHARED_LIMIT: u32 = 1 << 24;
/// Workgroups in each direction: what every device can do.
const GROUP_LIMIT: u32 = 65535;
/// Rotation tables, and frequencies of one.
const TABLE_LIMIT: usize = 64;
const FREQUENCY_LIMIT: usize = 4096;
/// Windows have whole 16-byte words.
const WINDOW_WORD: u64 = 16;

/// A plan has all parts for a Vulkan device, or none.
pub(super) fn gpu(manifest: &Manifest) -> Result<(), PlanError> {
    present(manifest, SegmentKind::Shaders, manifest.gpu.is_some())?;
    let Some(plan) = &manifest.gpu else { return Ok(()) };
    for (name, bytes) in [("gpu.arena", plan.arena), ("gpu.slot", plan.slot)] {
        if bytes > MEMORY_LIMIT || !bytes.is_multiple_of(WINDOW_ALIGN) {
            let expected = format!("a multiple of {WINDOW_ALIGN} up to {MEMORY_LIMIT}");
            return Err(PlanError::malformed(name, expected, bytes));
        }
    }
    at_most("gpu.tables", plan.tables.len(), TABLE_LIMIT)?;
    for (index, table) in plan.tables.iter().enumerate() {
        rope_table(index, table)?;
    }
    kernels(manifest, plan)?;
    if plan.entries.is_empty() {
        return Err(PlanError::malformed("gpu.entries", "at least one", "none"));
    }
    if !plan.entries.is_sorted_by_key(|entry| entry.max_rows) {
        return Err(PlanError::malformed("gpu.entries", "max_rows that ascend", "another order"));
    }
    plan.entries.iter().try_for_each(|entry| self::entry(manifest, plan, entry))
}

/// The modules themselves, given the bytes of the segment of shaders. [`gpu`] holds.
pub(super) fn modules(plan: &GpuPlan, shaders: &[u8]) -> Result<(), PlanError> {
    for kernel in &plan.kernels {
        for (index, module) in kernel.modules.iter().enumerate() {
            let from = module.offset as usize;
            let bytes = &shaders[from..from + module.length as usize];
            let place = format!("module {index} of gpu kernel {:?}", kernel.name);
            spirv::module(&place, bytes, kernel.workgroup)?;
        }
    }
    Ok(())
}

fn rope_table(index: usize, table: &GpuRopeTable) -> Result<(), PlanError> {
    let place = format!("gpu table {index}");
    if table.frequencies.is_empty() {
        return Err(PlanError::malformed(place, "at least one frequency", "none"));
    }
    at_most(&place, table.frequencies.len(), FREQUENCY_LIMIT)?;
    match table.frequencies.iter().chain([&table.magnitude]).find(|it| !it.is_finite()) {
        Some(found) => Err(PlanError::malformed(place, "finite numbers", found)),
        None => Ok(()),
    }
}

fn kernels(manifest: &Manifest, plan: &GpuPlan) -> Result<(), PlanError> {
    let mut names: Vec<&str> = plan.kernels.iter().map(|kernel| kernel.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        let place = format!("gpu kernel {:?}", pair[0]);
        return Err(PlanError::malformed(place, "each name once", "a second one"));
    }
    let shaders = length_of(manifest, SegmentKind::Shaders);
    plan.kernels.iter().try_for_each(|kernel| self::kernel(kernel, shaders))
}

fn kernel(kernel: &GpuKernel, shaders: u64) -> Result<(), PlanError> {
    let place = format!("gpu kernel {:?}", kernel.name);
    range(&format!("workgroup of {place}"), kernel.workgroup, WORKGROUP_LIMIT)?;
    if kernel.immediates as usize > IMMEDIATE_BYTES || !kernel.immediates.is_multiple_of(4) {
        let expected = format!("a multiple of 4 up to {IMMEDIATE_BYTES}");
        let place = format!("immediates of {place}");
        return Err(PlanError::malformed(place, expected, kernel.immediates));
    }
    let ascending = kernel.bindings.is_sorted_by(|a, b| a.binding < b.binding);
    let wrong =
        |slot: &&GpuSlot| slot.binding >= binding::COUNT || (slot.writes && !writable(slot));
    if let Some(slot) = kernel.bindings.iter().find(wrong) {
        let expected = "bindings of the contract, written where it allows that";
        let found = format!("{} (written: {})", slot.binding, slot.writes);
        return Err(PlanError::malformed(format!("bindings of {place}"), expected, found));
    }
    if !ascending {
        let place = format!("bindings of {place}");
        return Err(PlanError::malformed(place, "each once, ascending", "another order"));
    }
    if kernel.modules.is_empty() {
        return Err(PlanError::malformed(place, "at least one module", "none"));
    }
    for (index, module) in kernel.modules.iter().enumerate() {
        self::module(&format!("module {index} of {place}"), module, shaders)?;
    }
    Ok(())
}

fn writable(slot: &GpuSlot) -> bool {
    use binding::{ARENA, CACHE, LOGITS, RECORDS, STEP};
    matches!(slot.binding, ARENA | RECORDS | CACHE | STEP | LOGITS)
}

fn module(place: &str, module: &GpuModule, shaders: u64) -> Result<(), PlanError> {
    inside(|| place.into(), (module.offset, module.length), shaders, 4)?;
    if module.length > MODULE_LIMIT || !module.length.is_multiple_of(4) {
        let expected = format!("whole words, at most {MODULE_LIMIT} bytes");
        return Err(PlanError::malformed(place, expected, module.length));
    }
    if let Some(size) = module.subgroup
        && !(size.is_power_of_two() && size <= SUBGROUP_LIMIT)
    {
        let expected = format!("a power of two up to {SUBGROUP_LIMIT}");
        return Err(PlanError::malformed(format!("subgroup of {place}"), expected, size));
    }
    if module.shared > SHARED_LIMIT {
        let (place, expected) =
            (format!("shared memory of {place}"), format!("at most {SHARED_LIMIT} bytes"));
        return Err(PlanError::malformed(place, expected, module.shared));
    }
    if !module.features.is_sorted_by(|a, b| a < b) {
        let place = format!("features of {place}");
        return Err(PlanError::malformed(place, "each once, sorted", "another order"));
    }
    Ok(())
}

fn entry(manifest: &Manifest, plan: &GpuPlan, entry: &GpuEntry) -> Result<(), PlanError> {
    let place = format!("gpu entry {:?}", entry.name);
    range(&format!("max_rows of {place}"), entry.max_rows, GPU_ROWS as u32)?;
    if entry.dispatches.is_empty() {
        return Err(PlanError::malformed(place, "at least one dispatch", "none"));
    }
    for (index, dispatch) in entry.dispatches.iter().enumerate() {
        let place = || format!("dispatch {index} ({}) of {place}", dispatch.region);
        self::dispatch(manifest, plan, (entry.max_rows, dispatch), &place)?;
    }
    Ok(())
}

fn dispatch(
    manifest: &Manifest,
    plan: &GpuPlan,
    (max_rows, dispatch): (u32, &GpuDispatch),
    place: &dyn Fn() -> String,
) -> Result<(), PlanError> {
    let Some(kernel) = plan.kernels.get(dispatch.kernel as usize) else {
        let expected = format!("one of {} kernels", plan.kernels.len());
        return Err(PlanError::malformed(place(), expected, dispatch.kernel));
    };
    for groups in dispatch.groups {
        range(&format!("groups of {}", place()), groups, GROUP_LIMIT)?;
    }
    for (what, expected, found) in [
        ("windows", kernel.bindings.len(), dispatch.windows.len()),
        ("immediates", kernel.immediates as usize / 4, dispatch.immediates.len()),
    ] {
        if expected != found {
            return Err(PlanError::malformed(format!("{what} of {}", place()), expected, found));
        }
    }
    let ascending = dispatch.regions.is_sorted_by(|a, b| a < b);
    let known = dispatch.regions.last().is_none_or(|&r| (r as usize) < manifest.regions.len());
    if !ascending || !known {
        let expected = format!("ascending indices of {} regions", manifest.regions.len());
        let place = format!("regions of {}", place());
        return Err(PlanError::malformed(place, expected, format!("{:?}", dispatch.regions)));
    }
    let weights = length_of(manifest, SegmentKind::Weights);
    if dispatch.weight_bytes > weights {
        let expected = format!("at most the {weights} bytes of weights");
        let place = format!("weight bytes of {}", place());
        return Err(PlanError::malformed(place, expected, dispatch.weight_bytes));
    }
    for (slot, window) in kernel.bindings.iter().zip(&dispatch.windows) {
        let place = || format!("binding {} of {}", slot.binding, place());
        self::window(weights, plan, slot, window, &place)?;
    }
    for tap in &dispatch.taps {
        self::tap(plan, max_rows, tap, place)?;
    }
    Ok(())
}

/// Whether all rows of a tapped value lie in the arena.
fn tap(
    plan: &GpuPlan,
    max_rows: u32,
    tap: &Tap,
    place: &dyn Fn() -> String,
) -> Result<(), PlanError> {
    let place = || format!("{} of {}", tap.value, place());
    range(&place(), tap.columns, COUNT_LIMIT)?;
    if tap.scratch != Scratch::Arena {
        return Err(PlanError::malformed(place(), "a value in the arena", "private memory"));
    }
    // At most 32 rows of 2^24 columns.
    let bytes = 4 * u64::from(max_rows) * u64::from(tap.columns);
    inside(place, (tap.offset, bytes), plan.arena, 4)
}

/// Whether a window is of the buffer that the binding stands for, and inside it.
fn window(
    weights: u64,
    plan: &GpuPlan,
    slot: &GpuSlot,
    window: &GpuWindow,
    place: &dyn Fn() -> String,
) -> Result<(), PlanError> {
    use binding::{ARENA, CACHE, LOGITS, NEXT, RECORDS, ROPE, SECOND, STEP, VECTORS, WEIGHTS};
    let (fits, extent, end) = match *window {
        GpuWindow::Weights { offset, length } => {
            let fits = matches!(slot.binding, WEIGHTS | SECOND | VECTORS | NEXT);
            (fits, Some((offset, length)), weights.saturating_add(WINDOW_ALIGN))
        }
        GpuWindow::Arena { offset, length } => {
            (matches!(slot.binding, ARENA | RECORDS), Some((offset, length)), plan.arena)
        }
        GpuWindow::Cache { offset, length } => {
            (slot.binding == CACHE, Some((offset, length)), plan.slot)
        }
        GpuWindow::Rope { table } => {
            (slot.binding == ROPE && (table as usize) < plan.tables.len(), None, 0)
        }
        GpuWindow::Step => (slot.binding == STEP, None, 0),
        GpuWindow::Logits => (slot.binding == LOGITS, None, 0),
    };
    if !fits {
        let expected = "a window of what the binding stands for";
        return Err(PlanError::malformed(place(), expected, format!("{window:?}")));
    }
    let Some((offset, length)) = extent else { return Ok(()) };
    if length == 0 || !length.is_multiple_of(WINDOW_WORD) {
        let expected = format!("a length that is a multiple of {WINDOW_WORD}");
        return Err(PlanError::malformed(place(), expected, length));
    }
    inside(place, (offset, length), end, WINDOW_ALIGN)
}

fn at_most(place: &str, found: usize, limit: usize) -> Result<(), PlanError> {
    if found <= limit {
        return Ok(());
    }
    Err(PlanError::malformed(place, format!("at most {limit}"), found))
}
