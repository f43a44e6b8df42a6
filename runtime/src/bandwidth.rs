//! How fast this machine reads memory: the roof of decoding, which reads every weight once a token.

use std::hint::black_box;
use std::time::Instant;

/// Bytes read by each thread: far beyond any cache's share.
const BYTES_PER_THREAD: usize = 256 << 20;
const PASSES: usize = 5;

/// Bytes per second that `threads` threads read together from memory: the best of five passes
/// over a buffer of 256 MiB a thread, each thread in several sequential streams.
pub fn read_bandwidth(threads: usize) -> f64 {
    let words = BYTES_PER_THREAD / size_of::<u64>();
    // Written, not only zeroed: untouched pages would all be one page of zeros.
    let buffers: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let fill = |seed: usize| move || (0..words).map(|i| (i ^ seed) as u64).collect();
        let workers: Vec<_> = (0..threads).map(|seed| scope.spawn(fill(seed))).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
    });
    let bytes = (buffers.len() * BYTES_PER_THREAD) as f64;
    (0..PASSES).map(|_| bytes / pass(&buffers)).fold(0.0, f64::max)
}

/// Seconds of one pass over all buffers, one thread each.
fn pass(buffers: &[Vec<u64>]) -> f64 {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for buffer in buffers {
            scope.spawn(move || black_box(sum(buffer)));
        }
    });
    start.elapsed().as_secs_f64()
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
