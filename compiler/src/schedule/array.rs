//! Weights in the form of a neural processor's array: int8 with a scale for each row and group.
//!
//! This form rounds, unlike the storage classes of the CPU: what it changes is measured as the
//! weights are packed and stands in the plan.

use onebit_aie::gemm::gated::Factor;
use onebit_aie::gemm::{self, Cost, Design, Gated, Results, Shape, Tiling, pack};
use onebit_ir::quant::Format;
use onebit_plan::abi::{
    ARRAY_BLOCK, ARRAY_BRICK, ARRAY_COLUMNS, ARRAY_GRANULE, ARRAY_GROUP, ARRAY_LEVELS, ARRAY_PIECE,
    ARRAY_ROWS, ArrayProduct, ArrayRole,
};
use rayon::prelude::*;

use crate::error::CompileError;

/// Index of an [`ArrayMatrix`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArrayId(pub usize);

/// Source tensors stacked by rows, and where their packed form lies.
#[derive(Clone, Debug, PartialEq)]
pub struct ArrayMatrix {
    pub tensors: Vec<String>,
    /// Rows of each source tensor.
    pub tensor_rows: Vec<usize>,
    /// Format of each source tensor.
    pub formats: Vec<Format>,
    pub rows: usize,
    pub columns: usize,
    pub group: usize,
    /// What becomes of its products, and where their activations are from.
    pub link: Link,
    /// The plan's number of the first block; those of the others follow.
    pub first: usize,
    /// The rows of each call, in order.
    pub blocks: Vec<ArrayBlock>,
}

/// Whether a product is one half of a gate and what reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    None,
    /// Of two tensors: the gate's and what is gated. Codes go out.
    Gate(Gated),
    /// Activations are such codes.
    Reader(Gated),
}

impl Link {
    /// What the plan calls it.
    pub fn role(self) -> ArrayRole {
        match self {
            Self::None => ArrayRole::Plain,
            Self::Gate(Gated { factor: Factor::Sigmoid, .. }) => ArrayRole::Silu,
            Self::Gate(Gated { factor: Factor::Normal, .. }) => ArrayRole::GeluTanh,
            Self::Reader(_) => ArrayRole::Gated,
        }
    }
}

/// The part of a stack that one call multiplies with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrayBlock {
    pub first_row: usize,
    pub rows: usize,
    /// Bytes from the start of the weight segment.
    pub offset: u64,
    pub bytes: u64,
    /// Bytes from the start of the weight segment.
    pub scales: u64,
}

/// How products are cut into calls, and calls into submissions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArrayLimits {
    /// Outputs of one call at most: a multiple of [`UNIT_OUTPUTS`] up to [`OUTPUTS_AT_MOST`].
    pub outputs: usize,
    /// Seconds, by the cost model, that what is submitted at once may take, unless it is one call
    /// of [`UNIT_OUTPUTS`].
    pub group_seconds: f64,
}

/// Outputs that the array does at a time: a block of 8 in each column.
pub const UNIT_OUTPUTS: usize = ARRAY_COLUMNS * ARRAY_BLOCK;
/// Most outputs that the passes of one call cover.
pub const OUTPUTS_AT_MOST: usize = 1 << 20;

impl Default for ArrayLimits {
    /// The driver's watchdog resets the array when no command ends within 2 seconds
    /// (amd/xdna-driver `src/driver/amdxdna/aie2_tdr.c`, `timeout_in_sec`), and a chain is one
    /// command. An eighth of that leaves room for a machine that is slower than the model.
    fn default() -> Self {
        Self { outputs: OUTPUTS_AT_MOST, group_seconds: 0.25 }
    }
}

impl ArrayLimits {
    /// # Errors
    /// A limit that nothing can keep.
    pub fn check(&self) -> Result<(), CompileError> {
        let error = |option, value: String, reason: String| {
            Err(CompileError::Option { option, value, reason })
        };
        let Self { outputs, group_seconds } = *self;
        if !outputs.is_multiple_of(UNIT_OUTPUTS) || !(1..=OUTPUTS_AT_MOST).contains(&outputs) {
            let reason = format!("give a multiple of {UNIT_OUTPUTS} up to {OUTPUTS_AT_MOST}");
            return error("array outputs", outputs.to_string(), reason);
        }
        if !(group_seconds > 0.0 && group_seconds.is_finite()) {
            let reason = "give seconds above 0".into();
            return error("array group seconds", group_seconds.to_string(), reason);
        }
        Ok(())
    }
}

/// What int8 changes of the weights of one call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rounding {
    /// Root of the mean square of the change, relative to that of the weights.
    pub relative: f32,
    /// Expected |error| of an output, averaged over outputs; see [`expected_error`].
    pub expected_error: f32,
}

