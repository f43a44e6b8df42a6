//! A plan's regions by layer, and layers that are the same but for their number.
//!
//! A model of 36 layers is one layer 36 times, or a few kinds of layers; whoever looks at it wants
//! to see the kinds.

use std::collections::BTreeMap;

use onebit_plan::layer_of;
use onebit_plan::manifest::{Manifest, Region};

/// Regions that belong together, by their index in the manifest.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// What belongs to no layer.
    Rest(Vec<usize>),
    /// Layers by number, with their regions; equal but for their number and the formats of their
    /// weights.
    Layers(Vec<(u32, Vec<usize>)>),
}

/// All regions: those before the layers, the layers by kind, those behind them. Regions without a
/// layer that stand between are roots that layers share and go to the front.
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
        let kind = blocks.iter_mut().find_map(|block| match block {
            Block::Layers(members) if equal(manifest, &members[0].1, &regions) => Some(members),
            _ => None,
        });
        match kind {
            Some(members) => members.push((layer, regions)),
            None => blocks.push(Block::Layers(vec![(layer, regions)])),
        }
    }
    blocks.extend((!back.is_empty()).then_some(Block::Rest(back)));
    blocks
}

/// Ascending numbers as people write them: `0, 2 to 5`.
pub fn numbers(all: impl Iterator<Item = u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in all {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let text = |&(first, last): &(u32, u32)| match last - first {
        0 => first.to_string(),
        1 => format!("{first}, {last}"),
        _ => format!("{first} to {last}"),
    };
    runs.iter().map(text).collect::<Vec<_>>().join(", ")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_joined() {
        assert_eq!(numbers([0, 2, 3, 4, 5, 8, 9].into_iter()), "0, 2 to 5, 8, 9");
        assert_eq!(numbers([u32::MAX].into_iter()), u32::MAX.to_string());
    }
}
