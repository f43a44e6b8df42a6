//! How the cache keeps one head's keys and values: as f16, or as 8-bit codes with scales.
//!
//! The loops of attention take either through [`Keys`] and [`Values`]. What these give is exactly
//! what the cache holds, so that the order of sums is the same for all forms.

use std::ops::Range;

use onebit_plan::abi::BLOCK;

use super::MAX_HEAD_DIM;
use super::isa::{Isa, LANES};
use super::tile::BLOCK_POSITIONS;

/// One head of a slot.
pub(super) trait Head: Copy {
    type Keys: Keys;
    type Values<'s>: Values
    where
        Self: 's;

    fn key_dim(self) -> usize;
    fn value_dim(self) -> usize;
    /// The keys from the block of positions on that begins at `base`.
    fn keys(self, base: usize) -> Self::Keys;
    /// The values of the block of positions that begins at `base`, with room for their scales.
    fn values<'s, I: Isa>(self, isa: I, base: usize, scales: &'s mut Scales) -> Self::Values<'s>
    where
        Self: 's;
}

/// Keys of a head, by tiles of sixteen positions.
pub(super) trait Keys: Copy {
    /// Elements of a key that share a scale and are taken together; none where all are. A loop
    /// over parts costs, even if there is but one: sums leave their registers between two.
    const PART: Option<usize>;
    /// So many elements of a tile.
    type Part<I: Isa>: Copy;

    /// `count` elements of a tile from element `start` on: one part.
    fn part<I: Isa>(self, isa: I, tile: usize, start: usize, count: usize) -> Self::Part<I>;
    /// The part's element `i` at the tile's positions.
    fn lanes<I: Isa>(isa: I, part: Self::Part<I>, i: usize) -> I::Vector;
}

/// Values of a block of positions.
pub(super) trait Values: Copy {
    /// The value of one position.
    type Row: Copy;

    fn value_dim(self) -> usize;
    fn rows(self, positions: Range<usize>) -> impl Iterator<Item = Self::Row>;
    /// `C` chunks of sixteen elements, full ones, from chunk `chunk` on.
    fn lanes<I: Isa, const C: usize>(isa: I, row: Self::Row, chunk: usize) -> [I::Vector; C];
    /// What is left of the value behind the last full chunk, `chunk - 1`, then zeros.
    fn rest<I: Isa>(isa: I, row: Self::Row, chunk: usize) -> I::Vector;
}

/// Scales of a block's values as floats: `[position][value_dim / 32]`.
pub(super) type Scales = [[f32; LANES]; BLOCK_POSITIONS * MAX_HEAD_DIM / BLOCK / LANES];

/// Keys `[position / 16][key_dim][16]` and values `[position][value_dim]`.
#[derive(Clone, Copy)]
pub(super) struct F16Head<'a> {
    pub(super) keys: &'a [[u16; LANES]],
    pub(super) values: &'a [u16],
    pub(super) key_dim: usize,
    pub(super) value_dim: usize,
}

impl<'a> Head for F16Head<'a> {
    type Keys = F16Keys<'a>;
    type Values<'s>
        = F16Values<'a>
    where
        Self: 's;

    #[inline(always)]
    fn key_dim(self) -> usize {
        self.key_dim
    }

    #[inline(always)]
    fn value_dim(self) -> usize {
        self.value_dim
    }

    #[inline(always)]
    fn keys(self, base: usize) -> F16Keys<'a> {
        F16Keys { tiles: &self.keys[base / LANES * self.key_dim..], dim: self.key_dim }
    }

    #[inline(always)]
    fn values<'s, I: Isa>(self, _: I, base: usize, _: &'s mut Scales) -> F16Values<'a>
    where
        Self: 's,
    {
        F16Values { values: &self.values[base * self.value_dim..], dim: self.value_dim }
    }
}

#[derive(Clone, Copy)]
pub(super) struct F16Keys<'a> {
    tiles: &'a [[u16; LANES]],
    dim: usize,
}

impl<'a> Keys for F16Keys<'a> {
    const PART: Option<usize> = None;
    type Part<I: Isa> = &'a [[u16; LANES]];

    #[inline(always)]
    fn part<I: Isa>(self, _: I, tile: usize, start: usize, count: usize) -> Self::Part<I> {
        &self.tiles[tile * self.dim + start..][..count]
    }

    #[inline(always)]
    fn lanes<I: Isa>(isa: I, part: Self::Part<I>, i: usize) -> I::Vector {
        isa.widen(&part[i])
    }
}

#[derive(Clone, Copy)]
pub(super) struct F16Values<'a> {
    values: &'a [u16],
    dim: usize,
}

impl<'a> Values for F16Values<'a> {
    type Row = &'a [u16];

    #[inline(always)]
    fn value_dim(self) -> usize {
        self.dim
    }

    #[inline(always)]
    fn rows(self, positions: Range<usize>) -> impl Iterator<Item = Self::Row> {
        self.values[positions.start * self.dim..positions.end * self.dim].chunks_exact(self.dim)
    }

