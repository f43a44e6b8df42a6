//! What waiting costs on a device: microseconds a dispatch of next to nothing, with and without a
//! barrier before it, and a barrier of all workgroups inside one kernel.
//!
//! `waits [NAME]` takes the first device whose name has NAME in it. Each figure is the median of
//! 15 submissions of 500 dispatches, and each submission's counter is checked. Workgroups that meet must
//! all be resident: on a device with fewer places the last rows end in a timeout.

#[path = "../tests/common/mod.rs"]
mod common;

use std::sync::Arc;
use std::time::Duration;

use common::pipeline;
use onebit_vulkan::{
    Buffer, Device, Inspect, Instance, Pipeline, Place, Recorder, Transfer, Validation, Window,
};

const COUNT: usize = 500;
const RUNS: usize = 15;
const TIMEOUT: Duration = Duration::from_secs(10);

/// The first invocation adds one.
const ADD: &str = "
struct Immediates { by: u32 }
var<immediate> p: Immediates;
@group(0) @binding(3) var<storage, read_write> words: array<u32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x == 0u { words[0] = words[0] + p.by; }
}";

/// Loads that each wait for the one before; all words are 0.
const CHASE: &str = "
struct Immediates { loads: u32 }
var<immediate> p: Immediates;
@group(0) @binding(3) var<storage, read_write> words: array<u32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x > 0u { return; }
    var at = 0u;
    for (var i = 0u; i < p.loads; i += 1u) { at = words[at + (i & 63u) * 64u]; }
    words[16000] = at;
}";

/// All workgroups meet `p.rounds` times; workgroup 0 adds one after each.
const MEET: &str = "
struct Immediates { rounds: u32, groups: u32 }
var<immediate> p: Immediates;
@group(0) @binding(3) var<storage, read_write> words: array<atomic<u32>>;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    for (var round = 1u; round <= p.rounds; round += 1u) {
        storageBarrier();
        workgroupBarrier();
        if lane == 0u {
            atomicAdd(&words[64], 1u);
            while atomicLoad(&words[64]) < round * p.groups { }
        }
        workgroupBarrier();
        if group.x == 0u && lane == 0u { atomicAdd(&words[0], 1u); }
    }
}";

fn main() {
    let name = std::env::args().nth(1).unwrap_or_default();
    let instance = Instance::new(Validation::Off).expect("a Vulkan loader");
    let devices = instance.devices().expect("devices");
    let found = devices.iter().find(|device| device.info().name.contains(&name));
    let device = found.expect("a device of that name").open().expect("the device opens");
    println!("{}", device.info().name);
    let buffer = Buffer::new(&device, "words", 65536, Place::Device).expect("memory");
    let add = pipeline(&device, ADD, &[3], 4, Inspect::No).expect("a pipeline");
    for groups in [1, 64, 256, 1024] {
        for (what, barrier, windows) in
            [("no barrier", false, 1), ("barrier", true, 1), ("barrier, other windows", true, 64)]
        {
            let time = dispatches(&device, &buffer, &add, groups, (barrier, windows));
            println!("{groups:5} workgroups, {what:24} {time:7.2} us a dispatch");
        }
    }
    let chase = pipeline(&device, CHASE, &[3], 4, Inspect::No).expect("a pipeline");
    for (what, place) in [("own", Place::Device), ("shared", Place::Shared)] {
        println!("a load of {what} memory after a load: {:7.1} ns", load(&device, &chase, place));
    }
    let meet = pipeline(&device, MEET, &[3], 8, Inspect::No).expect("a pipeline");
    for groups in [2, 32, 64, 128] {
        let time = meetings(&device, &buffer, &meet, groups);
        println!("{groups:5} workgroups meet inside a kernel     {time:7.2} us a meeting");
    }
}

fn zero(device: &Arc<Device>, buffer: &Arc<Buffer>) {
    Transfer::new(device).clear(&buffer.window()).expect("the buffer is cleared");
}

