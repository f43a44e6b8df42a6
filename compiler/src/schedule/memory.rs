//! The memory plan: live ranges to offsets in one arena.

/// When a buffer is in use, in steps, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    pub first: usize,
    pub last: usize,
    pub bytes: usize,
}

/// Offsets of buffers in an arena.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Per buffer, in the order given; multiples of the alignment.
    pub offsets: Vec<usize>,
    /// Arena size.
    pub bytes: usize,
}

/// Places buffers so that no two that live at once overlap: largest first, lowest gap that fits.
/// The result depends on the input alone.
pub fn assign(buffers: &[Live], align: usize) -> Layout {
    let size = |i: usize| buffers[i].bytes.next_multiple_of(align);
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(buffers[i].bytes), i));
    let mut offsets = vec![0; buffers.len()];
    let mut placed: Vec<usize> = Vec::with_capacity(buffers.len());
    let mut bytes = 0;
    for i in order {
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&j| overlaps(buffers[i], buffers[j]))
            .map(|&j| (offsets[j], offsets[j] + size(j)))
            .collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (start, end) in taken {
            if offset + size(i) <= start {
                break;
            }
            offset = offset.max(end);
        }
        offsets[i] = offset;
        bytes = bytes.max(offset + size(i));
        placed.push(i);
    }
    Layout { offsets, bytes }
}

fn overlaps(a: Live, b: Live) -> bool {
    a.first <= b.last && b.first <= a.last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(first: usize, last: usize, bytes: usize) -> Live {
        Live { first, last, bytes }
    }

    #[test]
    fn dead_buffers_give_their_place() {
        let layout = assign(&[live(0, 1, 100), live(1, 2, 100), live(2, 3, 100)], 64);
        assert_eq!(layout, Layout { offsets: vec![0, 128, 0], bytes: 256 });
    }

    #[test]
    fn live_buffers_never_overlap() {
        let buffers: Vec<Live> =
            (0..40).map(|i| live(i % 7, i % 7 + i % 5, 64 * (1 + i % 3))).collect();
        let layout = assign(&buffers, 64);
        for (i, a) in buffers.iter().enumerate() {
            for (j, b) in buffers.iter().enumerate().skip(i + 1) {
                let apart = layout.offsets[i] + a.bytes <= layout.offsets[j]
                    || layout.offsets[j] + b.bytes <= layout.offsets[i];
                assert!(apart || !overlaps(*a, *b), "{i} and {j} overlap");
            }
        }
    }
}