    #[inline(always)]
    fn lanes<I: Isa, const C: usize>(isa: I, row: Self::Row, chunk: usize) -> [I::Vector; C] {
        let (chunks, _) = row[chunk * LANES..].as_chunks::<LANES>();
        let chunks: &[[u16; LANES]; C] = chunks.first_chunk().expect("the chunks are full");
        let mut lanes = [isa.splat(0.0); C];
        for c in 0..C {
            lanes[c] = isa.widen(&chunks[c]);
        }
        lanes
    }

    #[inline(always)]
    fn rest<I: Isa>(isa: I, row: Self::Row, chunk: usize) -> I::Vector {
        let rest = &row[chunk * LANES..];
        let mut padded = [0; LANES];
        padded[..rest.len()].copy_from_slice(rest);
        isa.widen(&padded)
    }
}

/// Codes in the orders of [`F16Head`], and their scales: of keys `[position / 16][key_dim /
/// 32][16]`, of values `[position][value_dim / 32]` up to a whole number of sixteen positions.
#[derive(Clone, Copy)]
pub(super) struct Q8Head<'a> {
    pub(super) keys: Q8Keys<'a>,
    pub(super) values: &'a [i8],
    pub(super) value_scales: &'a [[u16; LANES]],
    pub(super) value_dim: usize,
}

impl<'a> Head for Q8Head<'a> {
    type Keys = Q8Keys<'a>;
    type Values<'s>
        = Q8Values<'s>
    where
        Self: 's;

    #[inline(always)]
    fn key_dim(self) -> usize {
        self.keys.dim
    }

    #[inline(always)]
    fn value_dim(self) -> usize {
        self.value_dim
    }

    #[inline(always)]
    fn keys(self, base: usize) -> Q8Keys<'a> {
        let Q8Keys { codes, scales, dim } = self.keys;
        let first = base / LANES * dim;
        Q8Keys { codes: &codes[first..], scales: &scales[first / BLOCK..], dim }
    }

    #[inline(always)]
    fn values<'s, I: Isa>(self, isa: I, base: usize, scales: &'s mut Scales) -> Q8Values<'s>
    where
        Self: 's,
    {
        let of_row = self.value_dim / BLOCK;
        let kept = &self.value_scales[base * of_row / LANES..];
        let of_block = &mut scales[..BLOCK_POSITIONS * of_row / LANES];
        for (scales, kept) in of_block.iter_mut().zip(kept) {
            isa.store(isa.widen(kept), scales);
        }
        let codes = &self.values[base * self.value_dim..];
        Q8Values { codes, scales: scales.as_flattened(), dim: self.value_dim }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Q8Keys<'a> {
    pub(super) codes: &'a [[i8; LANES]],
    pub(super) scales: &'a [[u16; LANES]],
    pub(super) dim: usize,
}

impl<'a> Keys for Q8Keys<'a> {
    const PART: Option<usize> = Some(BLOCK);
    type Part<I: Isa> = (&'a [[i8; LANES]], I::Vector);

    #[inline(always)]
    fn part<I: Isa>(self, isa: I, tile: usize, start: usize, count: usize) -> Self::Part<I> {
        let first = tile * self.dim + start;
        (&self.codes[first..][..count], isa.widen(&self.scales[first / BLOCK]))
    }

    #[inline(always)]
    fn lanes<I: Isa>(isa: I, (codes, scale): Self::Part<I>, i: usize) -> I::Vector {
        isa.mul(isa.widen_codes(&codes[i]), scale)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Q8Values<'s> {
    codes: &'s [i8],
    scales: &'s [f32],
    dim: usize,
}

impl<'s> Values for Q8Values<'s> {
    type Row = (&'s [i8], &'s [f32]);

    #[inline(always)]
    fn value_dim(self) -> usize {
        self.dim
    }

    #[inline(always)]
    fn rows(self, positions: Range<usize>) -> impl Iterator<Item = Self::Row> {
        let (dim, blocks) = (self.dim, self.dim / BLOCK);
        let codes = &self.codes[positions.start * dim..positions.end * dim];
        let scales = &self.scales[positions.start * blocks..positions.end * blocks];
        codes.chunks_exact(dim).zip(scales.chunks_exact(blocks))
    }

    #[inline(always)]
    fn lanes<I: Isa, const C: usize>(isa: I, row: Self::Row, chunk: usize) -> [I::Vector; C] {
        let (chunks, _) = row.0[chunk * LANES..].as_chunks::<LANES>();
        let chunks: &[[i8; LANES]; C] = chunks.first_chunk().expect("the chunks are full");
        let mut lanes = [isa.splat(0.0); C];
        for c in 0..C {
            let scale = isa.splat(row.1[(chunk + c) * LANES / BLOCK]);
            lanes[c] = isa.mul(isa.widen_codes(&chunks[c]), scale);
        }
        lanes
    }

    /// Never asked for: a value is whole blocks.
    #[inline(always)]
    fn rest<I: Isa>(isa: I, row: Self::Row, chunk: usize) -> I::Vector {
        Self::lanes::<I, 1>(isa, row, chunk)[0]
    }
}
