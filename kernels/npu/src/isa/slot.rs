//! The places of an instruction word that hold operations.

/// A slot. Widths: `AIE2PSlots.td`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// Load unit A, and pointer arithmetic.
    Lda,
    /// Load unit B.
    Ldb,
    /// Store unit.
    St,
    /// Scalar unit, locks, indirect jumps.
    Alu,
    /// Moves, and vector operations that are not multiplications.
    Mv,
    /// Operations with long immediates, in the place of Alu and Mv.
    Lng,
    /// Multiplications and accumulator arithmetic.
    Vec,
}

impl Slot {
    /// All slots, in the order of their discriminants.
    pub const ALL: [Slot; 7] =
        [Slot::Lda, Slot::Ldb, Slot::St, Slot::Alu, Slot::Mv, Slot::Lng, Slot::Vec];

    /// Bits of an operation.
    pub const fn width(self) -> u32 {
        match self {
            Slot::Ldb => 17,
            Slot::Lda | Slot::St | Slot::Alu => 20,
            Slot::Mv => 22,
            Slot::Vec => 26,
            Slot::Lng => 42,
        }
    }

    /// The name used in formats and in listings of unknown operations.
    pub const fn name(self) -> &'static str {
        match self {
            Slot::Lda => "lda",
            Slot::Ldb => "ldb",
            Slot::St => "st",
            Slot::Alu => "alu",
            Slot::Mv => "mv",
            Slot::Lng => "lng",
            Slot::Vec => "vec",
        }
    }

    /// The slot called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Slot::ALL.into_iter().find(|slot| slot.name() == name)
    }
}
