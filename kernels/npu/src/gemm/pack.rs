//! The buffers of a call, byte for byte.
//!
//! | buffer | order, outermost first | element |
//! |---|---|---|
//! | activations | 16 k, tile of 8 rows, 8 k, plane (high, low), row, k | int8 |
//! | weights | column of the array, pass, segment, unit of 8 n, 64 k, 8 k, k, n | int8 |
//! | results | column of the array, pass, group, unit of 8 n, plane, tile of 8 rows, row, n | int32 |
//!
//! Column c of the array has the n from `c * width` on; all of its n of one pass are consecutive.
//! The weights of each column end with zeros up to a whole granule. Everything is little-endian.

use super::gated::pack_scales;
use super::{ACTIVATION_PIECE_BYTES, BLOCK, BRICK_DEPTH, PLANES, ROWS, Results, Tiling};
use crate::array::COLUMNS;

/// Side of a block, as a size in memory.
const SIDE: usize = BLOCK as usize;

/// k of a piece of activations.
const PIECE_DEPTH: u32 = ACTIVATION_PIECE_BYTES / (PLANES * BLOCK);

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

/// Packs activations, given as `[rows][k]` for each plane, into a buffer of
/// [`Tiling::activation_bytes`]; rows that are missing are zero.
///
/// # Panics
/// When the planes differ in length or are not at most 32 whole rows, or the buffer is of another
/// size.
pub fn activations(tiling: &Tiling, high: &[i8], low: &[i8], packed: &mut [u8]) {
    let k = tiling.shape.k as usize;
    assert!(high.len() == low.len() && high.len().is_multiple_of(k), "two planes of whole rows");
    let rows = high.len() / k;
    assert!(rows <= ROWS as usize, "at most {ROWS} rows");
    assert_eq!(packed.len() as u64, tiling.activation_bytes(), "room for all activations");
    let pieces = tiling.depth() / PIECE_DEPTH;
    let mut places = Counter::new([pieces, ROWS / BLOCK, PIECE_DEPTH / BLOCK, PLANES, BLOCK]);
    let total = SIDE * places.total();
    packed[total..].fill(0);
    for bytes in packed[..total].chunks_exact_mut(SIDE) {
        let [piece, tile, step, plane, row] = places.next();
        let row = tile * SIDE + row;
        let from = piece * PIECE_DEPTH as usize + step * SIDE;
        let count = if row < rows { k.saturating_sub(from).min(SIDE) } else { 0 };
        let (some, none) = bytes.split_at_mut(count);
        if count > 0 {
            let source = if plane == 0 { high } else { low };
            let source = &source[row * k + from..][..count];
            some.iter_mut().zip(source).for_each(|(to, from)| *to = from.cast_unsigned());
        }
        none.fill(0);
    }
}

/// Packs weights, given as `[n][k]`, for all columns of the array.
///
/// # Panics
/// When there are not n * k of them.
pub fn weights(tiling: &Tiling, weights: &[i8]) -> Vec<u8> {
    (0..COLUMNS).flat_map(|column| column_weights(tiling, weights, column)).collect()
}

/// Packs the weights of one column of the array: [`Tiling::weight_bytes`]. `weights` are all of
/// them, as `[n][k]`.
///
/// # Panics
/// When there are not n * k of them, or the product is gated.
pub fn column_weights(tiling: &Tiling, weights: &[i8], column: u8) -> Vec<u8> {
    assert!(tiling.gate.is_none(), "a gated product has scales");
    plain_weights(tiling, weights, column)
}

/// The same of a gated product, of whose weights `scales` are the codes, `[n]`.
///
/// # Panics
/// When there are not n * k weights and n scales.
pub fn gated_weights(tiling: &Tiling, weights: &[i8], scales: &[i32], column: u8) -> Vec<u8> {
    assert_eq!(scales.len(), tiling.shape.n as usize, "a scale for each output");
    let plain = plain_weights(&Tiling { gate: None, ..*tiling }, weights, column);
    let width = tiling.width() as usize;
    let scales = &scales[usize::from(column) * width..][..width];
    let passes = tiling.passes as usize;
    let weights = plain.chunks_exact(plain.len() / passes);
    let mut packed = Vec::with_capacity(tiling.weight_bytes() as usize);
    for (weights, scales) in weights.zip(scales.chunks_exact(width / passes)) {
        packed.extend_from_slice(weights);
        packed.extend(pack_scales(scales));
    }
    packed
}

fn plain_weights(tiling: &Tiling, weights: &[i8], column: u8) -> Vec<u8> {
    let (n, k) = (tiling.shape.n as usize, tiling.shape.k as usize);
    assert_eq!(weights.len(), n * k, "n rows of k weights");
    let mut packed = vec![0; tiling.weight_bytes() as usize];
    let first = usize::from(column) * tiling.width() as usize;
    let mut places = Counter::new([
        tiling.passes,
        tiling.groups * tiling.segments,
        tiling.units,
        tiling.bricks,
        BRICK_DEPTH / BLOCK,
    ]);
    let blocks = places.total();
    for block in packed.chunks_exact_mut(SIDE * SIDE).take(blocks) {
        let [pass, segment, unit, brick, step] = places.next();
        let n_from = first + (pass * tiling.units as usize + unit) * SIDE;
        let brick = segment * tiling.bricks as usize + brick;
        let k_from = brick * BRICK_DEPTH as usize + step * SIDE;
        let count = k.saturating_sub(k_from).min(SIDE);
        for lane in 0..n.saturating_sub(n_from).min(SIDE) {
            let row = &weights[(n_from + lane) * k..][..k];
            for (at, weight) in row[k_from.min(k)..].iter().take(count).enumerate() {
                block[at * SIDE + lane] = weight.cast_unsigned();
            }
        }
    }
    packed
}

/// Unpacks results into `[group][plane][rows][n]`, with one plane where they are combined. `rows`
/// is how many of the 32 are wanted.
///
/// # Panics
/// When there are more than 32 rows, or either side is of another size.
pub fn results(tiling: &Tiling, rows: u32, packed: &[u8], unpacked: &mut [i32]) {
    assert!(rows <= ROWS, "at most {ROWS} rows");
    let column_bytes = tiling.result_bytes() as usize;
    assert_eq!(packed.len(), usize::from(COLUMNS) * column_bytes, "the results of all columns");
    assert_eq!(unpacked.len(), result_count(tiling, rows), "room for all results");
    let (rows, n) = (rows as usize, tiling.shape.n as usize);
    let planes = tiling.shape.results.count();
    for (column, packed) in packed.chunks_exact(column_bytes).enumerate() {
        let first = column * tiling.width() as usize;
        let (passes, groups, units) = (tiling.passes, tiling.groups, tiling.units);
        let mut places = Counter::new([passes, groups, units, planes, ROWS / BLOCK, BLOCK]);
        for lanes in packed.as_chunks().0.chunks_exact(SIDE) {
            let [pass, group, unit, plane, tile, row] = places.next();
            let row = tile * SIDE + row;
            let at = first + (pass * units as usize + unit) * SIDE;
            if row < rows {
                let place = ((group * planes as usize + plane) * rows + row) * n + at;
                let count = n.saturating_sub(at).min(SIDE);
                for (lane, &word) in lanes.iter().enumerate().take(count) {
                    unpacked[place + lane] = i32::from_le_bytes(word);
                }
            }
        }
    }
}

/// How many results `rows` rows have, for all groups and planes.
pub const fn result_count(tiling: &Tiling, rows: u32) -> usize {
    let planes = tiling.shape.results.count() as usize;
    tiling.groups as usize * planes * rows as usize * tiling.shape.n as usize
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
