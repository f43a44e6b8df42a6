//! The buffers of a call, byte for byte.
//!
//! | buffer | order, outermost first | element |
//! |---|---|---|
//! | activations | 64 k, tile of 8 rows, 8 k, plane (high, low), row, k | int8 |
//! | weights | column of the array, pass, segment, unit of 8 n, 64 k, 8 k, k, n | int8 |
//! | results | column of the array, pass, group, unit of 8 n, plane, tile of 8 rows, row, n | int32 |
//!
//! Column c of the array has the n from `c * width` on; all of its n of one pass are consecutive.
//! The weights of each column end with zeros up to a whole granule. Everything is little-endian.

use super::{BLOCK, BRICK_DEPTH, PLANES, ROWS, Results, Tiling};
use crate::array::COLUMNS;

/// Least activation that two planes hold.
pub const LEAST: i16 = -(1 << 14);
/// Largest activation that two planes hold.
pub const MOST: i16 = (1 << 14) - 1;

/// An activation as its two planes: `high * 128 + low`, low not negative. What is outside [`LEAST`]
/// to [`MOST`] becomes the nearest of these.
pub const fn planes(value: i16) -> (i8, i8) {
    let value = if value < LEAST {
        LEAST
    } else if value > MOST {
        MOST
    } else {
        value
    };
    ((value >> 7) as i8, (value & 127) as i8)
}

/// Packs activations, given as `[rows][k]` for each plane; rows that are missing are zero.
///
/// # Panics
/// When the planes differ in length, or are not at most 32 whole rows.
pub fn activations(tiling: &Tiling, high: &[i8], low: &[i8]) -> Vec<u8> {
    let k = tiling.shape.k as usize;
    assert!(high.len() == low.len() && high.len().is_multiple_of(k), "two planes of whole rows");
    let rows = high.len() / k;
    assert!(rows <= ROWS as usize, "at most {ROWS} rows");
    let mut packed = vec![0; tiling.activation_bytes() as usize];
    let block = BLOCK as usize;
    let blocks = packed.chunks_exact_mut(block);
    let mut places = Counter::new([BRICK_DEPTH / BLOCK, PLANES, BLOCK]);
    let tile_bytes = (BRICK_DEPTH * PLANES * BLOCK) as usize;
    for (index, bytes) in blocks.enumerate() {
        let granule = index * block / tile_bytes;
        let (brick, tile) = (granule / (ROWS / BLOCK) as usize, granule % (ROWS / BLOCK) as usize);
        let [step, plane, row] = places.next();
        let row = tile * block + row;
        let from = brick * BRICK_DEPTH as usize + step * block;
        if row < rows && from < k {
            let count = block.min(k - from);
            let source = if plane == 0 { high } else { low };
            let source = &source[row * k + from..][..count];
            bytes.iter_mut().zip(source).for_each(|(to, from)| *to = from.cast_unsigned());
        }
    }
    packed
}

/// Packs weights, given as `[n][k]`.
///
/// # Panics
/// When there are not n * k of them.
pub fn weights(tiling: &Tiling, weights: &[i8]) -> Vec<u8> {
    let (n, k) = (tiling.shape.n as usize, tiling.shape.k as usize);
    assert_eq!(weights.len(), n * k, "n rows of k weights");
    let mut packed = Vec::with_capacity(usize::from(COLUMNS) * tiling.weight_bytes() as usize);
    for column in 0..usize::from(COLUMNS) {
        let end = (column + 1) * tiling.weight_bytes() as usize;
        let first = column * tiling.width() as usize;
        let mut places = Counter::new([
            tiling.passes,
            tiling.groups * tiling.segments,
            tiling.units,
            tiling.bricks,
            BRICK_DEPTH / BLOCK,
        ]);
        for _ in 0..places.total() {
            let [pass, segment, unit, brick, step] = places.next();
            let n_from = first + (pass * tiling.units as usize + unit) * BLOCK as usize;
            let brick = segment * tiling.bricks as usize + brick;
            let k_from = brick * BRICK_DEPTH as usize + step * BLOCK as usize;
            for k_at in k_from..k_from + BLOCK as usize {
                for n_at in n_from..n_from + BLOCK as usize {
                    let is_there = n_at < n && k_at < k;
                    let weight = if is_there { weights[n_at * k + k_at] } else { 0 };
                    packed.push(weight.cast_unsigned());
                }
            }
        }
        packed.resize(end, 0);
    }
    packed
}

