//! What the array would not do as meant.

use thiserror::Error;

use crate::core::CoreFault;

/// A fault of the emulated program: where, what, and what the hardware expects.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    /// A core's address is in no window.
    #[error("core address {address:#x}: outside the data memories a core reaches")]
    NoSuchAddress {
        /// The core's own address.
        address: u32,
    },
    /// A core cannot execute an instruction word.
    #[error("program address {pc:#x}, `{word}`: {cause}")]
    Core {
        /// Byte address of the word in program memory.
        pc: u32,
        /// The word's text.
        word: String,
        /// Why.
        #[source]
        cause: CoreFault,
    },
}
