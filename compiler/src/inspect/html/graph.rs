//! The regions as a graph, coloured by where they run; equal layers are drawn once.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;

use onebit_plan::layer_of;
use onebit_plan::manifest::Manifest;

use super::{bytes, count, escape, shortened, target_class};
use crate::inspect::layers::{Block, blocks, numbers};

/// Size of a node and the gaps between nodes, in pixels.
const NODE: (usize, usize) = (164, 42);
const GAP: (usize, usize) = (16, 22);
const MARGIN: usize = 10;
/// Letters that fit into a node.
const LETTERS: usize = 24;

/// One column a block.
pub(super) fn section(manifest: &Manifest) -> String {
    let dispatches = dispatches(manifest);
    let gpu = if dispatches.is_empty() {
        ""
    } else {
        " The number on the right is the dispatch of the first GPU entry that does the region: equal \
         numbers are one dispatch."
    };
    let mut text = format!(
        "<p>Each box is a step of the model; a line leads from what makes a value to what reads it. \
         Layers that do the same are drawn once, and lines from one layer to the next are left out: the \
         table of all regions has them.{gpu}</p>\n\
         <p class=\"legend\">{}</p>\n\
         <div class=\"scroll columns\" tabindex=\"0\" role=\"region\" aria-label=\"Graph\">\n",
        legend(manifest)
    );
    for block in blocks(manifest) {
        text.push_str("<div class=\"block\">\n");
        match block {
            Block::Rest(regions) => {
                text.push_str("<h3>outside the layers</h3>\n");
                text.push_str(&drawing(manifest, &dispatches, &regions));
            }
            Block::Layers(members) => layers(&mut text, manifest, &dispatches, &members),
        }
        text.push_str("</div>\n");
    }
    text.push_str("</div>\n");
    text
}

/// Where regions run, each with its colour.
fn legend(manifest: &Manifest) -> String {
    let targets: BTreeSet<&str> =
        manifest.regions.iter().map(|region| region.target.as_str()).collect();
    let key = |target: &&str| {
        format!("<span class=\"key {}\">{}</span> ", target_class(target), escape(target))
    };
    targets.iter().map(key).collect()
}

fn layers(
    text: &mut String,
    manifest: &Manifest,
    dispatches: &HashMap<usize, usize>,
    members: &[(u32, Vec<usize>)],
) {
    let [(first, representative), others @ ..] = members else { return };
    let title = match others.len() {
        0 => format!("layer {first}"),
        _ => format!("{} equal layers", members.len()),
    };
    let _ = writeln!(text, "<h3>{title}</h3>\n{}", drawing(manifest, dispatches, representative));
    let size = |(_, regions): &(u32, Vec<usize>)| -> u64 {
        regions.iter().map(|&index| manifest.regions[index].weight_bytes).sum()
    };
    let (least, most) = (members.iter().map(size).min(), members.iter().map(size).max());
    if let (Some(least), Some(most)) = (least, most) {
        let (least, most) = (bytes(least), bytes(most));
        let range = if least == most { least } else { format!("{least} to {most}") };
        let _ = writeln!(text, "<p>{range} of weights a layer</p>");
    }
    if others.is_empty() {
        return;
    }
    let numbers = numbers(members.iter().map(|(layer, _)| *layer));
    let _ = writeln!(text, "<p>Layers {numbers}; drawn is {first}.</p>");
    let _ = writeln!(text, "<details><summary>the other {}</summary>", others.len());
    for (layer, regions) in others {
        let _ =
            writeln!(text, "<h4>layer {layer}</h4>\n{}", drawing(manifest, dispatches, regions));
    }
    text.push_str("</details>\n");
}

/// Dispatch of the first GPU entry that does each region; the first of several.
fn dispatches(manifest: &Manifest) -> HashMap<usize, usize> {
    let mut found = HashMap::new();
    let entry = manifest.gpu.as_ref().and_then(|gpu| gpu.entries.first());
    for (number, dispatch) in entry.iter().flat_map(|entry| entry.dispatches.iter().enumerate()) {
        for &region in &dispatch.regions {
            found.entry(region as usize).or_insert(number);
        }
    }
    found
}

/// Where each region of a drawing stands: rows by the longest way to it, in order within a row.
struct Layout {
    places: HashMap<usize, (usize, usize)>,
    columns: usize,
    rows: usize,
}

