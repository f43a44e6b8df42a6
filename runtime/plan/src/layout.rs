//! Byte layout of every storage class, said once: packing and the kernels of all devices read
//! [`Layout`] and nothing else.
//!
//! A packed matrix `[n, k]` is a sequence of tiles of [`TILE_ROWS`] rows (n is padded with zero
//! rows), each padded to a multiple of 64 bytes. An integer tile is a sequence of records along
//! k: the header of a super-block of 256 elements in the K classes, nothing in the others, and
//! then one block, or eight, of 32 elements: its codes and right behind them its scales, so that
//! a kernel reads every tile in one sequential stream. "lane" is the row within the tile, "quad"
//! q is elements `4q..4q+4` of a block, and one line is 64 bytes.
//!
//! | codes            | bytes a block | content                                                  |
//! |------------------|---------------|----------------------------------------------------------|
//! | `Nibbles`        | 256           | line j of 4, byte `lane*4+i`: low nibble is quad j, high nibble quad j+4, element i |
//! | `NibblesAndBit`  | 320           | `Nibbles`, then a line whose byte `lane*4+i` holds in bit q the code's bit 4 of quad q |
//! | `NibblesAndPair` | 384           | `Nibbles`, then line h of 2: bits `2c..2c+2` of byte `lane*4+i` are the code's bits 4..6 of quad 4h+c |
//! | `Bytes`          | 512           | line q of 8, byte `lane*4+i`: the code                    |
//!
//! | scales     | bytes a block | content after the codes                            | header |
//! |------------|---------------|----------------------------------------------------|--------|
//! | `Block`    | 32            | `d: f16[16]`                                       | none   |
//! | `BlockMin` | 64            | `d: f16[16]`, `m: f16[16]`                         | none   |
//! | `SuperMin` | 32            | `sub: i8[16]`, `sub_min: u8[16]`                   | `d: f16[16]`, `dmin: f16[16]` |
//! | `Super`    | 32            | `sub: i8[2][16]`, one for each 16 elements         | `d: f16[16]`, 32 bytes of zero |
//! | `Group`    | 128           | `scale: f32[2][16]`, one for each 16 elements      | none   |
//! | `GroupMin` | 256           | `scale: f32[2][16]`, `min: f32[2][16]`             | none   |
//!
//! Float classes hold `[k][16]` elements a tile.

use crate::abi::{BLOCK, BUFFER_ALIGN, StorageClass, TILE_ROWS};

/// How the codes of one block are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codes {
    Nibbles,
    NibblesAndBit,
    NibblesAndPair,
    Bytes,
}

/// How the scales of one block are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleForm {
    Block,
    BlockMin,
    SuperMin,
    Super,
    Group,
    GroupMin,
}

/// Layout of one integer storage class.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub codes: Codes,
    pub scales: ScaleForm,
    /// A stored code is the value plus `1 << bias`; `None` when it is the value.
    pub bias: Option<u32>,
}

impl Layout {
    /// Layout of an integer class, `None` for a float one.
    pub const fn of(class: StorageClass) -> Option<Self> {
        use StorageClass::*;
        let (codes, scales, bias) = match class {
            Q4D => (Codes::Nibbles, ScaleForm::Block, Some(3)),
            Q4DM => (Codes::Nibbles, ScaleForm::BlockMin, None),
            Q5D => (Codes::NibblesAndBit, ScaleForm::Block, Some(4)),
            Q5DM => (Codes::NibblesAndBit, ScaleForm::BlockMin, None),
            Q8D => (Codes::Bytes, ScaleForm::Block, Some(7)),
            Q4K => (Codes::Nibbles, ScaleForm::SuperMin, None),
            Q5K => (Codes::NibblesAndBit, ScaleForm::SuperMin, None),
            Q6K => (Codes::NibblesAndPair, ScaleForm::Super, Some(5)),
            I8G16 => (Codes::Bytes, ScaleForm::Group, Some(7)),
            I8G16M => (Codes::Bytes, ScaleForm::GroupMin, Some(7)),
            F16 | BF16 | F32 => return None,
        };
        Some(Self { codes, scales, bias })
    }

