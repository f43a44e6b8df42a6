//! A plan's regions by layer, and layers that are the same but for their number.
//!
//! A model of 36 layers is one layer 36 times, or a few kinds of layers; whoever looks at it wants
//! to see the kinds.

use std::collections::BTreeMap;

use onebit_plan::manifest::{Manifest, Region};

/// Regions that belong together, by their index in the manifest.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// What belongs to no layer.
    Rest(Vec<usize>),
    /// Layers `first..first + members.len()`, equal but for their number and the formats of their
    /// weights.
    Layers { first: u32, members: Vec<Vec<usize>> },
}

/// All regions: those before the layers, the layers, those behind them. Regions without a layer
/// that stand between are roots that layers share and go to the front.
pub fn blocks(manifest: &Manifest) -> Vec<Block> {
    let mut layers: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    let (mut front, mut back) = (Vec::new(), Vec::new());
    let last = manifest.regions.iter().rposition(|region| layer_of(&region.name).is_some());
    for (index, region) in manifest.regions.iter().enumerate() {
        match layer_of(&region.name) {
            Some((layer, _)) => layers.entry(layer).or_default().push(index),
            None if last.is_some_and(|last| index < last) => front.push(index),
            None => back.push(index),
        }
    }
    let mut blocks = Vec::new();
    blocks.extend((!front.is_empty()).then_some(Block::Rest(front)));
    for (layer, regions) in layers {
        if let Some(Block::Layers { first, members }) = blocks.last_mut()
            && *first + members.len() as u32 == layer
            && members.first().is_some_and(|member| equal(manifest, member, &regions))
        {
            members.push(regions);
            continue;
        }
        blocks.push(Block::Layers { first: layer, members: vec![regions] });
    }
    blocks.extend((!back.is_empty()).then_some(Block::Rest(back)));
    blocks
}

/// Layer and the rest of `@blk.3.attn_q`.
pub fn layer_of(name: &str) -> Option<(u32, &str)> {
    let (number, rest) = name.strip_prefix("@blk.")?.split_once('.')?;
    // A number is written one way only, or two layers would be one.
    let layer: u32 = number.parse().ok()?;
    (layer.to_string() == number).then_some((layer, rest))
}

fn equal(manifest: &Manifest, a: &[usize], b: &[usize]) -> bool {
    fn kind(region: &Region) -> (Option<&str>, &str, &[String], u64) {
        let rest = layer_of(&region.name).map(|(_, rest)| rest);
        (rest, &region.target, &region.ops, region.macs)
    }
    let kinds = |indices: &[usize]| -> Vec<_> {
        indices.iter().map(|&index| kind(&manifest.regions[index])).collect()
    };
    kinds(a) == kinds(b)
}
