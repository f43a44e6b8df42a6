//! Gates: two products of one input, what the gate makes of them, and the codes that go out. All of it
//! in the integers of [`onebit_aie::gemm::gated`], so that the array gives the same.

use std::sync::LazyLock;

use onebit_aie::gemm::gated::{self, ENTRIES, Factor, ROW_WORDS, Row, Weights};
use onebit_plan::abi::{
    ARRAY_BLOCK, ARRAY_BRICK, ARRAY_COLUMNS, ARRAY_GRANULE, ARRAY_ROWS, ARRAY_SHIFTS, ArrayProduct,
    ArrayRole,
};

use super::{Codes, Operands, PIECE_STEPS, Unit, pack_brick, unit_sums};

/// Bits of a code, but for its sign.
const CODE_BITS: i32 = 14;
/// Largest code.
const MOST: f32 = 16383.0;
/// A row below this counts as zeros: the power of two of its codes stays one of floats.
const LEAST: f32 = f32::from_bits(27 << 23);
/// Outputs of an array column at most: what a compute tile keeps.
const WIDTH: usize = 960;
/// Bytes of a piece of activations of 8 rows.
const PIECE_BYTES: usize = 2 * PIECE_STEPS * ARRAY_BLOCK * ARRAY_BLOCK;

/// The tables of the gates' functions, in the order of [`Factor::ALL`].
static TABLES: LazyLock<[[u32; ENTRIES]; 2]> = LazyLock::new(|| Factor::ALL.map(Factor::table));

/// Makes the tables, so that no step has to.
pub(crate) fn prepare() {
    LazyLock::force(&TABLES);
}

/// The table of a gate's role; none of other roles.
fn table(role: ArrayRole) -> Option<&'static [u32; ENTRIES]> {
    let factor = match role {
        ArrayRole::Silu => Factor::Sigmoid,
        ArrayRole::GeluTanh => Factor::Normal,
        ArrayRole::Plain | ArrayRole::Gated => return None,
    };
    Some(&TABLES[factor as usize])
}

/// The numbers behind a gate's weights.
pub fn weights_of(words: [u32; 4]) -> Weights {
    let [gate, up, gate_squares, up_squares] = words;
    // What no weights have counts as the nearest that they can: nothing may overflow.
    let exponent = |word: u32| word.cast_signed().clamp(-200, 200);
    let squares = |word: u32| u64::from(word).min(1 << 24);
    Weights {
        exponents: [exponent(gate), exponent(up)],
        squares: [squares(gate_squares), squares(up_squares)],
    }
}

/// A row of activations as codes: its constants, and whether all of it were numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct GateRow {
    constants: Row,
    is_finite: bool,
}

impl GateRow {
    /// Quantises a row to codes times a power of two; codes behind the last are zeros.
    fn quantise(weights: &Weights, x: &[f32], codes: &mut Codes) -> Self {
        let magnitude = |x: &f32| x.to_bits() & 0x7fff_ffff;
        let largest = f32::from_bits(x.iter().map(magnitude).max().unwrap_or(0));
        let is_finite = largest.is_finite();
        let (some, none) = codes.split_at_mut(x.len());
        none.fill(0);
        let exponent = if is_finite && largest >= LEAST {
            let exponent = (largest.to_bits() >> 23).cast_signed() - 127 - (CODE_BITS - 1);
            let factor = f32::from_bits((127 - exponent).cast_unsigned() << 23);
            for (code, x) in some.iter_mut().zip(x) {
                *code = (x * factor).round_ties_even().clamp(-MOST, MOST) as i16;
            }
            exponent
        } else {
            some.fill(0);
            0
        };
        Self { constants: Row::new(weights, some, exponent), is_finite }
    }

    /// The row that a call has where no row is wanted.
    fn none(weights: &Weights) -> Self {
        Self { constants: Row::new(weights, &[], 0), is_finite: true }
    }

    /// The scale of codes that were shifted down by `shift`.
    pub fn scale(&self, shift: u32) -> f32 {
        if !self.is_finite {
            return f32::NAN;
        }
        let exponent = (1023 + self.constants.exponent(shift)).clamp(1, 2046);
        f64::from_bits(u64::from(exponent.cast_unsigned()) << 52) as f32
    }
}

