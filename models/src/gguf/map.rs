//! The bytes of a GGUF: mapped from a file or owned. The only unsafe code of this crate.

use std::fs::File;
use std::ops::{Deref, Range};
use std::path::Path;

use memmap2::Mmap;

use super::GgufError;

/// Bytes that never change while they are held.
#[derive(Debug)]
pub(super) enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl Bytes {
    /// Maps the file at `path`, read-only and shared with the page cache.
    #[allow(unsafe_code)]
    pub(super) fn map(path: &Path) -> Result<Self, GgufError> {
        let open = |source| GgufError::Open { path: path.to_owned(), source };
        // Asked before opening: opening a pipe would wait for its writer.
        if !std::fs::metadata(path).map_err(open)?.is_file() {
            return Err(GgufError::NotAFile { path: path.to_owned() });
        }
        let file = File::open(path).map_err(open)?;
        // SAFETY: the mapping is read-only and outlives the descriptor. The bytes stay as they are
        // as long as no other process writes to the file, which holds for model files: they are
        // replaced by renaming. Every offset is checked on its own, so bytes that do change give
        // wrong numbers, and a file that is cut short ends the process (SIGBUS).
        let map = unsafe { Mmap::map(&file) }.map_err(open)?;
        Ok(Self::Mapped(map))
    }

    /// Lets the operating system drop the pages of `range`; a later read fetches them again.
    /// A no-op where it cannot, since this is only advice.
    #[allow(unsafe_code)]
    pub(super) fn advise_dont_need(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Self::Mapped(map) = self {
            let end = range.end.min(map.len());
            let Some(length) = end.checked_sub(range.start).filter(|&length| length > 0) else {
                return;
            };
            // SAFETY: the range lies inside the mapping. It is shared and read-only, so its pages
            // hold nothing that is not in the file, and a dropped page is read from there again.
            let advised = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, length)
            };
            // Refused advice costs memory, not correctness.
            drop(advised);
        }
        #[cfg(not(unix))]
        drop(range);
    }
}
