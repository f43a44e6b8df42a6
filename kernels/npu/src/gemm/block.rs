//! Straight-line code for the core, and the cycles its operations go to.
//!
//! The core has no interlocks: an operation that is issued too early reads an old value. Here a
//! program is a list of [`Block`]s of operations in the order in which they mean something;
//! [`Block::schedule`] gives each a cycle, such that every result has landed before it is read and
//! before the block ends. A block therefore assumes nothing of the one before it. How long results
//! take is [`Spacing`]; whatever takes no longer than that keeps the program right.
//!
//! Words are the 16-byte form, but for eight idle ones at a time, which have two bytes each. So every
//! block is a multiple of 16 bytes, and starts where a jump may lead.

mod schedule;

use std::fmt::{self, Write as _};

use crate::isa::{IsaError, assemble};

pub(super) use schedule::Schedule;

/// Bundles that run after a jump before it takes effect (llvm-aie `AIE2PInstrInfo.td`).
pub(super) const DELAY_SLOTS: usize = 5;

/// Cycles that must lie between operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spacing {
    /// From a load to the first use of what it loads.
    pub load: usize,
    /// From a vector operation of the move slot to the use of its result.
    pub vector: usize,
    /// From a product of scalars to the use of its result.
    pub multiply: usize,
    /// From a product to the next one that adds to the same accumulator.
    pub chain: usize,
    /// From a product to any other use of its accumulator.
    pub matrix: usize,
    /// From a store to a load that may read it.
    pub store: usize,
    /// Between a lock and what it guards, both ways.
    pub lock: usize,
}

impl Spacing {
    /// Eight for everything: at least what any source says of any operation used here.
    pub const CONSERVATIVE: Spacing =
        Spacing { load: 8, vector: 8, multiply: 8, chain: 8, matrix: 8, store: 8, lock: 8 };

    /// Eight for everything but a product's sum, which the next product on the same accumulator
    /// takes 4 cycles later, as in the compiled programs that `docs/npu-verification.md` counts.
    pub const PIPELINED: Spacing = Spacing { chain: 4, ..Spacing::CONSERVATIVE };

    /// What compiled programs use: load 7, product 6, product of scalars 2, chained products 4 (llvm-aie
    /// `AIE2PGenSchedule.td`: `II_VLD*` 7, `II_VMAC*` 6, accumulator read in cycle 4; compilers
    /// emit chains at a distance of 4). Locks and stores, which it says little of, stay at 8.
    pub const DOCUMENTED: Spacing =
        Spacing { load: 7, vector: 2, multiply: 2, chain: 4, matrix: 6, store: 8, lock: 8 };
}

/// A register that the program names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A scalar.
    R(u8),
    /// A pointer.
    P(u8),
    /// A pointer's step.
    M(u8),
    /// A vector of 64 bytes.
    X(u8),
    /// A quarter of an accumulator: its number and which quarter.
    Quarter(u8, u8),
    /// A register of another file, by its name: `dj0`, `crsat`, `s0`.
    Named(&'static str),
}

/// The quarters of an accumulator, in the order of their numbers.
const QUARTERS: [&str; 4] = ["bmll", "bmlh", "bmhl", "bmhh"];

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::R(index) => write!(f, "r{index}"),
            Place::P(index) => write!(f, "p{index}"),
            Place::M(index) => write!(f, "m{index}"),
            Place::X(index) => write!(f, "x{index}"),
            Place::Quarter(index, which) => write!(f, "{}{index}", QUARTERS[usize::from(*which)]),
            Place::Named(name) => f.write_str(name),
        }
    }
}

/// The register that [`Block::select`] looks at.
pub const TEST: Place = Place::R(27);

/// What fills a register above a half word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extend {
    /// Zeros.
    Zeros,
    /// Copies of its highest bit.
    Sign,
}

/// How long a result takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Scalar,
    Multiply,
    Load,
    Vector,
    Matrix,
}

/// What an operation does beside registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    None,
    Load,
    Store,
    /// A store of what no load of the block reads.
    StoreApart,
    Acquire,
    Release,
}

#[derive(Clone, Debug)]
pub(super) struct Operation {
    text: String,
    reads: Vec<Place>,
    writes: Vec<(Place, Class)>,
    effect: Effect,
}

