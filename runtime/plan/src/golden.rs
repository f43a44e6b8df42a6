//! What a plan must compute, noted by the compiler: the [`SegmentKind::Golden`] segment.
//!
//! The values are those of the f32 interpreter, so a device that rounds otherwise gives others
//! that are near. How near is the reader's affair; here stands what is compared. A row is kept as
//! a [`Sketch`], a quarter of its size. The [`GoldenSums`] are exact: the integer part of a
//! matrix product, which every kernel must reproduce.
//!
//! [`SegmentKind::Golden`]: crate::manifest::SegmentKind::Golden

use serde::{Deserialize, Serialize};

/// Elements of a row that share a sum of its [`Sketch`].
pub const SKETCH_GROUP: usize = 4;
/// Elements of a [`GoldenSum`].
pub const GOLDEN_GROUP: usize = 16;
/// Tokens at most, and so rows of a step at most.
pub const GOLDEN_TOKENS: usize = 32;
/// Logits at most.
pub const GOLDEN_TOP: usize = 64;
/// Groups of [`GoldenSums`] at most: rows of a panel of activations.
pub const GOLDEN_GROUPS: usize = 8;

/// All of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Golden {
    /// One sequence, from position 0.
    pub tokens: Vec<u32>,
    /// Logits of the last position, the largest first.
    pub top: Vec<TopLogit>,
    /// Values of the graph at the last position, in the order in which they are computed. The
    /// last are the logits.
    pub values: Vec<GoldenValue>,
    /// At least one for every storage class of the plan whose rows are long enough.
    pub sums: Vec<GoldenSums>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopLogit {
    pub token: u32,
    pub logit: f32,
}

/// A row of one value of the graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoldenValue {
    /// `%57`, as [`crate::manifest::Tap::value`].
    pub value: String,
    /// What computes it, for people: `linear blk.3.ffn_down.weight`.
    pub node: String,
    pub columns: u32,
    pub sketch: Sketch,
    /// What rounding the activations of all products to int8, a scale for each 32, changes here or,
    /// if that is more, at the same node of another layer: how much devices' rounding is felt.
    pub noise: Distance,
}

/// How far a row is from a golden one: both numbers are relative, and 0 for equal rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distance {
    /// Distance of the rows, by the length of the golden one.
    pub row: f32,
    /// The largest difference of a group's sums, by what the sum of as many elements of the golden
    /// row has on average.
    pub group: f32,
}

/// A row in short: its size, and for every [`SKETCH_GROUP`] elements one sum with signs that
/// [`is_negative`] gives. The squared differences of two rows' sums add up to about the squared
/// distance of the rows, and one wrong element shows in the sum of its group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sketch {
    /// Root of the mean square.
    pub rms: f32,
    pub sums: Vec<f32>,
}

/// Products of one tile of weights with integers, exactly.
///
/// Row r of the activations is zero but for the [`GOLDEN_GROUP`] elements of `groups[r]`, which
/// are those of [`activations`]; its blocks have d = 1 there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoldenSums {
    /// Index among the manifest's weights.
    pub weight: u32,
    /// Which [`crate::abi::TILE_ROWS`] rows of it.
    pub tile: u32,
    /// Of the activations.
    pub seed: u64,
    /// By row of the activations: which elements, counted in groups.
    pub groups: Vec<u32>,
    /// `[groups][rows of the tile]`
    pub sums: Vec<GoldenSum>,
}

/// One product: `sum * scale + min * (sum of the activations)`. In float classes the activations
/// are a one and zeros, `sum` is 1 and `scale` the first weight of the group.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoldenSum {
    /// The exact sum of activation times what the weight's code stands for.
    pub sum: i32,
    pub scale: f32,
    pub min: f32,
}

impl Sketch {
    /// Of a row of floats. Sums are taken in f64.
    pub fn of(row: &[f32]) -> Self {
        let squares: f64 = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        let sum = |(group, values): (usize, &[f32])| {
            let signed = values.iter().enumerate().map(|(at, &x)| {
                let x = f64::from(x);
                if is_negative(group * SKETCH_GROUP + at) { -x } else { x }
            });
            signed.sum::<f64>() as f32
        };
        let sums = row.chunks(SKETCH_GROUP).enumerate().map(sum).collect();
        Self { rms: (squares / row.len().max(1) as f64).sqrt() as f32, sums }
    }
}

impl Distance {
    /// From the golden row of `columns` elements to another of as many, and the first element of
    /// the group that is furthest off.
    pub fn between(golden: &Sketch, other: &Sketch, columns: usize) -> (Self, usize) {
        let rms = f64::from(golden.rms).max(f64::from(f32::MIN_POSITIVE));
        let (mut squares, mut worst, mut at) = (0.0, 0.0, 0);
        for (group, (a, b)) in golden.sums.iter().zip(&other.sums).enumerate() {
            let difference = (f64::from(*a) - f64::from(*b)).abs();
            squares += difference * difference;
            // Not a number is further than anything.
            if difference > worst || difference.is_nan() {
                (worst, at) = (difference, group * SKETCH_GROUP);
            }
        }
        let row = squares.sqrt() / (rms * (columns as f64).sqrt());
        let group = worst / (rms * (SKETCH_GROUP.min(columns) as f64).sqrt());
        (Self { row: row as f32, group: group as f32 }, at)
    }
}

/// Whether element `index` of a row counts with a minus in a [`Sketch`].
pub fn is_negative(index: usize) -> bool {
    mix(index as u64) & 1 == 1
}

/// The activations of row `row` of [`GoldenSums`] with this seed: -127 to 127.
pub fn activations(seed: u64, row: usize) -> [i8; GOLDEN_GROUP] {
    let start = seed.wrapping_add((row as u64) << 32);
    std::array::from_fn(|at| (mix(start.wrapping_add(at as u64)) % 255) as i16 as u8)
        .map(|byte: u8| (i16::from(byte) - 127) as i8)
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014) after one step of its counter.
pub fn mix(index: u64) -> u64 {
    let mut z = index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sketches_tell_distances_and_single_elements() {
        let row: Vec<f32> = (0..640).map(|i| (i as f32 * 0.7).sin()).collect();
        let distance = |other: &[f32]| {
            let (a, b) = (Sketch::of(&row), Sketch::of(other));
            let squares = a.sums.iter().zip(&b.sums).map(|(a, b)| f64::from(a - b).powi(2));
            squares.sum::<f64>().sqrt()
        };
        assert_eq!(distance(&row), 0.0);
        let mut other = row.clone();
        other[77] += 0.5;
        assert!((distance(&other) - 0.5).abs() < 1e-5, "one element");
        let noisy: Vec<f32> = row
            .iter()
            .zip(0..)
            .map(|(x, i)| x + ((mix(i) % 2001) as f32 - 1000.0) * 1e-5)
            .collect();
        let exact: f64 =
            row.iter().zip(&noisy).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
        let found = distance(&noisy) / exact;
        assert!((0.6..1.6).contains(&found), "{found}");
    }

    #[test]
    fn the_random_numbers_are_fixed() {
        assert_eq!(mix(0), 0xE220_A839_7B1D_CDAF, "the first of SplitMix64 with seed 0");
        let all = activations(1, 0);
        assert_eq!(all, activations(1, 0));
        assert_ne!(all, activations(1, 1));
        assert!((0..200).flat_map(|row| activations(9, row)).all(|q| q != i8::MIN));
    }
}
