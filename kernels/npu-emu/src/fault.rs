//! What the array would not do as meant.

use thiserror::Error;

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
}
