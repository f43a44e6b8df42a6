//! How fast this machine reads memory: the roof of decoding, which reads every weight once a token.

use std::hint::black_box;
use std::time::Instant;

/// Bytes read by each thread: far beyond any cache's share.
const BYTES_PER_THREAD: usize = 256 << 20;
const PASSES: usize = 5;

/// How fast memory was read, with the check of the same run.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    pub threads: usize,
    /// Bytes of one pass over all buffers.
    pub bytes: u64,
    /// Bytes a second of each pass.
    pub passes: Vec<f64>,
    /// Whether in every pass the sum of what was read was that of what had been written.
    pub checked: bool,
}

impl Measured {
    /// Bytes a second of the fastest pass.
    pub fn best(&self) -> f64 {
        self.passes.iter().copied().fold(0.0, f64::max)
    }

    /// Bytes a second of the middle pass, the lower of two.
    pub fn median(&self) -> f64 {
        let mut passes = self.passes.clone();
        passes.sort_by(f64::total_cmp);
        passes.get((passes.len().max(1) - 1) / 2).copied().unwrap_or(0.0)
    }
}

/// Bytes per second that `threads` threads read together from memory: the best of five passes
/// over a buffer of 256 MiB a thread, each thread in several sequential streams.
pub fn read_bandwidth(threads: usize) -> f64 {
    measure(threads, BYTES_PER_THREAD).best()
}

/// Five passes of `threads` threads, each over a buffer of its own of [`BYTES_PER_THREAD`].
pub fn measure_read(threads: usize) -> Measured {
    measure(threads, BYTES_PER_THREAD)
}

fn measure(threads: usize, bytes_per_thread: usize) -> Measured {
    let words = bytes_per_thread / size_of::<u64>();
    // Written, not only zeroed: untouched pages would all be one page of zeros.
    let filled: Vec<(Vec<u64>, u64)> = std::thread::scope(|scope| {
        let fill = |seed: usize| {
            move || ((0..words).map(|at| word(at, seed)).collect(), expected(words, seed))
        };
        let workers: Vec<_> = (0..threads).map(|seed| scope.spawn(fill(seed))).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
    });
    let (buffers, expected): (Vec<Vec<u64>>, Vec<u64>) = filled.into_iter().unzip();
    let bytes = (buffers.len() * words * size_of::<u64>()) as u64;
    let (mut passes, mut checked) = (Vec::new(), buffers.len() == threads);
    for _ in 0..PASSES {
        let (seconds, sums) = pass(&buffers);
        passes.push(bytes as f64 / seconds);
        checked &= sums == expected;
    }
    Measured { threads, bytes, passes, checked }
}

/// What stands in a buffer.
fn word(index: usize, seed: usize) -> u64 {
    (index ^ seed) as u64
}

/// The sum of a buffer by what was written, in the order of [`sum`].
fn expected(words: usize, seed: usize) -> u64 {
    let quarter = words / 4 / 8 * 8;
    let value = |at: usize| word(at, seed);
    (0..quarter).fold(0, |sum, at| {
        let pair = value(at).wrapping_add(value(at + quarter));
        let others = value(at + 2 * quarter) ^ value(at + 3 * quarter);
        sum.wrapping_add(pair).wrapping_add(others)
    })
}

/// Seconds of one pass over all buffers, one thread each, and what each thread read.
fn pass(buffers: &[Vec<u64>]) -> (f64, Vec<u64>) {
    let start = Instant::now();
    let sums: Vec<Option<u64>> = std::thread::scope(|scope| {
        let workers: Vec<_> =
            buffers.iter().map(|buffer| scope.spawn(move || black_box(sum(buffer)))).collect();
        workers.into_iter().map(|worker| worker.join().ok()).collect()
    });
    (start.elapsed().as_secs_f64(), sums.into_iter().flatten().collect())
}

/// Four streams of eight words: enough loads in flight to fill the memory pipeline.
fn sum(words: &[u64]) -> u64 {
    let quarter = words.len() / 4 / 8 * 8;
    let (a, rest) = words.split_at(quarter);
    let (b, rest) = rest.split_at(quarter);
    let (c, rest) = rest.split_at(quarter);
    let streams = a.chunks_exact(8).zip(b.chunks_exact(8)).zip(c.chunks_exact(8));
    let mut total = [0_u64; 8];
    for (((a, b), c), d) in streams.zip(rest.chunks_exact(8)) {
        for lane in 0..8 {
            let pair = a[lane].wrapping_add(b[lane]);
            total[lane] = total[lane].wrapping_add(pair).wrapping_add(c[lane] ^ d[lane]);
        }
    }
    total.iter().fold(0, |sum, &lane| sum.wrapping_add(lane))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_what_was_written() {
        let measured = measure(3, 1 << 16);
        assert!(measured.checked);
        assert_eq!((measured.bytes, measured.passes.len()), (3 << 16, PASSES));
        assert!(measured.median() > 0.0 && measured.median() <= measured.best());
        let mut buffer: Vec<u64> = (0..1 << 10).map(|at| word(at, 1)).collect();
        assert_eq!(sum(&buffer), expected(1 << 10, 1));
        buffer[77] += 1;
        assert_ne!(sum(&buffer), expected(1 << 10, 1));
    }
}
