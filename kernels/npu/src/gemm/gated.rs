//! Gated products: `factor(gate) * gate * up` of two products of one input, in integers, and the
//! same numbers as the activations of the product that reads them.
//!
//! All is defined to the bit, so that any machine gives what the array gives. Sums are those of a
//! product with one group of k. Scales are powers of two for the activations, and for the weights
//! [`SCALE_BITS`] bits times a power of two that all of a matrix share. Shifts to the right round
//! down, and no intermediate number has more than 32 bits. For each row:
//!
//! ```text
//! sum' = sum >> down           so that it has 16 bits, by the bound |sum|^2 <= |row|^2 * |weights|^2
//! part = sum' * scale          of gate and of up
//! at   = clamp(gate.part) scaled to 1/4096, from -16 to 16
//! f    = v[at >> 8] + ((slope[at >> 8] * (at & 255)) >> 8)            in 1/32768
//! y    = ((((gate.part >> 15) * f) >> 15) * (up.part >> 15)
//! code = y >> shift            so that the largest |y| of the row and array column has 14 bits
//! ```

use super::{BLOCK, PLANES, ROWS, Results, Shape, ShapeError, Tiling, WEIGHT_GRANULE_BYTES};
use crate::array::COLUMNS;

/// Bits of a scale of the weights of gate and of up. The gate's have one more, which fits: its factor is
/// at most one.
pub const SCALE_BITS: [u32; 2] = [16, 15];
/// Where both parts of a product lose the bits of a scale.
const PART_BITS: u32 = 15;
/// Bits of a code, but for its sign.
pub const CODE_BITS: u32 = 14;
/// Values of a factor's table; they are 1/16 apart.
pub const ENTRIES: usize = 512;
/// Values below zero.
const NEGATIVE: i32 = ENTRIES as i32 / 2;
/// Bits of the place between two values.
const FRACTION_BITS: u32 = 8;
/// The table reaches from -2^4 to 2^4.
const REACH_BITS: i32 = 4;
/// Bits behind the point of a place in the table.
const PLACE_BITS: i32 = 12;
/// What stands for one in a table.
const ONE: f64 = 32768.0;
/// Words of a row's constants.
pub const ROW_WORDS: usize = 8;
/// Bytes of what the tile keeps of sums and of results, together.
const ROOM: u32 = super::memory::PARTIAL_SUMS.end - super::memory::PARTIAL_SUMS.start;
/// Bytes of a unit's sums, and of a pair's results.
const UNIT_ROOM: u32 = 512;
const PAIR_ROOM: u32 = 256;

/// What a gate is multiplied with: a function of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Factor {
    /// `1 / (1 + exp(-g))`: the product is SiLU.
    Sigmoid,
    /// `(1 + tanh(sqrt(2 / pi) * (g + 0.044715 g^3))) / 2`: the product is GELU by tanh.
    Normal,
}

impl Factor {
    /// All of them, in the order of their tables.
    pub const ALL: [Factor; 2] = [Factor::Sigmoid, Factor::Normal];

    fn at(self, g: f64) -> f64 {
        match self {
            Factor::Sigmoid => 1.0 / (1.0 + (-g).exp()),
            Factor::Normal => {
                let root = (2.0 / std::f64::consts::PI).sqrt();
                0.5 * (1.0 + (root * (g + 0.044_715 * g * g * g)).tanh())
            }
        }
    }

    /// The table: a value in 1/32768 in the low half of each word, and above it what the next one
    /// has more.
    pub fn table(self) -> [u32; ENTRIES] {
        let value = |at: i32| (ONE * self.at(f64::from(at - NEGATIVE) / 16.0)).round() as i32;
        std::array::from_fn(|at| {
            let (at, next) = (value(at as i32), value(at as i32 + 1));
            ((next - at) as u32) << 16 | at as u32
        })
    }
}