// The plan's ABI says the array's sizes in its own words; they are those of the design.
const _: () = {
    assert!(ARRAY_ROWS == gemm::ROWS as usize && ARRAY_BLOCK == gemm::BLOCK as usize);
    assert!(ARRAY_BRICK == gemm::BRICK_DEPTH as usize);
    assert!(ARRAY_PIECE * 2 * ARRAY_BLOCK == gemm::ACTIVATION_PIECE_BYTES as usize);
    assert!(ARRAY_GRANULE == gemm::WEIGHT_GRANULE_BYTES as usize);
    assert!(ARRAY_COLUMNS == onebit_aie::array::COLUMNS as usize);
    assert!(matches!(Results::of_fifteen_bits(ARRAY_GROUP as u32), Results::Combined));
};

/// Whether the array can multiply with `rows` rows of `columns` weights, in as many calls as it
/// takes.
pub fn fits(rows: usize, columns: usize) -> bool {
    let call = || {
        let group = group_of(columns)?;
        shape(rows.min(OUTPUTS_AT_MOST), columns, group)
    };
    call().is_some_and(|shape| Tiling::new(&shape).is_ok())
}

/// k that share a scale in rows of `columns`: all of them, or what moves the fewest bytes for each
/// output, among sizes that the array can do and whose sums are exact. None of no columns.
///
/// Small groups move more results, which are four times as wide as weights; a last group that is
/// not full moves zeros.
pub fn group_of(columns: usize) -> Option<usize> {
    const RESULT_BYTES: usize = ARRAY_ROWS * size_of::<i32>();
    if columns <= ARRAY_GROUP {
        return (columns > 0).then_some(columns);
    }
    let moved = |group: &usize| columns.div_ceil(*group) * (group + RESULT_BYTES);
    // The largest first: of equal ones it is taken.
    (1..=ARRAY_GROUP / ARRAY_BRICK).rev().map(|bricks| bricks * ARRAY_BRICK).min_by_key(moved)
}

/// What a call is asked for; `None` when a size does not fit its word.
fn shape(rows: usize, columns: usize, group: usize) -> Option<Shape> {
    let small = |value: usize| u32::try_from(value).ok();
    let depth = if columns > group { columns.next_multiple_of(group) } else { columns };
    let (n, k, group) = (small(rows)?, small(depth)?, small(group)?);
    Some(Shape { n, k, group, results: Results::Combined })
}

impl ArrayMatrix {
    /// The stack of tensors (names, rows and formats) with `columns` weights a row, in no calls
    /// yet. `first` is the plan's number of the first one.
    pub fn new(
        (tensors, tensor_rows, formats): (Vec<String>, Vec<usize>, Vec<Format>),
        columns: usize,
        first: usize,
    ) -> Self {
        let rows = tensor_rows.iter().sum();
        let group = group_of(columns).unwrap_or(0);
        let (blocks, link) = (Vec::new(), Link::None);
        Self { tensors, tensor_rows, formats, rows, columns, group, link, first, blocks }
    }

    /// The same as one half of a gate and what reads it.
    pub fn linked(self, link: Link) -> Self {
        let group = match link {
            Link::Reader(gated) => gated.reader(1).group as usize,
            Link::None | Link::Gate(_) => self.group,
        };
        Self { link, group, ..self }
    }

    /// Cuts the rows into as few calls as the limits allow, all but the last of equal size.
    ///
    /// # Errors
    /// A matrix that the array has no way to do.
    pub fn cut(mut self, limits: &ArrayLimits, design: &Design) -> Result<Self, CompileError> {
        let mut calls = match self.link {
            Link::None => self.rows.div_ceil(limits.outputs).max(1),
            // Those that are linked were chosen to fit.
            Link::Gate(_) | Link::Reader(_) => 1,
        };
        let rows = loop {
            let rows = self.rows.div_ceil(calls).next_multiple_of(UNIT_OUTPUTS);
            let seconds = Cost::new(&self.tiling(rows.min(self.rows))?, design.kernel()).total();
            let is_linked = self.link != Link::None;
            if is_linked || rows == UNIT_OUTPUTS || seconds <= limits.group_seconds {
                break rows;
            }
            calls += 1;
        };
        let starts = (0..self.rows).step_by(rows);
        let block = |first_row: usize| {
            let rows = rows.min(self.rows - first_row);
            let tiling = self.tiling(rows)?;
            let bytes = u64::from(onebit_aie::array::COLUMNS) * tiling.weight_bytes();
            Ok(ArrayBlock { first_row, rows, offset: 0, bytes, scales: 0 })
        };
        self.blocks = starts.map(block).collect::<Result<_, CompileError>>()?;
        Ok(self)
    }

