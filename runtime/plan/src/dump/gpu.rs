//! A plan's part for a Vulkan device as text.

use std::fmt::{self, Write};

use crate::gpu::{GpuEntry, GpuKernel, GpuPlan, GpuWindow};

pub(super) fn write(out: &mut String, plan: &GpuPlan) -> fmt::Result {
    writeln!(out, "\ngpu memory   arena {} + {} a slot", plan.arena, plan.slot)?;
    for (index, table) in plan.tables.iter().enumerate() {
        let (count, magnitude) = (table.frequencies.len(), table.magnitude);
        writeln!(out, "gpu rotation {index}: {count} frequencies, magnitude {magnitude}")?;
    }
    writeln!(out, "\ngpu kernels")?;
    for kernel in &plan.kernels {
        self::kernel(out, kernel)?;
    }
    for entry in &plan.entries {
        self::entry(out, plan, entry)?;
    }
    Ok(())
}

fn kernel(out: &mut String, kernel: &GpuKernel) -> fmt::Result {
    let bindings: Vec<String> = kernel
        .bindings
        .iter()
        .map(|slot| format!("{}{}", slot.binding, if slot.writes { "w" } else { "" }))
        .collect();
    let (name, workgroup) = (&kernel.name, kernel.workgroup);
    let (bindings, immediates) = (bindings.join(" "), kernel.immediates / 4);
    writeln!(out, "  {name} workgroup {workgroup} bindings {bindings} immediates {immediates}")?;
    for module in &kernel.modules {
        let subgroup = module.subgroup.map_or("any".into(), |size| size.to_string());
        let (offset, length, features) = (module.offset, module.length, &module.features);
        let shared = module.shared;
        writeln!(
            out,
            "    module offset {offset} bytes {length} subgroup {subgroup} shared {shared} needs \
             {features:?}"
        )?;
    }
    Ok(())
}

fn entry(out: &mut String, plan: &GpuPlan, entry: &GpuEntry) -> fmt::Result {
    let waits = entry.dispatches.iter().filter(|dispatch| dispatch.wait).count();
    let bytes: u64 = entry.dispatches.iter().map(|dispatch| dispatch.weight_bytes).sum();
    writeln!(
        out,
        "\ngpu entry {} max rows {}: {} dispatches, {waits} barriers, {bytes} weight bytes",
        entry.name,
        entry.max_rows,
        entry.dispatches.len()
    )?;
    for (index, dispatch) in entry.dispatches.iter().enumerate() {
        let kernel = plan.kernels.get(dispatch.kernel as usize).map_or("?", |it| &it.name);
        let [x, y, z] = dispatch.groups;
        let windows: Vec<String> = dispatch.windows.iter().map(window).collect();
        writeln!(
            out,
            "  {index:>4} {} {:<24} {kernel} [{x}, {y}, {z}] {} {:?}",
            if dispatch.wait { "|" } else { " " },
            dispatch.region,
            windows.join(" "),
            dispatch.immediates
        )?;
    }
    Ok(())
}

fn window(window: &GpuWindow) -> String {
    match window {
        GpuWindow::Weights { offset, length } => format!("weights {offset}+{length}"),
        GpuWindow::Arena { offset, length } => format!("arena {offset}+{length}"),
        GpuWindow::Cache { offset, length } => format!("cache {offset}+{length}"),
        GpuWindow::Rope { table } => format!("rope {table}"),
        GpuWindow::Step => "step".into(),
        GpuWindow::Logits => "logits".into(),
    }
}
