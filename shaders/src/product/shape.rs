//! How a product is laid over the invocations of a workgroup.
//!
//! Sixteen invocations are a *partition* of k: partition p of P has the blocks `p, p + P, ...`,
//! in this order. P depends on k alone, and so the order of every sum does not depend on how
//! many rows a kernel has, nor on how far it unrolls.

use onebit_plan::abi::{BLOCK, StorageClass, TILE_ROWS};
use onebit_plan::layout::{Layout, tile_bytes};

use crate::class;

/// Invocations that share a block.
pub(crate) const SHARE: usize = 16;
/// Partitions that a workgroup may have: it is a whole number of subgroups of any size up to 64.
const PARTITIONS: [usize; 4] = [16, 12, 8, 4];
/// Most invocations of a workgroup: what all devices that are looked after have.
const MOST_INVOCATIONS: usize = 1024;
/// What a step of all partitions costs besides its work, in blocks: latency.
const STEP_COST: usize = 4;

/// Form of a weight matrix's elements.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    Integer(Layout),
    Float(FloatForm),
}

/// A float class: a 16-byte word holds `8` or `4` rows of one element.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum FloatForm {
    F16,
    BF16,
    F32,
}

impl Form {
    pub fn of(class: StorageClass) -> Self {
        match (Layout::of(class), class) {
            (Some(layout), _) => Self::Integer(layout),
            (None, StorageClass::F16) => Self::Float(FloatForm::F16),
            (None, StorageClass::BF16) => Self::Float(FloatForm::BF16),
            (None, _) => Self::Float(FloatForm::F32),
        }
    }

    /// Registers of an invocation's words of a block in flight.
    pub fn slot(self) -> usize {
        match self {
            Self::Integer(layout) => class::slot(&layout, "").1,
            Self::Float(_) => 4,
        }
    }

    /// Elements along k of what sixteen invocations read at once.
    pub fn block(self) -> usize {
        match self {
            Self::Integer(_) => BLOCK,
            Self::Float(FloatForm::F32) => 4,
            Self::Float(_) => 8,
        }
    }
}

/// Work along k.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub k: usize,
    /// Elements of a block.
    pub block: usize,
    /// Blocks of a row, the last maybe short.
    pub blocks: usize,
    pub partitions: usize,
    /// Rows of the step that a workgroup does.
    pub m: usize,
    /// Blocks whose weights are loaded before the first is used.
    pub unroll: usize,
    /// Tiles that a workgroup does side by side, each by all partitions.
    pub teams: usize,
}

impl Shape {
    /// A walk of `streams` matrices of a form at once.
    pub fn new(form: Form, streams: usize, k: usize, m: usize) -> Self {
        let unroll = unroll(form, streams, m);
        let blocks = k.div_ceil(form.block());
        let partitions = partitions(blocks);
        Self { k, block: form.block(), blocks, partitions, m, unroll, teams: 1 }
    }

    /// A walk of one row, for `tiles` tiles side by side, or as many of them as there is room for.
    /// What is in flight leaves registers enough for as many invocations: 64 where there are 1024.
    pub fn teams(form: Form, k: usize, tiles: usize) -> Self {
        let one = Self::new(form, 1, k, 1);
        let teams = tiles.clamp(1, MOST_INVOCATIONS / one.team());
        let steps = one.blocks.div_ceil(one.partitions);
        let registers = match teams * one.team() {
            0..=256 => 64,
            257..=512 => 44,
            _ => 36,
        };
        let unroll = (registers / form.slot()).clamp(1, 4);
        Self { teams, unroll: unroll.min(steps), ..one }
    }

    /// Invocations that share a tile.
    pub fn team(&self) -> usize {
        self.partitions * SHARE
    }

    pub fn workgroup(&self) -> u32 {
        (self.teams * self.team()) as u32
    }

    /// Steps of a partition in which every partition has a whole block.
    fn whole_steps(&self) -> usize {
        let whole = self.k / self.block;
        whole / self.partitions
    }

    /// Times that the unrolled body runs, and how many steps are left after it.
    pub fn steps(&self) -> (usize, usize) {
        let all = self.blocks.div_ceil(self.partitions);
        let turns = self.whole_steps() / self.unroll;
        (turns, all - turns * self.unroll)
    }

    /// Whether in step `s` some partition has no block, or a short one.
    pub fn is_ragged(&self, s: usize) -> bool {
        s >= self.whole_steps()
    }
}

/// 16-byte words that an invocation may have in flight, four registers each, with one row.
const IN_FLIGHT: usize = 16;

/// Blocks in flight: as many as leave registers for the sums of all rows.
fn unroll(form: Form, streams: usize, m: usize) -> usize {
    // A record's word and its scales, and the weights.
    let words = match form {
        Form::Integer(layout) => 2 + streams * class::words(&layout),
        Form::Float(_) => 2,
    };
    match m {
        1 => (IN_FLIGHT / words).clamp(1, 4),
        _ => 2 / streams,
    }
}

/// Partitions for rows of so many blocks: the cheapest, counting work and latency.
fn partitions(blocks: usize) -> usize {
    let cost = |p: &usize| (p + STEP_COST) * blocks.div_ceil(*p);
    PARTITIONS.into_iter().min_by_key(cost).unwrap_or(PARTITIONS[0])
}

/// 16-byte words of a tile.
pub(crate) fn tile_words(class: StorageClass, k: usize) -> usize {
    tile_bytes(class, k) / 16
}

/// Tiles of a matrix of `n` rows.
pub(crate) fn tiles(n: usize) -> usize {
    n.div_ceil(TILE_ROWS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_belongs_to_one_step() {
        for k in (32..4096).step_by(32) {
            for unroll in 1..=4 {
                let form = Form::of(StorageClass::Q4D);
                let shape = Shape { unroll, ..Shape::new(form, 1, k, 1) };
                let (turns, rest) = shape.steps();
                let all = turns * unroll + rest;
                assert_eq!(all, shape.blocks.div_ceil(shape.partitions));
                assert!((0..turns * unroll).all(|s| !shape.is_ragged(s)));
                assert!(rest <= unroll, "{k}: {rest} steps are left of {unroll}");
            }
        }
    }

    #[test]
    fn partitions_waste_little() {
        let found = [1, 8, 18, 28, 48, 64, 152].map(partitions);
        assert_eq!(found, [4, 8, 12, 16, 16, 16, 16]);
    }
}
