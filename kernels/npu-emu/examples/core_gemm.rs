//! Runs compiled core programs of other people's int8 matrix designs, and compares their products.
//!
//! `cargo run --release -p onebit-aie-emu --example core_gemm -- FILE.xclbin…`: the programs, their
//! buffers and their locks come from the files, each different program once; this one plays the
//! tile's DMA, fills the two input buffers with random bytes and compares what comes out with sums
//! of products. Only programs that multiply blocks of 32 by 64 and 64 by 128 bytes into sums of 32
//! bits, row after row or in tiles of 8 by 8, can come out right; the others are named. It then changes one
//! latency at a time, which must not go unnoticed. docs/npu-verification.md records a run.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use onebit_aie::program::{RegisterAddress, RegisterMap, RegisterOp, RegisterProgram};
use onebit_aie::xclbin::Xclbin;
use onebit_aie_emu::Fault;
use onebit_aie_emu::bus::Bus;
use onebit_aie_emu::core::{Core, LatencyModel, Status};
use sha2::{Digest, Sha256};

const ROWS: usize = 32;
const DEPTH: usize = 64;
const COLUMNS: usize = 128;
/// Blocks on offer: more than any program takes for one product.
const BLOCKS: usize = 256;
const LIMIT: u64 = 200_000_000;

/// A descriptor of the tile's DMA (aie-rt, `xaie2pgbl_params.h`): bytes and lock actions.
#[derive(Clone, Copy, Debug)]
struct Descriptor {
    base: usize,
    bytes: usize,
    acquire: (usize, i32),
    release: (usize, i32),
    next: Option<usize>,
}

impl Descriptor {
    fn read(words: [u32; 6]) -> Self {
        let signed = |value: u32| ((value << 25) as i32) >> 25;
        Descriptor {
            base: (words[0] >> 14 & 0x3fff) as usize * 4,
            bytes: (words[0] & 0x3fff) as usize * 4,
            acquire: ((words[5] & 0xf) as usize, signed(words[5] >> 5)),
            release: ((words[5] >> 13 & 0xf) as usize, signed(words[5] >> 18)),
            next: (words[5] >> 26 & 1 == 1).then_some((words[5] >> 27 & 0xf) as usize),
        }
    }
}

/// What the file says of a tile.
#[derive(Clone, Debug)]
struct Tile {
    program: Vec<(u32, Vec<u8>)>,
    locks: [i32; 16],
    descriptors: BTreeMap<usize, Descriptor>,
    /// First descriptors of the two input channels and the output channel.
    starts: [usize; 3],
}

impl Tile {
    fn of(program: &RegisterProgram, column: u32, row: u32) -> Option<Self> {
        let mut map = RegisterMap::default();
        map.apply(program);
        let word =
            |offset| RegisterAddress::new(column, row, offset).map(|address| map.read(address));
        let mut code = Vec::new();
        for op in &program.ops {
            let RegisterOp::BlockWrite { address, data } = op else { continue };
            let is_here = address.column() == column && address.row() == row;
            if is_here && (0x20000..0x24000).contains(&address.offset()) {
                let bytes = data.iter().flat_map(|word| word.to_le_bytes()).collect();
                code.push((address.offset() - 0x20000, bytes));
            }
        }
        let mut locks = [0; 16];
        for (index, lock) in locks.iter_mut().enumerate() {
            *lock = word(0x1f000 + 0x10 * index as u32).unwrap_or(0) as i32;
        }
        let mut descriptors = BTreeMap::new();
        for index in 0..16 {
            let at = 0x1d000 + 0x20 * index;
            {
                let words = std::array::from_fn(|n| word(at + 4 * n as u32).unwrap_or(0));
                descriptors.insert(index as usize, Descriptor::read(words));
            }
        }
        let start = |queue| word(queue).map(|value| (value & 0xf) as usize);
        let starts = [start(0x1de04)?, start(0x1de0c)?, start(0x1de14)?];
        Some(Tile { program: code, locks, descriptors, starts })
    }
}

/// The tile's memory and locks, and a DMA that moves a whole buffer as soon as it may.
struct Player<'a> {
    tile: &'a Tile,
    memory: Vec<u8>,
    is_written: Vec<bool>,
    locks: [i32; 16],
    next: [Option<usize>; 3],
    inputs: [Vec<u8>; 2],
    sent: [usize; 2],
    output: Vec<u8>,
}

