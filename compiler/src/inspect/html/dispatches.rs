//! What a Vulkan device is given, entry by entry.

use onebit_plan::gpu::GpuEntry;
use onebit_plan::manifest::Manifest;

use super::{bytes, escape, table, time};
use crate::inspect::predict;

/// A table for each entry; the first is open.
pub(super) fn section(manifest: &Manifest) -> String {
    let Some(gpu) = &manifest.gpu else {
        return "<p>The plan has no part for Vulkan devices.</p>\n".into();
    };
    let kernel = |index: u32| {
        gpu.kernels.get(index as usize).map_or(String::new(), |kernel| escape(&kernel.name))
    };
    let entry = |(index, entry): (usize, &GpuEntry)| {
        let work = predict::gpu(manifest, entry);
        let row = |(number, (dispatch, work)): (
            usize,
            (&onebit_plan::gpu::GpuDispatch, &predict::Work),
        )| {
            let [x, y, z] = dispatch.groups;
            let names = dispatch.regions.iter().filter_map(|&index| {
                let name = escape(&manifest.regions.get(index as usize)?.name);
                Some(format!("<a href=\"#r{index}\">{name}</a>"))
            });
            vec![
                number.to_string(),
                if dispatch.wait { "waits" } else { "" }.into(),
                format!("<code>{}</code>", escape(&dispatch.region)),
                names.collect::<Vec<_>>().join(" "),
                format!("<code>{}</code>", kernel(dispatch.kernel)),
                format!("{x} x {y} x {z}"),
                bytes(work.bytes),
                time(work.seconds),
            ]
        };
        let rows: Vec<Vec<String>> =
            entry.dispatches.iter().zip(&work).enumerate().map(row).collect();
        let waits = entry.dispatches.iter().filter(|dispatch| dispatch.wait).count();
        let seconds: f64 = work.iter().map(|work| work.seconds).sum();
        format!(
            "<details{}><summary>{}, up to {} rows: {} dispatches, {waits} waits, <em>predicted</em> {}</summary>\n{}</details>\n",
            if index == 0 { " open" } else { "" },
            escape(&entry.name),
            entry.max_rows,
            entry.dispatches.len(),
            time(seconds),
            table(
                &["##", "", "region", "does", "kernel", "#workgroups", "#weights", "#predicted"],
                &rows
            )
        )
    };
    gpu.entries.iter().enumerate().map(entry).collect()
}
