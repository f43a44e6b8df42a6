//! Weights in the form of a neural processor's array: int8 with a scale for each row and group.
//!
//! This form rounds, unlike the storage classes of the CPU: what it changes is measured as the
//! weights are packed and stands in the plan.

use onebit_aie::gemm::{Results, Shape, Tiling, pack};
use onebit_ir::quant::Format;
use onebit_plan::abi::{ARRAY_BRICK, ARRAY_GROUP, ArrayProduct};
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
                    self.format.decode(row, floats)?;
                    Ok(round_row(floats, self.group, codes, scales))
                },
            )
            .collect();
        let squares = squares.map_err(|error: onebit_ir::quant::DecodeError| {
            CompileError::Tensor { name: self.tensors.join(" + "), reason: error.to_string() }
        })?;
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
        for column in 0..onebit_aie::array::COLUMNS {
            sink(&pack::column_weights(&tiling, &codes, column))?;
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
        let factor = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        for (code, &w) in codes.iter_mut().zip(row) {
            let rounded = (w * factor).round_ties_even();
            *code = rounded as i8;
            let change = f64::from(w) - f64::from(rounded) * f64::from(*scale);
            changed += change * change;
            all += f64::from(w) * f64::from(w);
        }
    }
    (changed, all)
}

#[cfg(test)]
mod tests {
    use super::group_of;

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
