//! What can be wrong with a GGUF file: the place, what stands there, what was expected, the remedy.

use std::io;
use std::path::PathBuf;

/// Why a GGUF file could not be read, or does not say what was asked of it.
///
/// Offsets are bytes from the start of the file.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The operating system refused.
    #[error("cannot open {}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    /// A folder, pipe or device.
    #[error("{} is not a regular file; give a .gguf file", path.display())]
    NotAFile { path: PathBuf },
    /// The first four bytes are not `GGUF`.
    #[error(
        "not a GGUF file: it starts with {found:02x?}, expected \"GGUF\"; give a .gguf model file"
    )]
    Magic { found: Vec<u8> },
    /// Written for a big-endian machine.
    #[error(
        "big-endian GGUF files are not supported; convert it with gguf-py's gguf_convert_endian.py"
    )]
    BigEndian,
    /// A version with another layout.
    #[error("GGUF version {found} is not supported, expected 2 or 3; convert the model again")]
    Version { found: u32 },
    /// The file stops too early, or a length in it is wrong.
    #[error(
        "{what} at byte {offset} needs {needed} bytes, but only {left} follow; \
         the file is damaged or its download incomplete: fetch it again"
    )]
    Truncated { what: &'static str, offset: usize, needed: u64, left: usize },
    /// Bytes that mean nothing in this place.
    #[error("{what} at byte {offset} is {found}, expected {expected}; the file is damaged")]
    Malformed { what: &'static str, offset: usize, found: String, expected: &'static str },
    /// An error inside the entry of one metadata key.
    #[error("metadata key \"{key}\": {source}")]
    InKey { key: String, source: Box<GgufError> },
    /// An error inside the record of one tensor.
    #[error("tensor \"{tensor}\": {source}")]
    InTensor { tensor: String, source: Box<GgufError> },
    /// Two entries of one key.
    #[error("metadata key \"{key}\" stands twice, again at byte {offset}; the file is damaged")]
    DuplicateKey { key: String, offset: usize },
    /// Two tensors of one name.
    #[error("tensor \"{tensor}\" stands twice, again at byte {offset}; the file is damaged")]
    DuplicateTensor { tensor: String, offset: usize },
    /// A tensor type without a decoder here.
    #[error(
        "type {id} at byte {offset} is not supported; quantise the model to one of: {}",
        supported_formats()
    )]
    TensorType { id: u32, offset: usize },
    /// Data outside the file.
    #[error(
        "its data is bytes {start}..{end} of a file of {length}; \
         the download is incomplete or the file damaged: fetch it again"
    )]
    TensorData { start: u64, end: u64, length: usize },
    /// Two tensors share bytes.
    #[error("the data of tensors \"{first}\" and \"{second}\" overlap; the file is damaged")]
    Overlap { first: String, second: String },
    /// One part of a model in several files.
    #[error(
        "this is one of {count} parts of a split model; \
         join them first: llama-gguf-split --merge FIRST-PART.gguf WHOLE.gguf"
    )]
    Split { count: u64 },
    /// A key that must be there is not.
    #[error("metadata key \"{key}\" ({expected}) is missing; convert the model again")]
    MissingKey { key: String, expected: &'static str },
    /// A key holds another type, or a number outside its type's range.
    #[error("metadata key \"{key}\" is {found}, expected {expected}; convert the model again")]
    WrongType { key: String, found: String, expected: &'static str },
}

fn supported_formats() -> String {
    let names: Vec<&str> = onebit_ir::quant::FORMATS.iter().map(|info| info.name).collect();
    names.join(", ")
}
