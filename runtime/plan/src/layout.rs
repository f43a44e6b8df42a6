//! Byte layout of every storage class, said once: packing and the kernels of all devices read
//! [`Layout`] and nothing else.
//!
//! A packed matrix `[n, k]` is a sequence of tiles of [`TILE_ROWS`] rows (n is padded with zero
//! rows), each padded to a multiple of 64 bytes. An integer tile is a sequence of records along
//! k: in classes with a header that and up to eight blocks (the last record has as many as there
//! are), in the others one block. A block is 32 elements of all rows: its codes and right behind
//! them its scales, so that a kernel reads every tile in one sequential stream. "lane" is the row
//! within the tile, "quad" q is elements `4q..4q+4` of a block, and one line is 64 bytes.
//!
//! | codes            | bytes a block | content                                                  |
//! |------------------|---------------|----------------------------------------------------------|
//! | `Bits`           | 64            | a line whose byte `lane*4+i` holds in bit q the code's bit 1 of quad q, element i; bit 0 is 0 |
//! | `Pairs`          | 128           | line h of 2: bits `2c..2c+2` of byte `lane*4+i` are the code of quad 4h+c, element i |
//! | `PairsAndBit`    | 192           | `Pairs`, then a line whose byte `lane*4+i` holds in bit q the code's bit 2 of quad q |
//! | `Nibbles`        | 256           | line j of 4, byte `lane*4+i`: low nibble is quad j, high nibble quad j+4, element i |
//! | `Levels`         | 256           | as `Nibbles`, but what is stored is the index of the level that the code stands for |
//! | `NibblesAndBit`  | 320           | `Nibbles`, then a line whose byte `lane*4+i` holds in bit q the code's bit 4 of quad q |
//! | `NibblesAndPair` | 384           | `Nibbles`, then line h of 2: bits `2c..2c+2` of byte `lane*4+i` are the code's bits 4..6 of quad 4h+c |
//! | `Bytes`          | 512           | line q of 8, byte `lane*4+i`: the code                    |
//!
//! | scales     | bytes a block | content after the codes                            | header |
//! |------------|---------------|----------------------------------------------------|--------|
//! | `Block`    | 32            | `d: f16[16]`                                       | none   |
//! | `BlockMin` | 64            | `d: f16[16]`, `m: f16[16]`                         | none   |
//! | `SuperMin` | 32            | `sub: i8[16]`, `sub_min: u8[16]`                   | `d: f16[16]`, `dmin: f16[16]` |
//! | `PairMin`  | 64            | `sub: i8[2][16]`, `sub_min: u8[2][16]`, one for each 16 elements | `d: f16[16]`, `dmin: f16[16]` |
//! | `Super`    | 32            | `sub: i8[2][16]`, one for each 16 elements         | `d: f16[16]`, 32 bytes of zero |
//! | `SuperSub` | 0             |                                                    | `d: f16[16]`, 32 bytes of zero, `sub: i8[8][16]`, one for each block |
//! | `Span`     | 0             |                                                    | `d: f16[2][16]`, one for each four blocks |
//! | `Exponent` | 0             |                                                    | `e: u8[8][16]`, one for each block |
//! | `Group`    | 128           | `scale: f32[2][16]`, one for each 16 elements      | none   |
//! | `GroupMin` | 256           | `scale: f32[2][16]`, `min: f32[2][16]`             | none   |
//!
//! Float classes hold `[k][16]` elements a tile.

use crate::abi::{BLOCK, BUFFER_ALIGN, StorageClass, TILE_ROWS};

/// Elements of a whole record in classes with a header.
pub const SUPER: usize = 256;
/// Elements that share a scale in [`ScaleForm::Span`].
pub const SPAN: usize = 128;

/// How the codes of one block are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codes {
    Bits,
    Pairs,
    PairsAndBit,
    Nibbles,
    Levels(Levels),
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
    PairMin,
    Super,
    SuperSub,
    Span,
    Exponent,
    Group,
    GroupMin,
}

