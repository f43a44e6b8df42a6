//! How long a call takes, by a model. Nothing here is measured.
//!
//! The model: every resource works all the time, the slowest one decides, and the controller takes
//! a fixed time to start a call. Assumed: [`DDR_BYTES_PER_SECOND`] (arXiv 2512.13282 and the
//! xdna-engine project report 47 to 57 GB/s), [`CLOCK`] (the driver's highest step), four bytes a
//! cycle and stream, [`DISPATCH`] (with a kept context; public reports say 0.02 to 0.06 ms). Not
//! modelled: bank conflicts, arbitration, pauses between descriptors, start and end of the pipeline.

use super::block::Assembled;
use super::{BLOCK, BRICKS_PER_WEIGHT_GRANULE, Results, Tiling};

/// Bytes a second from and to the machine's memory, all columns together.
pub const DDR_BYTES_PER_SECOND: f64 = 50e9;
/// Cycles of the array a second.
pub const CLOCK: f64 = 1.8e9;
/// Bytes of a stream a cycle.
pub const STREAM_BYTES_PER_CYCLE: f64 = 4.0;
/// Seconds from the command to its start, and from its end to the notice.
pub const DISPATCH: f64 = 60e-6;

/// Modelled seconds of each resource during one call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// The machine's memory: everything that is streamed.
    pub memory: f64,
    /// The machine's memory, had it to move only what it must, without padding or repetition.
    pub memory_bound: f64,
    /// The activations' stream, which all columns share.
    pub activations: f64,
    /// The weights' stream of one column.
    pub weights: f64,
    /// The results' stream of one column.
    pub results: f64,
    /// A core, while weights stream.
    pub core: f64,
    /// A core, while it makes a gated product's results and nothing else happens.
    pub gate: f64,
}

impl Cost {
    /// The cost of `tiling` when the cores run `kernel`.
    pub fn new(tiling: &Tiling, kernel: &Assembled) -> Self {
        let stream = |bytes: u64| bytes as f64 / STREAM_BYTES_PER_CYCLE / CLOCK;
        Cost {
            memory: tiling.streamed_bytes() as f64 / DDR_BYTES_PER_SECOND,
            memory_bound: tiling.necessary_bytes() as f64 / DDR_BYTES_PER_SECOND,
            activations: stream(u64::from(tiling.passes) * tiling.activation_bytes()),
            weights: stream(tiling.weight_bytes()),
            results: stream(tiling.result_bytes()),
            core: core_cycles(tiling, kernel) / CLOCK,
            gate: gate_cycles(tiling, kernel) / CLOCK,
        }
    }

    /// Modelled seconds from the first byte to the last.
    pub fn streaming(&self) -> f64 {
        let others = [self.activations, self.weights, self.results, self.core];
        self.gate + others.into_iter().fold(self.memory, f64::max)
    }

    /// Modelled seconds of the whole call.
    pub fn total(&self) -> f64 {
        DISPATCH + self.streaming()
    }
}

/// Cycles of a core between the passes of a gated product, and behind the last one.
pub fn gate_cycles(tiling: &Tiling, kernel: &Assembled) -> f64 {
    if tiling.gate.is_none() {
        return 0.0;
    }
    let cycles =
        |labels: &[&str]| labels.iter().map(|label| kernel.cycles_of(label) as f64).sum::<f64>();
    let (pairs, rows) = (f64::from(tiling.pairs()), f64::from(BLOCK));
    let halves = f64::from(tiling.passes) * pairs / 2.0;
    let row = cycles(&["gate_row", "gate_row_end"]) + cycles(&["gate_pair"]) * pairs;
    let pass = cycles(&["gate_start", "gate_rows", "gate_pass_end", "gate_resume"])
        + cycles(&["gate_combine"]) * pairs
        + row * rows;
    let code_row = cycles(&["code_row", "code_row_end"]) + cycles(&["code_pairs"]) * halves;
    pass * f64::from(tiling.passes)
        + cycles(&["codes", "send", "send_shifts", "gate_done"])
        + code_row * rows
        + cycles(&["send_pairs"]) * halves
}

/// Cycles of a core that never waits, but for those of [`gate_cycles`].
pub fn core_cycles(tiling: &Tiling, kernel: &Assembled) -> f64 {
    let cycles =
        |labels: &[&str]| labels.iter().map(|label| kernel.cycles_of(label) as f64).sum::<f64>();
    let count = |count: u32| f64::from(count);
    let pairs = count(tiling.units.div_ceil(2));
    let turns = count(tiling.bricks - 1);
    // A pair takes granules once if it takes any.
    let takes = (2.0 * count(tiling.bricks) / count(BRICKS_PER_WEIGHT_GRANULE)).min(1.0);
    let pair = cycles(&["pair", "sums", "first_loads", "last_brick", "pair_sums", "pair_end"])
        + cycles(&["brick"]) * turns
        + cycles(&["next_weights", "weights_done"]) * takes;
    let output = cycles(&["output_end", "choose_output"])
        + cycles(match tiling.shape.results {
            Results::Combined => &["combined"],
            Results::Separate => &["separate_high", "separate_low"],
        });
    let segment = cycles(&["segment", "segment_end"]) + pair * pairs;
    let group = cycles(&["group", "group_end"])
        + segment * count(tiling.segments)
        + if tiling.gate.is_some() { 0.0 } else { output * count(tiling.units) };
    let pass = cycles(&["pass", "gate", "pass_end"]) + group * count(tiling.groups);
    cycles(&["call", "call_end"]) + pass * count(tiling.passes)
}
