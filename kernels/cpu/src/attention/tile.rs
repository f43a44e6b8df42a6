//! Attention of up to eight queries of one slot and key/value head, taken together.
//!
//! Online softmax (Milakov and Gimelshein, arXiv 1805.02867) over blocks of positions: each block
//! yields scores, a new running maximum, weights `e^(score - maximum)`, and their sums.

use std::ops::Range;

use onebit_plan::abi::AttentionShape;

use super::MAX_HEAD_DIM;
use super::dot::{Block, Sums, Weighing, dot, weigh, weigh_rest};
use super::form::{Head, Keys, Scales, Values};
use super::isa::{Isa, LANES, sum_across};
use super::math;

/// Positions between two updates of the running maximum; blocks begin at multiples of it.
pub(super) const BLOCK_POSITIONS: usize = 64;
/// Key tiles of a block.
pub(super) const BLOCK_TILES: usize = BLOCK_POSITIONS / LANES;
/// Queries that share one pass over the cache.
pub(super) const MAX_QUERIES: usize = 8;
/// Vectors that one query's output takes.
pub(super) const OUT_CHUNKS: usize = MAX_HEAD_DIM / LANES;

/// Queries that an instruction set takes in one pass.
pub(super) fn most_queries<I: Isa>(_: I) -> usize {
    if I::MANY_REGISTERS { MAX_QUERIES } else { MAX_QUERIES / 2 }
}

/// Calls `$function::<$isa, Q>` with Q = `$count`, which is at most [`most_queries`].
macro_rules! by_count {
    ($count:expr, $isa:ident, $function:ident($($argument:expr),*)) => {
        match $count {
            1 => $function::<$isa, 1>($($argument),*),
            2 => $function::<$isa, 2>($($argument),*),
            3 => $function::<$isa, 3>($($argument),*),
            5 if $isa::MANY_REGISTERS => $function::<$isa, 5>($($argument),*),
            6 if $isa::MANY_REGISTERS => $function::<$isa, 6>($($argument),*),
            7 if $isa::MANY_REGISTERS => $function::<$isa, 7>($($argument),*),
            8 if $isa::MANY_REGISTERS => $function::<$isa, 8>($($argument),*),
            _ => $function::<$isa, 4>($($argument),*),
        }
    };
}

/// A block's positions as the queries of a tile see them: those that all see are `Together`.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Before,
    Together,
    After,
}

/// One head of one row.
pub(super) struct Query<'a> {
    pub(super) q: &'a [f32],
    pub(super) out: &'a mut [f32],
    /// Positions that the row sees; not empty.
    pub(super) visible: Range<usize>,
}

