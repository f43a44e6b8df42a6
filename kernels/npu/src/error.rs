//! What can be wrong with bytes that are read, and with values that are written.

use std::fmt;

use thiserror::Error;

/// The format a parser was reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An NPU instruction stream, see [`crate::txn`].
    Txn,
    /// A configuration data object, see [`crate::cdo`].
    Cdo,
    /// A programmable device image, see [`crate::pdi`].
    Pdi,
    /// The AIE_PARTITION section of an xclbin, see [`crate::partition`].
    AiePartition,
    /// The container, see [`crate::xclbin`].
    Xclbin,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Txn => "TXN",
            Format::Cdo => "CDO",
            Format::Pdi => "PDI",
            Format::AiePartition => "AIE_PARTITION",
            Format::Xclbin => "xclbin",
        })
    }
}

/// Bytes that are not what their format says.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{format}: byte {offset:#x}, {field}: expected {expected}, found {found}")]
pub struct ParseError {
    /// The innermost format that was being read.
    pub format: Format,
    /// Where the field starts, in bytes from the start of the whole input.
    pub offset: usize,
    /// The field, in the words of the format's description.
    pub field: &'static str,
    /// What the format asks for there.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

/// A value that its format has no room for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{format}: {field} is {found}, but the format holds at most {most}")]
pub struct WriteError {
    /// The format being written.
    pub format: Format,
    /// The field without room.
    pub field: &'static str,
    /// The largest value the field can say.
    pub most: u64,
    /// The value asked for.
    pub found: u64,
}
