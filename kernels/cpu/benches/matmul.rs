//! Speed of the matrix products against the roofs of this machine, both measured here.
//!
//! `cargo bench -p onebit-cpu -- [threads=N] [isa=portable|avx2|avx512] [class ...]`
//!
//! For each class: bytes of weights a second at m = 1 over a matrix larger than the caches, and
//! operations a second at m = 32. Every timed output is compared with the portable kernel's.

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
    println!("class      m=1 GB/s   read roof     %   m=32 GOP/s   int8 roof    %   pack M/s");
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
    let tiles = (STREAM_BYTES / tile_bytes(class, K)).next_multiple_of(TILES);
    let weights = Aligned::repeat(&packed, tiles / TILES);
    let stream = Case { class, weights: &weights, packed: &packed, rows: tiles * TILE_ROWS, m: 1 };
    let prefill = Case { rows: PREFILL_ROWS, m: 32, ..stream };

    let (mut stream_time, mut read) = (f64::MAX, 0.0f64);
    let (mut prefill_time, mut peak) = (f64::MAX, 0.0f64);
    for _ in 0..5 {
        read = read.max(roofs::read_bandwidth(weights.bytes(), threads));
        stream_time = stream_time.min(stream.time(kernels, threads, 2));
        peak = peak.max(roofs::int8_operations(threads));
        prefill_time = prefill_time.min(prefill.time(kernels, threads, 3));
    }
    let bytes = weights.bytes().len() as f64 / stream_time / 1e9;
    let operations = 2.0 * (32 * PREFILL_ROWS * K) as f64 / prefill_time / 1e9;
    // Float classes multiply in f32: a quarter of the products per instruction.
    let peak = if class.activation() == Activation::F32 { peak / 4.0 } else { peak } / 1e9;
    let read = read / 1e9;
    println!(
        "{:<9} {bytes:>9.1} {read:>11.1} {:>5.0} {operations:>12.0} {peak:>11.0} {:>4.0} {pack_rate:>10.0}",
        format!("{class:?}"),
        100.0 * bytes / read,
        100.0 * operations / peak,
    );
}

/// One product to time and check.
#[derive(Clone, Copy)]
struct Case<'a> {
    class: StorageClass,
    weights: &'a Aligned,
    /// The tiles that `weights` repeats.
    packed: &'a [u8],
    rows: usize,
    m: usize,
}

impl Case<'_> {
    /// Least seconds of `repeats` runs. Panics if an output differs from the portable kernel's.
    fn time(&self, kernels: &Kernels, threads: usize, repeats: usize) -> f64 {
        let mut random = Random::new(3);
        let x: Vec<f32> = (0..self.m * K).map(|_| random.float()).collect();
        let x = activations(self.class, &x, self.m, K);
        let mut out = vec![0.0f32; self.m * self.rows];
        let mut least = f64::MAX;
        for _ in 0..repeats {
            let start = Instant::now();
            self.run(kernels.matmul(self.class), &x, &mut out, threads);
            least = least.min(start.elapsed().as_secs_f64());
        }
        self.check(&x, &out);
        least
    }

    fn run(&self, function: MatmulFn, x: &[u8], out: &mut [f32], threads: usize) {
        let share = (self.rows / TILE_ROWS).div_ceil(threads) * TILE_ROWS;
        let address = out.as_mut_ptr().expose_provenance();
        std::thread::scope(|scope| {
            let part = |thread: usize| {
                let range = thread * share..self.rows.min((thread + 1) * share);
                // SAFETY: buffers have the shape's sizes; threads write disjoint outputs.
                unsafe {
                    function(
                        self.weights.bytes().as_ptr(),
                        x.as_ptr(),
                        std::ptr::with_exposed_provenance_mut(address),
                        K as u32,
                        range.start as u32,
                        range.end as u32,
                        self.m as u32,
                        self.rows as u32,
                    );
                }
            };
            for thread in 1..threads {
                scope.spawn(move || part(thread));
            }
            part(0);
        });
    }

    fn check(&self, x: &[u8], out: &[f32]) {
        let portable = Kernels::for_isa(Isa::Portable).expect("every CPU is portable");
        let n = TILES * TILE_ROWS;
        let expected = matmul(&portable, self.class, self.packed, x, (self.m, n, K), 0..n);
        for (row, expected) in out.chunks(self.rows).zip(expected.chunks(n)) {
            for part in row.chunks(n) {
                let same = part.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{:?} m={}: not the portable kernel's result", self.class, self.m);
            }
        }
    }
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