/// Sixteen values that nibbles stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Levels {
    /// Of IQ4_NL and IQ4_XS (`kvalues_iq4nl` of ggml-common.h).
    Nonlinear,
    /// Twice the values of E2M1 (OCP Microscaling Formats 1.0), save that -0 is 0.
    E2m1,
}

impl Levels {
    /// The level of each nibble.
    pub const fn values(self) -> [i8; 16] {
        match self {
            Self::Nonlinear => {
                [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]
            }
            Self::E2m1 => [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12],
        }
    }

    /// The lowest nibble whose level is `value`.
    #[inline]
    pub const fn index_of(self, value: i8) -> Option<u8> {
        let indices = match self {
            Self::Nonlinear => &Self::NONLINEAR_INDICES,
            Self::E2m1 => &Self::E2M1_INDICES,
        };
        let index = indices[value.cast_unsigned() as usize];
        if index < 16 { Some(index) } else { None }
    }

    const NONLINEAR_INDICES: [u8; 256] = Self::Nonlinear.indices();
    const E2M1_INDICES: [u8; 256] = Self::E2m1.indices();

    /// The lowest index of each byte's level, 16 for bytes that are none.
    const fn indices(self) -> [u8; 256] {
        let values = self.values();
        let mut indices = [16; 256];
        let mut index = values.len();
        while index > 0 {
            index -= 1;
            indices[values[index].cast_unsigned() as usize] = index as u8;
        }
        indices
    }
}

/// Layout of one integer storage class. Its functions are inlined, because kernels of another crate
/// call them for each block and count on what is known when they are compiled.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub codes: Codes,
    pub scales: ScaleForm,
    /// A code is the value plus `1 << bias`; `None` when it is the value.
    pub bias: Option<u32>,
}

