//! The regions of a plan as a graph in Graphviz's language, coloured by where they run.

use std::fmt::Write;

use onebit_plan::manifest::Manifest;

use super::layers::{Block, blocks};

/// Fill of a region by its target.
const COLOURS: &[(&str, &str)] = &[("cpu", "#cfe3ff"), ("npu", "#e6d3ff")];
/// Fill of a region that names no target of ours.
const OTHER: &str = "#eeeeee";

/// One node a region, one edge for each result that another reads; layers are clusters.
pub fn graph(manifest: &Manifest) -> String {
    let mut text = String::from(
        "digraph plan {\n  rankdir=TB;\n  node [shape=box, style=filled, fontname=\"sans-serif\"];\n",
    );
    let mut cluster = |title: &str, regions: &[usize]| {
        let number = regions.first().copied().unwrap_or_default();
        let _ = writeln!(text, "  subgraph cluster_{number} {{\n    label={};", quoted(title));
        for &index in regions {
            let region = &manifest.regions[index];
            let colour = COLOURS.iter().find(|(target, _)| *target == region.target);
            let colour = colour.map_or(OTHER, |(_, colour)| colour);
            let ops = region.ops.join(" ");
            let label = quoted(&format!("{}\n{ops}\n{}", region.name, region.target));
            let _ = writeln!(text, "    r{index} [label={label}, fillcolor=\"{colour}\"];");
        }
        text.push_str("  }\n");
    };
    for block in blocks(manifest) {
        match block {
            Block::Rest(regions) => cluster("outside the layers", &regions),
            Block::Layers(members) => {
                for (layer, regions) in &members {
                    cluster(&format!("layer {layer}"), regions);
                }
            }
        }
    }
    for (index, region) in manifest.regions.iter().enumerate() {
        for from in &region.reads {
            let _ = writeln!(text, "  r{from} -> r{index};");
        }
    }
    text.push_str("}\n");
    text
}

/// A quoted string of the language; control characters but line ends become spaces.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            letter if letter.is_control() => out.push(' '),
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}
