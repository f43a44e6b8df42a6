//! What a product looks like, and how it is cut for the array.

use thiserror::Error;

use super::gated::Factor;
use super::memory::ACTIVATION_GRANULES;
use super::{
    BLOCK, BRICK_BYTES, BRICK_DEPTH, BRICKS_AT_MOST, OUTPUT_GRANULE_BYTES, PLANES, ROWS,
    UNITS_AT_MOST, WEIGHT_GRANULE_BYTES,
};
use crate::array::COLUMNS;

/// A pass is a repetition of one DMA task; its counter has eight bits.
const PASSES_AT_MOST: u32 = 256;
/// Loop counts are words that the core counts down.
const MOST: u32 = 1 << 20;

/// What the array returns for the two planes of activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Results {
    /// One int32 each: high * 128 + low, modulo 2^32.
    Combined,
    /// An int32 for each plane: exact while the depth of a group is at most 2^17.
    Separate,
}

impl Results {
    /// The cheapest exact form for activations of -16384 to 16383 and weights of -127 to 127, with
    /// `group` k a sum: 2^14 * 127 * 1024 < 2^31.
    pub const fn of_fifteen_bits(group: u32) -> Self {
        if group <= 1024 { Results::Combined } else { Results::Separate }
    }

    /// Results for one output.
    pub const fn count(self) -> u32 {
        match self {
            Results::Combined => 1,
            Results::Separate => PLANES,
        }
    }
}

/// A product of at most 32 rows of k activations with n rows of k weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Output columns, that is rows of weights.
    pub n: u32,
    /// Elements of a row.
    pub k: u32,
    /// Consecutive k that share a sum: k for a single sum, or a multiple of 64 that divides k.
    pub group: u32,
    /// What comes back.
    pub results: Results,
}

/// A shape that the design has no way to do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ShapeError {
    /// An extent that is zero or too large.
    #[error("{what} is {found}, outside 1 to {most}")]
    Extent {
        /// Which extent.
        what: &'static str,
        /// What it is.
        found: u32,
        /// The most there may be.
        most: u32,
    },
    /// Groups that do not fill k.
    #[error("groups of {group}: not a multiple of 64 that divides k = {k}, and not all of k")]
    Group {
        /// The size of a group.
        group: u32,
        /// Elements of a row.
        k: u32,
    },
    /// More weights than the passes of one call cover.
    #[error("n = {n} needs {passes} passes, at most {PASSES_AT_MOST} fit a call")]
    TooManyPasses {
        /// Output columns.
        n: u32,
        /// Passes needed.
        passes: u32,
    },
    /// Outputs of a gated product that do not fill the columns of the array.
    #[error("{outputs} gated outputs are no multiple of {multiple}")]
    Outputs {
        /// Gated outputs.
        outputs: u32,
        /// What they must be a multiple of.
        multiple: u32,
    },
    /// A gated product with more k than one sum may have.
    #[error("k = {k} is more than the 1024 of one sum, and a gate needs one")]
    Sum {
        /// Elements of a row.
        k: u32,
    },
    /// More gated outputs than a compute tile keeps.
    #[error("{outputs} gated outputs are more than the memory of a compute tile keeps")]
    Room {
        /// Gated outputs.
        outputs: u32,
    },
}

/// How a shape is cut: the loops of a compute tile, outermost first, and what each column of the
/// array has to do. All columns do the same, on other weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling {
    /// What is cut.
    pub shape: Shape,
    /// How often the activations go by.
    pub passes: u32,
    /// Groups of k.
    pub groups: u32,
    /// Segments of a group: what a compute tile takes of the activations at a time.
    pub segments: u32,
    /// Blocks of eight output columns of a pass.
    pub units: u32,
    /// Bricks of 64 k of a segment.
    pub bricks: u32,
    /// For a gated product, whose units are gate and gated by turns: the gate's function.
    pub gate: Option<Factor>,
}

