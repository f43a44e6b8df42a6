//! Which of a kernel's modules a device takes, which entries that leaves, and their pipelines.

use std::path::Path;
use std::sync::Arc;

use onebit_plan::PlanFile;
use onebit_plan::fit::Scale;
use onebit_plan::gpu::{GpuEntry, GpuFeature, GpuKernel, GpuModule, GpuPlan};
use onebit_plan::manifest::SegmentKind;
use onebit_vulkan::{Device, DeviceInfo, Inspect, Pipeline, PipelineCache, PipelineDesc};
use rayon::prelude::*;

use super::{GpuError, Matrices, store};

/// What a plan comes to on a device.
pub(super) struct Selection<'a> {
    /// By kernel: the first module that fits.
    pub(super) modules: Vec<Option<&'a GpuModule>>,
    /// Entries whose kernels all fit, the first of each number of rows, ascending.
    pub(super) entries: Vec<&'a GpuEntry>,
    /// Why the others do not.
    pub(super) notes: Vec<String>,
}

impl Selection<'_> {
    /// Whether no entry multiplies in f16: all others round alike.
    pub(super) fn is_uniform(&self) -> bool {
        !self.entries.iter().any(|entry| {
            let modules = entry.dispatches.iter().map(|it| self.modules[it.kernel as usize]);
            modules.flatten().any(multiplies_halves)
        })
    }
}

/// Whether a module rounds activations to f16, which no module without matrices does.
fn multiplies_halves(module: &GpuModule) -> bool {
    module.features.contains(&GpuFeature::CooperativeF16)
}

/// Chooses modules and entries. Entries of matrices that are not wanted, or that the device has
/// no matrices for, are no matter for a note: the plan has others for their rows.
///
/// # Errors
/// [`GpuError::NoEntry`], [`GpuError::Window`] when nothing fits.
pub(super) fn select<'a>(
    plan: &'a GpuPlan,
    info: &DeviceInfo,
    scale: Scale,
    matrices: Matrices,
) -> Result<Selection<'a>, GpuError> {
    let modules = modules(plan, info, matrices);
    let (mut entries, mut notes) = (Vec::<&GpuEntry>::new(), Vec::new());
    let mut too_long = None;
    for entry in &plan.entries {
        if is_spare(plan, entry, info, matrices) {
            continue;
        }
        if let Some(kernel) = missing(plan, entry, &modules) {
            notes.push(format!("entry {}: {}", entry.name, explain(kernel, info)));
        } else if let Some(error) = long_window(plan, entry, info, scale) {
            notes.push(format!("entry {}: {error}", entry.name));
            too_long.get_or_insert(error);
        } else if entries.last().is_none_or(|last| last.max_rows < entry.max_rows) {
            entries.push(entry);
        }
    }
    match (entries.is_empty(), too_long) {
        (false, _) => Ok(Selection { modules, entries, notes }),
        (true, Some(error)) => Err(error),
        (true, None) => Err(GpuError::NoEntry { device: info.name.clone(), reasons: notes }),
    }
}

/// By kernel: the first module that fits.
pub(super) fn modules<'a>(
    plan: &'a GpuPlan,
    info: &DeviceInfo,
    matrices: Matrices,
) -> Vec<Option<&'a GpuModule>> {
    let capabilities = info.capabilities();
    let fits = |kernel: &'a GpuKernel| {
        let mut modules = allowed(kernel, matrices);
        modules.find(|module| capabilities.lacks(kernel, module).is_empty())
    };
    plan.kernels.iter().map(fits).collect()
}

/// The modules of a kernel that may be taken.
pub(super) fn allowed(kernel: &GpuKernel, matrices: Matrices) -> impl Iterator<Item = &GpuModule> {
    let allowed = move |it: &&GpuModule| matrices == Matrices::Auto || !multiplies_halves(it);
    kernel.modules.iter().filter(allowed)
}

/// Whether nobody asked for the entry: it is of matrices that are not wanted or not there, and
/// the plan has another for its rows.
pub(super) fn is_spare(
    plan: &GpuPlan,
    entry: &GpuEntry,
    info: &DeviceInfo,
    matrices: Matrices,
) -> bool {
    let has = info.features.contains(&GpuFeature::CooperativeF16);
    (matrices == Matrices::Never || !has) && needs_halves(plan, entry)
}