/// Word 0, or the sum of the words at the starts of `windows` windows of 256 bytes.
fn total(device: &Arc<Device>, buffer: &Arc<Buffer>, windows: usize) -> u32 {
    let mut bytes = vec![0; 65536];
    Transfer::new(device).read(buffer, 0, &mut bytes).expect("the buffer is read");
    let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| bytes[at + i]));
    (0..windows).map(|window| word(256 * window)).sum()
}

fn dispatches(
    device: &Arc<Device>,
    buffer: &Arc<Buffer>,
    add: &Arc<Pipeline>,
    groups: u32,
    (barrier, windows): (bool, usize),
) -> f64 {
    let mut times = Vec::new();
    for _ in 0..RUNS {
        zero(device, buffer);
        let mut recorder = Recorder::new(device, "waits", 2).expect("a recorder");
        recorder.copy_barrier();
        recorder.timestamp().expect("a timestamp");
        for index in 0..COUNT {
            if barrier {
                recorder.barrier();
            }
            let window = Window {
                buffer: Arc::clone(buffer),
                offset: 256 * (index % windows) as u64,
                length: 256,
            };
            recorder.dispatch(add, &[window], &[1], [groups, 1, 1]).expect("a dispatch");
        }
        recorder.timestamp().expect("a timestamp");
        let commands = recorder.finish().expect("commands");
        let ticket = device.submit(&[&commands]).expect("submitted");
        device.wait(ticket, TIMEOUT).expect("done");
        let times_ns = commands.times().expect("times");
        times.push((times_ns[1] - times_ns[0]) / 1e3 / COUNT as f64);
        let found = total(device, buffer, windows);
        assert!(!barrier || found as usize == COUNT, "{found} of {COUNT} dispatches counted");
    }
    median(times)
}

/// Nanoseconds of a load.
fn load(device: &Arc<Device>, chase: &Arc<Pipeline>, place: Place) -> f64 {
    const LOADS: u32 = 1000;
    let buffer = Buffer::new(device, "chased", 65536, place).expect("memory");
    zero(device, &buffer);
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let mut recorder = Recorder::new(device, "chase", 2).expect("a recorder");
        recorder.copy_barrier();
        recorder.timestamp().expect("a timestamp");
        recorder.dispatch(chase, &[buffer.window()], &[LOADS], [1, 1, 1]).expect("a dispatch");
        recorder.timestamp().expect("a timestamp");
        let commands = recorder.finish().expect("commands");
        let ticket = device.submit(&[&commands]).expect("submitted");
        device.wait(ticket, TIMEOUT).expect("done");
        let times_ns = commands.times().expect("times");
        times.push((times_ns[1] - times_ns[0]) / f64::from(LOADS));
    }
    median(times)
}

fn meetings(device: &Arc<Device>, buffer: &Arc<Buffer>, meet: &Arc<Pipeline>, groups: u32) -> f64 {
    let mut times = Vec::new();
    for _ in 0..RUNS {
        zero(device, buffer);
        let mut recorder = Recorder::new(device, "meetings", 2).expect("a recorder");
        recorder.copy_barrier();
        recorder.timestamp().expect("a timestamp");
        let windows = [buffer.window()];
        let immediates = [COUNT as u32, groups];
        recorder.dispatch(meet, &windows, &immediates, [groups, 1, 1]).expect("a dispatch");
        recorder.timestamp().expect("a timestamp");
        let commands = recorder.finish().expect("commands");
        let ticket = device.submit(&[&commands]).expect("submitted");
        device.wait(ticket, TIMEOUT).expect("done");
        let times_ns = commands.times().expect("times");
        times.push((times_ns[1] - times_ns[0]) / 1e3 / COUNT as f64);
        assert_eq!(total(device, buffer, 1) as usize, COUNT, "workgroup 0 counted every meeting");
    }
    median(times)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
