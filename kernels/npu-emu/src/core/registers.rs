//! The registers, the writes under way to them, and who may read when.
//!
//! A write is queued at issue and lands [`Window::latest`] cycles later. Between `earliest` and
//! `latest` its register is uncertain: reading it is a fault, and so are two writes whose order
//! is not certain. With one model for both, the first cannot happen and the second means that two
//! writes land in one cycle.

use onebit_aie::isa::{Register, RegisterFile};

use super::CoreFault;
use super::latency::Window;
use super::operation::VectorPlace;

/// A scalar register's place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Scalar(pub u8);

/// What hazards are tracked by: a scalar, half a vector, a quarter of an accumulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit(u8);

/// Files of scalar registers: file, first place, count, bits.
const FILES: [(RegisterFile, u8, u8, u8); 14] = [
    (RegisterFile::R, 0, 32, 32),
    (RegisterFile::P, 32, 8, 20),
    (RegisterFile::M, 40, 8, 20),
    (RegisterFile::Dn, 48, 8, 20),
    (RegisterFile::Dj, 56, 8, 20),
    (RegisterFile::Dc, 64, 8, 20),
    (RegisterFile::S, 72, 4, 6),
    (RegisterFile::Lr, 76, 1, 20),
    (RegisterFile::Ls, 77, 1, 20),
    (RegisterFile::Le, 78, 1, 20),
    (RegisterFile::Lc, 79, 1, 32),
    (RegisterFile::Sp, 80, 1, 20),
    (RegisterFile::CoreId, 81, 1, 32),
    (RegisterFile::Control, 82, 40, 32),
];

const SCALARS: usize = 122;
const FIRST_HALF: u8 = SCALARS as u8;
const FIRST_QUARTER: u8 = FIRST_HALF + 24;
const UNITS: usize = FIRST_QUARTER as usize + 20;

impl Scalar {
    pub const LR: Scalar = Scalar(76);
    pub const LS: Scalar = Scalar(77);
    pub const LE: Scalar = Scalar(78);
    pub const LC: Scalar = Scalar(79);
    pub const SP: Scalar = Scalar(80);
    pub const CORE_ID: Scalar = Scalar(81);

    pub const fn r(index: u8) -> Scalar {
        Scalar(index)
    }

    pub const fn m(index: u8) -> Scalar {
        Scalar(40 + index)
    }

    pub const fn dn(index: u8) -> Scalar {
        Scalar(48 + index)
    }

    pub const fn dj(index: u8) -> Scalar {
        Scalar(56 + index)
    }

    pub const fn dc(index: u8) -> Scalar {
        Scalar(64 + index)
    }

    /// The place of `register`; None when it is no scalar.
    pub fn of(register: Register) -> Option<Scalar> {
        let (_, first, count, _) = FILES.iter().find(|(file, ..)| *file == register.file)?;
        (register.index < *count).then_some(Scalar(first + register.index))
    }

    /// The control register called `name`.
    ///
    /// # Panics
    /// When there is none: names are constants of this crate.
    pub fn control(name: &str) -> Scalar {
        let register = Register::control(name).expect("a control register of the core");
        Scalar::of(register).expect("control registers are scalars")
    }

    /// The register in this place.
    pub fn register(self) -> Register {
        let holds = |(_, first, count, _): &&(RegisterFile, u8, u8, u8)| {
            (*first..first + count).contains(&self.0)
        };
        let (file, first, ..) = FILES.iter().find(holds).expect("places are of these files");
        Register { file: *file, index: self.0 - first }
    }

    /// Whether it is one of the 20-bit registers that pointers are moved by.
    pub fn is_modifier(self) -> bool {
        (Scalar::m(0)..Scalar(72)).contains(&self)
    }

    /// Whether it is a pointer.
    pub fn is_pointer(self) -> bool {
        (Scalar(32)..Scalar::m(0)).contains(&self) || self == Scalar::SP
    }

    fn unit(self) -> Unit {
        Unit(self.0)
    }
}

impl Unit {
    pub fn half(index: u8) -> Unit {
        Unit(FIRST_HALF + index)
    }

    pub fn quarter(index: u8) -> Unit {
        Unit(FIRST_QUARTER + index)
    }

    /// The register, for messages.
    pub fn name(self) -> String {
        const QUARTERS: [RegisterFile; 4] =
            [RegisterFile::Bmll, RegisterFile::Bmlh, RegisterFile::Bmhl, RegisterFile::Bmhh];
        let register = if self.0 < FIRST_HALF {
            Scalar(self.0).register()
        } else if self.0 < FIRST_QUARTER {
            let half = self.0 - FIRST_HALF;
            let file = [RegisterFile::Wl, RegisterFile::Wh][usize::from(half % 2)];
            Register { file, index: half / 2 }
        } else {
            let quarter = self.0 - FIRST_QUARTER;
            Register { file: QUARTERS[usize::from(quarter % 4)], index: quarter / 4 }
        };
        register.to_string()
    }
}