/// State of the queries of a tile, kept on the stack.
#[repr(C, align(64))]
pub(super) struct Scratch {
    /// Scores of the block, then its weights.
    block: Block,
    /// Sums of weighted values under the running maximum.
    sums: Sums,
    /// Queries, element by element.
    query: [[f32; MAX_QUERIES]; MAX_HEAD_DIM],
    /// Sums of weights under the running maximum, lane by lane.
    total: [[f32; LANES]; MAX_QUERIES],
    /// Running maximum of the scores.
    maximum: [f32; MAX_QUERIES],
    /// Of the block's values, where they have scales.
    scales: Scales,
    visible: [(usize, usize); MAX_QUERIES],
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self {
            block: [[[0.0; LANES]; BLOCK_TILES]; MAX_QUERIES],
            sums: [[[0.0; LANES]; OUT_CHUNKS]; MAX_QUERIES],
            query: [[0.0; MAX_QUERIES]; MAX_HEAD_DIM],
            total: [[0.0; LANES]; MAX_QUERIES],
            maximum: [0.0; MAX_QUERIES],
            scales: [[0.0; LANES]; _],
            visible: [(0, 0); MAX_QUERIES],
        }
    }

    /// Computes the queries `of(i)` for each i of `members`: at most [`most_queries`], at least 1.
    #[inline(always)]
    pub(super) fn run<'a, I: Isa>(
        &mut self,
        isa: I,
        shape: &AttentionShape,
        cache: impl Head,
        members: Range<usize>,
        of: impl Fn(usize) -> Query<'a>,
    ) {
        let count = members.len();
        let chunks = cache.value_dim().div_ceil(LANES);
        let (mut start, mut end) = (usize::MAX, 0);
        for (i, member) in members.clone().enumerate() {
            let query = of(member);
            for (to, element) in self.query.iter_mut().zip(query.q) {
                to[i] = *element;
            }
            self.sums[i][..chunks].fill([0.0; LANES]);
            self.total[i] = [0.0; LANES];
            self.maximum[i] = f32::NEG_INFINITY;
            self.visible[i] = (query.visible.start, query.visible.end);
            start = start.min(query.visible.start);
            end = end.max(query.visible.end);
        }
        for block in start / BLOCK_POSITIONS..end.div_ceil(BLOCK_POSITIONS) {
            let base = block * BLOCK_POSITIONS;
            let within = |position: usize| position.saturating_sub(base).min(BLOCK_POSITIONS);
            self.score(isa, count, cache, base, within(start)..within(end));
            let mut seen = [(0, 0); MAX_QUERIES];
            for (i, seen) in seen.iter_mut().take(count).enumerate() {
                *seen = (within(self.visible[i].0), within(self.visible[i].1));
                if seen.0 < seen.1 {
                    self.soften(isa, shape, i, seen.0..seen.1, chunks);
                }
            }
            self.weigh_block(isa, cache, base, &seen[..count]);
        }
        for (i, member) in members.enumerate() {
            self.finish(isa, i, of(member).out);
        }
    }

    /// Scores of the block at `base`, for all queries and the tiles that hold `seen`.
    #[inline(always)]
    fn score<I: Isa>(
        &mut self,
        isa: I,
        count: usize,
        cache: impl Head,
        base: usize,
        seen: Range<usize>,
    ) {
        let keys = cache.keys(base);
        let query = &self.query[..cache.key_dim()];
        let scores = &mut self.block;
        let tiles = seen.start / LANES..seen.end.div_ceil(LANES);
        by_count!(count, I, score_tiles(isa, query, keys, scores, tiles));
    }

    /// Turns query i's scores at the block's positions `seen` into weights, and takes them into
    /// the maximum and the total.
    #[inline(always)]
    fn soften<I: Isa>(
        &mut self,
        isa: I,
        shape: &AttentionShape,
        i: usize,
        seen: Range<usize>,
        chunks: usize,
    ) {
        let unseen = isa.splat(f32::NEG_INFINITY);
        let tiles = seen.start / LANES..seen.end.div_ceil(LANES);
        let mut most = unseen;
        for t in tiles.clone() {
            let mut score = isa.mul(isa.load(&self.block[i][t]), isa.splat(shape.scale));
            if shape.softcap != 0.0 {
                let cap = isa.splat(shape.softcap);
                score = isa.mul(cap, math::tanh(isa, isa.div(score, cap)));
            }
            let from = seen.start.saturating_sub(t * LANES);
            let to = (seen.end - t * LANES).min(LANES);
            if to - from < LANES {
                score = isa.keep_lanes(score, from, to, unseen);
            }
            isa.store(score, &mut self.block[i][t]);
            most = isa.max(score, most);
        }
        let most = isa.max_across(most);
        if most > self.maximum[i] {
            self.raise_maximum(isa, i, most, chunks);
        }
        let maximum = isa.splat(self.maximum[i]);
        let mut total = isa.load(&self.total[i]);
        for t in tiles {
            let weight = math::exp(isa, isa.sub(isa.load(&self.block[i][t]), maximum));
            isa.store(weight, &mut self.block[i][t]);
            total = isa.add(total, weight);
        }
        isa.store(total, &mut self.total[i]);
    }

    /// Brings query i's sums under a larger maximum.
    #[inline(always)]
    fn raise_maximum<I: Isa>(&mut self, isa: I, i: usize, most: f32, chunks: usize) {
        let factor = math::exp(isa, isa.splat(self.maximum[i] - most));
        let total = isa.mul(isa.load(&self.total[i]), factor);
        isa.store(total, &mut self.total[i]);
        for sum in &mut self.sums[i][..chunks] {
            let scaled = isa.mul(isa.load(sum), factor);
            isa.store(scaled, sum);
        }
        self.maximum[i] = most;
    }

    /// Adds the block's weighted values; `seen` are the block's positions that each query sees.
    ///
    /// Positions that all queries see are taken together; what only some see, one by one, since
    /// even a weight of zero would let a stranger's NaN or the sign of a zero through.
    #[inline(always)]
    fn weigh_block<I: Isa>(
        &mut self,
        isa: I,
        cache: impl Head,
        base: usize,
        seen: &[(usize, usize)],
    ) {
        let values = cache.values(isa, base, &mut self.scales);
        let from = Weighing { weights: &self.block, values };
        let sums = &mut self.sums;
        let start = seen.iter().map(|s| s.0).max().unwrap_or(0);
        let end = seen.iter().map(|s| s.1).min().unwrap_or(0).max(start);
        for part in [Part::Before, Part::Together, Part::After] {
            if part == Part::Together {
                by_count!(seen.len(), I, weigh_queries(isa, from, start..end, sums, 0));
                continue;
            }
            for (i, own) in seen.iter().enumerate() {
                let own = match part {
                    Part::Before => own.0..own.1.min(start),
                    _ => own.0.max(end)..own.1,
                };
                weigh_queries::<I, 1>(isa, from, own, sums, i);
            }
        }
    }

    /// Writes query i's result.
    #[inline(always)]
    fn finish<I: Isa>(&self, isa: I, i: usize, out: &mut [f32]) {
        let total = isa.splat(sum_across(self.total[i]));
        for (sum, out) in self.sums[i].iter().zip(out.chunks_mut(LANES)) {
            let mut lanes = [0.0; LANES];
            isa.store(isa.div(isa.load(sum), total), &mut lanes);
            out.copy_from_slice(&lanes[..out.len()]);
        }
    }
}

