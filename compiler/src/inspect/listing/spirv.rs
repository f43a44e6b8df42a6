//! The SPIR-V of dispatches.

use std::collections::BTreeSet;

use onebit_plan::PlanFile;
use onebit_plan::gpu::GpuDispatch;
use onebit_plan::manifest::SegmentKind;

use super::part;

/// The dispatches that do `regions`, then each of their modules once.
pub fn listing(plan: &PlanFile, regions: &[usize]) -> String {
    let Some(gpu) = &plan.manifest().gpu else { return String::new() };
    let does = |dispatch: &GpuDispatch| {
        dispatch.regions.iter().any(|region| regions.contains(&(*region as usize)))
    };
    let (mut text, mut kernels) = (String::new(), BTreeSet::new());
    for entry in &gpu.entries {
        for (index, dispatch) in entry.dispatches.iter().enumerate().filter(|(_, it)| does(it)) {
            let Some(kernel) = gpu.kernels.get(dispatch.kernel as usize) else { continue };
            let wait = if dispatch.wait { ", after a wait" } else { "" };
            text.push_str(&format!(
                "\ngpu entry {} ({} rows) dispatch {index} region {}: {} {:?}{wait}\n",
                entry.name, entry.max_rows, dispatch.region, kernel.name, dispatch.groups
            ));
            kernels.insert(dispatch.kernel);
        }
    }
    let shaders = plan.segment(SegmentKind::Shaders);
    let mut listed = BTreeSet::new();
    for kernel in kernels.iter().filter_map(|&index| gpu.kernels.get(index as usize)) {
        for module in &kernel.modules {
            // Forms for several subgroup sizes are often the same bytes.
            if !listed.insert((module.offset, module.length)) {
                continue;
            }
            let bytes = part(shaders, module.offset, module.length);
            let body = onebit_shaders::disassemble(bytes)
                .unwrap_or_else(|error| format!("; no SPIR-V: {error}"));
            text.push_str(&format!(
                "\ngpu kernel {} ({} bytes)\n{body}\n",
                kernel.name,
                bytes.len()
            ));
        }
    }
    text
}
