//! What two plans differ in.
//!
//! Each plan is laid out as facts: a section, an item, a field and a value. Two plans are the same
//! where their facts are. Facts name regions, kernels and tensors instead of counting them, so that
//! a step more does not make all behind it different. What no fact says, such as where a matrix
//! lies, is still compared, in one piece. Signatures are not: two plans of different makers may be
//! the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use onebit_plan::PlanFile;
use onebit_plan::manifest::{Manifest, Region, Requirement};
use serde_json::{Value, json};

use super::predict;

/// Number of the schema of [`Difference`]s as JSON.
pub const SCHEMA: u32 = 1;

/// A group of facts; the order is that of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    Provenance,
    Model,
    Requirements,
    Memory,
    Segments,
    Entries,
    Regions,
    Placements,
    Waits,
    Weights,
    Classes,
    Dispatches,
    Kernels,
    Array,
    Predicted,
    /// Everything that the others leave out.
    Layout,
}

impl Section {
    /// All sections with the name that people and JSON have for them.
    pub const ALL: [(Self, &'static str); 16] = [
        (Self::Provenance, "provenance"),
        (Self::Model, "model"),
        (Self::Requirements, "requirements"),
        (Self::Memory, "memory"),
        (Self::Segments, "segments"),
        (Self::Entries, "entries"),
        (Self::Regions, "regions"),
        (Self::Placements, "placements"),
        (Self::Waits, "waits"),
        (Self::Weights, "weights"),
        (Self::Classes, "classes"),
        (Self::Dispatches, "dispatches"),
        (Self::Kernels, "kernels"),
        (Self::Array, "array"),
        (Self::Predicted, "predicted"),
        (Self::Layout, "layout"),
    ];

    /// What it is called.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(section, _)| *section == self).map_or("", |(_, name)| name)
    }
}

/// One fact that is not the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    pub section: Section,
    /// What it is about; empty for the whole plan.
    pub item: String,
    /// Which of its values; empty for the item as such, which one plan has and the other has not.
    pub field: &'static str,
    /// The value in each plan; `None` where it has no such item.
    pub a: Option<Value>,
    pub b: Option<Value>,
}

