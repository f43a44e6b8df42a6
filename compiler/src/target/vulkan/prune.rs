//! A part for Vulkan devices, cut down to what the devices of a known machine can take.

use std::collections::BTreeMap;

use onebit_plan::box_sys::BoxGpu;
use onebit_plan::fit::Scale;
use onebit_plan::gpu::{GpuDispatch, GpuEntry, GpuKernel, GpuModule, GpuPlan};

use super::GpuProgram;

/// Leaves out modules that no device takes, entries that no device can run whole, and kernels that
/// no entry needs any more. None where no entry is left.
pub fn prune(program: GpuProgram, devices: &[BoxGpu], scale: Scale) -> Option<GpuProgram> {
    let GpuProgram { plan, shaders } = program;
    let entries: Vec<&GpuEntry> = plan
        .entries
        .iter()
        .filter(|entry| devices.iter().any(|device| runs(&plan, entry, device, scale)))
        .collect();
    if entries.is_empty() {
        return None;
    }
    let mut renumbered: BTreeMap<u32, u32> = BTreeMap::new();
    for dispatch in entries.iter().flat_map(|entry| &entry.dispatches) {
        renumbered.insert(dispatch.kernel, 0);
    }
    for (number, new) in renumbered.values_mut().zip(0..) {
        *number = new;
    }
    let dispatch = |it: &GpuDispatch| GpuDispatch { kernel: renumbered[&it.kernel], ..it.clone() };
    let entry = |entry: &&GpuEntry| GpuEntry {
        dispatches: entry.dispatches.iter().map(dispatch).collect(),
        ..(*entry).clone()
    };
    let entries = entries.iter().map(entry).collect();
    let mut segment = Segment { from: &shaders, bytes: Vec::new(), moved: BTreeMap::new() };
    let mut kernels = Vec::new();
    for &number in renumbered.keys() {
        let kernel = &plan.kernels[number as usize];
        let taken = kernel.modules.iter().filter(|module| takes(kernel, module, devices));
        let modules = taken.map(|module| segment.take(module)).collect();
        kernels.push(GpuKernel { modules, ..kernel.clone() });
    }
    let shaders = segment.bytes;
    let GpuPlan { arena, slot, tables, .. } = plan;
    Some(GpuProgram { plan: GpuPlan { kernels, entries, arena, slot, tables }, shaders })
}

/// Whether any device takes a module.
fn takes(kernel: &GpuKernel, module: &GpuModule, devices: &[BoxGpu]) -> bool {
    devices.iter().any(|device| device.capabilities().lacks(kernel, module).is_empty())
}

/// Whether a device has a module for every kernel of an entry, and windows long enough.
fn runs(plan: &GpuPlan, entry: &GpuEntry, device: &BoxGpu, scale: Scale) -> bool {
    let one = std::slice::from_ref(device);
    entry.longest_window(plan, scale) <= device.window
        && entry.dispatches.iter().all(|dispatch| {
            let kernel = &plan.kernels[dispatch.kernel as usize];
            kernel.modules.iter().any(|module| takes(kernel, module, one))
        })
}

/// Modules one behind the other, those of the same bytes once.
struct Segment<'a> {
    from: &'a [u8],
    bytes: Vec<u8>,
    moved: BTreeMap<u64, u64>,
}

impl Segment<'_> {
    fn take(&mut self, module: &GpuModule) -> GpuModule {
        let (start, length) = (module.offset as usize, module.length as usize);
        let offset = *self.moved.entry(module.offset).or_insert_with(|| {
            let offset = self.bytes.len() as u64;
            self.bytes.extend_from_slice(&self.from[start..start + length]);
            offset
        });
        GpuModule { offset, ..module.clone() }
    }
}
