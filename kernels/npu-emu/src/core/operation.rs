//! Operations in the form in which they are executed: small, copied, registers as numbers.

use super::registers::{Scalar, Unit};

/// An operation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Binary {
        op: Binary,
        d: Scalar,
        a: Scalar,
        b: Scalar,
    },
    /// `add` with its carry, and `add.nc` without.
    AddImmediate {
        d: Scalar,
        a: Scalar,
        immediate: i32,
        carry: CarryOut,
    },
    Unary {
        op: Unary,
        d: Scalar,
        a: Scalar,
    },
    Multiply {
        op: Product,
        d: Scalar,
        a: Scalar,
        b: Scalar,
    },
    Select {
        when: Condition,
        d: Scalar,
        a: Scalar,
        b: Scalar,
        test: Scalar,
    },
    MoveImmediate {
        d: Scalar,
        value: u32,
    },
    Move {
        d: Scalar,
        s: Scalar,
    },
    Acquire {
        lock: LockNumber,
        value: Scalar,
        only_if: Option<Scalar>,
    },
    Release {
        lock: LockNumber,
        value: Scalar,
        only_if: Option<Scalar>,
    },
    Jump {
        target: u32,
        link: Link,
    },
    JumpIf {
        when: Condition,
        test: Scalar,
        target: u32,
    },
    JumpTo {
        pointer: Scalar,
        link: Link,
    },
    /// `jnzd`: decrements, then jumps unless zero.
    JumpDecrement {
        d: Scalar,
        a: Scalar,
        pointer: Scalar,
    },
    Done,
    MoveStack {
        by: i32,
    },
    MoveStackBy {
        modifier: Scalar,
    },
    MovePointer {
        at: Address,
    },
    Load {
        size: Size,
        d: Scalar,
        at: Address,
    },
    Store {
        size: Size,
        s: Scalar,
        at: Address,
    },
    LoadVector {
        d: VectorPlace,
        at: Address,
    },
    StoreVector {
        s: VectorPlace,
        at: Address,
    },
    /// `vst.srs.4x`: 64 sums, shifted, rounded, saturated to bytes.
    StoreShifted {
        s: u8,
        shift: Scalar,
        sign: Scalar,
        at: Address,
    },
    MoveVector {
        d: VectorPlace,
        s: VectorPlace,
    },
    /// `vmov` of half an accumulator.
    MoveHalfAccumulator {
        d: u8,
        s: u8,
    },
    Broadcast {
        lane: Lane,
        d: u8,
        s: Scalar,
    },
    AddVectors {
        lane: Lane,
        d: u8,
        a: u8,
        b: u8,
    },
    /// `vband`.
    AndVectors {
        d: u8,
        a: u8,
        b: u8,
    },
    ShiftVectors {
        d: u8,
        a: u8,
        b: u8,
        by: Scalar,
    },
    Accumulate {
        op: Accumulation,
        d: u8,
    },
    /// One that is decoded, or not even that, but not modelled.
    Unmodelled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Sub,
    AddCarry,
    SubCarry,
    And,
    Or,
    Xor,
    Eq,
    Ne,
    Ge,
    Lt,
    GeUnsigned,
    LtUnsigned,
    ShiftLogical,
    ShiftArithmetic,
    /// `add.nc`.
    AddNoCarry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unary {
    LeadingZeros,
    SignExtend8,
    SignExtend16,
    ZeroExtend8,
    ZeroExtend16,
    IsZero,
    IsNotZero,
    Absolute,
    CountOnes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Product {
    Multiply,
    MultiplyAdd,
    MultiplySubtract,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Zero,
    NotZero,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CarryOut {
    Written,
    Kept,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    None,
    Lr,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum LockNumber {
    Fixed(u8),
    In(Scalar),
}

/// Bytes of a scalar access, and how they fill a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Signed8,
    Unsigned8,
    Signed16,
    Unsigned16,
    Word,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Bits8,
    Bits16,
    Bits32,
}

/// Where an access goes and what becomes of the pointer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Address {
    /// `[p, #imm]`
    Offset { p: Scalar, by: i32 },
    /// `[p], #imm`
    Then { p: Scalar, by: i32 },
    /// `[p, dj]`
    Index { p: Scalar, dj: Scalar },
    /// `[p], m`
    ThenBy { p: Scalar, m: Scalar },
    /// `[p], d`: two dimensions, of the modifiers with this number.
    Then2d { p: Scalar, d: u8 },
    /// `[p], d`: three dimensions, of those with this number and with that plus 4.
    Then3d { p: Scalar, d: u8 },
    /// `[sp, #imm]`
    Stack { by: i32 },
}

/// A vector register that a load, a store or a move names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VectorPlace {
    /// A vector of 64 bytes.
    Whole(u8),
    /// 32 bytes: twice the vector's number, plus one for the upper half.
    Half(u8),
    /// A quarter of an accumulator: four times its number, plus which.
    Quarter(u8),
}

impl VectorPlace {
    /// Bytes of the place.
    pub fn len(self) -> usize {
        match self {
            VectorPlace::Half(_) => 32,
            VectorPlace::Whole(_) | VectorPlace::Quarter(_) => 64,
        }
    }

    /// The hazard units of the place: first and how many.
    pub fn units(self) -> (Unit, u8) {
        match self {
            VectorPlace::Whole(x) => (Unit::half(x * 2), 2),
            VectorPlace::Half(half) => (Unit::half(half), 1),
            VectorPlace::Quarter(quarter) => (Unit::quarter(quarter), 1),
        }
    }
}

/// What the vector slot does to an accumulator.
#[derive(Clone, Copy, Debug)]
pub(super) enum Accumulation {
    Clear,
    Move {
        a: u8,
    },
    Add {
        a: u8,
        b: u8,
        configuration: Scalar,
    },
    /// `vmul`, and `vmac` with an accumulator.
    Multiply {
        a: Option<u8>,
        s1: u8,
        s2: u8,
        configuration: Scalar,
    },
}

/// Which operations one word has, and where the next one is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    /// Index of its first operation.
    pub first: u32,
    /// How many it has.
    pub count: u8,
    /// Bytes.
    pub len: u8,
    /// Index of its acquire among its operations.
    pub acquire: Option<u8>,
}
