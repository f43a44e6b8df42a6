//! What a run did, and how long the model says it takes.

use crate::geometry::{ChannelId, TileId};

/// Cycles of the array in a second: the highest clock of the driver's table for npu4
/// (amdxdna, `npu4_dpm_clk_table`).
pub const CLOCK_HZ: u64 = 1_800_000_000;
/// Bytes a second that the array's shims move together, as measured by others (arXiv 2512.13282
/// and the xdna-engine project: 47 to 57 GB/s).
pub const DDR_BYTES_A_SECOND: u64 = 50_000_000_000;

/// A task-complete token that reached the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Who sent it.
    pub channel: ChannelId,
    /// When, in cycles.
    pub time: u64,
}

/// A stretch of time in which somebody worked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The tile.
    pub tile: TileId,
    /// The channel or the core.
    pub who: String,
    /// What it worked on.
    pub what: String,
    /// First cycle.
    pub start: u64,
    /// The cycle behind the last.
    pub end: u64,
}

/// Words that a channel moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The channel.
    pub channel: ChannelId,
    /// Words of 32 bits.
    pub words: u64,
}

/// What a run did. All times are modelled, none is measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Modelled cycles from the first operation to the last.
    pub cycles: u64,
    /// Of these, cycles in which the machine's memory and not the array was the limit.
    pub memory_cycles: u64,
    /// Bytes read from the arguments.
    pub bytes_read: u64,
    /// Bytes written to the arguments.
    pub bytes_written: u64,
    /// Operations of the instruction stream.
    pub operations: usize,
    /// Of these, syncs.
    pub syncs: usize,
    /// Instruction words that cores executed.
    pub core_words: u64,
    /// Groups of tiles that ran independently of each other, at most.
    pub groups: usize,
    /// Words that each channel moved; channels that moved none are left out.
    pub traffic: Vec<Traffic>,
    /// Registers that were written and that nothing is known of.
    pub unknown_registers: Vec<(TileId, u32)>,
    /// What still waits at the end: normal for a design that is kept for more runs.
    pub waiting: Vec<String>,
    /// Who worked when, if that was asked for.
    pub spans: Vec<Span>,
}

impl Report {
    /// Modelled time in microseconds.
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    pub fn microseconds(&self) -> f64 {
        self.cycles as f64 * 1e6 / CLOCK_HZ as f64
    }
}
