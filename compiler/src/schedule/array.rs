//! Weights in the form of a neural processor's array: int8 with a scale for each row and group.
//!
//! This form rounds, unlike the storage classes of the CPU: what it changes is measured as the
//! weights are packed and stands in the plan.

use onebit_aie::gemm::{self, Results, Shape, Tiling, pack};
use onebit_ir::quant::Format;
use onebit_plan::abi::{
    ARRAY_BLOCK, ARRAY_BRICK, ARRAY_COLUMNS, ARRAY_GRANULE, ARRAY_GROUP, ARRAY_ROWS, ArrayProduct,
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
    pub format: Format,
    pub rows: usize,
    pub columns: usize,
    pub group: usize,
    /// Bytes from the start of the weight segment.
    pub offset: u64,
    pub bytes: u64,
    /// Bytes from the start of the weight segment.
    pub scales: u64,
}

// The plan's ABI says the array's sizes in its own words; they are those of the design.
const _: () = {
    assert!(ARRAY_ROWS == gemm::ROWS as usize && ARRAY_BLOCK == gemm::BLOCK as usize);
    assert!(ARRAY_BRICK == gemm::BRICK_DEPTH as usize);
    assert!(ARRAY_GRANULE == gemm::WEIGHT_GRANULE_BYTES as usize);
    assert!(ARRAY_COLUMNS == onebit_aie::array::COLUMNS as usize);
    assert!(matches!(Results::of_fifteen_bits(ARRAY_GROUP as u32), Results::Combined));
};

/// Whether the array can multiply with `rows` rows of `columns` weights.
pub fn fits(rows: usize, columns: usize) -> bool {
    let small = |value: usize| u32::try_from(value).ok();
    let shape = || {
        let (n, k, group) = (small(rows)?, small(columns)?, small(group_of(columns)?)?);
        Some(Shape { n, k, group, results: Results::Combined })
    };
    shape().is_some_and(|shape| Tiling::new(&shape).is_ok())
}

/// k that share a scale in rows of `columns`: the largest size that the array can do and whose
/// sums are exact. None when there is none.
pub fn group_of(columns: usize) -> Option<usize> {
    let whole = (columns <= ARRAY_GROUP).then_some(columns);
    let part = || {
        let bricks = (1..=ARRAY_GROUP / ARRAY_BRICK).rev();
        bricks.map(|bricks| bricks * ARRAY_BRICK).find(|&size| columns.is_multiple_of(size))
    };
    whole.or_else(part).filter(|_| columns > 0)
}

impl ArrayMatrix {
    /// The shape that the array is asked for.
    pub fn shape(&self) -> Shape {
        let small = |value: usize| u32::try_from(value).expect("extents of tensors fit u32");
        Shape {
            n: small(self.rows),
            k: small(self.columns),
            group: small(self.group),
            results: Results::Combined,
        }
    }

    /// How the array cuts it.
    pub fn tiling(&self) -> Result<Tiling, CompileError> {
        Tiling::new(&self.shape())
            .map_err(|error| CompileError::Array { reason: error.to_string() })
    }

    /// Bytes of the packed weights and the scales behind them.
    pub fn packed_bytes(&self) -> u64 {
        self.bytes + (self.rows * (self.columns / self.group) * size_of::<f32>()) as u64
    }

    /// What the plan's code says of a product with it.
    pub fn product(&self, id: ArrayId, out_stride: usize) -> Result<ArrayProduct, CompileError> {
        let Tiling { shape, passes, units, bricks, .. } = self.tiling()?;
        let small = |value: usize| u32::try_from(value).expect("row sizes fit u32");
        Ok(ArrayProduct {
            weights: self.offset,
            scales: self.scales,
            index: small(id.0),
            n: shape.n,
            k: shape.k,
            group: shape.group,
            passes,
            units,
            bricks,
            out_stride: small(out_stride),
        })
    }

