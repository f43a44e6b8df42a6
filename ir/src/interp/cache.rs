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
    /// Rounded to f16, as the products' caches are.
    F16,
}

impl CacheKind {
    fn round(self, x: f32) -> f32 {
        match self {
            Self::F32 => x,
            Self::F16 => f16::from_f32(x).to_f32(),
        }
    }
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
            slot.keys.extend(key.iter().map(|&x| self.kind.round(x)));
            slot.values.truncate(position * value_width);
            slot.values.extend(value.iter().map(|&x| self.kind.round(x)));
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
