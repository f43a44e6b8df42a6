//! A core with a memory of its own, for tests.

use onebit_aie::isa::{Register, RegisterFile, assemble};
use onebit_aie_emu::Fault;
use onebit_aie_emu::bus::Bus;
use onebit_aie_emu::core::{Core, CoreFault, LatencyModel, Status};

/// 64 KiB at 0x70000, and 64 locks. Bytes that nobody wrote cannot be read.
pub struct Tile {
    pub memory: Vec<Option<u8>>,
    pub locks: [i32; 64],
}

impl Tile {
    pub fn new() -> Self {
        Tile { memory: vec![None; 0x10000], locks: [0; 64] }
    }

    /// `bytes` at `address`, a core's address.
    pub fn with(mut self, address: u32, bytes: &[u8]) -> Self {
        self.store(address, bytes).expect("in the tile");
        self
    }

    pub fn bytes(&self, address: u32, count: usize) -> Vec<u8> {
        let start = (address - 0x70000) as usize;
        self.memory[start..start + count].iter().map(|byte| byte.expect("written")).collect()
    }

    pub fn word(&self, address: u32) -> u32 {
        u32::from_le_bytes(self.bytes(address, 4).try_into().expect("four bytes"))
    }

    fn range(address: u32, count: usize) -> Result<std::ops::Range<usize>, Fault> {
        let start = address.wrapping_sub(0x70000) as usize;
        let is_inside = start < 0x10000 && start + count <= 0x10000;
        is_inside.then_some(start..start + count).ok_or(Fault::NoSuchAddress { address })
    }
}

impl Bus for Tile {
    fn load(&mut self, address: u32, bytes: &mut [u8]) -> Result<(), Fault> {
        let range = Tile::range(address, bytes.len())?;
        for (byte, stored) in bytes.iter_mut().zip(&self.memory[range]) {
            *byte = stored.ok_or(Fault::NoSuchAddress { address })?;
        }
        Ok(())
    }

    fn store(&mut self, address: u32, bytes: &[u8]) -> Result<(), Fault> {
        let range = Tile::range(address, bytes.len())?;
        for (stored, byte) in self.memory[range].iter_mut().zip(bytes) {
            *stored = Some(*byte);
        }
        Ok(())
    }

    fn acquire(&mut self, lock: u32, value: i32) -> Result<bool, Fault> {
        let held = &mut self.locks[lock as usize];
        let may = if value < 0 { *held >= -value } else { *held == value };
        if may {
            *held -= value.abs();
        }
        Ok(may)
    }

    fn release(&mut self, lock: u32, value: i32) -> Result<(), Fault> {
        self.locks[lock as usize] += value;
        Ok(())
    }
}

/// A core with `text` as its program, enabled.
pub fn load(mut core: Core, text: &str) -> Core {
    let code = assemble(text, 0).expect("a program");
    core.write_program(0, &code).expect("fits");
    core.enable();
    core
}

/// `text` followed by the end of a program.
pub fn ended(text: &str) -> String {
    format!("{text}\ndone\nnop\nnop\nnop\nnop\nnop\n")
}

/// Steps until the program is done.
pub fn finish(core: &mut Core, tile: &mut Tile) -> Result<(), Fault> {
    for _ in 0..100_000 {
        if core.step(tile)? == Status::Done {
            return Ok(());
        }
    }
    panic!("no end at {:#x}", core.pc());
}

/// Runs `text` to its end with documented latencies.
pub fn run(text: &str, tile: &mut Tile) -> Core {
    let mut core = load(Core::new(&LatencyModel::documented()), &ended(text));
    finish(&mut core, tile).unwrap_or_else(|fault| panic!("{fault}"));
    core
}

/// Why `text` cannot be run with documented latencies.
pub fn refusal(text: &str, tile: &mut Tile) -> CoreFault {
    refusal_of(Core::new(&LatencyModel::documented()), text, tile)
}

/// Why `text` cannot be run by `core`.
pub fn refusal_of(core: Core, text: &str, tile: &mut Tile) -> CoreFault {
    let mut core = load(core, &ended(text));
    match finish(&mut core, tile) {
        Err(Fault::Core { cause, .. }) => cause,
        other => panic!("{other:?} of {text}"),
    }
}

pub fn r(core: &Core, index: u8) -> u32 {
    scalar(core, RegisterFile::R, index)
}

pub fn scalar(core: &Core, file: RegisterFile, index: u8) -> u32 {
    core.scalar(Register { file, index }).expect("a scalar")
}

pub fn vector(core: &Core, file: RegisterFile, index: u8) -> Vec<u8> {
    core.vector(Register { file, index }).expect("a vector")
}

/// An accumulator's sums.
pub fn sums(core: &Core, index: u8) -> Vec<i32> {
    use RegisterFile::{Bmhh, Bmhl, Bmlh, Bmll};
    let bytes = [Bmll, Bmlh, Bmhl, Bmhh].into_iter().flat_map(|file| vector(core, file, index));
    let bytes: Vec<u8> = bytes.collect();
    bytes.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect()
}

/// `count` lines of `nop`.
pub fn nops(count: usize) -> String {
    "nop\n".repeat(count)
}
