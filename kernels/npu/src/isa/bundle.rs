//! Instruction words: sets of operations.

use std::fmt;

use super::format::{FORMATS, Format, length};
use super::{Instruction, IsaError, Slot};

/// An operation in a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// One that the table knows.
    Known(Instruction),
    /// One that it does not, or whose unused bits are not zero.
    Unknown {
        /// Its slot.
        slot: Slot,
        /// Its bits.
        bits: u64,
    },
}

impl Op {
    /// The operation that `bits` of `slot` is.
    pub fn decode(slot: Slot, bits: u64) -> Self {
        match Instruction::decode(slot, bits) {
            Some(instruction) => Op::Known(instruction),
            None => Op::Unknown { slot, bits },
        }
    }

    /// The operation that `text` is: one of the table, or `.slot 0xbits` for any other.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(rest) = text.trim().strip_prefix('.') {
            let (slot, bits) = rest.split_once(" 0x")?;
            let (slot, bits) = (Slot::from_name(slot)?, u64::from_str_radix(bits, 16).ok()?);
            return (bits >> slot.width() == 0).then(|| Op::decode(slot, bits));
        }
        Instruction::parse(text).map(Op::Known)
    }

    /// The slot the operation goes to.
    pub fn slot(&self) -> Slot {
        match self {
            Op::Known(instruction) => instruction.slot(),
            Op::Unknown { slot, .. } => *slot,
        }
    }

    /// The bits of the operation in its slot.
    pub fn bits(&self) -> u64 {
        match self {
            Op::Known(instruction) => instruction.bits(),
            Op::Unknown { bits, .. } => *bits,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Known(instruction) => instruction.fmt(f),
            Op::Unknown { slot, bits } => write!(f, ".{} {bits:#x}", slot.name()),
        }
    }
}

/// An instruction word. Without operations it is the 2-byte NOP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    ops: Vec<Op>,
}

impl Bundle {
    /// The word with exactly these operations.
    ///
    /// # Errors
    /// When two are of one slot, or no format has exactly their slots.
    pub fn new(mut ops: Vec<Op>) -> Result<Self, IsaError> {
        ops.sort_by_key(Op::slot);
        if let Some(pair) = ops.windows(2).find(|pair| pair[0].slot() == pair[1].slot()) {
            return Err(IsaError::SlotTaken { slot: pair[0].slot() });
        }
        let bundle = Bundle { ops };
        bundle.format()?;
        Ok(bundle)
    }

    /// The 16-byte word with these operations and NOPs in all other slots.
    ///
    /// # Errors
    /// When two are of one slot, or a long operation meets one of the slots it takes the place of.
    pub fn full(mut ops: Vec<Op>) -> Result<Self, IsaError> {
        let taken: Vec<Slot> = ops.iter().map(Op::slot).collect();
        let is_long = taken.contains(&Slot::Lng);
        for (slot, nop) in NOPS {
            let is_covered = is_long && matches!(slot, Slot::Alu | Slot::Mv);
            if !taken.contains(&slot) && !is_covered && (slot != Slot::Lng || is_long) {
                ops.push(Op::decode(slot, nop));
            }
        }
        Bundle::new(ops)
    }

    /// The operations, by slot.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Bytes of the word.
    pub fn byte_len(&self) -> usize {
        self.format().map_or(2, |format| format.map_or(2, |format| format.bytes))
    }

    /// Reads the word at byte `offset` of `code`.
    ///
    /// # Errors
    /// When the bytes end inside it, or no format has its fixed bits.
    pub fn decode(code: &[u8], offset: usize) -> Result<Self, IsaError> {
        let left = code.get(offset..).unwrap_or_default();
        let expected = left.first().map_or(2, |&first| length(first));
        if left.len() < expected {
            return Err(IsaError::Truncated { offset, expected, found: left.len() });
        }
        let mut bytes = [0; 16];
        bytes[..expected].copy_from_slice(&left[..expected]);
        let word = u128::from_le_bytes(bytes);
        if word == 0 && expected == 2 {
            return Ok(Bundle::default());
        }
        let format = FORMATS
            .iter()
            .find(|format| format.bytes == expected && word & format.mask == format.value)
            .ok_or(IsaError::NoFormat { offset, word })?;
        let mut ops = Vec::with_capacity(format.slots.len());
        for &(slot, at) in &format.slots {
            let bits = (word >> at) as u64 & ((1 << slot.width()) - 1);
            ops.push(Op::decode(slot, bits));
        }
        ops.sort_by_key(Op::slot);
        Ok(Bundle { ops })
    }

    /// The bytes of the word.
    pub fn encode(&self) -> Vec<u8> {
        let Ok(Some(format)) = self.format() else { return vec![0; 2] };
        let mut word = format.value;
        for op in &self.ops {
            let place = format.slots.iter().find(|(slot, _)| *slot == op.slot());
            let &(_, at) = place.expect("the format has the word's slots");
            word |= u128::from(op.bits()) << at;
        }
        word.to_le_bytes()[..format.bytes].to_vec()
    }

    /// The format with this word's slots; none for the NOP.
    fn format(&self) -> Result<Option<&'static Format>, IsaError> {
        if self.ops.is_empty() {
            return Ok(None);
        }
        let fits = |format: &&Format| {
            format.slots.len() == self.ops.len()
                && self.ops.iter().all(|op| format.slots.iter().any(|(slot, _)| *slot == op.slot()))
        };
        let slots = || self.ops.iter().map(Op::slot).collect();
        let format = FORMATS.iter().find(fits);
        format.map(Some).ok_or_else(|| IsaError::NoSuchFormat { slots: slots() })
    }
}

/// The operation that does nothing, for each slot.
const NOPS: [(Slot, u64); 7] = [
    (Slot::Lda, 0x2cf),
    (Slot::Ldb, 0x004),
    (Slot::St, 0x2b6),
    (Slot::Alu, 0),
    (Slot::Mv, 0x1a57),
    (Slot::Lng, 0),
    (Slot::Vec, 0x70),
];

impl fmt::Display for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ops.is_empty() {
            return f.write_str("nop");
        }
        for (index, op) in self.ops.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{op}")?;
        }
        Ok(())
    }
}
