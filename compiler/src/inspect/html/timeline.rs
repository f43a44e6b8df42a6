//! Scratch of each entry over its steps: which buffer lies where, and how long.

use std::collections::BTreeSet;
use std::fmt::Write;

use onebit_plan::layer_of;
use onebit_plan::manifest::{BufferRecord, BufferScope, Entry, Manifest};

use super::{bytes, escape, table};

/// Height of a chart and room for its labels, in pixels.
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 70.0;
const BELOW: f64 = 26.0;
/// Pixels of a step.
const STEP: f64 = 7.0;
/// Colours there are.
const COLOURS: usize = 8;

/// Charts and tables of all entries.
pub(super) fn section(manifest: &Manifest) -> String {
    let mut text = String::from(
        "<p>Steps from left to right, addresses from bottom to top: a buffer is a box for as long as \
         it is needed.</p>\n",
    );
    let all = manifest.entries.iter().flat_map(|entry| &entry.buffers);
    let names: BTreeSet<&str> = all.map(|buffer| buffer.name.as_str()).collect();
    let mut any = false;
    for entry in &manifest.entries {
        for (scope, title, size) in [
            (BufferScope::Shared, "arena", manifest.memory.arena),
            (BufferScope::Private, "memory of each thread", manifest.memory.private),
        ] {
            let buffers: Vec<&BufferRecord> =
                entry.buffers.iter().filter(|buffer| buffer.scope == scope).collect();
            if buffers.is_empty() {
                continue;
            }
            any = true;
            let used = buffers.iter().map(|buffer| buffer.offset + buffer.bytes).max().unwrap_or(0);
            let _ = writeln!(
                text,
                "<h3>Entry {}, up to {} rows: {title}, {} of {}</h3>",
                escape(&entry.name),
                entry.max_rows,
                bytes(used),
                bytes(size)
            );
            text.push_str(&chart(manifest, &names, &buffers, used));
            text.push_str(&rows(manifest, entry, &buffers));
        }
    }
    if any { text } else { "<p>The plan says nothing of its buffers.</p>\n".into() }
}

/// `names` are those of all entries, so that a name has one colour in all charts.
fn chart(
    manifest: &Manifest,
    names: &BTreeSet<&str>,
    buffers: &[&BufferRecord],
    used: u64,
) -> String {
    let colour = |name: &str| names.iter().position(|known| *known == name).unwrap_or(0) % COLOURS;
    let steps = manifest.regions.len();
    let width = LEFT + steps as f64 * STEP + 10.0;
    let scale = HEIGHT / used.max(1) as f64;
    let full = HEIGHT + BELOW;
    let legend: String = names
        .iter()
        .filter(|name| buffers.iter().any(|buffer| buffer.name == **name))
        .map(|name| format!("<span class=\"key c{}\">{}</span> ", colour(name), escape(name)))
        .collect();
    let mut text = format!(
        "<p class=\"legend\">{legend}</p>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" \
         aria-label=\"Memory timeline\">\n<svg class=\"timeline\" width=\"{width}\" height=\"{full}\" \
         viewBox=\"0 0 {width} {full}\" role=\"img\" aria-label=\"{} buffers\">\n",
        buffers.len()
    );
    let mut layer = None;
    for (index, region) in manifest.regions.iter().enumerate() {
        let found = layer_of(&region.name).map(|(layer, _)| layer);
        if found.is_some() && found != layer {
            layer = found;
            let (x, below) = (LEFT + index as f64 * STEP, HEIGHT + 16.0);
            let number = found.unwrap_or(0);
            let _ = writeln!(
                text,
                "<path class=\"grid\" d=\"M{x} 0V{HEIGHT}\"/><text class=\"axis\" x=\"{x}\" y=\"{below}\">layer {number}</text>"
            );
        }
    }
    for share in [0.0, 0.5, 1.0] {
        let y = HEIGHT * (1.0 - share);
        let (right, label) = (LEFT - 6.0, bytes((used as f64 * share) as u64));
        let _ = writeln!(
            text,
            "<path class=\"grid\" d=\"M{LEFT} {y}H{width}\"/><text class=\"axis end\" x=\"{right}\" y=\"{}\">{label}</text>",
            (y + 4.0).clamp(10.0, HEIGHT)
        );
    }
    for buffer in buffers {
        let x = LEFT + f64::from(buffer.first) * STEP;
        let wide = (f64::from(buffer.last - buffer.first) + 1.0) * STEP;
        let tall = (buffer.bytes as f64 * scale).max(1.0);
        let y = HEIGHT - (buffer.offset + buffer.bytes) as f64 * scale;
        let _ = writeln!(
            text,
            "<rect class=\"c{}\" x=\"{x}\" y=\"{y:.2}\" width=\"{wide}\" height=\"{tall:.2}\"><title>{} of {}, {} at {}, needed up to {}</title></rect>",
            colour(&buffer.name),
            escape(&buffer.name),
            region_name(manifest, buffer.first),
            bytes(buffer.bytes),
            buffer.offset,
            region_name(manifest, buffer.last)
        );
    }
    text.push_str("</svg>\n</div>\n");
    text
}

fn rows(manifest: &Manifest, entry: &Entry, buffers: &[&BufferRecord]) -> String {
    let row = |buffer: &&BufferRecord| {
        vec![
            escape(&buffer.name),
            buffer.offset.to_string(),
            bytes(buffer.bytes),
            region_name(manifest, buffer.first),
            region_name(manifest, buffer.last),
        ]
    };
    let rows: Vec<Vec<String>> = buffers.iter().map(row).collect();
    format!(
        "<details><summary>{} buffers of entry {} as a table</summary>\n{}</details>\n",
        buffers.len(),
        escape(&entry.name),
        table(&["buffer", "#offset", "#size", "filled by", "last used by"], &rows)
    )
}

fn region_name(manifest: &Manifest, index: u32) -> String {
    manifest.regions.get(index as usize).map_or("?".into(), |region| escape(&region.name))
}