/// Scores of `Q` queries at the block's `tiles`, as many tiles at a time as registers allow.
#[inline(always)]
fn score_tiles<I: Isa, const Q: usize>(
    isa: I,
    query: &[[f32; MAX_QUERIES]],
    keys: impl Keys,
    scores: &mut Block,
    tiles: Range<usize>,
) {
    let mut t = tiles.start;
    while t < tiles.end {
        let left = tiles.end - t;
        if left >= 4 && const { fits::<I>(Q, 4) } {
            dot::<I, _, Q, 4>(isa, query, keys, scores, t);
            t += 4;
        } else if left >= 2 && const { fits::<I>(Q, 2) } {
            dot::<I, _, Q, 2>(isa, query, keys, scores, t);
            t += 2;
        } else {
            dot::<I, _, Q, 1>(isa, query, keys, scores, t);
            t += 1;
        }
    }
}

/// Adds `Q` queries' weighted values at the block's `positions`.
#[inline(always)]
fn weigh_queries<I: Isa, const Q: usize>(
    isa: I,
    from: Weighing<'_, impl Values>,
    positions: Range<usize>,
    sums: &mut Sums,
    first: usize,
) {
    if positions.is_empty() {
        return;
    }
    let chunks = from.values.value_dim() / LANES;
    let mut chunk = 0;
    while chunk < chunks {
        let left = chunks - chunk;
        if left >= 4 && const { fits::<I>(Q, 4) } {
            weigh::<I, _, Q, 4>(isa, from, positions.clone(), sums, first, chunk);
            chunk += 4;
        } else if left >= 2 && const { fits::<I>(Q, 2) } {
            weigh::<I, _, Q, 2>(isa, from, positions.clone(), sums, first, chunk);
            chunk += 2;
        } else {
            weigh::<I, _, Q, 1>(isa, from, positions.clone(), sums, first, chunk);
            chunk += 1;
        }
    }
    if !from.values.value_dim().is_multiple_of(LANES) {
        for query in first..first + Q {
            weigh_rest(isa, from, positions.clone(), sums, query);
        }
    }
}

/// True if the accumulators of so many queries and vectors stay in registers.
const fn fits<I: Isa>(queries: usize, vectors: usize) -> bool {
    let accumulators = if I::MANY_REGISTERS { 16 } else { 4 };
    queries * vectors <= accumulators
}