/// What is asked for: two products of the same k activations with `outputs` rows of weights each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gated {
    /// Rows of weights of the gate, and of what it gates.
    pub outputs: u32,
    /// Elements of a row.
    pub k: u32,
    /// The gate's function.
    pub factor: Factor,
}

impl Gated {
    /// The product with n rows of weights that reads the results: each column of the array has its
    /// own scales, so its outputs are a group.
    pub const fn reader(&self, n: u32) -> Shape {
        let (k, group) = (self.outputs, self.outputs / COLUMNS as u32);
        Shape { n, k, group, results: Results::Combined }
    }

    /// How it is cut: with as many units a pass as leave room for the results of all passes.
    ///
    /// # Errors
    /// Sizes that do not fit.
    pub fn tiling(&self) -> Result<Tiling, ShapeError> {
        let group = u32::from(COLUMNS) * super::BRICK_DEPTH;
        if !self.outputs.is_multiple_of(group) || self.outputs == 0 {
            return Err(ShapeError::Outputs { outputs: self.outputs, multiple: group });
        }
        if matches!(Results::of_fifteen_bits(self.k), Results::Separate) {
            return Err(ShapeError::Sum { k: self.k });
        }
        let shape =
            Shape { n: 2 * self.outputs, k: self.k, group: self.k, results: Results::Combined };
        let plain = Tiling::new(&shape)?;
        let pairs = self.outputs / u32::from(COLUMNS) / BLOCK;
        let fits = |units: &u32| {
            (2 * pairs).is_multiple_of(*units) && units * UNIT_ROOM + pairs * PAIR_ROOM <= ROOM
        };
        // A multiple of four units ends a pass with a whole granule of weights.
        let units = (4..=super::UNITS_AT_MOST).rev().filter(|units| units % 4 == 0).find(fits);
        let units = units.ok_or(ShapeError::Room { outputs: self.outputs })?;
        Ok(Tiling { passes: 2 * pairs / units, units, gate: Some(self.factor), ..plain })
    }
}

impl Tiling {
    /// Pairs of a gate's unit and the unit that it gates, in a pass of a column.
    pub const fn pairs(&self) -> u32 {
        self.units / 2
    }

    /// Outputs of a gated product in a column of the array.
    pub const fn gated_width(&self) -> u32 {
        self.passes * self.pairs() * BLOCK
    }
}

/// The numbers of a gated product's weights that its arithmetic needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// The power of two of the scales of gate and up.
    pub exponents: [i32; 2],
    /// The largest sum of the squares of a row's codes, of gate and up.
    pub squares: [u64; 2],
}

/// A row's constants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// By how much sums of gate and up are shifted down.
    down: [u32; 2],
    /// Least and largest part that has its place in the table.
    limits: [i32; 2],
    /// By how much a part is shifted up to be a place in the table; down when negative.
    place: i32,
    /// The power of two of `y`.
    exponent: i32,
}

impl Row {
    /// The constants of a row of activations `code * 2^exponent` with these codes.
    pub fn new(weights: &Weights, codes: &[i16], exponent: i32) -> Self {
        let square = |code: &i16| u64::from(code.unsigned_abs()).pow(2);
        let squares: u64 = codes.iter().map(square).sum();
        // |sum| < 2^(15 + down), by Cauchy and Schwarz.
        let down = weights.squares.map(|of_weights| {
            let bits = 64 - (squares * of_weights).leading_zeros();
            bits.saturating_sub(2 * PART_BITS).div_ceil(2)
        });
        let unit = |which: usize| exponent + weights.exponents[which] + down[which].cast_signed();
        let place = unit(0).min(REACH_BITS);
        let limits = match REACH_BITS - place {
            bits @ 0..=30 => [-(1 << bits), (1 << bits) - 1],
            _ => [i32::MIN, i32::MAX],
        };
        Row {
            down,
            limits,
            place: (place + PLACE_BITS).max(-31),
            exponent: unit(0) + unit(1) + 2 * PART_BITS.cast_signed(),
        }
    }

