//! What two plans differ in.
//!
//! Each plan is laid out as facts: a section, an item, a field and a value. Two plans are the same
//! where their facts are. Facts name regions, kernels and tensors instead of counting them, so that
//! a step more does not make all behind it different. What no fact says, such as where a matrix
//! lies, is still compared, in one piece. Signatures are not: two plans of different makers may be
//! the same.

mod facts;

use std::collections::BTreeSet;
use std::fmt::Write;

use onebit_plan::PlanFile;
use onebit_plan::manifest::Manifest;
use serde_json::{Value, json};

use self::facts::{Facts, facts};
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
    found.retain(|difference| !ignored.contains(&difference.section));
    // Whatever differs above shows in places and sizes, too: they are news only where nothing does.
    if found.is_empty() && with_ignored_of(a.manifest(), b.manifest(), ignored) != *a.manifest() {
        let text = |plan: &PlanFile| {
            let bytes = plan.dump();
            Some(Value::from(blake3::hash(bytes.as_bytes()).to_hex().to_string()))
        };
        let (section, item, field) = (Section::Layout, String::new(), "places and sizes");
        found.push(Difference { section, item, field, a: text(a), b: text(b) });
    }
    found
}

/// `b` with all that the ignored sections speak of as `a` has it.
fn with_ignored_of(a: &Manifest, b: &Manifest, ignored: &BTreeSet<Section>) -> Manifest {
    let mut b = b.clone();
    for section in ignored {
        match section {
            Section::Provenance => b.provenance.clone_from(&a.provenance),
            Section::Model => b.model.clone_from(&a.model),
            Section::Requirements => b.requirements.clone_from(&a.requirements),
            Section::Memory => b.memory = a.memory,
            Section::Segments => b.segments.clone_from(&a.segments),
            Section::Entries | Section::Waits => {
                b.entries.clone_from(&a.entries);
                b.functions.clone_from(&a.functions);
                b.traced.clone_from(&a.traced);
            }
            Section::Regions | Section::Placements => b.regions.clone_from(&a.regions),
            Section::Weights | Section::Classes => b.weights.clone_from(&a.weights),
            Section::Dispatches | Section::Kernels => b.gpu.clone_from(&a.gpu),
            Section::Array => b.array.clone_from(&a.array),
            // Follows from the rest.
            Section::Predicted => {}
            Section::Layout => b.clone_from(a),
        }
    }
    b
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
