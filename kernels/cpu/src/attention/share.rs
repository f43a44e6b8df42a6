//! Which queries of a step belong to which thread.

use std::ops::Range;

/// What a query costs besides its positions, in positions.
const FIXED_COST: u64 = 16;

/// One thread's part of the queries of a step, in their order: group, key/value head, row, head.
///
/// Query i with cost c belongs to the thread in whose equal part of the total cost its middle
/// falls. Every thread computes the same cuts, so that each query has exactly one owner.
pub(super) struct Share {
    threads: u64,
    /// Bounds on twice a query's middle, times the number of threads.
    bounds: Range<u64>,
    /// Cost of the queries already offered.
    before: u64,
}

fn cost(length: usize) -> u64 {
    length as u64 + FIXED_COST
}

impl Share {
    /// `lengths` are the positions that each row sees; each row has `heads` queries.
    pub(super) fn new(
        lengths: impl Iterator<Item = usize>,
        heads: usize,
        thread: usize,
        threads: usize,
    ) -> Self {
        let total = lengths.map(cost).sum::<u64>() * heads as u64;
        let thread = thread as u64;
        Self {
            threads: threads as u64,
            bounds: 2 * total * thread..2 * total * (thread + 1),
            before: 0,
        }
    }

    /// The thread's part of the next rows, `heads` queries each; consecutive by construction.
    pub(super) fn take(
        &mut self,
        lengths: impl Iterator<Item = usize>,
        heads: usize,
    ) -> Range<usize> {
        let (mut start, mut end) = (0, 0);
        for length in lengths {
            let cost = cost(length);
            for _ in 0..heads {
                let middle = (2 * self.before + cost) * self.threads;
                start += usize::from(middle < self.bounds.start);
                end += usize::from(middle < self.bounds.end);
                self.before += cost;
            }
        }
        start..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(lengths: &[usize], heads: usize, kv_heads: usize, threads: usize) -> Vec<Vec<usize>> {
        let share = |thread| {
            let mut share = Share::new(lengths.iter().copied(), heads, thread, threads);
            let per_kv_head = heads / kv_heads;
            let mut mine = Vec::new();
            for kv_head in 0..kv_heads {
                let part = share.take(lengths.iter().copied(), per_kv_head);
                mine.extend(part.map(|i| kv_head * lengths.len() * per_kv_head + i));
            }
            mine
        };
        (0..threads).map(share).collect()
    }

    #[test]
    fn every_query_has_one_owner() {
        for (rows, heads, kv_heads) in [(1, 9, 3), (1, 4, 1), (7, 14, 2), (32, 16, 8), (5, 1, 1)] {
            let lengths: Vec<_> = (0..rows).map(|row| 1 + 37 * row).collect();
            for threads in 1..9 {
                let all = shares(&lengths, heads, kv_heads, threads).concat();
                assert_eq!(all, (0..rows * heads).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn few_heads_keep_all_threads_busy() {
        let counts = |heads, kv_heads, threads| -> Vec<usize> {
            shares(&[640], heads, kv_heads, threads).iter().map(Vec::len).collect()
        };
        assert_eq!(counts(4, 1, 2), [2, 2]);
        assert_eq!(counts(9, 3, 2), [4, 5]);
        assert_eq!(counts(14, 2, 4), [3, 4, 3, 4]);
    }

    #[test]
    fn parts_are_balanced_by_positions() {
        let lengths: Vec<_> = (1..=128).collect();
        let cost = |queries: &Vec<usize>| queries.iter().map(|q| cost(lengths[*q])).sum::<u64>();
        let costs: Vec<_> = shares(&lengths, 1, 1, 4).iter().map(cost).collect();
        let (least, most) = (costs.iter().min().unwrap(), costs.iter().max().unwrap());
        assert!(most - least < 200, "{costs:?}");
    }
}
