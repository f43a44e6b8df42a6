//! Register programs written by hand, for designs that move data and compute nothing.
//!
//! Fields are put together here from the tables of `xaie_dma_aieml.c` in aie-rt, by numbers of
//! their own: neither the emulator's nor the generator's.
#![allow(dead_code, reason = "each test uses a part")]

use onebit_aie::cdo::Cdo;
use onebit_aie::pdi::Pdi;
use onebit_aie::program::{RegisterAddress, RegisterOp, RegisterProgram};
use onebit_aie::txn::{Direction, Txn, TxnHeader, TxnOp};
use onebit_aie::xclbin::Xclbin;
use onebit_aie_emu::Fault;
use onebit_aie_emu::array::{Array, Options};
use onebit_aie_emu::report::Report;

pub const SHIM: u32 = 0;
pub const MEMORY: u32 = 1;

/// The id that the test designs' task-complete tokens go by.
const TOKEN_ID: u32 = 15;

pub fn address(column: u32, row: u32, offset: u32) -> RegisterAddress {
    RegisterAddress::new(column, row, offset).expect("an address of the array")
}

fn write(column: u32, row: u32, offset: u32, value: u32) -> RegisterOp {
    RegisterOp::Write32 { address: address(column, row, offset), value }
}

/// A descriptor of a memory tile, in words; its own memory starts at word 0x20000.
#[derive(Clone, Copy, Default)]
pub struct Bd {
    pub base: u32,
    pub length: u32,
    /// Step and wrap of each dimension; a step of zero stands for one.
    pub dims: [(u32, u32); 4],
    /// Zeros before and behind.
    pub pad: [(u32, u32); 3],
    /// Step and number of runs.
    pub iteration: (u32, u32),
    pub next: Option<u32>,
    pub acquire: Option<(u32, i32)>,
    pub release: Option<(u32, i32)>,
    /// Id of the packet to send.
    pub packet: Option<u32>,
    pub invalid: bool,
}

pub const OWN: u32 = 0x20000;
pub const OWN_LOCK: u32 = 64;

fn less_one(number: u32) -> u32 {
    number.max(1) - 1
}

fn seven(value: i32) -> u32 {
    value.cast_unsigned() & 0x7f
}

impl Bd {
    pub fn memory(&self) -> Vec<u32> {
        let [d0, d1, d2, d3] = self.dims;
        let [p0, p1, p2] = self.pad;
        let packet = self.packet.map_or(0, |id| 1 << 31 | id << 23);
        let next = self.next.map_or(0, |next| 1 << 19 | next << 20);
        let release = self.release.map_or(0, |(lock, value)| seven(value) << 24 | lock << 16);
        let acquire = self.acquire.map_or(0, |(lock, value)| 1 << 15 | seven(value) << 8 | lock);
        vec![
            packet | self.length,
            p0.0 << 26 | next | self.base,
            d0.1 << 17 | less_one(d0.0),
            p1.0 << 27 | d1.1 << 17 | less_one(d1.0),
            p2.0 << 27 | d2.1 << 17 | less_one(d2.0),
            p2.1 << 28 | p1.1 << 23 | p0.1 << 17 | less_one(d3.0),
            less_one(self.iteration.1) << 17 | less_one(self.iteration.0),
            u32::from(!self.invalid) << 31 | release | acquire,
        ]
    }

    pub fn compute(&self) -> Vec<u32> {
        let [d0, d1, d2, _] = self.dims;
        let packet = self.packet.map_or(0, |id| 1 << 30 | id << 19);
        vec![
            self.base << 14 | self.length,
            packet,
            less_one(d1.0) << 13 | less_one(d0.0),
            d1.1 << 21 | d0.1 << 13 | less_one(d2.0),
            less_one(self.iteration.1) << 13 | less_one(self.iteration.0),
            self.tail(),
        ]
    }

    pub fn shim(&self) -> Vec<u32> {
        let [d0, d1, d2, _] = self.dims;
        let packet = self.packet.map_or(0, |id| 1 << 30 | id << 19);
        vec![
            self.length,
            0,
            packet,
            d0.1 << 20 | less_one(d0.0),
            d1.1 << 20 | less_one(d1.0),
            less_one(d2.0),
            less_one(self.iteration.1) << 20 | less_one(self.iteration.0),
            self.tail(),
        ]
    }

    fn tail(&self) -> u32 {
        let next = self.next.map_or(0, |next| 1 << 26 | next << 27);
        let release = self.release.map_or(0, |(lock, value)| seven(value) << 18 | lock << 13);
        let acquire = self.acquire.map_or(0, |(lock, value)| 1 << 12 | seven(value) << 5 | lock);
        next | u32::from(!self.invalid) << 25 | release | acquire
    }
}