/// Slots of the queue of writes: one more than the longest latency.
const QUEUE: usize = 16;
/// Writes that can land in one cycle: one result and up to three pointer updates from each of
/// three units, and the results of different latencies that meet.
const LANDING: usize = 24;

#[derive(Clone, Copy, Debug)]
struct ScalarWrite {
    to: Scalar,
    value: u32,
    cycles: u32,
}

#[derive(Clone, Copy, Debug)]
struct VectorWrite {
    to: VectorPlace,
    bytes: [u8; 64],
    cycles: u32,
    /// Whether operations of the move slot see it a cycle early.
    bypass: Bypass,
}

/// Whether a result is seen early by operations of the slot it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bypass {
    None,
    Moves,
}

#[derive(Clone, Debug)]
struct Landing {
    scalars: [ScalarWrite; LANDING],
    scalar_count: usize,
    vectors: Vec<VectorWrite>,
}

/// What is known of reads in uncertain windows and of registers nobody wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    /// Whatever the longest latencies give.
    Free,
    /// A fault unless shortest and longest latencies agree and something was written.
    Checked,
}

/// All registers with the writes under way.
#[derive(Clone, Debug)]
pub(super) struct Registers {
    scalars: [u32; SCALARS],
    pub vectors: [[u8; 64]; 12],
    pub accumulators: [[i32; 64]; 5],
    queue: [Landing; QUEUE],
    occupied: u16,
    /// By unit, cycles modulo 32 in which a read has no certain value; all of them before the
    /// first write.
    uncertain: [u32; UNITS],
    /// The same without registers that were not written.
    windows: [u32; UNITS],
    /// By unit, cycles modulo 32 in which a write may land.
    landing: [u32; UNITS],
    reads: Reads,
    now: u64,
}

impl Registers {
    pub fn new(reads: Reads) -> Self {
        let write = ScalarWrite { to: Scalar(0), value: 0, cycles: 0 };
        let slot =
            Landing { scalars: [write; LANDING], scalar_count: 0, vectors: Vec::with_capacity(8) };
        let unwritten = if reads == Reads::Checked { u32::MAX } else { 0 };
        Registers {
            scalars: [0; SCALARS],
            vectors: [[0; 64]; 12],
            accumulators: [[0; 64]; 5],
            queue: std::array::from_fn(|_| slot.clone()),
            occupied: 0,
            uncertain: [unwritten; UNITS],
            windows: [0; UNITS],
            landing: [0; UNITS],
            reads,
            now: 0,
        }
    }

    /// Starts cycle `now`: writes due land. Calling it twice in a cycle changes nothing.
    pub fn begin(&mut self, now: u64) {
        self.now = now;
        let slot = now as usize % QUEUE;
        if self.occupied >> slot & 1 == 0 {
            return;
        }
        self.occupied &= !(1 << slot);
        for index in 0..self.queue[slot].scalar_count {
            let ScalarWrite { to, value, cycles } = self.queue[slot].scalars[index];
            self.scalars[usize::from(to.0)] = value;
            self.landed(to.unit(), cycles);
        }
        self.queue[slot].scalar_count = 0;
        let mut vectors = std::mem::take(&mut self.queue[slot].vectors);
        for write in &vectors {
            self.land_vector(write);
        }
        vectors.clear();
        self.queue[slot].vectors = vectors;
    }

    fn land_vector(&mut self, write: &VectorWrite) {
        match write.to {
            VectorPlace::Whole(x) => self.vectors[usize::from(x)] = write.bytes,
            VectorPlace::Half(half) => {
                let at = usize::from(half % 2) * 32;
                self.vectors[usize::from(half / 2)][at..at + 32]
                    .copy_from_slice(&write.bytes[..32]);
            }
            VectorPlace::Quarter(quarter) => {
                let at = usize::from(quarter % 4) * 16;
                let words = &mut self.accumulators[usize::from(quarter / 4)][at..at + 16];
                for (word, bytes) in words.iter_mut().zip(write.bytes.as_chunks().0) {
                    *word = i32::from_le_bytes(*bytes);
                }
            }
        }
        let (first, count) = write.to.units();
        for unit in first.0..first.0 + count {
            self.landed(Unit(unit), write.cycles);
        }
    }

