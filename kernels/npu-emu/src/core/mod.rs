//! One AIE2P core: program memory, registers, an exposed pipeline.
//!
//! [`Core::step`] issues one instruction word. Operations read their operands when they are issued
//! and their results land as many words later as the [`LatencyModel`] says; until then readers get
//! the old value, as on the hardware, which has no interlocks. [`Core::checked`] makes a core that
//! calls it a fault when a program's meaning depends on where in a range of latencies the hardware
//! is, so one run shows what otherwise all latencies would have to be tried for.
//!
//! It knows no memory, lock or stream but those behind a [`Bus`], no bank conflicts, and no time
//! but the count of words: a word that waits for a lock holds everything that is under way.
//! An operation without semantics is a fault when it is reached, and so is every case of an
//! operation that no source documents.

mod address;
mod decode;
mod execute;
mod fault;
mod latency;
mod matrix;
mod operation;
mod registers;
mod sequence;
mod vector;

use onebit_aie::isa::{Bundle, Register};

pub use fault::CoreFault;
pub use latency::LatencyModel;

use crate::{Fault, bus::Bus};
use address::Memory;
use decode::Program;
use latency::Windows;
use matrix::MatrixUnit;
use operation::{Operation, VectorPlace};
use registers::{Reads, Registers, Scalar};
use sequence::Sequencer;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// A word was executed.
    Ran,
    /// The word waits for a lock; nothing of it was done.
    WaitsForLock {
        /// The lock, numbered as the core sees it.
        lock: u32,
        /// The value asked for: negative -n for at least n, else exactly it.
        value: i32,
    },
    /// The program has executed `done`.
    Done,
    /// The core is not enabled.
    Disabled,
}

/// A core.
#[derive(Clone, Debug)]
pub struct Core {
    program: Program,
    registers: Registers,
    matrix: MatrixUnit,
    memory: Memory,
    sequencer: Sequencer,
    windows: Windows,
    control: execute::Control,
    sum: Option<execute::Sum>,
    reads: Reads,
    state: State,
    /// Words issued; the pipeline's time.
    now: u64,
    /// The last value of `now` whose results have landed.
    begun: Option<u64>,
    /// Steps while enabled, waiting included.
    cycle: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Disabled,
    Running,
    Done,
}

impl Core {
    /// Bytes of program memory (mlir-aie, `AIETargetModel`).
    pub const PROGRAM_BYTES: u32 = 16 * 1024;

    /// A disabled core whose results take as long as `latency` says. Registers that nobody wrote
    /// read as zero.
    pub fn new(latency: &LatencyModel) -> Self {
        Core::with(latency, latency, Reads::Free)
    }

    /// A disabled core that computes with `longest` and calls it a fault when a register is read
    /// that has another value under `shortest` or was never written, when two writes may come in
    /// either order, or when a memory access is too close to a lock operation.
    pub fn checked(shortest: &LatencyModel, longest: &LatencyModel) -> Self {
        Core::with(shortest, longest, Reads::Checked)
    }

    fn with(shortest: &LatencyModel, longest: &LatencyModel, reads: Reads) -> Self {
        let (shortest, longest) = (shortest.clamped(), longest.clamped());
        Core {
            program: Program::new(),
            registers: Registers::new(reads),
            matrix: MatrixUnit::new(&shortest, &longest),
            memory: Memory::new(reads),
            sequencer: Sequencer::default(),
            windows: Windows::new(&shortest, &longest),
            control: execute::Control::new(),
            sum: None,
            reads,
            state: State::Disabled,
            now: 0,
            begun: None,
            cycle: 0,
        }
    }

    /// Writes program memory from byte `offset` on, as the host does.
    ///
    /// # Errors
    /// [`CoreFault::OutsideProgram`] when the bytes do not fit.
    pub fn write_program(&mut self, offset: u32, bytes: &[u8]) -> Result<(), CoreFault> {
        self.program.write(offset, bytes)
    }

    /// Lets the core run.
    pub fn enable(&mut self) {
        if self.state == State::Disabled {
            self.state = State::Running;
        }
    }

