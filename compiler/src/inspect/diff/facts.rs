//! A plan laid out as facts, by section, item and field.

use std::collections::BTreeMap;

use onebit_plan::manifest::{Manifest, Region, Requirement};
use serde_json::{Value, json};

use super::Section;
use crate::inspect::predict;

pub(super) type Facts = BTreeMap<(Section, String, &'static str), Value>;

/// All facts of a plan.
pub(super) fn facts(manifest: &Manifest) -> Facts {
    let mut facts = Facts::new();
    whole(manifest, &mut facts);
    parts(manifest, &mut facts);
    regions(manifest, &mut facts);
    weights(manifest, &mut facts);
    gpu(manifest, &mut facts);
    array(manifest, &mut facts);
    facts
}

fn whole(manifest: &Manifest, facts: &mut Facts) {
    let (from, model, memory) = (&manifest.provenance, &manifest.model, &manifest.memory);
    let mut add = |section, field, value: Value| {
        facts.insert((section, String::new(), field), value);
    };
    add(Section::Provenance, "tool", json!(from.tool));
    add(Section::Provenance, "source", json!(from.source));
    let hash = blake3::Hash::from_bytes(from.source_hash).to_hex().to_string();
    add(Section::Provenance, "source_hash", json!(hash));
    add(Section::Model, "name", json!(model.name));
    add(Section::Model, "architecture", json!(model.architecture));
    add(Section::Model, "parameters", json!(model.parameters));
    add(Section::Model, "vocabulary", json!(model.vocabulary));
    add(Section::Model, "context", json!(model.context));
    add(Section::Model, "trained_context", json!(model.trained_context));
    add(Section::Model, "layers", json!(model.layers));
    add(Section::Memory, "arena", json!(memory.arena));
    add(Section::Memory, "private", json!(memory.private));
    add(Section::Memory, "slot", json!(memory.slot));
    add(Section::Memory, "slots", json!(memory.slots));
    add(Section::Memory, "cache", json!(memory.cache.name()));
    for option in &from.options {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        facts.insert((Section::Provenance, format!("option {name}"), "value"), json!(value));
    }
    for requirement in &manifest.requirements {
        let (item, field, value) = match requirement {
            Requirement::Architecture(name) => ("architecture".into(), "name", json!(name)),
            Requirement::CpuFeature(name) => (format!("cpu feature {name}"), "needed", json!(true)),
            Requirement::Memory(bytes) => ("memory".into(), "bytes", json!(bytes)),
        };
        facts.insert((Section::Requirements, item, field), value);
    }
}

fn parts(manifest: &Manifest, facts: &mut Facts) {
    for segment in &manifest.segments {
        let item = format!("{:?}", segment.kind);
        let hash = blake3::Hash::from_bytes(segment.hash).to_hex().to_string();
        facts.insert((Section::Segments, item.clone(), "bytes"), json!(segment.length));
        facts.insert((Section::Segments, item, "blake3"), json!(hash));
    }
    for entry in &manifest.entries {
        let mut add = |field, value: Value| {
            facts.insert((Section::Entries, entry.name.clone(), field), value);
        };
        add("max_rows", json!(entry.max_rows));
        add("code_bytes", json!(entry.length));
        add("buffers", json!(entry.buffers.len()));
        add("waits", json!(entry.steps.iter().filter(|step| step.wait).count()));
        for (region, step) in manifest.regions.iter().zip(&entry.steps) {
            let item = format!("{} {}", entry.name, region.name);
            facts.insert((Section::Waits, item, "wait"), json!(step.wait));
        }
    }
}

fn regions(manifest: &Manifest, facts: &mut Facts) {
    for region in &manifest.regions {
        let Region { name, target, ops, weight_bytes, macs, reads } = region;
        let mut add = |field, value: Value| {
            facts.insert((Section::Regions, name.clone(), field), value);
        };
        add("ops", json!(ops.join(" ")));
        add("macs", json!(macs));
        add("weight_bytes", json!(weight_bytes));
        add("reads", json!(names(manifest, reads)));
        facts.insert((Section::Placements, name.clone(), "target"), json!(target));
    }
}

fn weights(manifest: &Manifest, facts: &mut Facts) {
    let mut classes: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for record in &manifest.weights {
        let class = format!("{:?}", record.class);
        let item = record.tensors.join(" + ");
        let mut add = |field, value: Value| {
            facts.insert((Section::Weights, item.clone(), field), value);
        };
        add("format", json!(record.format));
        add("class", json!(class));
        add("shape", json!([record.rows, record.columns]));
        add("bytes", json!(record.bytes));
        let (count, bytes) = classes.entry(class).or_default();
        *count += 1;
        *bytes += record.bytes;
    }
    for (class, (count, bytes)) in classes {
        facts.insert((Section::Classes, class.clone(), "matrices"), json!(count));
        facts.insert((Section::Classes, class, "bytes"), json!(bytes));
    }
}

fn gpu(manifest: &Manifest, facts: &mut Facts) {
    let Some(plan) = &manifest.gpu else { return };
    for kernel in &plan.kernels {
        let item = kernel.name.clone();
        facts.insert((Section::Kernels, item, "modules"), json!(kernel.modules.len()));
    }
    for entry in &plan.entries {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for dispatch in &entry.dispatches {
            // A region may have several dispatches: what it does, and what merges its parts.
            let number = seen.entry(&dispatch.region).or_default();
            *number += 1;
            let suffix = if *number > 1 { format!(" ({number})") } else { String::new() };
            let item = format!("{} {}{suffix}", entry.name, dispatch.region);
            let mut add = |field, value: Value| {
                facts.insert((Section::Dispatches, item.clone(), field), value);
            };
            let kernel = plan.kernels.get(dispatch.kernel as usize);
            add("kernel", json!(kernel.map(|kernel| &kernel.name)));
            add("fuses", json!(names(manifest, &dispatch.regions)));
            add("wait", json!(dispatch.wait));
            add("groups", json!(dispatch.groups));
            add("weight_bytes", json!(dispatch.weight_bytes));
        }
        let seconds: f64 = predict::gpu(manifest, entry).iter().map(|work| work.seconds).sum();
        let item = format!("gpu entry {}", entry.name);
        facts.insert((Section::Predicted, item, "seconds"), json!(seconds));
    }
}

fn array(manifest: &Manifest, facts: &mut Facts) {
    let Some(plan) = &manifest.array else { return };
    for product in &plan.products {
        let item = format!("{} row {}", product.tensors.join(" + "), product.first_row);
        let mut add = |field, value: Value| {
            facts.insert((Section::Array, item.clone(), field), value);
        };
        add("shape", json!([product.rows, product.columns]));
        add("group", json!(product.group));
        add("bytes", json!(product.bytes));
        add("rounding", json!(product.rounding));
    }
    let item = String::from("all products");
    facts.insert((Section::Array, item.clone(), "submissions"), json!(plan.groups.len()));
    facts.insert((Section::Array, item, "calls"), json!(plan.calls.len()));
    let seconds: f64 = predict::array(manifest).iter().map(|work| work.seconds).sum();
    facts.insert((Section::Predicted, "npu, 32 rows".into(), "seconds"), json!(seconds));
}

fn names(manifest: &Manifest, indices: &[u32]) -> String {
    let found = indices.iter().filter_map(|&index| manifest.regions.get(index as usize));
    found.map(|region| region.name.as_str()).collect::<Vec<_>>().join(" ")
}