/// This thread's array columns of a gate. `weights` are those of all columns, `words` what is behind
/// them.
#[inline(always)]
pub(super) fn share(
    product: &ArrayProduct,
    operands: &Operands<'_>,
    words: [u32; 4],
    columns: std::ops::Range<usize>,
) {
    let Some(table) = product.role().and_then(table) else { return };
    let (k, width, units) = (product.k as usize, product.gated_width(), product.units as usize);
    if width > WIDTH {
        return; // No compute tile has room for it: not a plan of the compiler.
    }
    let Operands { weights, x, out, m, .. } = *operands;
    let constants = weights_of(words);
    let mut codes: [Codes; ARRAY_ROWS] = [[0; super::ARRAY_GROUP]; ARRAY_ROWS];
    let mut rows = [GateRow::none(&constants); ARRAY_ROWS];
    for (r, (codes, row)) in codes.iter_mut().zip(&mut rows).enumerate().take(m) {
        *row = GateRow::quantise(&constants, &x[r * k..][..k], codes);
    }
    let mut outputs = [[0i32; WIDTH]; ARRAY_ROWS];
    for column in columns {
        for pair in 0..width / ARRAY_BLOCK {
            let (pass, unit) = (pair * 2 / units, pair * 2 % units);
            let at = |unit: usize| Unit { column, pass, unit };
            let sums = [unit, unit + 1].map(|unit| {
                let scales = scales(product, weights, at(unit));
                (unit_sums(product, weights, (at(unit), 0), &codes[..m]), scales)
            });
            let [(gate, gate_scales), (up, up_scales)] = &sums;
            for (r, outputs) in outputs.iter_mut().enumerate().take(m) {
                for lane in 0..ARRAY_BLOCK {
                    let sums = [gate[r][lane], up[r][lane]];
                    let scales = [gate_scales[lane], up_scales[lane]];
                    outputs[pair * ARRAY_BLOCK + lane] =
                        rows[r].constants.output(table, sums, scales);
                }
            }
        }
        for (r, outputs) in outputs.iter().enumerate().take(m) {
            let outputs = &outputs[..width];
            let shift = gated::shift(outputs.iter().copied());
            let start = out.wrapping_add(r * product.out_stride as usize);
            for (at, y) in outputs.iter().enumerate() {
                // SAFETY: the caller's output has n / 2 codes in row r; these columns are this thread's.
                unsafe { start.wrapping_add(column * width + at).write((y >> shift) as f32) };
            }
            let scale = start.wrapping_add(ARRAY_COLUMNS * width + column);
            // SAFETY: and a scale for each array column behind them.
            unsafe { scale.write(rows[r].scale(shift)) };
        }
    }
}

/// The scales of a unit's 8 outputs.
#[inline(always)]
fn scales(product: &ArrayProduct, weights: &[u8], unit: Unit) -> [i32; ARRAY_BLOCK] {
    let pass_bytes = product.gate_column_bytes() / product.passes as usize;
    let granule =
        unit.column * product.gate_column_bytes() + (unit.pass + 1) * pass_bytes - ARRAY_GRANULE;
    let words = &weights[granule + 4 * ARRAY_BLOCK * unit.unit..].as_chunks::<4>().0;
    std::array::from_fn(|lane| i32::from_le_bytes(words[lane]))
}

/// Quantises and packs rows of activations for a gate on the array; `rows` takes what
/// [`unpack_scales`] needs of each.
///
/// # Panics
/// When a slice is of another length or there are more than [`ARRAY_ROWS`] rows.
pub fn pack_gate(
    product: &ArrayProduct,
    weights: &Weights,
    x: &[f32],
    packed: &mut [u8],
    rows: &mut [GateRow; ARRAY_ROWS],
) {
    let k = product.k as usize;
    let m = x.len() / k;
    assert!(m <= ARRAY_ROWS && x.len() == m * k, "m rows");
    let bytes = product.activation_bytes();
    let (activations, constants) = packed.split_at_mut(bytes);
    assert_eq!(constants.len(), 2 * ARRAY_ROWS * ARRAY_BRICK, "a brick of constants");
    constants.fill(0);
    for (r, row) in rows.iter_mut().enumerate() {
        let mut codes: Codes = [0; super::ARRAY_GROUP];
        *row = match x.get(r * k..(r + 1) * k) {
            Some(x) => GateRow::quantise(weights, x, &mut codes),
            None => GateRow::none(weights),
        };
        let bricks = codes.chunks_exact(ARRAY_BRICK);
        let places = activations.chunks_exact_mut(2 * ARRAY_ROWS * ARRAY_BRICK);
        bricks.zip(places).for_each(|(codes, packed)| pack_brick(codes, r, packed));
        let at = r / ARRAY_BLOCK * PIECE_BYTES + r % ARRAY_BLOCK * 4 * ROW_WORDS;
        let words = row.constants.words();
        for (to, word) in constants[at..].as_chunks_mut().0.iter_mut().zip(words) {
            *to = word.to_le_bytes();
        }
    }
}

/// The scales of what the array made of a gate: for each row of `d` one for each array column.
/// `results` is all of [`ARRAY_COLUMNS`] times [`ArrayProduct::gate_bytes`].
pub fn unpack_scales(results: &[u8], rows: &[GateRow; ARRAY_ROWS], d: &mut [f32]) {
    let bytes = results.len() / ARRAY_COLUMNS;
    let shifts = bytes - ARRAY_ROWS / ARRAY_BLOCK * ARRAY_SHIFTS;
    for (r, d) in d.chunks_exact_mut(ARRAY_COLUMNS).enumerate() {
        for (column, d) in d.iter_mut().enumerate() {
            let row = r / ARRAY_BLOCK * ARRAY_SHIFTS + 4 * (r % ARRAY_BLOCK);
            let at = column * bytes + shifts + row;
            let word = results[at..].first_chunk().expect("a word for each row");
            *d = rows[r].scale(u32::from_le_bytes(*word));
        }
    }
}

/// The codes of a group of a row that a gate made, and their scale.
#[inline(always)]
pub(super) fn taken(product: &ArrayProduct, row: &[f32], group: usize, codes: &mut Codes) -> f32 {
    let x = &row[product.group_range(group)];
    let (some, none) = codes.split_at_mut(x.len());
    some.iter_mut().zip(x).for_each(|(code, x)| *code = *x as i16);
    none.fill(0);
    row[product.k as usize + group]
}