    /// The value of `register`.
    pub fn scalar(&self, register: Scalar) -> Result<u32, CoreFault> {
        self.check(register.unit())?;
        Ok(self.scalars[usize::from(register.0)])
    }

    /// The value of `register`, whether anybody wrote it or not.
    pub fn raw(&self, register: Scalar) -> u32 {
        self.scalars[usize::from(register.0)]
    }

    /// The value of `register` for an operation that only keeps it for later, as the store of a
    /// register that a function saves: it need not have been written.
    pub fn kept(&self, register: Scalar) -> Result<u32, CoreFault> {
        if self.windows[usize::from(register.0)] >> (self.now % 32) & 1 == 1 {
            return Err(CoreFault::Uncertain { register: register.unit().name() });
        }
        Ok(self.raw(register))
    }

    /// A vector, for any slot but the move slot.
    pub fn vector(&self, x: u8) -> Result<&[u8; 64], CoreFault> {
        self.check(Unit::half(x * 2))?;
        self.check(Unit::half(x * 2 + 1))?;
        Ok(&self.vectors[usize::from(x)])
    }

    /// A vector, for the move slot: results of that slot are seen a cycle early.
    pub fn vector_for_move(&self, x: u8) -> Result<&[u8; 64], CoreFault> {
        let next = &self.queue[(self.now as usize + 1) % QUEUE];
        let early = next
            .vectors
            .iter()
            .find(|write| write.bypass == Bypass::Moves && write.to == VectorPlace::Whole(x));
        match early {
            Some(write) => Ok(&write.bytes),
            None => self.vector(x),
        }
    }

    /// The bytes of a vector register; a half fills the first 32.
    pub fn place(&self, place: VectorPlace) -> Result<[u8; 64], CoreFault> {
        let (first, count) = place.units();
        for unit in first.0..first.0 + count {
            self.check(Unit(unit))?;
        }
        Ok(self.raw_place(place))
    }

