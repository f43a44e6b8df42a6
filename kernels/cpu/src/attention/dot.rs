//! The two inner loops: queries times keys, and weights times values.
//!
//! `Q` queries and `T` tiles (or `C` chunks of sixteen value lanes) make `Q * T` accumulators that
//! stay in registers. Each accumulator is one chain of fused multiply-adds in ascending order, so
//! that the choice of `Q`, `T` and `C` never shows in a result.

use std::ops::Range;

use super::form::{Keys, Values};
use super::isa::{Isa, LANES};
use super::tile::{BLOCK_POSITIONS, BLOCK_TILES, MAX_QUERIES, OUT_CHUNKS};

/// Scores or weights of a block, by query.
pub(super) type Block = [[[f32; LANES]; BLOCK_TILES]; MAX_QUERIES];
/// Weighted sums of values, by query.
pub(super) type Sums = [[[f32; LANES]; OUT_CHUNKS]; MAX_QUERIES];

/// `scores[i][first + t] = sum_d query[d][i] * keys[first + t][d]` for `i < Q`, `t < T`.
#[inline(always)]
pub(super) fn dot<I: Isa, K: Keys, const Q: usize, const T: usize>(
    isa: I,
    query: &[[f32; MAX_QUERIES]],
    keys: K,
    scores: &mut Block,
    first: usize,
) {
    let mut sums = [[isa.splat(0.0); T]; Q];
    match K::PART {
        None => add_part(isa, query, keys, &mut sums, first, 0),
        Some(elements) => {
            for (part, query) in query.chunks(elements).enumerate() {
                add_part(isa, query, keys, &mut sums, first, part * elements);
            }
        }
    }
    for i in 0..Q {
        for t in 0..T {
            isa.store(sums[i][t], &mut scores[i][first + t]);
        }
    }
}

/// Takes one part of the elements, those of `query`, the first of which is `start`, into the sums
/// of [`dot`].
#[inline(always)]
fn add_part<I: Isa, K: Keys, const Q: usize, const T: usize>(
    isa: I,
    query: &[[f32; MAX_QUERIES]],
    keys: K,
    sums: &mut [[I::Vector; T]; Q],
    first: usize,
    start: usize,
) {
    let mut parts = [keys.part(isa, first, start, query.len()); T];
    for (t, part) in parts.iter_mut().enumerate() {
        *part = keys.part(isa, first + t, start, query.len());
    }
    for (d, query) in query.iter().enumerate() {
        let mut key = [isa.splat(0.0); T];
        for t in 0..T {
            key[t] = K::lanes(isa, parts[t], d);
        }
        for i in 0..Q {
            let element = isa.splat(query[i]);
            for t in 0..T {
                sums[i][t] = isa.fma(element, key[t], sums[i][t]);
            }
        }
    }
}

/// What [`weigh`] reads: a block's weights and values.
#[derive(Clone, Copy)]
pub(super) struct Weighing<'a, V> {
    pub(super) weights: &'a Block,
    pub(super) values: V,
}

/// `sums[first + i][chunk + c] += sum_p weights[first + i][p] * values[p][chunk + c]` for `i < Q`,
/// `c < C`, over the block's `positions` in ascending order.
#[inline(always)]
pub(super) fn weigh<I: Isa, V: Values, const Q: usize, const C: usize>(
    isa: I,
    from: Weighing<'_, V>,
    positions: Range<usize>,
    sums: &mut Sums,
    first: usize,
    chunk: usize,
) {
    let mut weights: [&[f32]; Q] = [&[]; Q];
    for (i, weights) in weights.iter_mut().enumerate() {
        let block: &[f32; BLOCK_POSITIONS] = from.weights[first + i]
            .as_flattened()
            .try_into()
            .expect("a block's tiles hold its positions");
        *weights = &block[positions.clone()];
    }
    let mut sum = [[isa.splat(0.0); C]; Q];
    for i in 0..Q {
        for c in 0..C {
            sum[i][c] = isa.load(&sums[first + i][chunk + c]);
        }
    }
    for (p, value) in from.values.rows(positions).enumerate() {
        let lanes = V::lanes::<I, C>(isa, value, chunk);
        for i in 0..Q {
            let weight = isa.splat(weights[i][p]);
            for c in 0..C {
                sum[i][c] = isa.fma(weight, lanes[c], sum[i][c]);
            }
        }
    }
    for i in 0..Q {
        for c in 0..C {
            isa.store(sum[i][c], &mut sums[first + i][chunk + c]);
        }
    }
}

/// [`weigh`] for one query and the last chunk of a value whose dimension is no multiple of 16.
#[inline(always)]
pub(super) fn weigh_rest<I: Isa, V: Values>(
    isa: I,
    from: Weighing<'_, V>,
    positions: Range<usize>,
    sums: &mut Sums,
    query: usize,
) {
    let chunk = from.values.value_dim() / LANES;
    let mut sum = isa.load(&sums[query][chunk]);
    let weights = &from.weights[query].as_flattened()[positions.clone()];
    for (value, weight) in from.values.rows(positions).zip(weights) {
        sum = isa.fma(isa.splat(*weight), V::rest(isa, value, chunk), sum);
    }
    isa.store(sum, &mut sums[query][chunk]);
}