impl Tiling {
    /// Cuts `shape` with the least padding; of equal ones, with the fewest passes.
    ///
    /// # Errors
    /// A shape that the design has no way to do.
    pub fn new(shape: &Shape) -> Result<Self, ShapeError> {
        for (what, found) in [("n", shape.n), ("k", shape.k), ("group", shape.group)] {
            if found == 0 || found > MOST {
                return Err(ShapeError::Extent { what, found, most: MOST });
            }
        }
        let (k, group) = (shape.k, shape.group);
        let is_whole = group == k;
        if !is_whole && (!group.is_multiple_of(BRICK_DEPTH) || !k.is_multiple_of(group)) {
            return Err(ShapeError::Group { group, k });
        }
        let deep = group.div_ceil(BRICK_DEPTH);
        let bricks = (1..=BRICKS_AT_MOST).rev().find(|&bricks| deep.is_multiple_of(bricks));
        let bricks = bricks.unwrap_or(1);
        debug_assert!(2 * bricks <= ACTIVATION_GRANULES);

        let units = shape.n.div_ceil(u32::from(COLUMNS) * BLOCK);
        let passes = units.div_ceil(UNITS_AT_MOST);
        if passes > PASSES_AT_MOST {
            return Err(ShapeError::TooManyPasses { n: shape.n, passes });
        }
        Ok(Tiling {
            shape: *shape,
            passes,
            groups: if is_whole { 1 } else { k / group },
            segments: deep / bricks,
            units: units.div_ceil(passes),
            bricks,
            gate: None,
        })
    }

    /// Elements of a row with the zeros behind them.
    pub const fn depth(&self) -> u32 {
        self.groups * self.segments * self.bricks * BRICK_DEPTH
    }

    /// Output columns of one column of the array: consecutive, zeros behind the last included.
    pub const fn width(&self) -> u32 {
        self.passes * self.units * BLOCK
    }

    /// Bytes of all activations; they are read once a pass. Behind those of a gated product are
    /// the constants of its rows, a brick.
    pub const fn activation_bytes(&self) -> u64 {
        let depth = self.depth() + if self.gate.is_some() { BRICK_DEPTH } else { 0 };
        ROWS as u64 * PLANES as u64 * depth as u64
    }

    /// Bytes of the weights of one column of the array; each pass of a gated product ends with a
    /// granule of scales.
    pub const fn weight_bytes(&self) -> u64 {
        let bytes = self.width() as u64 * self.depth() as u64;
        let granule = WEIGHT_GRANULE_BYTES as u64;
        let scales = if self.gate.is_some() { self.passes as u64 * granule } else { 0 };
        bytes.next_multiple_of(granule) + scales
    }

    /// Bytes of the codes of a gated product in one column of the array.
    pub const fn code_bytes(&self) -> u64 {
        (ROWS * PLANES * self.gated_width()) as u64
    }

    /// Bytes of the results of one column of the array.
    ///
    /// Those of a gated product are codes, and behind them how far each row's were shifted.
    pub const fn result_bytes(&self) -> u64 {
        if self.gate.is_some() {
            return self.code_bytes() + (ROWS / BLOCK * OUTPUT_GRANULE_BYTES) as u64;
        }
        let blocks = self.passes as u64 * self.groups as u64 * self.units as u64;
        let results = blocks * self.shape.results.count() as u64;
        results * (ROWS / BLOCK) as u64 * OUTPUT_GRANULE_BYTES as u64
    }

    /// Bricks that a compute tile multiplies.
    pub const fn brick_count(&self) -> u64 {
        self.width() as u64 * self.depth() as u64 / BRICK_BYTES as u64
    }

    /// Bytes that go to or from the machine's memory.
    pub const fn streamed_bytes(&self) -> u64 {
        self.passes as u64 * self.activation_bytes()
            + COLUMNS as u64 * (self.weight_bytes() + self.result_bytes())
    }

    /// Bytes that have to: activations and weights once, results once, nothing padded.
    pub const fn necessary_bytes(&self) -> u64 {
        let Shape { n, k, group, results } = self.shape;
        let groups = (k / group) as u64;
        if self.gate.is_some() {
            let planes = (ROWS * PLANES) as u64;
            return planes * k as u64 + n as u64 * k as u64 + planes * n as u64 / 2;
        }
        (ROWS * PLANES) as u64 * k as u64
            + n as u64 * k as u64
            + ROWS as u64 * n as u64 * 4 * groups * results.count() as u64
    }
}