/// Unpacks results: `[group][plane][rows][n]`, with one plane where they are combined. `rows` is
/// how many of the 32 are wanted.
///
/// # Panics
/// When there are more than 32 rows, or not as many bytes as the tiling says.
pub fn results(tiling: &Tiling, rows: u32, packed: &[u8]) -> Vec<i32> {
    assert!(rows <= ROWS, "at most {ROWS} rows");
    let column_bytes = tiling.result_bytes() as usize;
    assert_eq!(packed.len(), usize::from(COLUMNS) * column_bytes, "the results of all columns");
    let (rows, n) = (rows as usize, tiling.shape.n as usize);
    let planes = tiling.shape.results.count() as usize;
    let mut unpacked = vec![0; tiling.groups as usize * planes * rows * n];
    for (column, packed) in packed.chunks_exact(column_bytes).enumerate() {
        let first = column * tiling.width() as usize;
        let mut places = Counter::new([
            tiling.passes,
            tiling.groups,
            tiling.units,
            planes as u32,
            ROWS / BLOCK,
            BLOCK,
            BLOCK,
        ]);
        for &word in packed.as_chunks().0 {
            let [pass, group, unit, plane, tile, row, lane] = places.next();
            let row = tile * BLOCK as usize + row;
            let at = first + (pass * tiling.units as usize + unit) * BLOCK as usize + lane;
            if row < rows && at < n {
                let place = ((group * planes + plane) * rows + row) * n + at;
                unpacked[place] = i32::from_le_bytes(word);
            }
        }
    }
    unpacked
}

/// The product that the array computes, in the order of [`results`]: sums modulo 2^32.
///
/// # Panics
/// When a length is not what the shape says.
pub fn product(tiling: &Tiling, high: &[i8], low: &[i8], weights: &[i8]) -> Vec<i32> {
    let shape = &tiling.shape;
    let (n, k, group) = (shape.n as usize, shape.k as usize, shape.group as usize);
    let rows = high.len() / k;
    let sums = |plane: &[i8], row: usize, at: usize, from: usize| -> i32 {
        let x = &plane[row * k + from..][..group];
        let w = &weights[at * k + from..][..group];
        let terms = x.iter().zip(w).map(|(&x, &w)| i32::from(x) * i32::from(w));
        terms.fold(0, i32::wrapping_add)
    };
    let mut product = Vec::new();
    for from in (0..k).step_by(group) {
        let mut push = |result: &dyn Fn(usize, usize) -> i32| {
            for row in 0..rows {
                product.extend((0..n).map(|at| result(row, at)));
            }
        };
        let [high, low] = [high, low].map(|plane| move |row, at| sums(plane, row, at, from));
        match shape.results {
            Results::Combined => {
                push(&|row, at| high(row, at).wrapping_mul(128).wrapping_add(low(row, at)));
            }
            Results::Separate => {
                push(&high);
                push(&low);
            }
        }
    }
    product
}

/// Counts through a product of ranges, the last one fastest.
struct Counter<const N: usize> {
    sizes: [usize; N],
    at: [usize; N],
}

impl<const N: usize> Counter<N> {
    fn new(sizes: [u32; N]) -> Self {
        Counter { sizes: sizes.map(|size| size as usize), at: [0; N] }
    }

    fn total(&self) -> usize {
        self.sizes.iter().product()
    }

    fn next(&mut self) -> [usize; N] {
        let now = self.at;
        for index in (0..N).rev() {
            self.at[index] += 1;
            if self.at[index] < self.sizes[index] {
                break;
            }
            self.at[index] = 0;
        }
        now
    }
}
