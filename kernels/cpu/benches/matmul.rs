//! Speed of the matrix products against the roofs of this machine, both measured here.
//!
//! `cargo bench -p onebit-cpu -- [threads=N] [isa=portable|avx2|avx512] [class ...]`
//!
//! For each class: bytes of weights and weights a second at m = 1 over a matrix larger than the
//! caches, and operations a second at m = 32. Every timed output is compared with the portable kernel's.

#[path = "roofs.rs"]
mod roofs;
#[path = "../tests/classes/support.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod support;

use std::time::Instant;

use onebit_cpu::{Isa, Kernels, tile_bytes};
use onebit_plan::abi::{Activation, MatmulFn, StorageClass, TILE_ROWS};

use support::{Kind, Matrix, Random, activations, matmul};

/// Elements of a row: whole super-blocks, a size that models have.
const K: usize = 1536;
/// Different tiles; larger matrices repeat them.
const TILES: usize = 16;
/// Bytes of the matrix at m = 1: several times a 32 MiB last-level cache.
const STREAM_BYTES: usize = 192 << 20;
/// Bytes of weights that one run at m = 1 takes, for each thread: short, because a busy machine
/// interrupts long ones, and in memory when its turn comes.
const SLICE_BYTES: usize = 4 << 20;
/// Runs at m = 32 and of the int8 roof; the best counts.
const RUNS: usize = 40;
/// Output rows of the matrix at m = 32.
const PREFILL_ROWS: usize = 2048;

struct Settings {
    threads: usize,
    isa: Isa,
    classes: Vec<StorageClass>,
}

fn main() {
    let settings = settings();
    let kernels = Kernels::for_isa(settings.isa).expect("an instruction set of this CPU");
    println!("{:?}, {} thread(s), k = {K}", settings.isa, settings.threads);
    println!(
        "class      m=1 GB/s   read roof     %   G weights/s   m=32 GOP/s   int8 roof    %   pack M/s"
    );
    for class in &settings.classes {
        measure(*class, &kernels, settings.threads);
    }
}

fn settings() -> Settings {
    let mut settings = Settings { threads: 1, isa: Kernels::detect().isa(), classes: Vec::new() };
    for argument in std::env::args().skip(1) {
        if let Some(threads) = argument.strip_prefix("threads=") {
            settings.threads = threads.parse().expect("threads=N");
        } else if let Some(isa) = argument.strip_prefix("isa=") {
            let named = |candidate: &Isa| format!("{candidate:?}").eq_ignore_ascii_case(isa);
            settings.isa = Isa::ALL.into_iter().find(named).expect("isa=avx512, avx2 or portable");
        } else {
            let named = |class: &StorageClass| format!("{class:?}").eq_ignore_ascii_case(&argument);
            settings.classes.extend(StorageClass::ALL.into_iter().find(named));
        }
    }
    if settings.classes.is_empty() {
        settings.classes = StorageClass::ALL.to_vec();
    }
    settings
}

fn measure(class: StorageClass, kernels: &Kernels, threads: usize) {
    let matrix = Matrix::random(class, TILES * TILE_ROWS, K, Kind::Typical, 1);
    let start = Instant::now();
    let packed = matrix.pack();
    let pack_rate = (TILES * TILE_ROWS * K) as f64 / start.elapsed().as_secs_f64() / 1e6;
    let weights = Aligned::repeat(&packed, STREAM_BYTES / packed.len());

    let stream = Case::new(class, &weights, &packed, 1);
    let (kernel, read) = stream.slices(kernels, threads);
    let (bytes, read) = (kernel / 1e9, read / 1e9);
    let prefill = Case::new(class, &weights, &packed, 32);
    let operations = prefill.operations(kernels, threads) / 1e9;
    let peak = (0..RUNS).map(|_| roofs::int8_operations(threads)).fold(0.0, f64::max) / 1e9;
    // Float classes multiply in f32: a quarter of the products per instruction.
    let peak = if class.activation() == Activation::F32 { peak / 4.0 } else { peak };
    println!(
        "{:<9} {bytes:>9.1} {read:>11.1} {:>5.0} {:>13.2} {operations:>12.0} {peak:>11.0} {:>4.0} {pack_rate:>10.0}",
        format!("{class:?}"),
        100.0 * bytes / read,
        bytes * (TILE_ROWS * K) as f64 / tile_bytes(class, K) as f64,
        100.0 * operations / peak,
    );
}

/// One product to time and check.
struct Case<'a> {
    class: StorageClass,
    weights: &'a Aligned,
    /// The tiles that `weights` repeats.
    packed: &'a [u8],
    m: usize,
    x: Vec<u8>,
}

