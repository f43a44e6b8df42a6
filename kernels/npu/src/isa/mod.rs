//! The instructions of the AIE2P core: assembler, disassembler and listing.
//!
//! An instruction word ([`Bundle`]) is a set of operations, at most one for each [`Slot`]. Which
//! operations are in it decides its format and with it its length, 2 to 16 bytes; so a bundle and
//! its text say the same, and `encode(decode(x)) == x` for every `x` that is decoded. An operation
//! is decoded through a table of patterns ([`table`]); bits that no pattern explains stay as they
//! are ([`Op::Unknown`]) and are encoded again untouched.
//!
//! The core has exposed delays: what an instruction means in time is not said here.
//!
//! Source of all encodings: Xilinx/llvm-aie, `llvm/lib/Target/AIE/aie2p/` (`AIE2PSlots.td`,
//! `AIE2PCompositeFormats.td`, `AIE2PGenInstrInfo.td`) and
//! `MCTargetDesc/aie2p/AIE2PMCCodeEmitterGen.inc` for the irregular register fields. The text form
//! is that of its assembler.

mod bundle;
mod format;
mod instruction;
mod pattern;
mod program;
mod register;
mod slot;
pub mod table;

pub use bundle::{Bundle, Op};
pub use instruction::{Instruction, Operand};
pub use program::{Line, assemble, disassemble};
pub use register::{Register, RegisterFile};
pub use slot::Slot;

use thiserror::Error;

/// What can be wrong with code or its text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IsaError {
    /// The bytes end inside an instruction word.
    #[error("code byte {offset:#x}: an instruction word of {expected} bytes, but {found} are left")]
    Truncated {
        /// Where the word starts, in bytes from the start of the code.
        offset: usize,
        /// The length that its first byte says.
        expected: usize,
        /// What is left.
        found: usize,
    },
    /// No format has the word's fixed bits.
    #[error("code byte {offset:#x}: {word:#x} is of no known instruction format")]
    NoFormat {
        /// Where the word starts, in bytes from the start of the code.
        offset: usize,
        /// The word.
        word: u128,
    },
    /// No format holds exactly these operations.
    #[error("no instruction word holds exactly the slots {slots:?}; fill up with slot NOPs")]
    NoSuchFormat {
        /// The slots asked for.
        slots: Vec<Slot>,
    },
    /// Two operations of one slot.
    #[error("two operations for slot {slot:?} in one instruction word")]
    SlotTaken {
        /// The slot.
        slot: Slot,
    },
    /// Text that is no operation.
    #[error("line {line}: `{text}`: {reason}")]
    Syntax {
        /// The line, counted from 1.
        line: usize,
        /// The operation's text.
        text: String,
        /// What is wrong with it, and what is known.
        reason: String,
    },
}
