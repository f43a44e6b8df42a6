//! What a core cannot do, or what does not have one meaning.

use onebit_aie::isa::IsaError;
use thiserror::Error;

use crate::Fault;

/// Why an instruction word was not executed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CoreFault {
    /// The program counter left the program memory.
    #[error("outside the 16 KiB of program memory")]
    OutsideProgram,
    /// A jump into the middle of a unit of two bytes.
    #[error("an odd address: words begin at even ones")]
    OddAddress,
    /// The bytes are no instruction word.
    #[error("no instruction word: {0}")]
    NotAWord(IsaError),
    /// An operation whose semantics the emulator does not have.
    #[error("`{operation}` is not modelled")]
    NotModelled {
        /// The operation's text.
        operation: String,
    },
    /// A case of an operation that no source documents.
    #[error("{what}: not documented")]
    Undocumented {
        /// Which case.
        what: &'static str,
    },
    /// A configuration word of the matrix unit that is not modelled.
    #[error("matrix configuration {word:#x} is not modelled")]
    Configuration {
        /// The word.
        word: u32,
    },
    /// A read at a time at which a write may or may not have landed.
    #[error("{register} is read while a write to it is under way")]
    Uncertain {
        /// The register.
        register: String,
    },
    /// A read of a register that nobody wrote.
    #[error("{register} is read, but was never written")]
    Unwritten {
        /// The register.
        register: String,
    },
    /// Two writes to a register whose order is not certain, or that land together.
    #[error("two writes to {register} may land in the same cycle")]
    WritesMeet {
        /// The register.
        register: String,
    },
    /// More writes in a cycle than the register file has ports for.
    #[error("too many register writes in one cycle")]
    TooManyWrites,
    /// An access that is not aligned to its size.
    #[error("{bytes} bytes at {address:#x}: not aligned")]
    Misaligned {
        /// The core's own address.
        address: u32,
        /// Bytes of the access.
        bytes: u32,
    },
    /// The memory or a lock refused.
    #[error(transparent)]
    Bus(Box<Fault>),
    /// A lock number that no core has.
    #[error("lock {lock}: a core reaches 0 to 63")]
    NoSuchLock {
        /// The number.
        lock: u32,
    },
    /// A jump in the five words after a jump, or in the last word of a hardware loop.
    #[error("a jump where another, or the end of a hardware loop, is under way")]
    JumpsMeet,
    /// The hardware loop's registers were written too shortly before its end, or its first and
    /// last words are not where they have to be.
    #[error("hardware loop {start:#x} to {end:#x}: {what}")]
    Loop {
        /// The loop's first word.
        start: u32,
        /// Its last word.
        end: u32,
        /// What is wrong.
        what: &'static str,
    },
    /// A memory access too close to a lock operation for its order to be certain.
    #[error("a memory access and a lock operation are {missing} words too close to each other")]
    LockTooClose {
        /// Words by which the later of the two comes too early.
        missing: u32,
    },
    /// A lock operation while the core's lock unit is busy with another.
    #[error("two lock operations are {missing} words too close to each other")]
    LocksTooClose {
        /// Words by which the later one comes too early.
        missing: u32,
    },
    /// A memory access before a slower store that may be to the same place has landed.
    #[error("a memory access before an earlier store has landed")]
    StoreUnderWay,
}