/// Whether an entry has a kernel that runs by matrices of f16 only.
fn needs_halves(plan: &GpuPlan, entry: &GpuEntry) -> bool {
    let kernels = entry.dispatches.iter().map(|dispatch| &plan.kernels[dispatch.kernel as usize]);
    kernels.into_iter().any(|kernel| kernel.modules.iter().all(multiplies_halves))
}

/// The first kernel of an entry that has no module.
fn missing<'a>(
    plan: &'a GpuPlan,
    entry: &GpuEntry,
    modules: &[Option<&GpuModule>],
) -> Option<&'a GpuKernel> {
    let kernels = entry.dispatches.iter().map(|dispatch| dispatch.kernel as usize);
    kernels.filter(|&kernel| modules[kernel].is_none()).map(|kernel| &plan.kernels[kernel]).next()
}

/// Why no module of a kernel fits.
fn explain(kernel: &GpuKernel, info: &DeviceInfo) -> String {
    let capabilities = info.capabilities();
    let reasons = kernel.modules.iter().map(|module| {
        let lacks = capabilities.lacks(kernel, module);
        lacks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
    });
    format!("kernel {} lacks {}", kernel.name, reasons.collect::<Vec<_>>().join(", or "))
}

/// The first window that is longer than shaders of the device can see.
fn long_window(
    plan: &GpuPlan,
    entry: &GpuEntry,
    info: &DeviceInfo,
    scale: Scale,
) -> Option<GpuError> {
    let most = info.limits.storage_range;
    entry.dispatches.iter().find_map(|dispatch| {
        let lengths = dispatch.windows.iter().map(|it| entry.window_bytes(plan, it, scale));
        let bytes = lengths.into_iter().find(|bytes| *bytes > most)?;
        let (what, device) = (dispatch.region.clone(), info.name.clone());
        Some(GpuError::Window { what, bytes, device, most })
    })
}

/// Compiles the kernels of the chosen entries, with what an earlier start left in `folder`. What
/// cannot be stored is a note.
pub(super) fn pipelines(
    device: &Arc<Device>,
    file: &PlanFile,
    plan: &GpuPlan,
    selection: &mut Selection<'_>,
    folder: Option<&Path>,
) -> Result<Vec<Option<Arc<Pipeline>>>, GpuError> {
    let shaders = file.segment(SegmentKind::Shaders);
    let path = folder.map(|folder| store::path(folder, device.info(), shaders));
    let stored = path.as_deref().map(store::load).unwrap_or_default();
    let cache = PipelineCache::new(device, &stored)?;
    let mut used = vec![false; plan.kernels.len()];
    for dispatch in selection.entries.iter().flat_map(|entry| &entry.dispatches) {
        used[dispatch.kernel as usize] = true;
    }
    let compile = |(index, kernel): (usize, &GpuKernel)| {
        let module = selection.modules[index].filter(|_| used[index]);
        module.map(|module| pipeline(device, kernel, module, shaders, &cache)).transpose()
    };
    let pipelines =
        plan.kernels.par_iter().enumerate().map(compile).collect::<Result<Vec<_>, GpuError>>()?;
    if let Some(path) = path {
        let data = cache.data()?;
        if data != stored
            && let Err(error) = store::save(&path, &data)
        {
            selection.notes.push(format!("cannot keep pipelines in {}: {error}", path.display()));
        }
    }
    Ok(pipelines)
}

fn pipeline(
    device: &Arc<Device>,
    kernel: &GpuKernel,
    module: &GpuModule,
    shaders: &[u8],
    cache: &PipelineCache,
) -> Result<Arc<Pipeline>, GpuError> {
    // The plan's checks put modules inside the segment.
    let from = module.offset as usize;
    let bytes = &shaders[from..from + module.length as usize];
    let words = bytes.chunks_exact(4);
    let spirv: Vec<u32> =
        words.map(|word| u32::from_le_bytes([0, 1, 2, 3].map(|i| word[i]))).collect();
    let bindings: Vec<u32> = kernel.bindings.iter().map(|slot| slot.binding).collect();
    let desc = PipelineDesc {
        name: &kernel.name,
        spirv: &spirv,
        bindings: &bindings,
        immediates: kernel.immediates,
        workgroup: kernel.workgroup,
        subgroup: module.subgroup,
        inspect: Inspect::No,
    };
    Ok(Pipeline::new(device, &desc, Some(cache))?)
}
