//! The GGUF reader: versions 2 and 3, little-endian, one file.
//!
//! A file is never trusted: every length and offset is checked against the bytes that are there
//! before it is used, nothing is allocated by a number that only the file claims, and keys,
//! tensors and data ranges are unique. It knows no architecture.
#![deny(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use std::ops::Range;
use std::path::Path;

use onebit_ir::quant::Format;

mod directory;
mod error;
mod map;
mod reader;
mod value;

pub use error::GgufError;
pub use value::{Array, FromValue, Value, ValueType};

use directory::Directory;
use map::Bytes;

/// One tensor's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name, e.g. `blk.0.attn_q.weight`.
    pub name: String,
    /// Its block format.
    pub format: Format,
    /// Sizes, outermost first: a matrix is `[n, k]` with rows of k. Never empty, never 0.
    pub shape: Vec<usize>,
    /// Its bytes in the file.
    pub data: Range<usize>,
}

/// An open GGUF: metadata and tensor records, checked; tensor data mapped, not read.
#[derive(Debug)]
pub struct GgufFile {
    bytes: Bytes,
    directory: Directory,
}

impl GgufFile {
    /// Maps and parses the file at `path`. It must not be changed in place while it is open.
    ///
    /// # Errors
    /// If it cannot be mapped, or as [`GgufFile::parse`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, GgufError> {
        Self::new(Bytes::map(path.as_ref())?)
    }

    /// Parses a GGUF in memory.
    ///
    /// # Errors
    /// If the bytes are not one whole, well-formed, little-endian GGUF of version 2 or 3 whose
    /// tensors are all in formats of [`onebit_ir::quant::FORMATS`].
    pub fn parse(bytes: impl Into<Vec<u8>>) -> Result<Self, GgufError> {
        Self::new(Bytes::Owned(bytes.into()))
    }

    fn new(bytes: Bytes) -> Result<Self, GgufError> {
        let directory = Directory::parse(&bytes)?;
        Ok(Self { bytes, directory })
    }

    /// 2 or 3.
    pub fn version(&self) -> u32 {
        self.directory.version
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The value of `key`, if the file has it.
    pub fn metadata(&self, key: &str) -> Option<Value<'_>> {
        let entry = self.directory.entries.get(key)?;
        Value::of_entry(entry.ty, &self.bytes[entry.body.clone()]).ok()
    }

    /// All metadata keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.directory.entries.keys().map(String::as_str)
    }

    /// The value of `key` as a `T`, or `None` if the file does not have the key.
    ///
    /// # Errors
    /// If the value does not convert to a `T` without loss.
    pub fn get<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, GgufError> {
        let Some(value) = self.metadata(key) else { return Ok(None) };
        match T::from_value(value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(GgufError::WrongType {
                key: key.to_owned(),
                found: value.describe(),
                expected: T::EXPECTED,
            }),
        }
    }

    /// The value of `key` as a `T`.
    ///
    /// # Errors
    /// If the key is missing, or its value does not convert to a `T` without loss.
    pub fn require<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, GgufError> {
        self.get(key)?
            .ok_or_else(|| GgufError::MissingKey { key: key.to_owned(), expected: T::EXPECTED })
    }

    /// All tensors in file order. Empty in a vocabulary-only file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.directory.tensors
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.directory.names.get(name).map(|&index| &self.directory.tensors[index])
    }

    /// The encoded bytes of a tensor of this file. Panics if `tensor` is of a longer file.
    pub fn data(&self, tensor: &TensorInfo) -> &[u8] {
        &self.bytes[tensor.data.clone()]
    }

    /// Says that the bytes of `range` are not needed for now, so that a mapped file's pages can
    /// be dropped from memory; reading them again fetches them from disk.
    pub fn advise_dont_need(&self, range: Range<usize>) {
        self.bytes.advise_dont_need(range);
    }
}

impl TensorInfo {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|&size| size as u64).product()
    }
}