/// How a block is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Into the next block.
    Next,
    /// To a label.
    Jump(&'static str),
    /// To a label when the register is not zero, else into the next block.
    NotZero(Place, &'static str),
    /// To a label when the register is zero, else into the next block.
    Zero(Place, &'static str),
}

/// A lock of the core's own tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnLock(pub u8);

impl fmt::Display for OwnLock {
    /// The core's own number: 48 and up are its own tile's (llvm-aie `AIE2P`, aie-rt
    /// `xaie_locks_aieml.c`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", 48 + self.0)
    }
}

/// Operations that are entered at the first and left at the last.
#[derive(Clone, Debug)]
pub struct Block {
    label: &'static str,
    operations: Vec<Operation>,
    exit: Exit,
}

impl Block {
    /// An empty block that jumps reach as `label`.
    pub fn new(label: &'static str) -> Self {
        Block { label, operations: Vec::new(), exit: Exit::Next }
    }

    /// What jumps call the block.
    pub fn label(&self) -> &'static str {
        self.label
    }

    /// The block, left as `exit` says.
    #[must_use]
    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// `d = value`, any 32 bits.
    pub fn set(&mut self, d: Place, value: u32) {
        self.push(format!("movxm {d}, #{}", value.cast_signed()), &[], d, Class::Scalar);
    }

    /// `d = s`.
    pub fn copy(&mut self, d: Place, s: Place) {
        self.push(format!("mov {d}, {s}"), &[s], d, Class::Scalar);
    }

    /// `d = a + b` on scalars.
    pub fn add(&mut self, d: Place, a: Place, b: Place) {
        self.push(format!("add {d}, {a}, {b}"), &[a, b], d, Class::Scalar);
    }

    /// `d = a - b` on scalars.
    pub fn subtract(&mut self, d: Place, a: Place, b: Place) {
        self.push(format!("sub {d}, {a}, {b}"), &[a, b], d, Class::Scalar);
    }

    /// `d = a & b` on scalars.
    pub fn and(&mut self, d: Place, a: Place, b: Place) {
        self.push(format!("and {d}, {a}, {b}"), &[a, b], d, Class::Scalar);
    }

    /// `d = a ^ b` on scalars.
    pub fn xor(&mut self, d: Place, a: Place, b: Place) {
        self.push(format!("xor {d}, {a}, {b}"), &[a, b], d, Class::Scalar);
    }

    /// `d = a << by` on scalars, zeros in; a negative `by` shifts right.
    pub fn shift(&mut self, d: Place, a: Place, by: Place) {
        self.push(format!("lshl {d}, {a}, {by}"), &[a, by], d, Class::Scalar);
    }

    /// The same with copies of the sign from the left.
    pub fn shift_signed(&mut self, d: Place, a: Place, by: Place) {
        self.push(format!("ashl {d}, {a}, {by}"), &[a, by], d, Class::Scalar);
    }

    /// `d` is one when `a` is not zero, else zero.
    pub fn is_not_zero(&mut self, d: Place, a: Place) {
        self.push(format!("nez {d}, {a}"), &[a], d, Class::Scalar);
    }

    /// `d = a - 1` on scalars.
    pub fn decrement(&mut self, d: Place, a: Place) {
        self.push(format!("add {d}, {a}, #-1"), &[a], d, Class::Scalar);
    }

    /// `d = a | b` on scalars.
    pub fn or(&mut self, d: Place, a: Place, b: Place) {
        self.push(format!("or {d}, {a}, {b}"), &[a, b], d, Class::Scalar);
    }

    /// `d` is one when `a` is below `b`, both signed, else zero.
    pub fn is_less(&mut self, d: Place, a: Place, b: Place) {
        self.push(format!("lt {d}, {a}, {b}"), &[a, b], d, Class::Scalar);
    }

    /// `d` is `a` when the register of [`TEST`] is not zero, else `b`.
    pub fn select(&mut self, d: Place, a: Place, b: Place) {
        self.push(format!("sel.nez {d}, {a}, {b}, {TEST}"), &[a, b, TEST], d, Class::Scalar);
    }

    /// `d` is |a|.
    pub fn absolute(&mut self, d: Place, a: Place) {
        self.push(format!("abs {d}, {a}"), &[a], d, Class::Scalar);
    }

    /// `d` is how many zeros `a` starts with, from its highest bit.
    pub fn leading_zeros(&mut self, d: Place, a: Place) {
        self.push(format!("clz {d}, {a}"), &[a], d, Class::Scalar);
    }

    /// `d` is the low byte of `a`.
    pub fn low_byte(&mut self, d: Place, a: Place) {
        self.push(format!("extend.u8 {d}, {a}"), &[a], d, Class::Scalar);
    }

    /// `d = a * b` on scalars, the low 32 bits.
    pub fn multiply_scalars(&mut self, d: Place, a: Place, b: Place) {
        self.push(format!("mul {d}, {a}, {b}"), &[a, b], d, Class::Multiply);
    }

    /// `d = a + b` on scalars, in the slot of moves.
    pub fn add_moved(&mut self, d: Place, a: Place, b: Place) {
        self.push(format!("add.nc {d}, {a}, {b}"), &[a, b], d, Class::Scalar);
    }

    /// `p += bytes`, a multiple of 64 from -512 to 448.
    pub fn advance_by(&mut self, p: Place, bytes: i32) {
        self.push(format!("padda [{p}], #{bytes}"), &[p], p, Class::Scalar);
    }

    /// Loads a half word with zeros above it, or copies of its sign, from where `offset`, a `dj`,
    /// points behind `p`.
    pub fn load_half(&mut self, d: Place, p: Place, offset: Place, extend: Extend) {
        let mnemonic = match extend {
            Extend::Zeros => "lda.u16",
            Extend::Sign => "lda.s16",
        };
        self.push(format!("{mnemonic} {d}, [{p}, {offset}]"), &[p, offset], d, Class::Load);
        self.with(Effect::Load);
    }

    /// Stores a word that no load of the block reads, at an offset.
    pub fn store_word_apart(&mut self, s: Place, p: Place, offset: u32) {
        self.store_as(format!("st {s}, [{p}, #{offset}]"), vec![s, p], Effect::StoreApart);
    }

    /// Stores 64 bytes that no load of the block reads, at an offset.
    pub fn store_apart(&mut self, s: Place, p: Place, offset: u32) {
        self.store_as(format!("vst {s}, [{p}, #{offset}]"), vec![s, p], Effect::StoreApart);
    }

    /// Stores the 64 sums of an accumulator, divided by 2^`shift`, as signed bytes that no load
    /// of the block reads. `modes` are the registers that say how that is rounded.
    pub fn store_bytes_apart(
        &mut self,
        accumulator: u8,
        shift: Place,
        p: Place,
        offset: u32,
        modes: &[Place],
    ) {
        let text = format!("vst.srs.4x dm{accumulator}, {shift}, srssign1, [{p}, #{offset}]");
        let mut reads = vec![shift, p];
        reads.extend((0..4).map(|which| Place::Quarter(accumulator, which)));
        reads.extend(modes);
        self.store_as(text, reads, Effect::StoreApart);
    }

    fn store_as(&mut self, text: String, reads: Vec<Place>, effect: Effect) {
        self.operations.push(Operation { text, reads, writes: Vec::new(), effect });
    }

    /// `p += m`.
    pub fn advance(&mut self, p: Place, m: Place) {
        self.push(format!("padda [{p}], {m}"), &[p, m], p, Class::Scalar);
    }

    /// Loads a word into a scalar.
    pub fn load_word(&mut self, d: Place, p: Place, offset: u32) {
        self.push(format!("lda {d}, [{p}, #{offset}]"), &[p], d, Class::Load);
        self.with(Effect::Load);
    }

    /// Loads 64 bytes at an offset, into a vector or an accumulator's quarter.
    pub fn load(&mut self, d: Place, p: Place, offset: u32) {
        self.push(format!("vlda {d}, [{p}, #{offset}]"), &[p], d, Class::Load);
        self.with(Effect::Load);
    }

    /// Loads 64 bytes through unit A and moves the pointer behind them.
    pub fn load_next(&mut self, d: Place, p: Place) {
        self.push(format!("vlda {d}, [{p}], #64"), &[p], d, Class::Load);
        self.with(Effect::Load).writes.push((p, Class::Scalar));
    }

    /// Loads 64 bytes through unit B and moves the pointer behind them.
    pub fn load_next_b(&mut self, d: Place, p: Place) {
        self.push(format!("vldb {d}, [{p}], #64"), &[p], d, Class::Load);
        self.with(Effect::Load).writes.push((p, Class::Scalar));
    }

    /// Stores 64 bytes at an offset.
    pub fn store(&mut self, s: Place, p: Place, offset: u32) {
        let text = format!("vst {s}, [{p}, #{offset}]");
        let (reads, effect) = (vec![s, p], Effect::Store);
        self.operations.push(Operation { text, reads, writes: Vec::new(), effect });
    }

    /// `d = a & b` on vectors.
    pub fn and_lanes(&mut self, d: Place, a: Place, b: Place) {
        self.push(format!("vband {d}, {a}, {b}"), &[a, b], d, Class::Vector);
    }

    /// `d = s`, a vector or a quarter of an accumulator.
    pub fn copy_vector(&mut self, d: Place, s: Place) {
        self.push(format!("vmov {d}, {s}"), &[s], d, Class::Vector);
    }

    /// Scalar `s` in all 16 lanes of 32 bits.
    pub fn broadcast(&mut self, d: Place, s: Place) {
        self.push(format!("vbcst.32 {d}, {s}"), &[s], d, Class::Vector);
    }

    /// Adds 16 lanes of 32 bits, modulo 2^32.
    pub fn add_lanes(&mut self, d: Place, a: Place, b: Place) {
        self.push(format!("vadd.32 {d}, {a}, {b}"), &[a, b], d, Class::Vector);
    }

    /// Adds the 8x8x8 product of two vectors to an accumulator, as `configuration` has it.
    pub fn multiply(&mut self, accumulator: u8, a: Place, b: Place, configuration: Place) {
        let quarters = (0..4).map(|which| Place::Quarter(accumulator, which));
        let mut reads = vec![a, b, configuration];
        reads.extend(quarters.clone());
        let writes = quarters.map(|place| (place, Class::Matrix)).collect();
        let text = format!("vmac dm{accumulator}, dm{accumulator}, {a}, {b}, {configuration}");
        self.operations.push(Operation { text, reads, writes, effect: Effect::None });
    }

    /// Takes -`amount` from a lock when it has that much; waits until then.
    pub fn acquire(&mut self, lock: OwnLock, amount: Place) {
        self.lock("acq", lock, amount, Effect::Acquire);
    }

    /// Adds `amount` to a lock.
    pub fn release(&mut self, lock: OwnLock, amount: Place) {
        self.lock("rel", lock, amount, Effect::Release);
    }

    fn lock(&mut self, mnemonic: &str, lock: OwnLock, amount: Place, effect: Effect) {
        let text = format!("{mnemonic} {lock}, {amount}");
        self.operations.push(Operation { text, reads: vec![amount], writes: Vec::new(), effect });
    }

    fn push(&mut self, text: String, reads: &[Place], d: Place, class: Class) {
        let (reads, writes) = (reads.to_vec(), vec![(d, class)]);
        self.operations.push(Operation { text, reads, writes, effect: Effect::None });
    }

    /// The operation just pushed, with an effect.
    fn with(&mut self, effect: Effect) -> &mut Operation {
        let last = self.operations.last_mut().expect("an operation was just pushed");
        last.effect = effect;
        last
    }

    /// Its operations, in order.
    pub(super) fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The words of the block: for each cycle its operations.
    ///
    /// # Errors
    /// An operation that the instruction table does not know.
    pub fn schedule(&self, spacing: &Spacing) -> Result<Vec<Vec<String>>, IsaError> {
        let mut schedule = Schedule::new(spacing);
        for operation in &self.operations {
            schedule.place(operation, 0)?;
        }
        Ok(schedule.leave(&self.exit))
    }
}

