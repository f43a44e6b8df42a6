//! A cursor that accounts for every byte, and a little-endian writer.

use std::fmt::Display;

use crate::error::{Format, ParseError, WriteError};

/// Reads little-endian fields of one format; remembers where it stands in the whole input.
pub(crate) struct Reader<'a> {
    format: Format,
    bytes: &'a [u8],
    base: usize,
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader over all of `bytes`, whose first byte is byte `base` of the whole input.
    pub fn new(format: Format, bytes: &'a [u8], base: usize) -> Self {
        Reader { format, bytes, base, at: 0 }
    }

    /// Bytes from the start of the whole input.
    pub fn offset(&self) -> usize {
        self.base + self.at
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// An error about the field that starts at `offset` of the whole input.
    pub fn error_at(
        &self,
        offset: usize,
        field: &'static str,
        expected: impl Display,
        found: impl Display,
    ) -> ParseError {
        let (expected, found) = (expected.to_string(), found.to_string());
        ParseError { format: self.format, offset, field, expected, found }
    }

    /// The next `count` bytes.
    pub fn take(&mut self, field: &'static str, count: usize) -> Result<&'a [u8], ParseError> {
        if count > self.remaining() {
            let found = format!("{} bytes before the end", self.remaining());
            return Err(self.error_at(self.offset(), field, format!("{count} bytes"), found));
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    /// The next `N` bytes by value.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], ParseError> {
        let taken = self.take(field, N)?;
        let mut array = [0; N];
        array.copy_from_slice(taken);
        Ok(array)
    }

    /// Two bytes.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, ParseError> {
        self.array(field).map(u16::from_le_bytes)
    }

    /// Four bytes.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, ParseError> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// Eight bytes.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, ParseError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// `count` words of four bytes.
    pub fn words(&mut self, field: &'static str, count: usize) -> Result<Vec<u32>, ParseError> {
        let most = self.remaining() / 4;
        if count > most {
            let found = format!("{most} words before the end");
            return Err(self.error_at(self.offset(), field, format!("{count} words"), found));
        }
        (0..count).map(|_| self.u32(field)).collect()
    }

    /// A word that can only have one value.
    pub fn expect_u32(&mut self, field: &'static str, value: u32) -> Result<(), ParseError> {
        let offset = self.offset();
        let found = self.u32(field)?;
        if found == value {
            return Ok(());
        }
        Err(self.error_at(offset, field, format!("{value:#010x}"), format!("{found:#010x}")))
    }

    /// Words that can only have these values.
    pub fn expect_words(&mut self, field: &'static str, words: &[u32]) -> Result<(), ParseError> {
        words.iter().try_for_each(|&word| self.expect_u32(field, word))
    }

    /// Bytes that can only have these values. The error names the first that differs.
    pub fn expect_bytes(&mut self, field: &'static str, bytes: &[u8]) -> Result<(), ParseError> {
        let offset = self.offset();
        let found = self.take(field, bytes.len())?;
        match bytes.iter().zip(found).position(|(a, b)| a != b) {
            None => Ok(()),
            Some(at) => Err(self.error_at(
                offset + at,
                field,
                format!("{:#04x}", bytes[at]),
                format!("{:#04x}", found[at]),
            )),
        }
    }

    /// Bytes that can only be zero.
    pub fn expect_zeros(&mut self, field: &'static str, count: usize) -> Result<(), ParseError> {
        let offset = self.offset();
        match self.take(field, count)?.iter().position(|&byte| byte != 0) {
            None => Ok(()),
            Some(at) => {
                let found = self.bytes[offset - self.base + at];
                Err(self.error_at(offset + at, field, "0x00", format!("{found:#04x}")))
            }
        }
    }

    /// A reader over the next `count` bytes, for a format inside this one.
    pub fn inner(
        &mut self,
        field: &'static str,
        count: usize,
        format: Format,
    ) -> Result<Reader<'a>, ParseError> {
        let base = self.offset();
        Ok(Reader::new(format, self.take(field, count)?, base))
    }

    /// Refuses whatever is left.
    pub fn finish(&self) -> Result<(), ParseError> {
        if self.remaining() == 0 {
            return Ok(());
        }
        let found = format!("{} more bytes", self.remaining());
        Err(self.error_at(self.offset(), "end of data", "nothing", found))
    }
}

/// Collects little-endian fields.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Bytes so far.
    pub fn position(&self) -> usize {
        self.bytes.len()
    }

    /// One word.
    pub fn u32(&mut self, word: u32) {
        self.bytes.extend_from_slice(&word.to_le_bytes());
    }

    /// Some words.
    pub fn words(&mut self, words: &[u32]) {
        words.iter().for_each(|&word| self.u32(word));
    }

    /// Eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// `count` zero bytes.
    pub fn zeros(&mut self, count: usize) {
        self.bytes.resize(self.bytes.len() + count, 0);
    }

    /// Zero bytes up to the next multiple of `alignment`.
    pub fn align(&mut self, alignment: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(alignment), 0);
    }

    /// What was collected.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// `value` as a 32-bit field.
pub(crate) fn fit_u32(
    format: Format,
    field: &'static str,
    value: usize,
) -> Result<u32, WriteError> {
    u32::try_from(value).map_err(|_| WriteError {
        format,
        field,
        most: u64::from(u32::MAX),
        found: value as u64,
    })
}
