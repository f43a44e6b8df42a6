//! How long a call takes, by a model. Nothing here is measured.
//!
//! The model: every resource works all the time, the slowest one decides, and the controller takes
//! a fixed time to start a call. Assumed: [`DDR_BYTES_PER_SECOND`] (arXiv 2512.13282 and the
//! xdna-engine project report 47 to 57 GB/s), [`CLOCK`] (the driver's highest step), four bytes a
//! cycle and stream, [`DISPATCH`] (with a kept context; public reports say 0.02 to 0.06 ms). Not
//! modelled: bank conflicts, arbitration, pauses between descriptors, start and end of the pipeline.

use super::block::Assembled;
use super::{BRICKS_PER_WEIGHT_GRANULE, Results, Tiling};

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
    /// A core.
    pub core: f64,
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
        }
    }

    /// Modelled seconds from the first byte to the last.
    pub fn streaming(&self) -> f64 {
        let others = [self.activations, self.weights, self.results, self.core];
        others.into_iter().fold(self.memory, f64::max)
    }

    /// Modelled seconds of the whole call.
    pub fn total(&self) -> f64 {
        DISPATCH + self.streaming()
    }
}

/// Cycles of a core that never waits.
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
        + output * count(tiling.units);
    let pass = cycles(&["pass", "pass_end"]) + group * count(tiling.groups);
    cycles(&["call", "call_end"]) + pass * count(tiling.passes)
}