    /// The words that the core reads.
    pub fn words(&self) -> [i32; ROW_WORDS] {
        let [gate, up] = self.down.map(|down| -down.cast_signed());
        [gate, up, self.limits[0], self.limits[1], self.place, 0, 0, 0]
    }

    /// The power of two of codes that were shifted down by `shift`.
    pub fn exponent(&self, shift: u32) -> i32 {
        self.exponent + shift.cast_signed()
    }

    /// `y` of one output: from the sums and the scales of gate and up.
    pub fn output(&self, table: &[u32; ENTRIES], sums: [i32; 2], scales: [i32; 2]) -> i32 {
        // Nothing overflows where the weights' numbers are true.
        let part = |which: usize| (sums[which] >> self.down[which]).wrapping_mul(scales[which]);
        let (gate, up) = (part(0), part(1));
        let at = gate.max(self.limits[0]).min(self.limits[1]);
        let at = if self.place < 0 { at >> -self.place } else { at << self.place };
        let entry = table[((at >> FRACTION_BITS) + NEGATIVE) as usize % ENTRIES];
        let (value, slope) = ((entry & 0xffff).cast_signed(), entry.cast_signed() >> 16);
        let fraction = at & ((1 << FRACTION_BITS) - 1);
        let factor = value + ((slope * fraction) >> FRACTION_BITS);
        ((gate >> PART_BITS).wrapping_mul(factor) >> PART_BITS).wrapping_mul(up >> PART_BITS)
    }
}

/// By how much the results of a row and array column are shifted down to be codes.
pub fn shift(outputs: impl Iterator<Item = i32>) -> u32 {
    let all = outputs.fold(0, |all, y| all | y.unsigned_abs());
    (32 - all.leading_zeros()).saturating_sub(CODE_BITS)
}

/// A scale as `bits` bits of a matrix whose scales share the power of two `exponent`; the next one
/// above, so that no code of a weight has more bits for it.
pub fn scale_code(scale: f32, exponent: i32, bits: u32) -> i32 {
    let code = (f64::from(scale) * f64::from(-exponent).exp2()).ceil();
    (code as i32).min((1 << bits) - 1)
}

/// The power of two with which the largest of `scales` has `bits` bits.
pub fn scale_exponent(scales: &[f32], bits: u32) -> i32 {
    let largest = scales.iter().fold(0.0f32, |most, scale| most.max(*scale));
    if largest == 0.0 || !largest.is_finite() {
        return 0;
    }
    f64::from(largest).log2().floor() as i32 + 1 - bits.cast_signed()
}

/// Writes a row's constants into packed activations: row r of the 32.
///
/// # Panics
/// When the buffer is not [`Tiling::activation_bytes`] long.
pub fn pack_row(tiling: &Tiling, row: usize, constants: &Row, packed: &mut [u8]) {
    let at = 2 * (ROWS * tiling.depth()) as usize;
    let piece = super::ACTIVATION_PIECE_BYTES as usize;
    let side = BLOCK as usize;
    let at = at + row / side * piece + row % side * 4 * ROW_WORDS;
    for (to, word) in packed[at..].as_chunks_mut().0.iter_mut().zip(constants.words()) {
        *to = word.to_le_bytes();
    }
}

/// The granule with the scale codes of one pass: `codes` are those of its units, in order.
pub fn pack_scales(codes: &[i32]) -> Vec<u8> {
    let mut packed: Vec<u8> = codes.iter().flat_map(|code| code.to_le_bytes()).collect();
    packed.resize(WEIGHT_GRANULE_BYTES as usize, 0);
    packed
}

