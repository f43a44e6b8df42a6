//! Steps that multiply by matrices: what their buffers hold, and how their work is cut.

use std::collections::HashMap;

use onebit_plan::layout::Layout;
use onebit_shaders::cooperative::{self, MatrixShape};
use onebit_shaders::{ActivationForm, attention};

use super::accesses;
use super::dispatch::u32_of;
use super::group::{Unit, Work};
use super::memory::Resource;
use crate::schedule::repack::WeightStore;
use crate::schedule::steps::{BufferId, Contents, Product, Rows, Schedule, ShapeId, Step};

/// Workgroups of an attention from which on it does not split a row's positions, and needs no merge
/// behind it.
const WHOLE_GROUPS: u32 = 64;
/// Processors of a large device. A workgroup of matrices fills one; where there are fewer of them,
/// several share the product's k.
const PROCESSORS: usize = 128;
/// Workgroups that share a product's k at most: readers add their sums up.
const MOST_PARTS: usize = 4;

/// How products of integer classes are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// By integer dot products, on quantised activations.
    Dots,
    /// By cooperative matrices, on f16.
    Matrices,
}

impl Arithmetic {
    /// What quantised buffers of the schedule hold.
    pub fn form(self) -> ActivationForm {
        match self {
            Self::Dots => ActivationForm::Records,
            Self::Matrices => ActivationForm::Halves,
        }
    }
}

/// Whether `schedule` has products that [`Arithmetic`] makes a difference for.
pub fn multiplies_integers(schedule: &Schedule, store: &WeightStore<'_>) -> bool {
    schedule.steps.iter().any(|scheduled| match &scheduled.step {
        Step::Matmul { product, .. } => is_integer(store, product),
        Step::Gated { .. } => true,
        _ => false,
    })
}

/// Whether a product's weights are of an integer class.
pub fn is_integer(store: &WeightStore<'_>, product: &Product) -> bool {
    Layout::of(store.matrix_at(product.weight).class).is_some()
}

/// Whether the attention of a step of matrices splits the positions of a row.
pub fn splits_positions(schedule: &Schedule, shape: ShapeId) -> bool {
    let shape = attention::Shape::from(&schedule.shapes[shape]);
    attention::groups(&shape, 1, u32_of(schedule.max_rows)).into_iter().product::<u32>()
        < WHOLE_GROUPS
}

/// Buffers that are the sum of several parts, and how many.
pub type PartCounts = HashMap<BufferId, usize>;

/// How many workgroups share the k of each product of matrices in `units`: as many as fill
/// [`PROCESSORS`], where nothing but row loops, which add the parts up, reads the result.
pub fn part_counts(schedule: &Schedule, store: &WeightStore<'_>, units: &[Unit<'_>]) -> PartCounts {
    let mut counts = PartCounts::new();
    for unit in units {
        let Work::Product { parts, rows: Rows::All, .. } = &unit.work else { continue };
        let [part] = parts[..] else { continue };
        let (matrix, out) = (store.matrix_at(part.weight), part.out);
        let width = match schedule.buffers[out.buffer.0].contents {
            Contents::F32 { width } => width,
            Contents::Q8 { .. } => continue,
        };
        let is_all = out.column == 0 && out.stride == width && width == matrix.rows;
        let columns = columns_a_group(matrix.rows);
        let most = PROCESSORS.div_ceil(matrix.rows.div_ceil(columns)).min(MOST_PARTS);
        let count = cooperative::most_parts(matrix.columns, columns, most);
        if is_integer(store, &part) && is_all && count > 1 {
            counts.insert(out.buffer, count);
        }
    }
    for unit in units {
        if !matches!(unit.work, Work::Rows(_)) {
            let reads = accesses::of(schedule, unit).reads;
            counts.retain(|&buffer, _| !reads.contains(&Resource::Buffer(buffer)));
        }
    }
    counts
}

/// Rows of a step in whole matrices.
pub fn matrix_rows(rows: usize) -> usize {
    rows.next_multiple_of(MatrixShape::SIXTEEN.size)
}

/// Columns of a workgroup of a product of matrices. Half the columns take half the turns, each of
/// which is 15 % longer (on an H200), and twice the workgroups.
pub fn columns_a_group(outputs: usize) -> usize {
    let rounds = |columns: usize| outputs.div_ceil(columns).div_ceil(PROCESSORS);
    if rounds(32) * 115 < 2 * rounds(64) * 100 { 32 } else { 64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measured on an H200: 12,288 outputs of 2048 elements take 25.1 us in columns of 32 and 26.3 in
    /// columns of 64, 6144 of 4096 take 29.0 and 24.6, 24,576 of 4096 take 83 and 70.
    #[test]
    fn columns_are_those_that_were_faster() {
        let found = [576, 4096, 6144, 12_288, 24_576, 151_936].map(columns_a_group);
        assert_eq!(found, [32, 32, 64, 32, 64, 64]);
    }

    /// Parts have as many turns: 2048 elements are eight turns of 256 in columns of 32, and 1280 are
    /// ten of 128 in columns of 64.
    #[test]
    fn parts_share_the_turns() {
        let most = |k, columns, most| cooperative::most_parts(k, columns, most);
        assert_eq!([most(2048, 32, 2), most(2048, 32, 3), most(576, 32, 4)], [2, 2, 3]);
        assert_eq!([most(6144, 32, 4), most(256, 32, 4), most(1280, 64, 4)], [4, 1, 2]);
    }
}