impl Layout {
    /// Layout of an integer class, `None` for a float one.
    pub const fn of(class: StorageClass) -> Option<Self> {
        use StorageClass::*;
        let (codes, scales, bias) = match class {
            B1D => (Codes::Bits, ScaleForm::Span, Some(0)),
            T2D => (Codes::Pairs, ScaleForm::Span, Some(0)),
            Q2K => (Codes::Pairs, ScaleForm::PairMin, None),
            Q3K => (Codes::PairsAndBit, ScaleForm::Super, Some(2)),
            M4E => (Codes::Levels(Levels::E2m1), ScaleForm::Exponent, Some(4)),
            N4K => (Codes::Levels(Levels::Nonlinear), ScaleForm::SuperSub, Some(7)),
            N4D => (Codes::Levels(Levels::Nonlinear), ScaleForm::Block, Some(7)),
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

    /// Blocks of one whole record.
    #[inline]
    pub const fn blocks(&self) -> usize {
        if self.header_bytes() == 0 { 1 } else { SUPER / BLOCK }
    }

    /// Bytes of a record before its first block.
    #[inline]
    pub const fn header_bytes(&self) -> usize {
        let values = match self.scales {
            ScaleForm::SuperMin | ScaleForm::PairMin | ScaleForm::Super | ScaleForm::Span => 4,
            ScaleForm::Exponent => 8,
            ScaleForm::SuperSub => 12,
            ScaleForm::Block | ScaleForm::BlockMin | ScaleForm::Group | ScaleForm::GroupMin => 0,
        };
        values * TILE_ROWS
    }

    /// Bytes of the codes of a block, which its scales follow.
    #[inline]
    pub const fn code_bytes(&self) -> usize {
        match self.codes {
            Codes::Bits => 64,
            Codes::Pairs => 128,
            Codes::PairsAndBit => 192,
            Codes::Nibbles | Codes::Levels(_) => 256,
            Codes::NibblesAndBit => 320,
            Codes::NibblesAndPair => 384,
            Codes::Bytes => 512,
        }
    }

    /// Bytes of one block, codes and scales.
    #[inline]
    pub const fn block_bytes(&self) -> usize {
        let scales = match self.scales {
            ScaleForm::SuperSub | ScaleForm::Span | ScaleForm::Exponent => 0,
            ScaleForm::Block | ScaleForm::SuperMin | ScaleForm::Super => 2,
            ScaleForm::BlockMin | ScaleForm::PairMin => 4,
            ScaleForm::Group => 8,
            ScaleForm::GroupMin => 16,
        };
        self.code_bytes() + scales * TILE_ROWS
    }

    /// Bytes of one whole record.
    #[inline]
    pub const fn record_bytes(&self) -> usize {
        self.header_bytes() + self.blocks() * self.block_bytes()
    }

    /// Offsets of the header and of block `b` in a tile.
    #[inline]
    pub const fn block_at(&self, b: usize) -> (usize, usize) {
        let record = b / self.blocks() * self.record_bytes();
        (record, record + self.header_bytes() + b % self.blocks() * self.block_bytes())
    }

    /// Bits that hold every code.
    #[inline]
    pub const fn bits(&self) -> u32 {
        match self.codes {
            Codes::Bits | Codes::Pairs => 2,
            Codes::PairsAndBit => 3,
            Codes::Nibbles => 4,
            Codes::NibblesAndBit | Codes::Levels(Levels::E2m1) => 5,
            Codes::NibblesAndPair => 6,
            Codes::Bytes | Codes::Levels(Levels::Nonlinear) => 8,
        }
    }

    /// Code of the value 0.
    #[inline]
    pub const fn offset(&self) -> i32 {
        match self.bias {
            Some(shift) => 1 << shift,
            None => 0,
        }
    }

    /// Least and greatest value a code may stand for.
    pub const fn value_range(&self) -> (i32, i32) {
        match self.codes {
            Codes::Bits => (-1, 1),
            Codes::Levels(Levels::E2m1) => (-12, 12),
            Codes::Levels(Levels::Nonlinear) => (-127, 113),
            _ => (-self.offset(), (1 << self.bits()) - 1 - self.offset()),
        }
    }

    /// Whether there is a code for `value`.
    pub const fn has_value(&self, value: i8) -> bool {
        match self.codes {
            Codes::Bits => value == -1 || value == 1,
            Codes::Levels(levels) => levels.index_of(value).is_some(),
            _ => {
                let (least, greatest) = self.value_range();
                least <= value as i32 && value as i32 <= greatest
            }
        }
    }

    /// Whether an element is `scale * code + min`.
    #[inline]
    pub const fn has_min(&self) -> bool {
        use ScaleForm::{BlockMin, GroupMin, PairMin, SuperMin};
        matches!(self.scales, BlockMin | SuperMin | PairMin | GroupMin)
    }

    /// Whether each block has two scales, one for each 16 elements.
    #[inline]
    pub const fn has_groups(&self) -> bool {
        use ScaleForm::{Group, GroupMin, PairMin, Super};
        matches!(self.scales, Super | PairMin | Group | GroupMin)
    }
}

/// Whether a matrix with rows of `k` elements can be packed as `class`: integer classes take
/// whole blocks of 32, or what shares a scale, and float classes any k > 0.
pub const fn supports(class: StorageClass, k: usize) -> bool {
    let unit = match Layout::of(class) {
        Some(layout) => match layout.scales {
            ScaleForm::SuperMin | ScaleForm::PairMin | ScaleForm::Super | ScaleForm::SuperSub => {
                SUPER
            }
            ScaleForm::Span => SPAN,
            _ => BLOCK,
        },
        None => 1,
    };
    k > 0 && k.is_multiple_of(unit)
}

/// Bytes of one tile of [`TILE_ROWS`] rows of `k` elements; a multiple of 64.
pub const fn tile_bytes(class: StorageClass, k: usize) -> usize {
    let bytes = match Layout::of(class) {
        Some(layout) => {
            let blocks = k.div_ceil(BLOCK);
            let headers = blocks.div_ceil(layout.blocks()) * layout.header_bytes();
            headers + blocks * layout.block_bytes()
        }
        None if matches!(class, StorageClass::F32) => k * TILE_ROWS * 4,
        None => k * TILE_ROWS * 2,
    };
    bytes.next_multiple_of(BUFFER_ALIGN)
}

/// Bytes of a packed matrix of `n` rows of `k` elements.
pub const fn packed_bytes(class: StorageClass, n: usize, k: usize) -> usize {
    n.div_ceil(TILE_ROWS) * tile_bytes(class, k)
}
