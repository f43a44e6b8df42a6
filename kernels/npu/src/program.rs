//! A register program: what is written to the array's registers and memories, in order.
//!
//! It is the one thing that both [`crate::cdo`] and [`crate::txn`] say, each in its own words.
//! [`RegisterMap`] gives it its meaning, so that the two can be compared: for every program,
//! `apply(parse(cdo)) == apply(parse(txn))`.

use std::collections::BTreeMap;
use std::fmt;

/// The address of a register as seen from the array's controller: column, row, offset in the tile.
///
/// `column << 25 | row << 20 | offset`, for AIE2 and AIE2P (aie-rt, `xaie2pgbl_reginit.c`: column
/// shift 25, row shift 20).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegisterAddress(u32);

impl RegisterAddress {
    /// Columns an address can name.
    pub const COLUMNS: u32 = 1 << 7;
    /// Rows an address can name.
    pub const ROWS: u32 = 1 << 5;
    /// Bytes of a tile's address space.
    pub const TILE_BYTES: u32 = 1 << 20;

    /// The register at byte `offset` of the tile in `column` and `row`.
    ///
    /// None when a part is outside [`Self::COLUMNS`], [`Self::ROWS`] or [`Self::TILE_BYTES`].
    pub const fn new(column: u32, row: u32, offset: u32) -> Option<Self> {
        if column >= Self::COLUMNS || row >= Self::ROWS || offset >= Self::TILE_BYTES {
            return None;
        }
        Some(RegisterAddress(column << 25 | row << 20 | offset))
    }

    /// The address with this bit pattern. Every pattern is one.
    pub const fn from_bits(bits: u32) -> Self {
        RegisterAddress(bits)
    }

    /// The bit pattern that TXN and CDO carry.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The tile's column; 0 is the westmost of the partition.
    pub const fn column(self) -> u32 {
        self.0 >> 25
    }

    /// The tile's row: 0 shim, 1 memory, 2 to 5 compute.
    pub const fn row(self) -> u32 {
        self.0 >> 20 & 0x1f
    }

    /// Bytes from the start of the tile's address space.
    pub const fn offset(self) -> u32 {
        self.0 & 0xf_ffff
    }
}

impl fmt::Debug for RegisterAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({},{})+{:#07x}", self.column(), self.row(), self.offset())
    }
}

/// One step of a [`RegisterProgram`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterOp {
    /// Writes one word.
    Write32 {
        /// Where.
        address: RegisterAddress,
        /// The word.
        value: u32,
    },
    /// Writes the bits of one word that `mask` selects; the others keep their value.
    MaskWrite {
        /// Where.
        address: RegisterAddress,
        /// The bits to change.
        mask: u32,
        /// Their new values. Keep to the mask: implementations differ in what other bits do.
        value: u32,
    },
    /// Writes consecutive words.
    BlockWrite {
        /// Where the first word goes.
        address: RegisterAddress,
        /// The words.
        data: Vec<u32>,
    },
}

/// Writes in the order in which they take effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegisterProgram {
    /// The writes.
    pub ops: Vec<RegisterOp>,
}

/// The words a program leaves behind. A word that was never written reads as zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegisterMap {
    // Keys are wider than an address: a block may run past the last one.
    words: BTreeMap<u64, u32>,
}

impl RegisterMap {
    /// The word at `address`, zero when nothing wrote it.
    pub fn read(&self, address: RegisterAddress) -> u32 {
        self.words.get(&u64::from(address.bits())).copied().unwrap_or(0)
    }

    /// How many words were written.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Does all writes of `program`, in order.
    pub fn apply(&mut self, program: &RegisterProgram) {
        for op in &program.ops {
            match op {
                RegisterOp::Write32 { address, value } => self.write(*address, 0, *value),
                RegisterOp::MaskWrite { address, mask, value } => {
                    let word = self.read(*address) & !mask | value & mask;
                    self.write(*address, 0, word);
                }
                RegisterOp::BlockWrite { address, data } => {
                    for (index, &word) in data.iter().enumerate() {
                        self.write(*address, index, word);
                    }
                }
            }
        }
    }

    fn write(&mut self, address: RegisterAddress, index: usize, word: u32) {
        self.words.insert(u64::from(address.bits()) + 4 * index as u64, word);
    }
}
