//! A cursor over untrusted bytes: every read is bounds-checked and names what it reads.

use super::GgufError;

/// Reads little-endian values from `bytes`, front to back. Offsets in errors count from the
/// start of `bytes`.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn offset(&self) -> usize {
        self.at
    }

    /// What is not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: u64, what: &'static str) -> Result<&'a [u8], GgufError> {
        let rest = self.rest();
        let taken = usize::try_from(count).ok().and_then(|count| rest.get(..count));
        let Some(taken) = taken else {
            let (offset, left) = (self.at, rest.len());
            return Err(GgufError::Truncated { what, offset, needed: count, left });
        };
        self.at += taken.len();
        Ok(taken)
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], GgufError> {
        let Some((taken, _)) = self.rest().split_first_chunk::<N>() else {
            let (offset, left) = (self.at, self.rest().len());
            return Err(GgufError::Truncated { what, offset, needed: N as u64, left });
        };
        self.at += N;
        Ok(*taken)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A length and that many bytes, which need not be text.
    pub(super) fn string(&mut self, what: &'static str) -> Result<&'a [u8], GgufError> {
        let length = self.u64(what)?;
        self.take(length, what)
    }

    /// A string that must be UTF-8.
    pub(super) fn text(&mut self, what: &'static str) -> Result<&'a str, GgufError> {
        let offset = self.at;
        let bytes = self.string(what)?;
        std::str::from_utf8(bytes).map_err(|_| GgufError::Malformed {
            what,
            offset,
            found: format!("\"{}\"", bytes.escape_ascii()),
            expected: "UTF-8 text",
        })
    }
}