    /// Blocks of one record.
    pub const fn blocks(&self) -> usize {
        if self.header_bytes() == 0 { 1 } else { 8 }
    }

    /// Bytes of a record before its first block.
    pub const fn header_bytes(&self) -> usize {
        match self.scales {
            ScaleForm::SuperMin | ScaleForm::Super => 4 * TILE_ROWS,
            _ => 0,
        }
    }

    /// Bytes of the codes of a block, which its scales follow.
    pub const fn code_bytes(&self) -> usize {
        match self.codes {
            Codes::Nibbles => 256,
            Codes::NibblesAndBit => 320,
            Codes::NibblesAndPair => 384,
            Codes::Bytes => 512,
        }
    }

    /// Bytes of one block, codes and scales.
    pub const fn block_bytes(&self) -> usize {
        let scales = match self.scales {
            ScaleForm::Block | ScaleForm::SuperMin | ScaleForm::Super => 2,
            ScaleForm::BlockMin => 4,
            ScaleForm::Group => 8,
            ScaleForm::GroupMin => 16,
        };
        self.code_bytes() + scales * TILE_ROWS
    }

    /// Bytes of one record.
    pub const fn record_bytes(&self) -> usize {
        self.header_bytes() + self.blocks() * self.block_bytes()
    }

    /// Offsets of the header and of block `b` in a tile.
    pub const fn block_at(&self, b: usize) -> (usize, usize) {
        let record = b / self.blocks() * self.record_bytes();
        (record, record + self.header_bytes() + b % self.blocks() * self.block_bytes())
    }

    /// Bits of a stored code.
    pub const fn bits(&self) -> u32 {
        match self.codes {
            Codes::Nibbles => 4,
            Codes::NibblesAndBit => 5,
            Codes::NibblesAndPair => 6,
            Codes::Bytes => 8,
        }
    }

    /// Least and greatest value a code may stand for.
    pub const fn value_range(&self) -> (i32, i32) {
        let bias = match self.bias {
            Some(shift) => 1 << shift,
            None => 0,
        };
        (-bias, (1 << self.bits()) - 1 - bias)
    }

    /// Whether an element is `scale * code + min`.
    pub const fn has_min(&self) -> bool {
        matches!(self.scales, ScaleForm::BlockMin | ScaleForm::SuperMin | ScaleForm::GroupMin)
    }

    /// Whether each block has two scales, one for each 16 elements.
    pub const fn has_groups(&self) -> bool {
        matches!(self.scales, ScaleForm::Super | ScaleForm::Group | ScaleForm::GroupMin)
    }
}

/// Whether a matrix with rows of `k` elements can be packed as `class`: integer classes take
/// whole blocks of 32, the K classes whole super-blocks of 256, float classes any k > 0.
pub const fn supports(class: StorageClass, k: usize) -> bool {
    let unit = match class {
        StorageClass::Q4K | StorageClass::Q5K | StorageClass::Q6K => 256,
        StorageClass::F16 | StorageClass::BF16 | StorageClass::F32 => 1,
        _ => BLOCK,
    };
    k > 0 && k.is_multiple_of(unit)
}

/// Bytes of one tile of [`TILE_ROWS`] rows of `k` elements; a multiple of 64.
pub const fn tile_bytes(class: StorageClass, k: usize) -> usize {
    let bytes = match Layout::of(class) {
        Some(layout) => k.div_ceil(layout.blocks() * BLOCK) * layout.record_bytes(),
        None if matches!(class, StorageClass::F32) => k * TILE_ROWS * 4,
        None => k * TILE_ROWS * 2,
    };
    bytes.next_multiple_of(BUFFER_ALIGN)
}

/// Bytes of a packed matrix of `n` rows of `k` elements.
pub const fn packed_bytes(class: StorageClass, n: usize, k: usize) -> usize {
    n.div_ceil(TILE_ROWS) * tile_bytes(class, k)
}
