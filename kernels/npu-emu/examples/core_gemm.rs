//! Runs one tile's compiled program of somebody else's int8 matrix design, and compares its product.
//!
//! `cargo run --release -p onebit-aie-emu --example core_gemm -- FILE.xclbin COLUMN ROW`: the
//! program, its buffers and its locks come from the file; this program plays the tile's DMA, fills
//! the two input buffers with random bytes and compares what comes out with sums of products. The
//! tile must multiply blocks of 32 by 64 and 64 by 128 bytes, tiled 8 by 8 row after row, into sums
//! of 32 bits. It does so under several latency models: those that the program must not notice, and
//! those that must break it. docs/npu-verification.md records a run.

use std::collections::BTreeMap;
use std::process::ExitCode;

use onebit_aie::program::{RegisterAddress, RegisterMap, RegisterOp, RegisterProgram};
use onebit_aie::xclbin::Xclbin;
use onebit_aie_emu::bus::Bus;
use onebit_aie_emu::core::{Core, LatencyModel, Status};
use onebit_aie_emu::{Fault, core};
use sha2::{Digest, Sha256};

const ROWS: usize = 32;
const DEPTH: usize = 64;
const COLUMNS: usize = 128;
const LIMIT: u64 = 2_000_000;

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

/// The block's sums as the tile lays them out.
fn reference(a: &[u8], b: &[u8]) -> Vec<i32> {
    let mut sums = vec![0i32; ROWS * COLUMNS];
    let blocks = a.chunks(ROWS * DEPTH).zip(b.chunks(DEPTH * COLUMNS));
    for (a, b) in blocks {
        for i in 0..ROWS {
            for j in 0..COLUMNS {
                let place = ((i / 8) * (COLUMNS / 8) + j / 8) * 64 + (i % 8) * 8 + j % 8;
                for k in 0..DEPTH {
                    let a = a[((i / 8) * (DEPTH / 8) + k / 8) * 64 + (i % 8) * 8 + k % 8];
                    let b = b[((k / 8) * (COLUMNS / 8) + j / 8) * 64 + (k % 8) * 8 + j % 8];
                    sums[place] += i32::from(a as i8) * i32::from(b as i8);
                }
            }
        }
    }
    sums
}

/// Runs the tile until it has given one output buffer; says what came of it.
fn run(tile: &Tile, mut core: Core, depth: usize) -> Result<String, String> {
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
    let inputs = [random(depth * ROWS * DEPTH), random(depth * DEPTH * COLUMNS)];
    let expected = reference(&inputs[0], &inputs[1]);
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
    let sums: Vec<i32> = player
        .output
        .chunks_exact(4)
        .map(|bytes| i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        .collect();
    if sums.is_empty() {
        return Err(format!("no output after {LIMIT} cycles; sent {:?} bytes", player.sent));
    }
    let wrong = sums.iter().zip(&expected).filter(|(got, want)| got != want).count();
    if wrong > 0 || sums.len() != expected.len() {
        return Err(format!("{wrong} of {} sums wrong", expected.len()));
    }
    Ok(format!("{} sums right, {} words", sums.len(), core.words()))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, column, row] = arguments.as_slice() else {
        println!("core_gemm FILE.xclbin COLUMN ROW");
        return ExitCode::FAILURE;
    };
    let tile = || -> Result<(Tile, String), String> {
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        let hash = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let container = Xclbin::parse(&bytes).map_err(|error| error.to_string())?;
        let column = column.parse().map_err(|_| "COLUMN is no number")?;
        let row = row.parse().map_err(|_| "ROW is no number")?;
        let program = container.partition.pdi.cdo.program();
        let tile = Tile::of(&program, column, row).ok_or("no such tile, or it is not set up")?;
        Ok((tile, hash))
    };
    let (tile, hash) = match tile() {
        Ok(tile) => tile,
        Err(error) => {
            println!("{path}: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("SHA-256 {hash}");
    // How deep a product is follows from the program: the first that gives any output.
    let documented = LatencyModel::documented();
    let depth = (1..=256).find(|depth| run(&tile, Core::new(&documented), *depth).is_ok());
    let Some(depth) = depth else {
        println!(
            "no depth up to 256 blocks gives the right product: {:?}",
            run(&tile, Core::new(&documented), 256)
        );
        return ExitCode::FAILURE;
    };
    println!("depth {} blocks of {DEPTH}", depth);
    let with = |change: &dyn Fn(&mut LatencyModel)| {
        let mut model = documented;
        change(&mut model);
        Core::new(&model)
    };
    let mut as_expected = true;
    let mut report = |name: &str, core: core::Core, must: bool| {
        let outcome = run(&tile, core, depth);
        as_expected &= outcome.is_ok() == must;
        println!("{name:>28}: {}", outcome.unwrap_or_else(|error| error));
    };
    report("documented", Core::new(&documented), true);
    report("documented, checked", Core::checked(&documented, &documented), true);
    report("loads after 5", with(&|model| model.load = 5), false);
    report("loads after 6", with(&|model| model.load = 6), false);
    report("loads after 8", with(&|model| model.load = 8), false);
    report("products after 7", with(&|model| model.matrix = 7), false);
    report("products after 8", with(&|model| model.matrix = 8), false);
    report("sums read at once", with(&|model| model.accumulator_read = 0), false);
    report("scalars after 2", with(&|model| model.scalar = 2), false);
    if as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