impl<'a> Player<'a> {
    fn new(tile: &'a Tile, inputs: [Vec<u8>; 2]) -> Self {
        Player {
            tile,
            memory: vec![0; 0x10000],
            is_written: vec![false; 0x10000],
            locks: tile.locks,
            next: tile.starts.map(Some),
            inputs,
            sent: [0; 2],
            output: Vec::new(),
        }
    }

    /// Moves what can be moved.
    fn transfer(&mut self) {
        for channel in 0..3 {
            let Some(index) = self.next[channel] else { continue };
            let descriptor = self.tile.descriptors[&index];
            let (lock, value) = descriptor.acquire;
            let range = descriptor.base..descriptor.base + descriptor.bytes;
            if channel < 2 && self.sent[channel] + range.len() > self.inputs[channel].len() {
                continue;
            }
            if !take(&mut self.locks[lock], value) {
                continue;
            }
            if channel < 2 {
                let from = self.sent[channel];
                let bytes = &self.inputs[channel][from..from + range.len()];
                self.memory[range.clone()].copy_from_slice(bytes);
                self.is_written[range.clone()].fill(true);
                self.sent[channel] += range.len();
            } else {
                self.output.extend_from_slice(&self.memory[range]);
            }
            self.locks[descriptor.release.0] += descriptor.release.1;
            self.next[channel] = descriptor.next;
        }
    }

    fn window(address: u32, length: usize) -> Result<std::ops::Range<usize>, Fault> {
        let start = address.wrapping_sub(0x70000) as usize;
        if start + length > 0x10000 {
            Err(Fault::NoSuchAddress { address })
        } else {
            Ok(start..start + length)
        }
    }
}

fn take(lock: &mut i32, value: i32) -> bool {
    let may = if value < 0 { *lock >= -value } else { *lock == value };
    if may {
        *lock -= value.abs();
    }
    may
}

impl Bus for Player<'_> {
    fn load(&mut self, address: u32, bytes: &mut [u8]) -> Result<(), Fault> {
        let range = Player::window(address, bytes.len())?;
        if !self.is_written[range.clone()].iter().all(|is_written| *is_written) {
            return Err(Fault::NoSuchAddress { address });
        }
        bytes.copy_from_slice(&self.memory[range]);
        Ok(())
    }

    fn store(&mut self, address: u32, bytes: &[u8]) -> Result<(), Fault> {
        let range = Player::window(address, bytes.len())?;
        self.memory[range.clone()].copy_from_slice(bytes);
        self.is_written[range].fill(true);
        Ok(())
    }

    fn acquire(&mut self, lock: u32, value: i32) -> Result<bool, Fault> {
        Ok(take(&mut self.locks[(lock - 48) as usize], value))
    }

    fn release(&mut self, lock: u32, value: i32) -> Result<(), Fault> {
        self.locks[(lock - 48) as usize] += value;
        Ok(())
    }
}

/// How the tile lays out a matrix of so many columns.
#[derive(Clone, Copy, Debug)]
enum Layout {
    Rows,
    Tiles,
}

impl Layout {
    fn place(self, row: usize, column: usize, columns: usize) -> usize {
        match self {
            Layout::Rows => row * columns + column,
            Layout::Tiles => {
                ((row / 8) * (columns / 8) + column / 8) * 64 + (row % 8) * 8 + column % 8
            }
        }
    }

    /// Adds the products of one block.
    fn add_block(self, sums: &mut [i32], a: &[u8], b: &[u8]) {
        for (i, j) in (0..ROWS).flat_map(|i| (0..COLUMNS).map(move |j| (i, j))) {
            let product = |k| {
                let a = a[self.place(i, k, DEPTH)] as i8;
                i32::from(a) * i32::from(b[self.place(k, j, COLUMNS)] as i8)
            };
            sums[self.place(i, j, COLUMNS)] += (0..DEPTH).map(product).sum::<i32>();
        }
    }
}

/// The first depth, in blocks, at which the sums of products are `output`.
fn depth_of(output: &[i32], inputs: &[Vec<u8>; 2], most: usize) -> Option<usize> {
    for layout in [Layout::Tiles, Layout::Rows] {
        let mut sums = vec![0; ROWS * COLUMNS];
        let blocks = inputs[0].chunks(ROWS * DEPTH).zip(inputs[1].chunks(DEPTH * COLUMNS));
        for (index, (a, b)) in blocks.take(most).enumerate() {
            layout.add_block(&mut sums, a, b);
            if sums == output {
                return Some(index + 1);
            }
        }
    }
    None
}