    /// Stops the core where it is.
    pub fn disable(&mut self) {
        if self.state == State::Running {
            self.state = State::Disabled;
        }
    }

    /// Back to program address 0 with nothing under way and no register written; disabled.
    pub fn reset(&mut self) {
        self.registers = Registers::new(self.reads);
        self.matrix.reset();
        self.memory = Memory::new(self.reads);
        self.sequencer = Sequencer::default();
        self.sum = None;
        self.state = State::Disabled;
        self.now = 0;
        self.begun = None;
        self.cycle = 0;
    }

    /// Gives the core its place in the array, as register `core_id` shows it.
    pub fn set_core_id(&mut self, id: u32) {
        self.registers.set(Scalar::CORE_ID, id);
    }

    /// Steps taken while enabled since the last reset, waits included.
    pub fn cycle(&self) -> u64 {
        self.cycle
    }

    /// Words executed since the last reset.
    pub fn words(&self) -> u64 {
        self.now
    }

    /// Byte address of the next word.
    pub fn pc(&self) -> u32 {
        self.sequencer.pc
    }

    /// What a scalar register holds, whatever is under way to it; None for other registers.
    pub fn scalar(&self, register: Register) -> Option<u32> {
        Scalar::of(register).map(|place| self.registers.raw(place))
    }

    /// Executes the next word.
    ///
    /// # Errors
    /// [`Fault::Core`] naming the word, when it has no meaning or not one. The core is then in no
    /// defined state.
    pub fn step(&mut self, bus: &mut dyn Bus) -> Result<Status, Fault> {
        match self.state {
            State::Disabled => return Ok(Status::Disabled),
            State::Done => return Ok(Status::Done),
            State::Running => {}
        }
        let pc = self.sequencer.pc;
        self.cycle += 1;
        self.issue(bus).map_err(|cause| self.fault(pc, cause))
    }

    #[inline]
    fn issue(&mut self, bus: &mut dyn Bus) -> Result<Status, CoreFault> {
        let word = self.program.word(self.sequencer.pc)?;
        // A word that waits for a lock comes here again, and its time has begun already.
        if self.begun != Some(self.now) {
            self.registers.begin(self.now);
            self.matrix.begin(self.now, &mut self.registers)?;
            self.memory.begin(self.now, &self.registers, bus)?;
            self.complete_sum()?;
            self.begun = Some(self.now);
        }
        if let Some(index) = word.acquire
            && let Operation::Acquire { lock, value, only_if } =
                self.program.operation(word.first + u32::from(index))
            && let Some(waits) = self.acquire(bus, lock, value, only_if)?
        {
            return Ok(waits);
        }
        let mut status = Status::Ran;
        for index in word.first..word.first + u32::from(word.count) {
            let operation = self.program.operation(index);
            if self.execute(operation, bus)? == execute::Flow::Done {
                status = Status::Done;
            }
        }
        self.sequencer.advance(word.len, &mut self.registers, &mut self.program)?;
        self.now += 1;
        if status == Status::Done {
            self.state = State::Done;
            // What is under way still lands; only stores are seen from outside.
            let mut now = self.now;
            while self.memory.is_busy() {
                self.registers.begin(now);
                self.matrix.begin(now, &mut self.registers)?;
                self.memory.begin(now, &self.registers, bus)?;
                now += 1;
            }
        }
        Ok(status)
    }

    #[cold]
    fn fault(&self, pc: u32, cause: CoreFault) -> Fault {
        let word = Bundle::decode(self.program.bytes(), pc as usize);
        let word = word.map_or_else(|error| error.to_string(), |word| word.to_string());
        let cause = match cause {
            CoreFault::NotModelled { .. } => {
                CoreFault::NotModelled { operation: self.program.unmodelled_at(pc) }
            }
            other => other,
        };
        Fault::Core { pc, word, cause }
    }

    /// The bytes that vector register or quarter of an accumulator `register` holds, 32 of them for
    /// half a vector; None for other registers.
    pub fn vector(&self, register: Register) -> Option<Vec<u8>> {
        let place = VectorPlace::of(register)?;
        Some(self.registers.raw_place(place)[..place.len()].to_vec())
    }
}