/// Idle words of two bytes that are as long as one of 16.
const SHORT_WORDS: usize = 8;

/// A part of a program, reached and left as a whole.
#[derive(Clone, Debug)]
pub enum Part {
    /// Operations that assume nothing of what is before them.
    Block(Block),
    /// Words that have their cycles already: those of a [`super::pipeline`].
    Timed {
        /// What jumps call it.
        label: &'static str,
        /// For each cycle its operations.
        words: Vec<Vec<String>>,
    },
}

/// A program: its text, its code and the cycles of each of its blocks when nothing waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembled {
    /// The text, as [`assemble`] reads it.
    pub text: String,
    /// The code.
    pub code: Vec<u8>,
    /// Label and length of each block, in order.
    pub cycles: Vec<(&'static str, usize)>,
}

impl Assembled {
    /// Schedules and assembles `parts`; the first is where the core starts.
    ///
    /// # Errors
    /// An operation that the instruction table does not know, a label that is not there.
    pub fn new(parts: &[Part], spacing: &Spacing) -> Result<Self, IsaError> {
        let mut text = String::from(".full\n");
        let mut cycles = Vec::new();
        for part in parts {
            let (label, words) = match part {
                Part::Block(block) => (block.label, block.schedule(spacing)?),
                Part::Timed { label, words } => (*label, words.clone()),
            };
            cycles.push((label, words.len()));
            let _ = writeln!(text, "{label}:");
            let empty = words.iter().filter(|word| word.is_empty()).count();
            let mut short = match part {
                Part::Block(_) => empty / SHORT_WORDS * SHORT_WORDS,
                Part::Timed { .. } => 0,
            };
            for word in words {
                if !word.is_empty() {
                    let _ = writeln!(text, "  {}", word.join("; "));
                } else if short == 0 {
                    text.push_str("  nop\n");
                } else {
                    text.push_str("  .exact\n  nop\n  .full\n");
                    short -= 1;
                }
            }
        }
        let code = assemble(&text, 0)?;
        Ok(Assembled { text, code, cycles })
    }

