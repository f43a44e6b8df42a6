//! Runs somebody else's int8 matrix design from its files and compares what it gives with A x B.
//!
//! `cargo run --release -p onebit-aie-emu --example array_gemm -- XCLBIN INSTRUCTIONS M K N [SEEDS [BITS]] [FLAGS]`:
//! argument 0 is A (M x K bytes), argument 1 B (K x N bytes), argument 2 the sums (M x N words of 32
//! bits), random bytes in. Flags: `--tiled` lays A, B and the sums out in blocks of 8 by 8 inside
//! tiles of 32 by 64, 64 by 128 and 32 by 128; `--zeros` gives cores zeros for memory that nobody
//! wrote; `--keep` allows data under way at the end; `--checked` makes it a fault when a program
//! would notice another latency; `--shortest` runs with the shortest ones. SEEDS repeats with
//! as many orders of events.
//! BITS times one bit of a descriptor, lock, route or queue is then
//! changed, and what becomes of the product is counted. docs/npu-verification.md records runs.

use std::process::ExitCode;

use onebit_aie::cdo::Cdo;
use onebit_aie::pdi::Pdi;
use onebit_aie::program::{RegisterOp, RegisterProgram};
use onebit_aie::xclbin::Xclbin;
use onebit_aie_emu::array::{Latency, Leftover, Unwritten};
use onebit_aie_emu::report::Report;
use onebit_aie_emu::{Array, Fault, Options};
use sha2::{Digest, Sha256};

struct Shape {
    rows: usize,
    depth: usize,
    columns: usize,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// A design's files, and what its product is to be.
struct Job {
    xclbin: Vec<u8>,
    instructions: Vec<u8>,
    shape: Shape,
    is_tiled: bool,
    options: Options,
    inputs: [Vec<u8>; 2],
    expected: Vec<i32>,
}

fn run() -> Result<bool, String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (flags, words): (Vec<_>, Vec<_>) =
        arguments.iter().map(String::as_str).partition(|argument| argument.starts_with("--"));
    let job = Job::read(&flags, &words)?;
    let number = |at: usize| words.get(at).map_or(Ok(0), |text| number(text));
    let (seeds, bits) = (number(5)?, number(6)?);
    let mut is_right = true;
    for seed in (0..=seeds as u64).map(|seed| seed.checked_sub(1)) {
        let options = Options { seed, ..job.options };
        let (sums, report) =
            job.product(&job.xclbin, options).map_err(|fault| fault.to_string())?;
        is_right &= compare(&sums, &job.expected, job.shape.columns);
        println!(
            "  seed {seed:?}: {} modelled cycles, {} core words, {} bytes in, {} out, {} groups, \
             {} waiting, unknown registers {:x?}",
            report.cycles,
            report.core_words,
            report.bytes_read,
            report.bytes_written,
            report.groups,
            report.waiting.len(),
            report.unknown_registers
        );
    }
    if bits > 0 {
        job.change_bits(bits)?;
    }
    Ok(is_right)
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|error| format!("{text}: {error}"))
}

impl Job {
    fn read(flags: &[&str], words: &[&str]) -> Result<Self, String> {
        let [xclbin, instructions, rows, depth, columns, ..] = words[..] else {
            return Err(String::from("usage: array_gemm XCLBIN INSTRUCTIONS M K N [SEEDS [BITS]]"));
        };
        let shape = Shape { rows: number(rows)?, depth: number(depth)?, columns: number(columns)? };
        let has = |name: &str| flags.contains(&name);
        let read = |path: &str| std::fs::read(path).map_err(|error| format!("{path}: {error}"));
        let (xclbin, instructions) = (read(xclbin)?, read(instructions)?);
        println!("xclbin       {:x}", Hex(&xclbin));
        println!("instructions {:x}", Hex(&instructions));
        let mut options = Options::default();
        if has("--zeros") {
            options.unwritten = Unwritten::ZerosForCores;
        }
        if has("--keep") {
            options.leftover = Leftover::Kept;
        }
        if has("--checked") {
            options.latency = Latency::Checked;
        }
        if has("--shortest") {
            options.latency = Latency::Shortest;
        }
        let a = random(shape.rows * shape.depth, 1);
        let b = random(shape.depth * shape.columns, 2);
        let expected = product(&a, &b, &shape);
        let is_tiled = has("--tiled");
        let inputs = match is_tiled {
            true => [
                tiled(&a, shape.rows, shape.depth, 32, 64),
                tiled(&b, shape.depth, shape.columns, 64, 128),
            ],
            false => [a, b],
        };
        let bytes = |values: Vec<i8>| values.into_iter().map(i8::cast_unsigned).collect();
        let inputs = inputs.map(bytes);
        Ok(Job { xclbin, instructions, shape, is_tiled, options, inputs, expected })
    }

    fn product(&self, xclbin: &[u8], options: Options) -> Result<(Vec<i32>, Report), Fault> {
        let (rows, columns) = (self.shape.rows, self.shape.columns);
        let mut array = Array::configure(xclbin, options)?;
        let [a, b] = self.inputs.clone();
        let mut buffers = [a, b, vec![0xee; rows * columns * 4]];
        let report = array.run(&self.instructions, &mut buffers)?;
        let (sums, _) = buffers[2].as_chunks::<4>();
        let sums: Vec<i32> = sums.iter().map(|&sum| i32::from_le_bytes(sum)).collect();
        let sums = if self.is_tiled { untiled(&sums, rows, columns, 32, 128) } else { sums };
        Ok((sums, report))
    }

