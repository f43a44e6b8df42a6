//! What a step would take on a Strix Halo, by a model of its bytes and waits.
//!
//! The figures of the model are other people's measurements on that machine; nothing here was
//! measured there by us, and whoever prints a result says *predicted*.

use onebit_plan::gpu::{GpuDispatch, GpuEntry};

/// Seconds a dispatch takes to start when it waits for the one before: 1.86 us a node in a replayed
/// graph over 3.04 (ROCm/rocm-systems#10834), for RADV's replayed command buffers.
const WAIT_SECONDS: f64 = 0.6e-6;
/// Seconds to launch one workgroup: 1.7 us for 1024 and 12.0 us for 8192 of them, unsynchronised
/// (shisa-ai/hipEngine, RADV 26.1.2 on gfx1151).
const GROUP_SECONDS: f64 = 1.5e-9;
/// Bytes a second that the GPU reads (rocm_bandwidth_test on the same kind of machine).
pub const BYTES_PER_SECOND: f64 = 212e9;

/// Seconds of one step of `entry`, the cache not counted.
pub fn seconds(entry: &GpuEntry) -> f64 {
    entry.dispatches.iter().map(dispatch_seconds).sum()
}

/// What `dispatch` adds to a step.
pub fn dispatch_seconds(dispatch: &GpuDispatch) -> f64 {
    let groups: f64 = dispatch.groups.iter().map(|&count| f64::from(count)).product();
    let wait = if dispatch.wait { WAIT_SECONDS } else { 0.0 };
    wait + groups * GROUP_SECONDS + dispatch.weight_bytes as f64 / BYTES_PER_SECOND
}

/// Seconds of one step of `entry` where memory is read at `bytes_per_second`; waits and launches cost
/// what they do on a Strix Halo.
pub fn seconds_at(entry: &GpuEntry, bytes_per_second: f64) -> f64 {
    let bytes: u64 = entry.dispatches.iter().map(|dispatch| dispatch.weight_bytes).sum();
    seconds(entry) + bytes as f64 / bytes_per_second - bytes as f64 / BYTES_PER_SECOND
}
