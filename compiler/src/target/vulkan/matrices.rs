//! Steps that multiply by matrices: what their buffers hold, and how their work is cut.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use onebit_plan::layout::Layout;
use onebit_shaders::cooperative::{self, Turn};
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
/// Workgroups that share a product's k at most: readers add their sums up.
const MOST_PARTS: usize = 8;
/// Picoseconds that a reader needs for an output of a part, on an H200.
const ADDING: usize = 65;
/// Nanoseconds from a workgroup's start to its first turn and from its last to its end, on an H200.
const START: usize = 2500;
/// Processors of an H200, each of which runs two workgroups at a time.
const PROCESSORS: usize = 132;

/// Nanoseconds that a turn takes on an H200: of a workgroup that has a processor to itself, and of each
/// of two that share it. Measured on Q4_K with 32 rows, of products of 2048 to 24,576 outputs and 2048
/// to 12,288 elements.
const PACES: [(Turn, usize, usize); 5] = [
    (Turn::ALL[0], 650, 1330),
    (Turn::ALL[1], 580, 1165),
    (Turn::ALL[2], 655, 840),
    (Turn::ALL[3], 600, 900),
    (Turn::ALL[4], 930, 1900),
];

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

/// How many workgroups share the k of each product of matrices in `units`, where nothing but row loops
/// and attention, which add the parts up, read the result.
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
        let (_, count) = cut(matrix.rows, matrix.columns, 1..=MOST_PARTS);
        if is_integer(store, &part) && is_all && count > 1 {
            counts.insert(out.buffer, count);
        }
    }
    for unit in units {
        if !matches!(unit.work, Work::Rows(_) | Work::CacheWrite { .. } | Work::Attention { .. }) {
            let reads = accesses::of(schedule, unit).reads;
            counts.retain(|&buffer, _| !reads.contains(&Resource::Buffer(buffer)));
        }
    }
    counts
}

/// Rows of a step in whole matrices.
pub fn matrix_rows(rows: usize) -> usize {
    rows.next_multiple_of(cooperative::MATRIX)
}

/// The fastest turn and number of parts, of those in `parts`, for `outputs` of `k` elements.
pub fn cut(outputs: usize, k: usize, parts: RangeInclusive<usize>) -> (Turn, usize) {
    let each = PACES.into_iter().flat_map(|pace| parts.clone().map(move |parts| (pace, parts)));
    let possible = each.filter(|((turn, ..), parts)| turn.turns(k).is_multiple_of(*parts));
    let fastest = possible.min_by_key(|&(pace, parts)| picoseconds(pace, parts, outputs, k));
    let ((turn, ..), parts) = fastest.expect("one part is always possible");
    (turn, parts)
}

/// What a product takes by [`PACES`], without what all products take.
fn picoseconds(
    (turn, alone, shared): (Turn, usize, usize),
    parts: usize,
    outputs: usize,
    k: usize,
) -> usize {
    let groups = outputs.div_ceil(turn.columns) * parts;
    let (rounds, rest) = (groups / (2 * PROCESSORS), groups % (2 * PROCESSORS));
    let last = match rest {
        0 => 0,
        _ if rest <= PROCESSORS => alone,
        _ => shared,
    };
    let turns = turn.turns(k) / parts * (rounds * shared + last);
    let starts = START * groups.div_ceil(2 * PROCESSORS);
    (turns + starts) * 1000 + (parts - 1) * outputs * ADDING
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was found on an H200 for 32 rows of Q4_K, of Q4_1 where k is 576 or 1536, or is within a
    /// tenth of it: 24,576 outputs of 4096 elements take 58.7 us in 96 columns and 61 to 77 in others,
    /// 2048 of 6144 take 10.8 in eight parts and 11.7 to 19.
    #[test]
    fn cuts_are_those_that_were_fast() {
        let found = |outputs, k, most| {
            let (Turn { columns, depth }, parts) = cut(outputs, k, 1..=most);
            (columns, depth, parts)
        };
        let whole = [(24_576, 4096), (12_288, 2048), (3072, 576), (151_936, 2048)];
        let cuts = whole.map(|(outputs, k)| found(outputs, k, 1));
        assert_eq!(cuts, [(96, 1, 1), (128, 2, 1), (32, 1, 1), (128, 1, 1)]);
        let shared = [(6144, 4096), (4096, 4096), (4096, 12_288), (2048, 2048), (2048, 6144)];
        let cuts = shared.map(|(outputs, k)| found(outputs, k, MOST_PARTS));
        assert_eq!(cuts, [(96, 1, 4), (128, 2, 4), (128, 2, 4), (64, 1, 4), (128, 2, 8)]);
        let small = [(960, 576), (576, 576), (576, 1536)];
        let cuts = small.map(|(outputs, k)| found(outputs, k, MOST_PARTS));
        assert_eq!(cuts, [(32, 1, 3), (32, 1, 3), (32, 1, 6)]);
    }

    /// Parts have as many turns: 1280 elements are five turns of 256.
    #[test]
    fn parts_share_the_turns() {
        let (turn, parts) = cut(32, 1280, 1..=MOST_PARTS);
        assert!(turn.turns(1280).is_multiple_of(parts), "{turn:?} {parts}");
        assert!(parts > 1);
    }
}