/// Runs the tile until it has given one output buffer; its depth in blocks, and words executed.
fn run(tile: &Tile, mut core: Core) -> Result<(usize, u64), String> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |count: usize| -> Vec<u8> {
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        };
        (0..count).map(|_| next()).collect()
    };
    let inputs = [random(BLOCKS * ROWS * DEPTH), random(BLOCKS * DEPTH * COLUMNS)];
    for (offset, bytes) in &tile.program {
        core.write_program(*offset, bytes).map_err(|fault| fault.to_string())?;
    }
    core.enable();
    let mut player = Player::new(tile, inputs);
    while player.output.is_empty() && core.cycle() < LIMIT {
        player.transfer();
        if core.step(&mut player).map_err(|fault| fault.to_string())? == Status::Done {
            return Err("the program ended".to_owned());
        }
    }
    if player.output.is_empty() {
        return Err(format!("no output after {LIMIT} cycles; sent {:?} bytes", player.sent));
    }
    let word = |bytes: &[u8]| i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let sums: Vec<i32> = player.output.chunks_exact(4).map(word).collect();
    let most = player.sent[0] / (ROWS * DEPTH);
    let depth = depth_of(&sums, &player.inputs, most);
    depth.map(|depth| (depth, core.words())).ok_or_else(|| "the sums are wrong".to_owned())
}

/// One latency that is not the hardware's.
type Change = fn(&mut LatencyModel);

const CHANGES: [(&str, Change); 9] = [
    ("scalar products after 3", |model| model.multiply = 3),
    ("loads after 5", |model| model.load = 5),
    ("loads after 6", |model| model.load = 6),
    ("loads after 8", |model| model.load = 8),
    ("products after 5", |model| model.matrix = 5),
    ("products after 7", |model| model.matrix = 7),
    ("products after 8", |model| model.matrix = 8),
    ("accumulators read at issue", |model| model.accumulator_read = 0),
    ("scalars after 2", |model| model.scalar = 2),
];

/// Counts, by what they are of.
#[derive(Default)]
struct Counts(Vec<(String, usize)>);

impl Counts {
    fn add(&mut self, what: &str, number: usize) {
        match self.0.iter_mut().find(|(name, _)| name == what) {
            Some((_, count)) => *count += number,
            None => self.0.push((what.to_owned(), number)),
        }
    }
}

/// Runs `tile` under all models.
fn judge(tile: &Tile, counts: &mut Counts) -> Result<String, String> {
    let documented = LatencyModel::documented();
    counts.add("programs", 1);
    let (depth, words) = match run(tile, Core::new(&documented)) {
        Ok(outcome) => outcome,
        Err(error) => {
            counts.add("not of this kind, or wrong", 1);
            return Err(error);
        }
    };
    counts.add("right under the documented latencies", 1);
    let checked = run(tile, Core::checked(&documented, &documented));
    counts.add("without a hazard", usize::from(checked.is_ok()));
    for (name, change) in CHANGES {
        let mut model = documented;
        change(&mut model);
        let noticed = run(tile, Core::new(&model)).ok() != Some((depth, words));
        counts.add(&format!("broken by {name}"), usize::from(noticed));
    }
    let checked = checked.map_or_else(|error| format!("; checked: {error}"), |_| String::new());
    counts.add("words executed by those, until the first product", words as usize);
    Ok(format!("depth {}: right after {words} words{checked}", depth * DEPTH))
}

fn main() -> ExitCode {
    let mut counts = Counts::default();
    let mut hashes = BTreeSet::new();
    let mut met = BTreeSet::new();
    for path in std::env::args().skip(1) {
        let Some(container) = std::fs::read(&path)
            .ok()
            .and_then(|bytes| Some((hex(&bytes), Xclbin::parse(&bytes).ok()?)))
        else {
            println!("{path}: no container");
            continue;
        };
        if !hashes.insert(container.0) {
            continue;
        }
        let program = container.1.partition.pdi.cdo.program();
        for (column, row) in (0..8).flat_map(|column| (2..6).map(move |row| (column, row))) {
            let Some(tile) = Tile::of(&program, column, row) else { continue };
            if tile.program.is_empty() || !met.insert(tile.program.clone()) {
                continue;
            }
            match judge(&tile, &mut counts) {
                Ok(outcome) => println!("{path} {column},{row}: {outcome}"),
                Err(error) => println!("{path} {column},{row}: {error}"),
            }
        }
    }
    println!("{:>7} files", hashes.len());
    for (what, count) in &counts.0 {
        println!("{count:>7} {what}");
    }
    let list: String = hashes.iter().map(|hash| format!("{hash}\n")).collect();
    println!("SHA-256 of the sorted list of SHA-256s: {}", hex(list.as_bytes()));
    ExitCode::SUCCESS
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