/// The shifts of all rows and columns of the array, `[column][row]`, from packed results.
///
/// # Panics
/// When the buffer is too short.
pub fn shifts(tiling: &Tiling, packed: &[u8]) -> Vec<[u32; ROWS as usize]> {
    let bytes = tiling.result_bytes() as usize;
    let codes = tiling.code_bytes() as usize;
    let piece = super::OUTPUT_GRANULE_BYTES as usize;
    let side = BLOCK as usize;
    packed
        .chunks_exact(bytes)
        .map(|column| {
            std::array::from_fn(|row| {
                let at = codes + row / side * piece + 4 * (row % side);
                u32::from_le_bytes(column[at..][..4].try_into().expect("four bytes"))
            })
        })
        .collect()
}

/// Codes of `y` as two planes would give them back: `[rows][outputs]`, from packed results.
///
/// # Panics
/// When the buffer is too short.
pub fn codes(tiling: &Tiling, rows: usize, packed: &[u8]) -> Vec<i16> {
    let width = tiling.gated_width() as usize;
    let outputs = width * usize::from(COLUMNS);
    let side = BLOCK as usize;
    let block = side * side;
    let piece = super::OUTPUT_GRANULE_BYTES as usize;
    let mut codes = vec![0; rows * outputs];
    for (at, code) in codes.iter_mut().enumerate() {
        let (row, output) = (at / outputs, at % outputs);
        let (column, place) = (output / width, output % width);
        let (unit, lane) = (place / side, place % side);
        let start = column * tiling.result_bytes() as usize
            + (unit / 2 * (ROWS / BLOCK) as usize + row / side) * piece
            + unit % 2 * PLANES as usize * block
            + row % side * side
            + lane;
        let high = i16::from(packed[start].cast_signed());
        *code = (high << 7) + i16::from(packed[start + block].cast_signed());
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything near what floats give: the table, the parts, the codes.
    #[test]
    fn outputs_are_near_those_of_real_numbers() {
        for factor in Factor::ALL {
            let table = factor.table();
            let weights = Weights { exponents: [-24, -25], squares: [1 << 20, 1 << 21] };
            let codes: Vec<i16> = (0..576).map(|k| (k * 7919 % 8191) as i16 - 4095).collect();
            let row = Row::new(&weights, &codes, -12);
            let scales = [60_000, 17_000];
            let limit = [2, 3].map(|bits: u32| (1i64 << (14 + row.down[bits as usize - 2])) as i32);
            for step in -200..=200 {
                let sums = [limit[0] / 200 * step, limit[1] / 211 * (37 - step)];
                let real = |at: usize| {
                    let unit = f64::from(-12 + weights.exponents[at]).exp2();
                    f64::from(sums[at]) * f64::from(scales[at]) * unit
                };
                let expected = factor.at(real(0)) * real(0) * real(1);
                let found =
                    f64::from(row.output(&table, sums, scales)) * f64::from(row.exponent(0)).exp2();
                let largest = (f64::from(limit[0]) * f64::from(scales[0]))
                    * (f64::from(limit[1]) * f64::from(scales[1]))
                    * f64::from(-24 + weights.exponents[0] + weights.exponents[1]).exp2();
                assert!((found - expected).abs() <= 4e-4 * largest, "{step}: {found} {expected}");
            }
        }
    }

    #[test]
    fn shapes_that_do_not_fit_say_why() {
        let tiling = |outputs, k| Gated { outputs, k, factor: Factor::Sigmoid }.tiling();
        let units = |outputs, k| {
            let tiling = tiling(outputs, k).unwrap();
            (tiling.passes, tiling.units)
        };
        assert_eq!(units(1536, 576), (1, 48));
        assert_eq!(units(3072, 1024), (3, 32));
        assert_eq!(units(2048, 640), (2, 32));
        assert_eq!(tiling(4864, 896), Err(ShapeError::Outputs { outputs: 4864, multiple: 512 }));
        assert_eq!(tiling(12288, 4096), Err(ShapeError::Sum { k: 4096 }));
        assert_eq!(tiling(16384, 1024), Err(ShapeError::Room { outputs: 16384 }));
    }
}
