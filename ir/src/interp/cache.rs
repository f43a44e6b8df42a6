//! Keys and values of past positions, one buffer per layer and slot that grows as it is written.

use std::collections::BTreeMap;

use half::f16;

use super::Row;
use crate::verify::CacheLayer;

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheKind {
    /// As computed.
    F32,
    /// Rounded to f16, as the products' caches are unless asked for otherwise.
    F16,
    /// Rounded to 8-bit codes with one f16 scale for [`BLOCK`] elements of a head; the last block
    /// of a head may be shorter.
    Q8,
}

/// Elements of a head that share a scale.
const BLOCK: usize = 32;

impl CacheKind {
    /// Appends `heads`, heads of `dim` elements, to `to` as the cache gives them back.
    fn round(self, heads: &[f32], dim: usize, to: &mut Vec<f32>) {
        match self {
            Self::F32 => to.extend_from_slice(heads),
            Self::F16 => to.extend(heads.iter().map(|&x| f16::from_f32(x).to_f32())),
            Self::Q8 => {
                let blocks = heads.chunks(dim).flat_map(|head| head.chunks(BLOCK));
                blocks.for_each(|block| to.extend(round_to_codes(block)));
            }
        }
    }
}

/// The scale is the least f16 that is not below a 127th of the largest magnitude, so that no code
/// is above 127. An infinite scale, which one infinity or NaN brings about, makes all of the block
/// NaN: its codes are 0.
fn round_to_codes(block: &[f32]) -> impl Iterator<Item = f32> {
    let magnitude = |x: &f32| if x.is_nan() { f32::INFINITY } else { x.abs() };
    let most = block.iter().map(magnitude).fold(0.0, f32::max) * (1.0 / 127.0);
    let nearest = f16::from_f32(most);
    let below = nearest.to_f32() < most;
    let scale = f16::from_bits(nearest.to_bits() + u16::from(below)).to_f32();
    let code = move |x: &f32| {
        let code = (x * (1.0 / scale)).round_ties_even();
        if code.abs() < 128.0 { code } else { 0.0 }
    };
    block.iter().map(move |x| code(x) * scale)
}

/// The caches of all layers.
pub(super) struct KvCache {
    layers: BTreeMap<u32, LayerCache>,
}

impl KvCache {
    pub(super) fn new(layers: &[CacheLayer], slots: usize, kind: CacheKind) -> Self {
        let cache = |layer: &CacheLayer| LayerCache {
            kind,
            kv_heads: layer.kv_heads,
            key_dim: layer.key_dim,
            value_dim: layer.value_dim,
            slots: vec![SlotCache::default(); slots],
        };
        Self { layers: layers.iter().map(|layer| (layer.layer, cache(layer))).collect() }
    }

    pub(super) fn layer_mut(&mut self, layer: u32) -> &mut LayerCache {
        self.layers.get_mut(&layer).expect("verified: every attention has its layer")
    }
}

/// The caches of one layer.
pub(super) struct LayerCache {
    kind: CacheKind,
    pub(super) kv_heads: usize,
    pub(super) key_dim: usize,
    pub(super) value_dim: usize,
    slots: Vec<SlotCache>,
}

/// `[position][head][element]` of one sequence.
#[derive(Clone, Default)]
struct SlotCache {
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl LayerCache {
    /// Stores each row's keys and values, at most one position past its slot's end.
    pub(super) fn store(&mut self, rows: &[Row], keys: &[f32], values: &[f32]) {
        let (key_width, value_width) =
            (self.kv_heads * self.key_dim, self.kv_heads * self.value_dim);
        let parts = keys.chunks_exact(key_width).zip(values.chunks_exact(value_width));
        for (row, (key, value)) in rows.iter().zip(parts) {
            let slot = &mut self.slots[row.slot as usize];
            let position = row.position as usize;
            slot.keys.truncate(position * key_width);
            self.kind.round(key, self.key_dim, &mut slot.keys);
            slot.values.truncate(position * value_width);
            self.kind.round(value, self.value_dim, &mut slot.values);
        }
    }

    /// Key of `head` at `position`.
    pub(super) fn key(&self, slot: u32, position: usize, head: usize) -> &[f32] {
        let start = (position * self.kv_heads + head) * self.key_dim;
        &self.slots[slot as usize].keys[start..start + self.key_dim]
    }

    /// Value of `head` at `position`.
    pub(super) fn value(&self, slot: u32, position: usize, head: usize) -> &[f32] {
        let start = (position * self.kv_heads + head) * self.value_dim;
        &self.slots[slot as usize].values[start..start + self.value_dim]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(block: &[f32]) -> Vec<f32> {
        let mut to = Vec::new();
        CacheKind::Q8.round(block, block.len(), &mut to);
        to
    }

    #[test]
    fn codes_are_within_half_a_scale() {
        for most in [1e-6_f32, 3e-4, 0.02, 1.0, 127.0, 3000.0] {
            let block: Vec<f32> = (0..40).map(|i| most * (i as f32 * 0.7).sin()).collect();
            let scale = f32::max(most / 127.0 * 1.001, most / 127.0 + 6e-8);
            for (x, found) in block.iter().zip(rounded(&block)) {
                assert!((x - found).abs() <= scale / 2.0, "{x} became {found}");
            }
        }
    }

    #[test]
    fn extremes_stay_what_they_are() {
        assert_eq!(rounded(&[0.0, -0.0, 0.0]), [0.0; 3]);
        assert_eq!(rounded(&[1e-44, 0.0]), [0.0; 2]);
        assert_eq!(rounded(&[127.0, -127.0, 0.5, 1.5]), [127.0, -127.0, 0.0, 2.0]);
        // Each block of 32 has its own scale.
        let two: Vec<f32> = [vec![1e6; 32], vec![1.0; 32]].concat();
        assert_eq!(rounded(&two)[32], rounded(&[1.0])[0]);
        for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
            let mut block = [1.0; 33];
            block[7] = poison;
            let found = rounded(&block);
            assert!(found[..32].iter().all(|x| x.is_nan()), "{poison}: {found:?}");
            assert_eq!(found[32], rounded(&[1.0])[0]);
        }
    }
}
