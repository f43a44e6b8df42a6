//! Code of regions as text: machine code of the CPU's entries, SPIR-V of dispatches, instruction
//! streams and programs of a neural processor's array.

mod array;
mod flow;
mod spirv;
mod x86;

use std::collections::BTreeSet;

use onebit_plan::PlanFile;
use onebit_plan::manifest::{Entry, Manifest, Requirement, SegmentKind};

/// What cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    #[error("the plan has no region {name}{}", nearest(near))]
    NoRegion { name: String, near: Vec<String> },
}

impl ListingError {
    /// What to do.
    pub fn help(&self) -> String {
        "`onebitc inspect` prints all regions; `--listing all` lists all of them".into()
    }
}

/// The name that stands for all regions.
pub const ALL: &str = "all";

/// Regions of a plan by their names, in execution order; the `@` may be left out.
///
/// # Errors
/// A name that is none.
pub fn regions(manifest: &Manifest, names: &[String]) -> Result<Vec<usize>, ListingError> {
    let mut found = BTreeSet::new();
    for name in names {
        if name == ALL {
            return Ok((0..manifest.regions.len()).collect());
        }
        let full = if name.starts_with('@') { name.clone() } else { format!("@{name}") };
        let Some(index) = manifest.regions.iter().position(|region| region.name == full) else {
            let stem = full.rsplit_once('.').map_or(full.as_str(), |(stem, _)| stem);
            let all = manifest.regions.iter().map(|region| &region.name);
            let near = all.filter(|name| name.starts_with(stem)).take(3).cloned().collect();
            return Err(ListingError::NoRegion { name: full, near });
        };
        found.insert(index);
    }
    Ok(found.into_iter().collect())
}

/// The code of `regions`, device by device. Code that several of them use is listed once.
pub fn listing(plan: &PlanFile, regions: &[usize]) -> String {
    let mut text = cpu(plan, regions);
    text.push_str(&spirv::listing(plan, regions));
    text.push_str(&array::listing(plan, regions));
    text
}

fn cpu(plan: &PlanFile, regions: &[usize]) -> String {
    let manifest = plan.manifest();
    let code = plan.segment(SegmentKind::CpuCode);
    let x86 = manifest.requirements.contains(&Requirement::Architecture("x86_64".into()));
    let mut text = String::new();
    let mut functions = BTreeSet::new();
    for entry in &manifest.entries {
        let bytes = part(code, entry.offset, entry.length);
        let lines =
            if x86 { x86::entry(manifest, entry, code) } else { words(bytes, entry.offset) };
        for &region in regions {
            text.push_str(&region_text(manifest, entry, region, &lines));
            functions.extend(entry.steps.get(region).and_then(|step| step.function));
        }
    }
    for index in functions {
        let Some(function) = manifest.functions.get(index as usize) else { continue };
        text.push_str(&format!("\nfunction {} ({} bytes)\n", function.name, function.length));
        let bytes = part(code, function.offset, function.length);
        let lines =
            if x86 { x86::function(bytes, function.offset) } else { words(bytes, function.offset) };
        lines.iter().for_each(|line| text.push_str(&line.text));
    }
    if !x86 && !text.is_empty() {
        let note = "; no disassembler for this architecture is built in: words are printed\n";
        text.insert_str(0, note);
    }
    text
}

/// A line of a listing and where its bytes lie.
struct Line {
    /// Bytes from the start of the code segment.
    offset: u64,
    /// With its line end.
    text: String,
}

fn region_text(manifest: &Manifest, entry: &Entry, region: usize, lines: &[Line]) -> String {
    let name = &manifest.regions[region].name;
    let ranges = entry.ranges.iter().filter(|range| range.region as usize == region);
    let bytes: u32 = ranges.clone().map(|range| range.end - range.start).sum();
    let step = entry.steps.get(region);
    let waits = if step.is_some_and(|step| step.wait) { ", after a barrier" } else { "" };
    let mut text = format!("\nentry {} region {name} ({bytes} bytes{waits})\n", entry.name);
    for (index, range) in ranges.enumerate() {
        if index > 0 {
            text.push_str("  ...\n");
        }
        let (start, end) =
            (entry.offset + u64::from(range.start), entry.offset + u64::from(range.end));
        let from = lines.partition_point(|line| line.offset < start);
        let inside = lines[from..].iter().take_while(|line| line.offset < end);
        inside.for_each(|line| text.push_str(&line.text));
    }
    if let Some(function) = step.and_then(|step| step.function)
        && let Some(function) = manifest.functions.get(function as usize)
    {
        text.push_str(&format!("  calls function {}\n", function.name));
    }
    text
}

/// Bytes of a segment; ranges were checked when the plan was opened.
fn part(segment: &[u8], offset: u64, length: u64) -> &[u8] {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(segment.len());
    let end = usize::try_from(offset.saturating_add(length)).unwrap_or(usize::MAX);
    &segment[start..end.clamp(start, segment.len())]
}

/// Code as 32-bit words.
fn words(bytes: &[u8], offset: u64) -> Vec<Line> {
    let word = |(index, chunk): (usize, &[u8])| {
        let at = offset + 4 * index as u64;
        let digits: String = chunk.iter().rev().map(|byte| format!("{byte:02x}")).collect();
        Line { offset: at, text: format!("  {at:08x}: {digits}\n") }
    };
    bytes.chunks(4).enumerate().map(word).collect()
}

fn nearest(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; there are {}", near.join(", ")) }
}