    /// Says where the packed form starts: bytes from the start of the weight segment.
    pub fn place_at(&mut self, start: u64) {
        let mut offset = start;
        let bytes: Vec<u64> = self.blocks.iter().map(|block| self.block_bytes(block)).collect();
        for (block, bytes) in self.blocks.iter_mut().zip(bytes) {
            block.offset = offset;
            block.scales = offset + block.bytes;
            offset += bytes;
        }
    }

    /// Tensors with their rows and formats, in order.
    pub fn stack(&self) -> Vec<(&str, usize, Format)> {
        let names = self.tensors.iter().map(String::as_str);
        let parts = names.zip(&self.tensor_rows).zip(&self.formats);
        parts.map(|((name, &rows), &format)| (name, rows, format)).collect()
    }

    /// Names of the formats, each once.
    pub fn format_names(&self) -> String {
        let mut names: Vec<_> = self.formats.iter().map(|format| format.name()).collect();
        names.sort_unstable();
        names.dedup();
        names.join(" + ")
    }

    fn groups(&self) -> usize {
        self.columns.div_ceil(self.group)
    }

    /// The shape that the array is asked for, with `rows` outputs.
    pub fn shape(&self, rows: usize) -> Shape {
        shape(rows, self.columns, self.group).expect("extents of tensors fit u32")
    }

    /// How the array cuts it.
    fn tiling(&self, rows: usize) -> Result<Tiling, CompileError> {
        let tiling = match self.link {
            Link::Gate(gated) => gated.tiling(),
            Link::None | Link::Reader(_) => Tiling::new(&self.shape(rows)),
        };
        tiling.map_err(failed)
    }

    /// Bytes of a block's weights and what is behind them: the next one starts as aligned as this.
    fn block_bytes(&self, block: &ArrayBlock) -> u64 {
        let behind = match self.link {
            Link::Gate(_) => GATE_WORDS,
            Link::None | Link::Reader(_) => block.rows * self.groups(),
        };
        block.bytes + (behind * size_of::<f32>()) as u64
    }

    /// Where the packed form starts: bytes from the start of the weight segment.
    pub fn offset(&self) -> u64 {
        self.blocks.first().map_or(0, |block| block.offset)
    }

    /// Bytes of the packed weights and scales of all blocks.
    pub fn packed_bytes(&self) -> u64 {
        self.blocks.iter().map(|block| self.block_bytes(block)).sum()
    }

    /// Bytes of the packed weights alone.
    pub fn weight_bytes(&self) -> u64 {
        self.blocks.iter().map(|block| block.bytes).sum()
    }

    /// What the plan's code says of a product with it: one after the other, its blocks.
    pub fn products(&self, out_stride: usize) -> Result<Vec<ArrayProduct>, CompileError> {
        let small = |value: usize| u32::try_from(value).expect("row sizes fit u32");
        let product = |(index, block): (usize, &ArrayBlock)| {
            let Tiling { passes, units, bricks, .. } = self.tiling(block.rows)?;
            Ok(ArrayProduct {
                weights: block.offset,
                scales: block.scales,
                index: small(self.first + index),
                n: small(block.rows),
                k: small(self.columns),
                group: small(self.group),
                passes,
                units,
                bricks,
                out_stride: small(out_stride),
                role: self.link.role() as u32,
                reserved: 0,
            })
        };
        self.blocks.iter().enumerate().map(product).collect()
    }

    /// Rounds source rows to int8: codes `[n][k]` with zeros behind a short last group, and scales
    /// `[group][n]`.
    fn round(&self, rows: &[(Format, &[u8])]) -> Result<Rounded, CompileError> {
        let groups = self.groups();
        let depth = self.shape(rows.len()).k as usize;
        let mut codes = vec![0i8; rows.len() * depth];
        let mut by_row = vec![0.0f32; rows.len() * groups];
        let squares: Result<Vec<_>, _> = codes
            .par_chunks_exact_mut(depth)
            .zip(rows)
            .zip(by_row.par_chunks_exact_mut(groups))
            .map_init(
                || vec![0.0; self.columns],
                |floats, ((codes, (format, row)), scales)| {
                    format.decode(row, floats).map_err(|error| error.to_string())?;
                    if floats.iter().all(|w| w.is_finite()) {
                        return Ok(round_row(floats, self.group, codes, scales));
                    }
                    Err("a weight is not a finite number; download the file again".to_owned())
                },
            )
            .collect();
        let squares = squares
            .map_err(|reason| CompileError::Tensor { name: self.tensors.join(" + "), reason })?;
        let mut scales = vec![0.0; by_row.len()];
        for (row, of_row) in by_row.chunks_exact(groups).enumerate() {
            for (group, scale) in of_row.iter().enumerate() {
                scales[group * rows.len() + row] = *scale;
            }
        }
        Ok(Rounded { codes, scales, rounding: Rounding::of(&squares, self.group) })
    }