/// A configuration.
#[derive(Clone, Default)]
pub struct Design {
    pub ops: Vec<RegisterOp>,
}

impl Design {
    /// Tokens of the shims of the first `columns` columns reach the controller.
    pub fn new(columns: u32) -> Self {
        let mut design = Design::default();
        for column in 0..columns {
            design.set(column, SHIM, 0x3f000 + 4 * 2, 0xc000_0045); // South 0: arbiter 5, 3rd
            design.set(column, SHIM, 0x3f100, 0xc000_0000); // control port: packets
            design.set(column, SHIM, 0x3f200, TOKEN_ID << 24 | 0x1f << 16 | 1 << 8 | 3 << 4 | 5);
            design.set(column, SHIM, 0x1f000, 1 << 10 | 1 << 14); // South 3 and 7 from the DMA
            design.set(column, SHIM, 0x1f004, 1 << 4 | 1 << 6); // South 2 and 3 to the DMA
        }
        design
    }

    pub fn set(&mut self, column: u32, row: u32, offset: u32, value: u32) -> &mut Self {
        self.ops.push(write(column, row, offset, value));
        self
    }

    fn switch(row: u32) -> u32 {
        if row == MEMORY { 0xb0000 } else { 0x3f000 }
    }

    /// A circuit, by the numbers of the ports' registers.
    pub fn connect(&mut self, column: u32, row: u32, slave: u32, master: u32) -> &mut Self {
        let switch = Design::switch(row);
        self.set(column, row, switch + 0x100 + 4 * slave, 1 << 31);
        self.set(column, row, switch + 4 * master, 1 << 31 | slave)
    }

    /// A slave port that takes packets with `id` to selection `selection` of arbiter `arbiter`.
    pub fn admit(
        &mut self,
        (column, row): (u32, u32),
        slave: u32,
        slot: u32,
        id: u32,
        (arbiter, selection): (u32, u32),
    ) -> &mut Self {
        let switch = Design::switch(row);
        self.set(column, row, switch + 0x100 + 4 * slave, 3 << 30);
        let word = id << 24 | 0x1f << 16 | 1 << 8 | selection << 4 | arbiter;
        self.set(column, row, switch + 0x200 + 0x10 * slave + 4 * slot, word)
    }

    /// A master port that sends what arbiter `arbiter` lets through by `selections`.
    pub fn emit(
        &mut self,
        (column, row): (u32, u32),
        master: u32,
        arbiter: u32,
        selections: u32,
        drop_header: u32,
    ) -> &mut Self {
        let word = 3 << 30 | drop_header << 7 | selections << 3 | arbiter;
        self.set(column, row, Design::switch(row) + 4 * master, word)
    }

    pub fn block(&mut self, column: u32, row: u32, offset: u32, data: Vec<u32>) -> &mut Self {
        self.ops.push(RegisterOp::BlockWrite { address: address(column, row, offset), data });
        self
    }

    pub fn memory_bd(&mut self, column: u32, index: u32, bd: Bd) -> &mut Self {
        self.block(column, MEMORY, 0xa0000 + 0x20 * index, bd.memory())
    }

    pub fn lock(&mut self, column: u32, index: u32, value: u32) -> &mut Self {
        self.set(column, MEMORY, 0xc0000 + 0x10 * index, value)
    }

    /// Starts descriptor `bd` on a memory tile's channel into memory.
    pub fn start_in(&mut self, column: u32, channel: u32, bd: u32, repeats: u32) -> &mut Self {
        self.set(column, MEMORY, 0xa0604 + 8 * channel, (repeats - 1) << 16 | bd)
    }

    /// Starts descriptor `bd` on a memory tile's channel from memory.
    pub fn start_out(&mut self, column: u32, channel: u32, bd: u32, repeats: u32) -> &mut Self {
        self.set(column, MEMORY, 0xa0634 + 8 * channel, (repeats - 1) << 16 | bd)
    }

    /// The routes of [`Design::loopback`]: shim MM2S 0 to memory S2MM 0, memory MM2S 0 to shim
    /// S2MM 0.
    pub fn loop_routes(&mut self, column: u32) -> &mut Self {
        self.connect(column, SHIM, 5, 12); // South 3 to North 0
        self.connect(column, MEMORY, 7, 0); // South 0 to DMA 0
        self.connect(column, MEMORY, 0, 7); // DMA 0 to South 0
        self.connect(column, SHIM, 14, 4) // North 0 to South 2
    }

