//! One operation of the table, with its operands.

use std::fmt;

use super::pattern::{Pattern, Piece};
use super::table::patterns;
use super::{Register, Slot};

/// An operand of an [`Instruction`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A register.
    Register(Register),
    /// A number: an address, an offset in bytes, a count or a value, as the operation has it.
    Immediate(i64),
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operand::Register(register) => register.fmt(f),
            Operand::Immediate(value) => value.fmt(f),
        }
    }
}

/// An operation that the table knows.
#[derive(Clone)]
pub struct Instruction {
    pattern: &'static Pattern,
    operands: Vec<Operand>,
}

impl Instruction {
    /// The operation that `bits` of `slot` is; None when the table does not know it.
    pub fn decode(slot: Slot, bits: u64) -> Option<Self> {
        patterns().iter().filter(|pattern| pattern.slot == slot).find_map(|pattern| {
            pattern.decode(bits).map(|operands| Instruction { pattern, operands })
        })
    }

    /// The operation that `text` is; None when the table does not know it.
    ///
    /// The text is llvm-aie's, for example `vlda x0, [p0], #64`.
    pub fn parse(text: &str) -> Option<Self> {
        patterns().iter().find_map(|pattern| {
            pattern.parse(text).map(|operands| Instruction { pattern, operands })
        })
    }

    /// The operation with this [`Instruction::form`] and these operands, in the order in which the
    /// form's layout names them; None when there is none or an operand does not fit.
    pub fn new(form: &str, operands: &[Operand]) -> Option<Self> {
        let mut rows = patterns().iter().filter(|pattern| pattern.syntax == form);
        let pattern = rows.find(|pattern| pattern.encode(operands).is_some())?;
        Some(Instruction { pattern, operands: operands.to_vec() })
    }

    /// The slot the operation goes to.
    pub fn slot(&self) -> Slot {
        self.pattern.slot
    }

    /// The form of the operation: its text with `$name` for each operand, as in [`super::table`].
    /// It identifies the operation; where rows share it, the operands' register files tell them
    /// apart, as for loads of `x0` and `bmll0`.
    pub fn form(&self) -> &'static str {
        &self.pattern.syntax
    }

    /// The operand that [`Instruction::form`] calls `name`.
    pub fn operand(&self, name: &str) -> Option<Operand> {
        let index = self.pattern.fields.iter().position(|field| field.name == name)?;
        self.operands.get(index).copied()
    }

    /// The bits of the operation in its slot.
    pub fn bits(&self) -> u64 {
        self.pattern.encode(&self.operands).expect("checked when it was made")
    }
}

impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.pattern.pieces {
            match piece {
                Piece::Text(text) => f.write_str(text)?,
                Piece::Operand(index) => self.operands[*index].fmt(f)?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {self}", self.slot().name())
    }
}

impl PartialEq for Instruction {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.pattern, other.pattern) && self.operands == other.operands
    }
}

impl Eq for Instruction {}