    /// Packs the source rows; `sink` takes weights, then scales, of one block after the other.
    /// Adds the rounding of each block.
    pub fn pack(
        &self,
        rows: &[(Format, &[u8])],
        roundings: &mut Vec<Rounding>,
        sink: &mut impl FnMut(&[u8]) -> Result<(), CompileError>,
    ) -> Result<(), CompileError> {
        if let Link::Gate(gated) = self.link {
            return self.pack_gate(gated, rows, roundings, sink);
        }
        for block in &self.blocks {
            let tiling = self.tiling(block.rows)?;
            let rows = &rows[block.first_row..][..block.rows];
            let Rounded { codes, scales, rounding } = self.round(rows)?;
            by_columns(sink, |column| pack::column_weights(&tiling, &codes, column))?;
            sink(bytemuck::cast_slice(&scales))?;
            roundings.push(rounding);
        }
        Ok(())
    }
}

/// Packs the columns of the array and hands them over in order: as many at a time as there are threads,
/// for all of a large head would be twice its size.
fn by_columns(
    sink: &mut impl FnMut(&[u8]) -> Result<(), CompileError>,
    pack: impl Fn(u8) -> Vec<u8> + Sync,
) -> Result<(), CompileError> {
    let columns: Vec<u8> = (0..onebit_aie::array::COLUMNS).collect();
    for columns in columns.chunks(rayon::current_num_threads()) {
        let packed: Vec<Vec<u8>> = columns.par_iter().map(|&column| pack(column)).collect();
        packed.iter().try_for_each(|column| sink(column))?;
    }
    Ok(())
}

/// Words behind a gate's weights.
const GATE_WORDS: usize = 4;

fn failed(error: impl std::fmt::Display) -> CompileError {
    CompileError::Array { reason: error.to_string() }
}

struct Rounded {
    codes: Vec<i8>,
    scales: Vec<f32>,
    rounding: Rounding,
}

/// What rounding does to one row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Squares {
    /// Squares of what changed, summed.
    changed: f64,
    /// Squares of the row, summed.
    all: f64,
}

impl Rounding {
    fn of(rows: &[Squares], group: usize) -> Self {
        // One after another: the order of a parallel sum would depend on the threads.
        let sum = |part: fn(&Squares) -> f64| rows.iter().map(part).sum::<f64>();
        let (changed, all) = (sum(|row| row.changed), sum(|row| row.all));
        let relative = if all > 0.0 { (changed / all).sqrt() as f32 } else { 0.0 };
        let errors: f64 = rows.iter().map(|row| expected_error(*row, group)).sum();
        Self { relative, expected_error: (errors / rows.len().max(1) as f64) as f32 }
    }
}

/// Expected |error| of the output of a row, for activations that are independent normal numbers of
/// mean 0 and mean square 1, with a scale for each `group`.
///
/// An output's error is a sum over k of what rounding changed of a weight, times the activation,
/// and of the weight, times what rounding changed of the activation. The first has the variance
/// `sum_k change^2`. The second has `sum_k weight^2 * step^2 / 12`, for rounding to a multiple of
/// `step = largest / 16383` is off by anything up to half of it; the largest of g normal numbers is
/// about `sqrt(2 ln 2g)`, which is a sixth too much at worst. A sum of so many parts is nearly
/// normal, and a normal number's |error| is on average `sqrt(2 / pi)` times its deviation.
/// Roundings of f32 behind the exact sums are a thousand times smaller, and left out.
fn expected_error(row: Squares, group: usize) -> f64 {
    let largest = (2.0 * (2.0 * group as f64).ln()).sqrt();
    let step = largest / f64::from(ARRAY_LEVELS);
    let variance = row.changed + row.all * step * step / 12.0;
    (variance * std::f64::consts::FRAC_2_PI).sqrt()
}

/// One row. Codes behind the last weight stay as they are.
fn round_row(row: &[f32], group: usize, codes: &mut [i8], scales: &mut [f32]) -> Squares {
    let (mut changed, mut all) = (0.0, 0.0);
    let groups = row.chunks(group).zip(codes.chunks_mut(group));
    for ((row, codes), scale) in groups.zip(scales) {
        let largest = row.iter().fold(0.0f32, |most, w| most.max(w.abs()));
        *scale = largest / 127.0;
        let quotient = 127.0 / largest;
        // Not finite for a group of zeros, or of weights too small for a scale.
        let factor = if quotient.is_finite() { quotient } else { 0.0 };
        for (code, &w) in codes.iter_mut().zip(row) {
            *code = (w * factor).round_ties_even() as i8;
            let change = f64::from(w) - f64::from(*code) * f64::from(*scale);
            changed += change * change;
            all += f64::from(w) * f64::from(w);
        }
    }
    Squares { changed, all }
}

mod gate;

pub use gate::choose;

#[cfg(test)]
mod tests;
