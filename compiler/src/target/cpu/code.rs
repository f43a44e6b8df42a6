//! The code segment: constants and functions, aligned, addressed from the segment's start.

/// Alignment of every item: a cache line.
const ALIGN: usize = 64;

#[derive(Default)]
pub struct CodeSegment {
    bytes: Vec<u8>,
}

impl CodeSegment {
    /// Appends an item and gives its offset.
    pub fn push(&mut self, item: &[u8]) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN), 0);
        let offset = self.bytes.len() as u64;
        self.bytes.extend_from_slice(item);
        offset
    }

    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}
