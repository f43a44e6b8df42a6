//! How long results take.

/// Cycles from the issue of an operation until an operation issued then reads its result.
///
/// The core has no interlocks: earlier readers get the register's old value, and compiled programs
/// make use of that, so a program of a compiler has its meaning under
/// [`LatencyModel::documented`] only. Programs that wait for their results have it under all. llvm-aie's
/// `AIE2PGenSchedule.td` gives the cycle in which an operand is read or written; a distance of
/// `written - read + 1` cycles, or one less along a bypass, is what these numbers say. Numbers are
/// 1 to [`LatencyModel::LONGEST`]; the emulator takes any other for the nearest of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencyModel {
    /// Scalar arithmetic, moves, immediates, pointer updates. Always 1 on the hardware.
    pub scalar: u8,
    /// Scalar multiplication (`mul`, `mac`, `msc`). Documented: 2.
    pub multiply: u8,
    /// Loads of any width to any register. Documented: 7.
    pub load: u8,
    /// Vector operations of the move slot; among each other one less. Documented: 2.
    pub vector_move: u8,
    /// Accumulator operations of the vector slot; among each other one less. Documented: 6.
    pub matrix: u8,
    /// Cycles after issue at which an accumulator operation reads its accumulators, at most
    /// `matrix` - 1. Documented: 3.
    pub accumulator_read: u8,
}

impl LatencyModel {
    /// The largest latency that can be modelled.
    pub const LONGEST: u8 = 15;

    /// What llvm-aie schedules for (`AIE2PGenSchedule.td`: `II_LDA_*`, `II_VLD*` dst 7, `II_VMAC*`
    /// dst 6 and acc1 4 with `VEC_Bypass`, `II_VMOV*`, `II_VSHUFFLE*` dst 2 with `MV_Bypass`,
    /// `II_MAC` d0 2).
    pub const fn documented() -> Self {
        LatencyModel {
            scalar: 1,
            multiply: 2,
            load: 7,
            vector_move: 2,
            matrix: 6,
            accumulator_read: 3,
        }
    }

    /// Every result in the next word. With [`LatencyModel::maximum`] it bounds what a program may
    /// assume that waits eight words for anything but a scalar.
    pub const fn minimum() -> Self {
        LatencyModel::of_all_but_scalars(1)
    }

    /// Every result but a scalar after eight words, one more than the longest documented.
    pub const fn maximum() -> Self {
        LatencyModel::of_all_but_scalars(8)
    }

    const fn of_all_but_scalars(cycles: u8) -> Self {
        LatencyModel {
            multiply: cycles,
            load: cycles,
            vector_move: cycles,
            matrix: cycles,
            ..LatencyModel::documented()
        }
    }

    /// This model with every number in its range.
    pub(super) fn clamped(self) -> Self {
        let within = |cycles: u8| cycles.clamp(1, LatencyModel::LONGEST);
        let matrix = within(self.matrix);
        LatencyModel {
            scalar: within(self.scalar),
            multiply: within(self.multiply),
            load: within(self.load),
            vector_move: within(self.vector_move),
            matrix,
            accumulator_read: self.accumulator_read.min(matrix - 1),
        }
    }
}

/// What a latency is looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Scalar,
    Multiply,
    Load,
    VectorMove,
    Matrix,
}

impl Class {
    pub const COUNT: usize = 5;

    pub fn latency(self, model: &LatencyModel) -> u8 {
        match self {
            Class::Scalar => model.scalar,
            Class::Multiply => model.multiply,
            Class::Load => model.load,
            Class::VectorMove => model.vector_move,
            Class::Matrix => model.matrix,
        }
    }
}

/// When a write lands, seen from its issue: not before `earliest`, and at `latest` for the values
/// that the emulator computes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub earliest: u8,
    pub latest: u8,
}

/// The windows of all classes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows([Window; Class::COUNT]);

impl Windows {
    pub fn new(shortest: &LatencyModel, longest: &LatencyModel) -> Self {
        const CLASSES: [Class; Class::COUNT] =
            [Class::Scalar, Class::Multiply, Class::Load, Class::VectorMove, Class::Matrix];
        Windows(CLASSES.map(|class| {
            let latest = class.latency(longest);
            Window { earliest: class.latency(shortest).min(latest), latest }
        }))
    }

    pub fn of(&self, class: Class) -> Window {
        self.0[class as usize]
    }
}