impl Layout {
    fn new(manifest: &Manifest, regions: &[usize]) -> Self {
        let mut depths: HashMap<usize, usize> = HashMap::new();
        let mut widths: Vec<usize> = Vec::new();
        let mut places = HashMap::new();
        for &index in regions {
            let before = manifest.regions[index].reads.iter();
            let before = before.filter_map(|&from| depths.get(&(from as usize)));
            let depth = before.max().map_or(0, |depth| depth + 1);
            depths.insert(index, depth);
            widths.resize(widths.len().max(depth + 1), 0);
            places.insert(index, (widths[depth], depth));
            widths[depth] += 1;
        }
        let columns = widths.iter().copied().max().unwrap_or(1);
        Self { places, columns, rows: widths.len() }
    }

    /// Left upper corner of a region, in pixels.
    fn corner(&self, index: usize) -> Option<(usize, usize)> {
        let (column, row) = self.places.get(&index)?;
        Some((MARGIN + column * (NODE.0 + GAP.0), MARGIN + row * (NODE.1 + GAP.1)))
    }
}

fn drawing(manifest: &Manifest, dispatches: &HashMap<usize, usize>, regions: &[usize]) -> String {
    let layout = Layout::new(manifest, regions);
    let width = 2 * MARGIN + layout.columns * (NODE.0 + GAP.0) - GAP.0;
    let height = 2 * MARGIN + layout.rows * (NODE.1 + GAP.1) - GAP.1;
    let mut text = format!(
        "<svg class=\"graph\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"group\" aria-label=\"{} regions\">\n",
        regions.len()
    );
    for &index in regions {
        for &from in &manifest.regions[index].reads {
            if let (Some(a), Some(b)) = (layout.corner(from as usize), layout.corner(index)) {
                text.push_str(&edge(a, b));
            }
        }
    }
    for &index in regions {
        if let Some(corner) = layout.corner(index) {
            text.push_str(&node(manifest, dispatches.get(&index), index, corner));
        }
    }
    text.push_str("</svg>\n");
    text
}

fn edge((ax, ay): (usize, usize), (bx, by): (usize, usize)) -> String {
    let (x, y, to_x, to_y) = (ax + NODE.0 / 2, ay + NODE.1, bx + NODE.0 / 2, by);
    // An edge over several rows goes past the nodes between, on their left.
    if to_y > y + GAP.1 && x == to_x {
        let (out, turn) = (ax.saturating_sub(6), GAP.1 / 2);
        return format!(
            "<path class=\"edge\" d=\"M{x} {y} C{x} {} {out} {} {out} {} L{out} {} C{out} {} {to_x} {} {to_x} {to_y}\"/>\n",
            y + turn,
            y + turn / 2,
            y + GAP.1,
            to_y - GAP.1,
            to_y - turn / 2,
            to_y - turn
        );
    }
    let middle = to_y.saturating_sub(GAP.1 / 2);
    let bend = y + GAP.1 / 2;
    format!("<path class=\"edge\" d=\"M{x} {y} C{x} {bend} {to_x} {middle} {to_x} {to_y}\"/>\n")
}

fn node(
    manifest: &Manifest,
    dispatch: Option<&usize>,
    index: usize,
    (x, y): (usize, usize),
) -> String {
    let region = &manifest.regions[index];
    let short = layer_of(&region.name).map_or(region.name.as_str(), |(_, rest)| rest);
    let ops = region.ops.join(" ");
    let reads: Vec<&str> = region
        .reads
        .iter()
        .filter_map(|&from| manifest.regions.get(from as usize))
        .map(|from| from.name.as_str())
        .collect();
    let title = format!(
        "{}\non {}: {ops}\n{} of weights, {} MACs a row\nreads {}",
        region.name,
        region.target,
        bytes(region.weight_bytes),
        count(region.macs),
        if reads.is_empty() { "nothing".into() } else { reads.join(", ") }
    );
    let second = if region.weight_bytes > 0 {
        format!("{} \u{b7} {} MACs", bytes(region.weight_bytes), count(region.macs))
    } else {
        ops
    };
    let number = dispatch.map_or(String::new(), |number| {
        let at = x + NODE.0 - 6;
        format!("<text class=\"dispatch\" x=\"{at}\" y=\"{}\">{number}</text>", y + 17)
    });
    format!(
        "<a href=\"#r{index}\" class=\"node {}\" data-region=\"{index}\"><title>{}</title>\
         <rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" rx=\"6\"/>\
         <text class=\"name\" x=\"{}\" y=\"{}\">{}</text>\
         <text class=\"detail\" x=\"{}\" y=\"{}\">{}</text>{number}</a>\n",
        target_class(&region.target),
        title.lines().map(escape).collect::<Vec<_>>().join("\n"),
        NODE.0,
        NODE.1,
        x + 9,
        y + 17,
        escape(&shortened(short, LETTERS - if dispatch.is_some() { 8 } else { 2 })),
        x + 9,
        y + 33,
        escape(&shortened(&second, LETTERS + 2)),
    )
}