type Key = (Section, String, &'static str);
type Facts = BTreeMap<Key, Value>;

/// All differences but those of the sections that are `ignored`.
pub fn differences(a: &PlanFile, b: &PlanFile, ignored: &BTreeSet<Section>) -> Vec<Difference> {
    let (facts_a, facts_b) = (facts(a.manifest()), facts(b.manifest()));
    let items = |facts: &Facts| -> BTreeSet<(Section, String)> {
        facts.keys().map(|(section, item, _)| (*section, item.clone())).collect()
    };
    let (items_a, items_b) = (items(&facts_a), items(&facts_b));
    let mut found = Vec::new();
    // An item that one plan lacks is one difference, whatever it has to say.
    for (section, item) in items_a.symmetric_difference(&items_b).cloned() {
        let key = (section, item);
        let there = |items: &BTreeSet<_>| items.contains(&key).then(|| Value::from("there"));
        let (a, b) = (there(&items_a), there(&items_b));
        let (section, item) = key;
        found.push(Difference { section, item, field: "", a, b });
    }
    for (key, a) in &facts_a {
        if let Some(b) = facts_b.get(key).filter(|b| *b != a) {
            let ((section, item, field), a, b) = (key.clone(), a.clone(), b.clone());
            found.push(Difference { section, item, field, a: Some(a), b: Some(b) });
        }
    }
    found.sort_by(|x, y| (x.section, &x.item, x.field).cmp(&(y.section, &y.item, y.field)));
    if found.is_empty() && a.manifest() != b.manifest() {
        let text = |plan: &PlanFile| {
            let bytes = plan.dump();
            Some(Value::from(blake3::hash(bytes.as_bytes()).to_hex().to_string()))
        };
        let (section, item, field) = (Section::Layout, String::new(), "places and sizes");
        found.push(Difference { section, item, field, a: text(a), b: text(b) });
    }
    found.retain(|difference| !ignored.contains(&difference.section));
    found
}

/// Differences as text, at most `most` of a section, below the figures of both plans.
pub fn text(a: &PlanFile, b: &PlanFile, found: &[Difference], most: usize) -> String {
    let mut out = String::new();
    let (x, y) = (figures(a), figures(b));
    let _ = writeln!(out, "{:<28} {:>16} {:>16}", "", "a", "b");
    for ((name, before), (_, after)) in x.iter().zip(&y) {
        if before.is_none() && after.is_none() {
            continue;
        }
        let shown = |value: &Option<f64>| value.map_or("none".into(), number);
        let change = match (before, after) {
            (Some(before), Some(after)) if before != after && *before != 0.0 => {
                format!("  {:+.1} %", 100.0 * (after - before) / before)
            }
            _ => String::new(),
        };
        let _ = writeln!(out, "{name:<28} {:>16} {:>16}{change}", shown(before), shown(after));
    }
    for (section, name) in Section::ALL {
        let here: Vec<&Difference> = found.iter().filter(|it| it.section == section).collect();
        if here.is_empty() {
            continue;
        }
        let _ = writeln!(out, "\n{name}: {}", plural(here.len()));
        for difference in here.iter().take(most) {
            let shown = |value: &Option<Value>| match value {
                None => "none".into(),
                Some(Value::String(text)) => text.clone(),
                Some(value) => value.to_string(),
            };
            let Difference { item, field, a, b, .. } = difference;
            let name = [item.as_str(), field].join(" ");
            let _ = writeln!(out, "  {}: {} -> {}", name.trim(), shown(a), shown(b));
        }
        if here.len() > most {
            let _ = writeln!(out, "  and {} more; --json has all", here.len() - most);
        }
    }
    let _ = writeln!(out, "\n{}", plural(found.len()));
    out
}

/// Differences as JSON.
pub fn json(found: &[Difference], ignored: &BTreeSet<Section>) -> Value {
    let one = |difference: &Difference| {
        json!({
            "section": difference.section.name(),
            "item": difference.item,
            "field": difference.field,
            "a": difference.a,
            "b": difference.b,
        })
    };
    json!({
        "schema": SCHEMA,
        "same": found.is_empty(),
        "ignored": ignored.iter().map(|section| section.name()).collect::<Vec<_>>(),
        "differences": found.iter().map(one).collect::<Vec<_>>(),
    })
}

/// Figures that everybody asks for first.
fn figures(plan: &PlanFile) -> Vec<(&'static str, Option<f64>)> {
    let manifest = plan.manifest();
    let gpu = manifest.gpu.as_ref().and_then(|gpu| gpu.entries.first());
    let waits = |count: usize| Some(count as f64);
    let entry = manifest.entries.first();
    vec![
        ("bytes, unsigned", Some(plan.unsigned_length() as f64)),
        ("regions", Some(manifest.regions.len() as f64)),
        (
            "weight bytes a token",
            Some(manifest.regions.iter().map(|region| region.weight_bytes).sum::<u64>() as f64),
        ),
        ("bytes of the arena", Some(manifest.memory.arena as f64)),
        ("bytes of a cache slot", Some(manifest.memory.slot as f64)),
        (
            "cpu waits a token",
            entry.and_then(|it| waits(it.steps.iter().filter(|step| step.wait).count())),
        ),
        ("gpu dispatches a token", gpu.map(|entry| entry.dispatches.len() as f64)),
        (
            "gpu waits a token",
            gpu.and_then(|entry| waits(entry.dispatches.iter().filter(|it| it.wait).count())),
        ),
        (
            "predicted gpu ms a token",
            gpu.map(|entry| {
                predict::gpu(manifest, entry).iter().map(|work| work.seconds * 1e3).sum()
            }),
        ),
        (
            "predicted npu ms, 32 rows",
            manifest
                .array
                .as_ref()
                .map(|_| predict::array(manifest).iter().map(|work| work.seconds * 1e3).sum()),
        ),
    ]
}

fn facts(manifest: &Manifest) -> Facts {
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

fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

fn plural(count: usize) -> String {
    match count {
        0 => "no differences".into(),
        1 => "1 difference".into(),
        count => format!("{count} differences"),
    }
}