    /// Cycles of the block called `label`, zero when there is none.
    pub fn cycles_of(&self, label: &str) -> usize {
        self.cycles.iter().find(|(name, _)| *name == label).map_or(0, |(_, cycles)| *cycles)
    }
}

#[cfg(test)]
mod tests {
    use super::schedule::LOCK_UNIT;
    use super::*;

    /// The cycle of the operation that starts with `text`.
    fn cycle_of(words: &[Vec<String>], text: &str) -> usize {
        let has = |word: &Vec<String>| word.iter().any(|operation| operation.starts_with(text));
        words.iter().position(has).unwrap_or_else(|| panic!("{text} in {words:?}"))
    }

    #[test]
    fn lock_operations_keep_their_distance() {
        let mut block = Block::new("locks");
        block.acquire(OwnLock(1), Place::R(1));
        block.release(OwnLock(2), Place::R(2));
        block.load(Place::X(0), Place::P(0), 0);
        block.store(Place::X(0), Place::P(1), 0);
        block.release(OwnLock(3), Place::R(2));
        let words = block.schedule(&Spacing::DOCUMENTED).unwrap();
        let at = |text| cycle_of(&words, text);
        assert_eq!(at("rel #50"), at("acq #49") + LOCK_UNIT);
        assert_eq!(at("vlda"), at("acq #49") + 8);
        assert_eq!(at("vst"), at("vlda") + 7);
        assert_eq!(at("rel #51"), at("vst") + 8);
        assert_eq!(words.len(), at("rel #51") + LOCK_UNIT);
    }

