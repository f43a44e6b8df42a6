//! The two inner loops: queries times keys, and weights times values.
//!
//! `Q` queries and `T` tiles (or `C` chunks of sixteen value lanes) make `Q * T` accumulators that
//! stay in registers. Each accumulator is one chain of fused multiply-adds in ascending order, so
//! that the choice of `Q`, `T` and `C` never shows in a result.

use std::ops::Range;

use super::isa::{Isa, LANES};
use super::tile::{BLOCK_POSITIONS, BLOCK_TILES, MAX_QUERIES, OUT_CHUNKS};

/// Scores or weights of a block, by query.
pub(super) type Block = [[[f32; LANES]; BLOCK_TILES]; MAX_QUERIES];
/// Weighted sums of values, by query.
pub(super) type Sums = [[[f32; LANES]; OUT_CHUNKS]; MAX_QUERIES];

/// `scores[i][first + t] = sum_d query[d][i] * keys[t][d]` for `i < Q`, `t < T`.
#[inline(always)]
pub(super) fn dot<I: Isa, const Q: usize, const T: usize>(
    isa: I,
    query: &[[f32; MAX_QUERIES]],
    keys: &[[u16; LANES]],
    scores: &mut Block,
    first: usize,
) {
    let mut tiles: [&[[u16; LANES]]; T] = [&[]; T];
    for (t, tile) in tiles.iter_mut().enumerate() {
        *tile = &keys[(first + t) * query.len()..][..query.len()];
    }
    let mut sums = [[isa.splat(0.0); T]; Q];
    for (d, query) in query.iter().enumerate() {
        let mut key = [isa.splat(0.0); T];
        for t in 0..T {
            key[t] = isa.widen(&tiles[t][d]);
        }
        for i in 0..Q {
            let element = isa.splat(query[i]);
            for t in 0..T {
                sums[i][t] = isa.fma(element, key[t], sums[i][t]);
            }
        }
    }
    for i in 0..Q {
        for t in 0..T {
            isa.store(sums[i][t], &mut scores[i][first + t]);
        }
    }
}

/// What [`weigh`] reads: a block's weights, and its values from position 0 of the block on.
#[derive(Clone, Copy)]
pub(super) struct Weighing<'a> {
    pub(super) weights: &'a Block,
    pub(super) values: &'a [u16],
    pub(super) value_dim: usize,
}

/// `sums[first + i][chunk + c] += sum_p weights[first + i][p] * values[p][chunk + c]` for `i < Q`,
/// `c < C`, over the block's `positions` in ascending order.
#[inline(always)]
pub(super) fn weigh<I: Isa, const Q: usize, const C: usize>(
    isa: I,
    from: Weighing<'_>,
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
    let values = &from.values[positions.start * from.value_dim..positions.end * from.value_dim];
    for (p, value) in values.chunks_exact(from.value_dim).enumerate() {
        let (value, _) = value[chunk * LANES..].as_chunks::<LANES>();
        let value: &[[u16; LANES]; C] = value.first_chunk().expect("the chunks are full");
        let mut lanes = [isa.splat(0.0); C];
        for c in 0..C {
            lanes[c] = isa.widen(&value[c]);
        }
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
pub(super) fn weigh_rest<I: Isa>(
    isa: I,
    from: Weighing<'_>,
    positions: Range<usize>,
    sums: &mut Sums,
    query: usize,
) {
    let chunk = from.value_dim / LANES;
    let mut sum = isa.load(&sums[query][chunk]);
    for p in positions {
        let value = &from.values[p * from.value_dim..][..from.value_dim];
        let rest = &value[chunk * LANES..];
        let mut padded = [0; LANES];
        padded[..rest.len()].copy_from_slice(rest);
        let weight = isa.splat(from.weights[query].as_flattened()[p]);
        sum = isa.fma(weight, isa.widen(&padded), sum);
    }
    isa.store(sum, &mut sums[query][chunk]);
}
