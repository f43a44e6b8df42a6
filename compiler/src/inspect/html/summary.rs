//! What the plan is, in a few lines.

use onebit_plan::PlanFile;
use onebit_plan::manifest::Requirement;

use super::{bytes, count, escape, table, time};
use crate::inspect::predict;

/// Facts and the file's parts.
pub(super) fn section(plan: &PlanFile) -> String {
    let manifest = plan.manifest();
    let (from, model, memory) = (&manifest.provenance, &manifest.model, &manifest.memory);
    let read: u64 = manifest.regions.iter().map(|region| region.weight_bytes).sum();
    let mut facts = vec![
        ("architecture", escape(&model.architecture)),
        ("parameters", count(model.parameters)),
        ("layers", model.layers.to_string()),
        ("vocabulary", model.vocabulary.to_string()),
        ("context", format!("{} of {} trained", model.context, model.trained_context)),
        ("file", bytes(plan.file_length())),
        ("weights read for a token", bytes(read)),
        ("scratch", format!("{} and {} a thread", bytes(memory.arena), bytes(memory.private))),
        (
            "cache",
            format!(
                "{} a slot, {} slots of {}",
                bytes(memory.slot),
                memory.slots,
                memory.cache.name()
            ),
        ),
        ("placement", placement(plan)),
        (
            "signed by",
            plan.signature().map_or("nobody".into(), |block| format!("key {}", block.key_id)),
        ),
        ("compiled by", format!("onebitc {}", escape(&from.tool))),
        ("options", escape(&from.options.join(" "))),
        ("needs", requirements(&manifest.requirements)),
    ];
    if let Some(entry) = manifest.gpu.as_ref().and_then(|gpu| gpu.entries.first()) {
        let seconds: f64 = predict::gpu(manifest, entry).iter().map(|work| work.seconds).sum();
        let waits = entry.dispatches.iter().filter(|dispatch| dispatch.wait).count();
        facts.push((
            "gpu, a token",
            format!(
                "{} dispatches, {waits} waits; <em>predicted</em> {} on Strix Halo",
                entry.dispatches.len(),
                time(seconds)
            ),
        ));
    }
    if manifest.array.is_some() {
        let seconds: f64 = predict::array(manifest).iter().map(|work| work.seconds).sum();
        let text = format!("<em>predicted</em> {} on Strix Halo", time(seconds));
        facts.push(("npu, 32 rows", text));
    }
    let facts: String = facts
        .iter()
        .map(|(name, text)| format!("<div><dt>{name}</dt><dd>{text}</dd></div>\n"))
        .collect();
    let segments: Vec<Vec<String>> = manifest
        .segments
        .iter()
        .map(|segment| {
            let hash = blake3::Hash::from_bytes(segment.hash).to_hex();
            let share = 100.0 * segment.length as f64 / plan.file_length().max(1) as f64;
            vec![
                format!("{:?}", segment.kind),
                segment.offset.to_string(),
                bytes(segment.length),
                format!("{share:.1} %"),
                format!("<code>{hash}</code>"),
            ]
        })
        .collect();
    let titles = ["part of the file", "#offset", "#size", "#share", "BLAKE3"];
    format!("<dl class=\"facts\">\n{facts}</dl>\n{}", table(&titles, &segments))
}

fn placement(plan: &PlanFile) -> String {
    let manifest = plan.manifest();
    let on = |target: &str| manifest.regions.iter().filter(|it| it.target == target).count();
    let gpu = if manifest.gpu.is_some() { "; or all of it on a Vulkan device" } else { "" };
    format!("{} regions on cpu, {} on npu{gpu}", on("cpu"), on("npu"))
}

fn requirements(all: &[Requirement]) -> String {
    let texts: Vec<String> = all
        .iter()
        .map(|requirement| match requirement {
            Requirement::Architecture(name) | Requirement::CpuFeature(name) => escape(name),
            Requirement::Memory(size) => format!("{} of memory", bytes(*size)),
        })
        .collect();
    texts.join(", ")
}