    #[test]
    fn results_land_before_they_are_used_and_before_the_end() {
        let mut block = Block::new("products");
        block.load_next(Place::X(0), Place::P(0));
        block.load_next_b(Place::X(1), Place::P(1));
        for _ in 0..2 {
            block.multiply(0, Place::X(0), Place::X(1), Place::R(0));
        }
        // May not come before the last product has read x0, nor overtake the first load.
        block.load_next(Place::X(0), Place::P(0));
        block.store(Place::Quarter(0, 3), Place::P(2), 192);
        for (spacing, [product, next, store]) in
            [(Spacing::DOCUMENTED, [7, 11, 17]), (Spacing::CONSERVATIVE, [8, 16, 24])]
        {
            let words = block.schedule(&spacing).unwrap();
            let products: Vec<usize> = (0..words.len())
                .filter(|&at| words[at].iter().any(|text| text.starts_with("vmac")))
                .collect();
            assert_eq!(products, [product, next]);
            let loads = words.iter().rposition(|word| word.iter().any(|t| t.starts_with("vlda")));
            assert!(loads.unwrap() >= next);
            assert_eq!(cycle_of(&words, "vst bmhh0"), store);
            assert!(words.len() >= store + spacing.store);
        }
    }

    #[test]
    fn jumps_leave_room_for_what_follows_them() {
        let mut block = Block::new("loop");
        block.decrement(Place::R(3), Place::R(3));
        let words = block.exit(Exit::NotZero(Place::R(3), "loop")).schedule(&Spacing::DOCUMENTED);
        let words = words.unwrap();
        assert_eq!(cycle_of(&words, "jnz r3"), 1);
        assert_eq!(words.len(), 2 + DELAY_SLOTS);
        let lost = Part::Block(Block::new("a").exit(Exit::Jump("b")));
        let unknown = Assembled::new(&[lost], &Spacing::DOCUMENTED);
        assert!(unknown.is_err());
    }
}