    /// Rounds the source rows to int8: codes `[n][k]`, scales `[group][n]`, and the root of the
    /// mean square of the change relative to that of the weights.
    fn round(&self, rows: &[&[u8]]) -> Result<Rounded, CompileError> {
        let groups = self.columns / self.group;
        let mut codes = vec![0i8; self.rows * self.columns];
        let mut by_row = vec![0.0f32; self.rows * groups];
        let squares: Result<Vec<_>, _> = codes
            .par_chunks_exact_mut(self.columns)
            .zip(rows)
            .zip(by_row.par_chunks_exact_mut(groups))
            .map_init(
                || vec![0.0; self.columns],
                |floats, ((codes, row), scales)| {
                    self.format.decode(row, floats).map_err(|error| error.to_string())?;
                    if floats.iter().all(|w| w.is_finite()) {
                        return Ok(round_row(floats, self.group, codes, scales));
                    }
                    Err("a weight is not a finite number; download the file again".to_owned())
                },
            )
            .collect();
        let squares = squares
            .map_err(|reason| CompileError::Tensor { name: self.tensors.join(" + "), reason })?;
        // One after another: the order of a parallel sum would depend on the threads.
        let (changed, all) =
            squares.into_iter().fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        let mut scales = vec![0.0; by_row.len()];
        for (row, of_row) in by_row.chunks_exact(groups).enumerate() {
            for (group, scale) in of_row.iter().enumerate() {
                scales[group * self.rows + row] = *scale;
            }
        }
        let rounding = if all > 0.0 { (changed / all).sqrt() as f32 } else { 0.0 };
        Ok(Rounded { codes, scales, rounding })
    }

    /// Packs the source rows; `sink` takes the weights, then the scales. Returns the rounding.
    pub fn pack(
        &self,
        rows: &[&[u8]],
        sink: &mut impl FnMut(&[u8]) -> Result<(), CompileError>,
    ) -> Result<f32, CompileError> {
        let tiling = self.tiling()?;
        let Rounded { codes, scales, rounding } = self.round(rows)?;
        // As many at a time as there are threads: all of a large head would be twice its size.
        let columns: Vec<u8> = (0..onebit_aie::array::COLUMNS).collect();
        for columns in columns.chunks(rayon::current_num_threads()) {
            let packed: Vec<Vec<u8>> = columns
                .par_iter()
                .map(|&column| pack::column_weights(&tiling, &codes, column))
                .collect();
            packed.iter().try_for_each(|column| sink(column))?;
        }
        sink(bytemuck::cast_slice(&scales))?;
        Ok(rounding)
    }
}

struct Rounded {
    codes: Vec<i8>,
    scales: Vec<f32>,
    rounding: f32,
}

/// One row; returns the squares of what changed and of the row, summed.
fn round_row(row: &[f32], group: usize, codes: &mut [i8], scales: &mut [f32]) -> (f64, f64) {
    let (mut changed, mut all) = (0.0, 0.0);
    let groups = row.chunks_exact(group).zip(codes.chunks_exact_mut(group));
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
    (changed, all)
}

#[cfg(test)]
mod tests {
    use super::{fits, group_of, round_row};

    #[test]
    fn what_the_array_has_no_way_to_do_stays_off_it() {
        assert!(fits(49152, 576) && fits(1, 8) && fits(151_936, 4096));
        assert!(!fits(64, 1100), "no group");
        assert!(!fits(2 << 20, 64), "more outputs than passes");
        assert!(!fits(0, 64));
    }

    #[test]
    fn weights_that_are_no_numbers_or_nearly_zero() {
        let (mut codes, mut scales) = ([1i8; 4], [0.0f32; 2]);
        let sums = round_row(&[1e-38, -1e-38, 2.0, -4.0], 2, &mut codes, &mut scales);
        assert_eq!(codes, [0, 0, 64, -127]);
        assert!(sums.0.is_finite() && sums.1 == 20.0);
    }

    #[test]
    fn groups_are_the_largest_whose_sums_are_exact() {
        let cases = [
            (64, Some(64)),
            (576, Some(576)),
            (900, Some(900)),
            (1024, Some(1024)),
            (1536, Some(768)),
            (3072, Some(1024)),
            (4864, Some(256)),
            (12288, Some(1024)),
            (1100, None),
            (0, None),
        ];
        for (columns, group) in cases {
            assert_eq!(group_of(columns), group, "{columns}");
        }
    }
}
