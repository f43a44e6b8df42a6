//! Causal attention over a layer's cache.

use super::Row;
use super::cache::LayerCache;
use super::ops::{dot, softcap};
use crate::op::AttentionSpec;

/// `[T][heads][e]`: for each row and head `sum_q softmax_q(score_q) v_q` with
/// `score_q = scale * (query . k_q)` over the positions q that the row sees.
pub(super) fn attend(
    queries: &[f32],
    heads: usize,
    spec: &AttentionSpec,
    cache: &LayerCache,
    rows: &[Row],
) -> Vec<f32> {
    let group = heads / cache.kv_heads;
    let mut result = Vec::with_capacity(rows.len() * heads * cache.value_dim);
    for (row, queries) in rows.iter().zip(queries.chunks_exact(heads * cache.key_dim)) {
        for (head, query) in queries.chunks_exact(cache.key_dim).enumerate() {
            result.extend(attend_head(query, head / group, spec, cache, row));
        }
    }
    result
}

fn attend_head(
    query: &[f32],
    head: usize,
    spec: &AttentionSpec,
    cache: &LayerCache,
    row: &Row,
) -> impl Iterator<Item = f32> + use<> {
    let end = row.position as usize + 1;
    let first = spec.window.map_or(0, |window| end.saturating_sub(window as usize));
    let score = |position| {
        let score = dot(query, cache.key(row.slot, position, head)) * spec.scale;
        f64::from(spec.softcap.map_or(score, |cap| softcap(score, cap)))
    };
    let scores: Vec<f64> = (first..end).map(score).collect();
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut total = 0.0;
    let mut sum = vec![0.0; cache.value_dim];
    for (position, score) in (first..end).zip(scores) {
        let weight = (score - largest).exp();
        total += weight;
        for (sum, &value) in sum.iter_mut().zip(cache.value(row.slot, position, head)) {
            *sum += weight * f64::from(value);
        }
    }
    sum.into_iter().map(move |sum| (sum / total) as f32)
}