    /// The same, whatever is under way to it.
    pub fn raw_place(&self, place: VectorPlace) -> [u8; 64] {
        let mut bytes = [0; 64];
        match place {
            VectorPlace::Whole(x) => bytes = self.vectors[usize::from(x)],
            VectorPlace::Half(half) => {
                let at = usize::from(half % 2) * 32;
                bytes[..32].copy_from_slice(&self.vectors[usize::from(half / 2)][at..at + 32]);
            }
            VectorPlace::Quarter(quarter) => {
                let at = usize::from(quarter % 4) * 16;
                let words = &self.accumulators[usize::from(quarter / 4)][at..at + 16];
                for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
                    *bytes = word.to_le_bytes();
                }
            }
        }
        bytes
    }

    /// An accumulator.
    pub fn accumulator(&self, dm: u8) -> Result<&[i32; 64], CoreFault> {
        for quarter in dm * 4..dm * 4 + 4 {
            self.check(Unit::quarter(quarter))?;
        }
        Ok(&self.accumulators[usize::from(dm)])
    }

    /// An accumulator, for the operation whose own write may land in `own_cycles`. Writes do not
    /// meet, so no other one is uncertain in those.
    pub fn accumulator_before(&self, dm: u8, own_cycles: u32) -> Result<&[i32; 64], CoreFault> {
        for quarter in dm * 4..dm * 4 + 4 {
            let unit = Unit::quarter(quarter);
            let index = usize::from(unit.0);
            let others = self.windows[index] & !own_cycles;
            let is_unwritten = self.uncertain[index] != self.windows[index];
            if is_unwritten || others >> (self.now % 32) & 1 == 1 {
                return Err(self.uncertainty(unit, others));
            }
        }
        Ok(&self.accumulators[usize::from(dm)])
    }

    /// Queues a write of `value`, cut to the register's bits.
    pub fn write(&mut self, to: Scalar, value: u32, window: Window) -> Result<(), CoreFault> {
        let cycles = self.claim(to.unit(), window)?;
        let slot = (self.now as usize + usize::from(window.latest)) % QUEUE;
        let landing = &mut self.queue[slot];
        let place = landing.scalars.get_mut(landing.scalar_count);
        *place.ok_or(CoreFault::TooManyWrites)? = ScalarWrite { to, value: cut(to, value), cycles };
        landing.scalar_count += 1;
        self.occupied |= 1 << slot;
        Ok(())
    }

    /// Queues a write of a vector register; of a half, the first 32 bytes.
    pub fn write_vector(
        &mut self,
        to: VectorPlace,
        bytes: &[u8; 64],
        window: Window,
        bypass: Bypass,
    ) -> Result<(), CoreFault> {
        let (first, count) = to.units();
        let mut cycles = 0;
        for unit in first.0..first.0 + count {
            cycles = self.claim(Unit(unit), window)?;
        }
        let slot = (self.now as usize + usize::from(window.latest)) % QUEUE;
        self.queue[slot].vectors.push(VectorWrite { to, bytes: *bytes, cycles, bypass });
        self.occupied |= 1 << slot;
        Ok(())
    }

    /// Whether uncertain reads are faults.
    pub fn is_checked(&self) -> bool {
        self.reads == Reads::Checked
    }

    /// The fault of a read of an accumulator whose sum may or may not be there.
    pub fn accumulator_uncertain(&self, dm: u8) -> CoreFault {
        CoreFault::Uncertain { register: Unit::quarter(dm * 4).name() }
    }

    /// Announces a write of accumulator `dm`; gives what [`Registers::land_accumulator`] needs.
    /// Writes that may land in the `ordered` cycles are of the same unit and come before.
    pub fn claim_accumulator(
        &mut self,
        dm: u8,
        window: Window,
        ordered: u32,
    ) -> Result<u32, CoreFault> {
        let mut cycles = 0;
        for quarter in dm * 4..dm * 4 + 4 {
            cycles = self.claim_behind(Unit::quarter(quarter), window, ordered)?;
        }
        Ok(cycles)
    }

    /// Announces again a write that may land in `cycles`, `due` the last of them, after one before
    /// it has landed.
    pub fn renew_accumulator(&mut self, dm: u8, cycles: u32, due: u64) {
        let unsure = cycles & !(1 << (due % 32));
        for quarter in dm * 4..dm * 4 + 4 {
            let index = usize::from(Unit::quarter(quarter).0);
            self.landing[index] |= cycles;
            self.windows[index] |= unsure;
            self.uncertain[index] |= unsure;
        }
    }

    /// Performs an announced write.
    pub fn land_accumulator(&mut self, dm: u8, sums: &[i32; 64], cycles: u32) {
        self.accumulators[usize::from(dm)] = *sums;
        for quarter in dm * 4..dm * 4 + 4 {
            self.landed(Unit::quarter(quarter), cycles);
        }
    }

    /// Writes at once, outside the pipeline.
    pub fn set(&mut self, to: Scalar, value: u32) {
        self.scalars[usize::from(to.0)] = cut(to, value);
        self.uncertain[usize::from(to.0)] = self.windows[usize::from(to.0)];
    }

    fn check(&self, unit: Unit) -> Result<(), CoreFault> {
        if self.uncertain[usize::from(unit.0)] >> (self.now % 32) & 1 == 0 {
            return Ok(());
        }
        Err(self.uncertainty(unit, self.windows[usize::from(unit.0)]))
    }

    #[cold]
    fn uncertainty(&self, unit: Unit, windows: u32) -> CoreFault {
        let register = unit.name();
        if windows >> (self.now % 32) & 1 == 1 {
            CoreFault::Uncertain { register }
        } else {
            CoreFault::Unwritten { register }
        }
    }

    /// Announces a write: the cycles in which it may land, modulo 32.
    fn claim(&mut self, unit: Unit, window: Window) -> Result<u32, CoreFault> {
        self.claim_behind(unit, window, 0)
    }

    /// The same when writes in the `ordered` cycles are sure to land before.
    fn claim_behind(&mut self, unit: Unit, window: Window, ordered: u32) -> Result<u32, CoreFault> {
        let span = u32::from(window.latest - window.earliest);
        let first = (self.now as u32 % 32 + u32::from(window.earliest)) % 32;
        let cycles = ((2u32 << span) - 1).rotate_left(first);
        let index = usize::from(unit.0);
        if self.landing[index] & cycles & !ordered != 0 {
            return Err(CoreFault::WritesMeet { register: unit.name() });
        }
        self.landing[index] |= cycles;
        if span > 0 && self.reads == Reads::Checked {
            let unsure = ((1u32 << span) - 1).rotate_left(first);
            self.windows[index] |= unsure;
            self.uncertain[index] |= unsure;
        }
        Ok(cycles)
    }

    fn landed(&mut self, unit: Unit, cycles: u32) {
        let index = usize::from(unit.0);
        self.landing[index] &= !cycles;
        self.windows[index] &= !cycles;
        self.uncertain[index] = self.windows[index];
    }
}

/// `value` in as many bits as the register has.
fn cut(register: Scalar, value: u32) -> u32 {
    match register.0 {
        32..72 | 76..=78 | 80 => value & 0xf_ffff,
        72..76 => value & 0x3f,
        _ => value,
    }
}