    /// Through the memory tile of `column`, one buffer of `bd_in` and `bd_out`'s, with a lock that
    /// says it is empty (0, at first 1) and one that says it is full (1).
    pub fn loopback(&mut self, column: u32, bd_in: Bd, bd_out: Bd, rounds: u32) -> &mut Self {
        self.loop_routes(column);
        let (empty, full) = (OWN_LOCK, OWN_LOCK + 1);
        self.lock(column, 0, 1);
        self.memory_bd(
            column,
            0,
            Bd { acquire: Some((empty, -1)), release: Some((full, 1)), ..bd_in },
        );
        self.memory_bd(
            column,
            1,
            Bd { acquire: Some((full, -1)), release: Some((empty, 1)), ..bd_out },
        );
        self.start_in(column, 0, 0, rounds);
        self.start_out(column, 0, 1, rounds)
    }

    pub fn xclbin(&self) -> Vec<u8> {
        let program = RegisterProgram { ops: self.ops.clone() };
        let xclbin = Xclbin::new(8, Pdi::new(Cdo::from_program(&program)));
        xclbin.and_then(|xclbin| xclbin.to_bytes()).expect("a small design")
    }

    pub fn array(&self) -> Result<Array, Fault> {
        Array::configure(&self.xclbin(), Options::default())
    }
}

/// An instruction stream.
#[derive(Clone, Default)]
pub struct Stream {
    pub ops: Vec<TxnOp>,
}

impl Stream {
    fn set(&mut self, column: u32, offset: u32, value: u32) {
        self.ops.push(TxnOp::Register(write(column, SHIM, offset, value)));
    }

    /// A transfer of the shim: descriptor `index` for `argument` from byte `offset` on.
    pub fn transfer(
        &mut self,
        (column, direction, channel): (u32, Direction, u32),
        index: u32,
        (argument, offset): (u32, u64),
        bd: Bd,
        repeats: u32,
    ) -> &mut Self {
        let register = address(column, SHIM, 0x1d000 + 0x20 * index);
        self.ops
            .push(TxnOp::Register(RegisterOp::BlockWrite { address: register, data: bd.shim() }));
        let register = address(column, SHIM, 0x1d004 + 0x20 * index);
        self.ops.push(TxnOp::AddressPatch { register, argument, addend: offset });
        let start = match direction {
            Direction::StreamToMemory => 0x1d200,
            Direction::MemoryToStream => 0x1d210,
        };
        let tells = match direction {
            Direction::StreamToMemory => 1 << 31,
            Direction::MemoryToStream => 0,
        };
        self.set(column, start + 8 * channel, TOKEN_ID << 8);
        self.set(column, start + 8 * channel + 4, tells | (repeats - 1) << 16 | index);
        self
    }

    /// Sends `words` words of argument 0.
    pub fn send(&mut self, column: u32, words: u32) -> &mut Self {
        let bd = Bd { length: words, ..Bd::default() };
        self.transfer((column, Direction::MemoryToStream, 0), 0, (0, 0), bd, 1)
    }

    /// Takes `words` words into argument 1 and waits for them.
    pub fn take(&mut self, column: u32, words: u32) -> &mut Self {
        let bd = Bd { length: words, ..Bd::default() };
        self.transfer((column, Direction::StreamToMemory, 0), 1, (1, 0), bd, 1);
        self.sync(column, 0)
    }

    pub fn sync(&mut self, column: u32, channel: u8) -> &mut Self {
        self.ops.push(TxnOp::Sync {
            column: u8::try_from(column).expect("a column"),
            row: 0,
            columns: 1,
            rows: 1,
            direction: Direction::StreamToMemory,
            channel,
        });
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let txn = Txn { header: TxnHeader::npu4(8), ops: self.ops.clone() };
        txn.to_bytes().expect("a short stream")
    }
}

/// Words 1, 2, 3, …
pub fn counting(words: u32) -> Vec<u32> {
    (1..=words).collect()
}

pub fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub fn words(bytes: &[u8]) -> Vec<u32> {
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().map(|&word| u32::from_le_bytes(word)).collect()
}

/// Runs `stream` on `array` with words in argument 0 and room for `out` words in argument 1.
pub fn run(
    array: &mut Array,
    stream: &Stream,
    input: &[u32],
    out: usize,
) -> Result<(Vec<u32>, Report), Fault> {
    let mut arguments = [bytes(input), vec![0xee; 4 * out]];
    let report = array.run(&stream.bytes(), &mut arguments)?;
    Ok((words(&arguments[1]), report))
}

/// Configures and runs.
pub fn both(
    design: &Design,
    stream: &Stream,
    input: &[u32],
    out: usize,
) -> Result<(Vec<u32>, Report), Fault> {
    run(&mut design.array()?, stream, input, out)
}

/// The fault of a run that must have one.
#[track_caller]
pub fn fault(design: &Design, stream: &Stream, input: &[u32], out: usize) -> Fault {
    both(design, stream, input, out).expect_err("the design is wrong")
}