impl<'a> Case<'a> {
    fn new(class: StorageClass, weights: &'a Aligned, packed: &'a [u8], m: usize) -> Self {
        let mut random = Random::new(3);
        let x: Vec<f32> = (0..m * K).map(|_| random.float()).collect();
        Self { class, weights, packed, m, x: activations(class, &x, m, K) }
    }

    /// (kernel's, plain read's) bytes a second: slices of the matrix taken in turn by the one
    /// and the other, so that both meet the same machine; each the best tenth.
    fn slices(&self, kernels: &Kernels, threads: usize) -> (f64, f64) {
        let tiles = (SLICE_BYTES * threads / tile_bytes(self.class, K)).next_multiple_of(TILES);
        let rows = tiles * TILE_ROWS;
        let mut out = vec![0.0f32; rows];
        let (mut kernel, mut read) = (Vec::new(), Vec::new());
        let bytes = tiles * tile_bytes(self.class, K);
        for _ in 0..3 {
            for (i, slice) in self.weights.bytes().chunks_exact(bytes).enumerate() {
                if i % 2 == 0 {
                    read.push(roofs::read_bandwidth(slice, threads));
                    continue;
                }
                let start = Instant::now();
                self.run(kernels.matmul(self.class), slice, &mut out, rows, threads);
                kernel.push(bytes as f64 / start.elapsed().as_secs_f64());
                self.check(&out, rows);
            }
        }
        (best_tenth(kernel), best_tenth(read))
    }

    /// Operations a second on a matrix of `PREFILL_ROWS` rows, the best of some runs.
    fn operations(&self, kernels: &Kernels, threads: usize) -> f64 {
        let mut out = vec![0.0f32; self.m * PREFILL_ROWS];
        let mut least = f64::MAX;
        for _ in 0..RUNS {
            let start = Instant::now();
            let weights = self.weights.bytes();
            self.run(kernels.matmul(self.class), weights, &mut out, PREFILL_ROWS, threads);
            least = least.min(start.elapsed().as_secs_f64());
        }
        self.check(&out, PREFILL_ROWS);
        2.0 * (self.m * PREFILL_ROWS * K) as f64 / least
    }

    fn run(
        &self,
        function: MatmulFn,
        weights: &[u8],
        out: &mut [f32],
        rows: usize,
        threads: usize,
    ) {
        assert!(out.len() == self.m * rows);
        let share = (rows / TILE_ROWS).div_ceil(threads) * TILE_ROWS;
        let address = out.as_mut_ptr().expose_provenance();
        std::thread::scope(|scope| {
            let part = move |thread: usize| {
                let range = (thread * share).min(rows)..rows.min((thread + 1) * share);
                // SAFETY: buffers have the shape's sizes; threads write disjoint outputs.
                unsafe {
                    function(
                        weights.as_ptr(),
                        self.x.as_ptr(),
                        std::ptr::with_exposed_provenance_mut(address),
                        K as u32,
                        range.start as u32,
                        range.end as u32,
                        self.m as u32,
                        rows as u32,
                    );
                }
            };
            for thread in 1..threads {
                scope.spawn(move || part(thread));
            }
            part(0);
        });
    }

    /// Panics if an output differs from the portable kernel's.
    fn check(&self, out: &[f32], rows: usize) {
        let portable = Kernels::for_isa(Isa::Portable).expect("every CPU is portable");
        let n = TILES * TILE_ROWS;
        let expected = matmul(&portable, self.class, self.packed, &self.x, (self.m, n, K), 0..n);
        for (row, expected) in out.chunks(rows).zip(expected.chunks(n)) {
            for part in row.chunks(n) {
                let same = part.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{:?} m={}: not the portable kernel's result", self.class, self.m);
            }
        }
    }
}

/// The rate that one run in ten exceeds.
fn best_tenth(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[(rates.len() - 1) * 9 / 10]
}

/// Bytes on a 64-byte boundary, as plans store weights.
struct Aligned {
    lines: Vec<Line>,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl Aligned {
    fn repeat(bytes: &[u8], times: usize) -> Self {
        let mut lines = Vec::with_capacity(bytes.len() / 64 * times);
        for _ in 0..times {
            let chunks = bytes.chunks_exact(64);
            lines.extend(chunks.map(|chunk| Line(chunk.try_into().expect("64 bytes"))));
        }
        Self { lines }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: a line is 64 plain bytes.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.lines.len() * 64) }
    }
}
