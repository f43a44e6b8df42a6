//! A long range of bytes, of which windows are seen, as buffers of a size that the device allows.
//!
//! No window is cut, and long gaps between windows have no memory.

use std::ops::Range;
use std::sync::Arc;

use onebit_vulkan::{Buffer, Device, Place, VulkanError, Window};

/// A gap of so many bytes is left out.
const GAP: u64 = 4 << 20;

/// The buffers, in the order of their bytes.
pub(super) struct Pieces(Vec<(Range<u64>, Arc<Buffer>)>);

impl Pieces {
    /// Buffers for all of these windows.
    ///
    /// # Errors
    /// No memory; windows that overlap to more than the device has in one buffer.
    pub(super) fn new(
        device: &Arc<Device>,
        name: &str,
        windows: Vec<Range<u64>>,
    ) -> Result<Self, VulkanError> {
        let pieces = partition(windows, device.info().limits.buffer);
        let buffer = |piece: Range<u64>| {
            let buffer = Buffer::new(device, name, piece.end - piece.start, Place::Device)?;
            Ok((piece, buffer))
        };
        pieces.into_iter().map(buffer).collect::<Result<_, _>>().map(Self)
    }

    /// The buffers with the bytes that each stands for.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(Range<u64>, Arc<Buffer>)> {
        self.0.iter()
    }

    /// Bytes of all buffers.
    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().map(|(piece, _)| piece.end - piece.start).sum()
    }

    /// Where a window lies, which is one of those given to [`Pieces::new`].
    pub(super) fn window(&self, offset: u64, length: u64) -> Option<Window> {
        let after = self.0.partition_point(|(piece, _)| piece.start <= offset);
        let (piece, buffer) = self.0[..after].last()?;
        (offset + length <= piece.end).then(|| buffer.slice(offset - piece.start, length))
    }
}

/// Ranges of at most `most` bytes, where no window is longer, that hold all windows whole.
pub(super) fn partition(mut windows: Vec<Range<u64>>, most: u64) -> Vec<Range<u64>> {
    windows.sort_unstable_by_key(|window| (window.start, window.end));
    // Windows that overlap, joined.
    let mut joined: Vec<Range<u64>> = Vec::new();
    for window in windows {
        match joined.last_mut() {
            Some(last) if window.start < last.end => last.end = last.end.max(window.end),
            _ => joined.push(window),
        }
    }
    let mut pieces: Vec<Range<u64>> = Vec::new();
    for window in joined {
        match pieces.last_mut() {
            Some(last) if window.start - last.end <= GAP && window.end - last.start <= most => {
                last.end = window.end;
            }
            _ => pieces.push(window),
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hold_windows_whole_and_leave_gaps_out() {
        let windows = vec![600..1000, 0..256, 256..512, 300..600, 256..512];
        assert_eq!(partition(windows.clone(), 2000), std::slice::from_ref(&(0..1000)));
        assert_eq!(partition(windows.clone(), 600), [0..600, 600..1000]);
        assert_eq!(partition(windows, 300), [0..256, 256..600, 600..1000]);
        let far = 600 + GAP + 1;
        assert_eq!(partition(vec![0..600, far..far + 1], u64::MAX), [0..600, far..far + 1]);
        assert_eq!(
            partition(vec![0..600, far - 1..far], u64::MAX),
            std::slice::from_ref(&(0..far))
        );
        assert_eq!(partition(Vec::new(), 1), []);
    }
}