    fn change_bits(&self, count: usize) -> Result<(), String> {
        let [mut faults, mut wrong, mut right] = [0; 3];
        for change in 0..count {
            let Some(xclbin) = changed(&self.xclbin, change)? else { continue };
            match self.product(&xclbin, self.options) {
                Err(_) => faults += 1,
                Ok((sums, _)) if sums != self.expected => wrong += 1,
                Ok(_) => right += 1,
            }
        }
        println!("  bits changed: {faults} faults, {wrong} wrong products, {right} right ones");
        Ok(())
    }
}

/// The design with one bit changed in what it writes to a register that moves data; None when the
/// bit that is drawn is another one.
fn changed(xclbin: &[u8], change: usize) -> Result<Option<Vec<u8>>, String> {
    let xclbin = Xclbin::parse(xclbin).map_err(|error| error.to_string())?;
    let mut ops = xclbin.partition.pdi.cdo.program().ops;
    let draw = random(12, 1000 + change as u64);
    let draw = |at: usize, bound: usize| {
        let bytes = draw[at..at + 4].iter().map(|&byte| usize::from(byte.cast_unsigned()));
        bytes.fold(0, |number, byte| number << 8 | byte) % bound
    };
    let moves_data = |op: &RegisterOp| match op {
        // Descriptors are blocks of six or eight words; longer blocks are programs and data.
        RegisterOp::BlockWrite { data, .. } => data.len() <= 8,
        // Zeros are what the registers hold anyway.
        RegisterOp::Write32 { value, .. } => *value != 0,
        RegisterOp::MaskWrite { .. } => false,
    };
    let places: Vec<usize> = (0..ops.len()).filter(|&place| moves_data(&ops[place])).collect();
    let (place, bit) = (places[draw(0, places.len())], draw(8, 32));
    match &mut ops[place] {
        RegisterOp::BlockWrite { data, .. } => {
            let word = draw(4, data.len());
            data[word] ^= 1 << bit;
        }
        RegisterOp::Write32 { value, .. } => *value ^= 1 << bit,
        RegisterOp::MaskWrite { .. } => return Ok(None),
    }
    let pdi = Pdi::new(Cdo::from_program(&RegisterProgram { ops }));
    let xclbin = Xclbin::new(xclbin.partition.column_width, pdi);
    let bytes = xclbin.and_then(|xclbin| xclbin.to_bytes());
    bytes.map(Some).map_err(|error| error.to_string())
}

struct Hex<'a>(&'a [u8]);

impl std::fmt::LowerHex for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Sha256::digest(self.0).iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn random(count: usize, seed: u64) -> Vec<i8> {
    let mut state = seed;
    let mut next = || {
        // Knuth's multiplier for 64-bit linear congruential generators; the high bits are good.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8 as i8
    };
    (0..count).map(|_| next()).collect()
}

fn product(a: &[i8], b: &[i8], shape: &Shape) -> Vec<i32> {
    let mut sums = vec![0; shape.rows * shape.columns];
    for (row, sums) in sums.chunks_mut(shape.columns).enumerate() {
        for depth in 0..shape.depth {
            let factor = i32::from(a[row * shape.depth + depth]);
            let b = &b[depth * shape.columns..][..shape.columns];
            sums.iter_mut().zip(b).for_each(|(sum, &b)| *sum += factor * i32::from(b));
        }
    }
    sums
}

/// Where element (row, column) of a tile of blocks of 8 by 8 stands in it.
fn place(row: usize, column: usize, width: usize) -> usize {
    ((row / 8) * (width / 8) + column / 8) * 64 + (row % 8) * 8 + column % 8
}

/// A row-major matrix with every tile's elements in the order of its blocks, spread over the
/// places that the tile has in the row-major matrix.
fn tiled(matrix: &[i8], rows: usize, columns: usize, height: usize, width: usize) -> Vec<i8> {
    let mut tiled = vec![0; rows * columns];
    for (index, &value) in matrix.iter().enumerate() {
        let (row, column) = (index / columns, index % columns);
        let to = place(row % height, column % width, width);
        let start = (row / height * height) * columns + column / width * width;
        tiled[start + to / width * columns + to % width] = value;
    }
    tiled
}

fn untiled(matrix: &[i32], rows: usize, columns: usize, height: usize, width: usize) -> Vec<i32> {
    let places = (0..rows * columns).map(|index| {
        let (row, column) = (index / columns, index % columns);
        let from = place(row % height, column % width, width);
        let start = (row / height * height) * columns + column / width * width;
        matrix[start + from / width * columns + from % width]
    });
    places.collect()
}

fn compare(sums: &[i32], expected: &[i32], columns: usize) -> bool {
    let equal = sums.iter().zip(expected).filter(|(a, b)| a == b).count();
    println!("  {equal} of {} sums are right", expected.len());
    let first = sums.iter().zip(expected).position(|(a, b)| a != b);
    if let Some(first) = first {
        let (row, column) = (first / columns, first % columns);
        println!("  row {row}, column {column}: {} for {}", sums[first], expected[first]);
    }
    first.is_none()
}
