//! Products timed by themselves: the same kernel again and again, each waiting for the one before,
//! over weights that stay in the cache and over others each time.
//!
//! `alone [NAME]` takes the first device whose name has NAME in it. Figures are medians of 15
//! submissions of 240 dispatches. What is multiplied are zeros: nothing is checked here, and no
//! figure of this program is one of a model.

use std::sync::Arc;
use std::time::Duration;

use onebit_plan::abi::StorageClass;
use onebit_plan::gpu::binding;
use onebit_plan::layout::packed_bytes;
use onebit_shaders::product::{Input, Output, Part, Product};
use onebit_shaders::rows::RowsKind;
use onebit_shaders::{Kernel, compile};
use onebit_vulkan::{
    Buffer, Device, Inspect, Instance, Pipeline, PipelineDesc, Place, Recorder, Transfer,
    Validation, Window,
};

const COUNT: usize = 240;
const RUNS: usize = 15;
const WEIGHTS: u64 = 256 << 20;

fn main() {
    let name = std::env::args().nth(1).unwrap_or_default();
    let instance = Instance::new(Validation::Off).expect("a Vulkan loader");
    let devices = instance.devices().expect("devices");
    let found = devices.iter().find(|device| device.info().name.contains(&name));
    let device = found.expect("a device of that name").open().expect("the device opens");
    println!("{}", device.info().name);
    let buffers = Buffers::new(&device);
    let classes = [StorageClass::Q4DM, StorageClass::Q4K, StorageClass::B1D];
    for class in classes {
        for (n, k) in [(576, 576_usize), (576, 1536), (2048, 2048), (4096, 2048), (2048, 6144)] {
            if !k.is_multiple_of(256) && class != StorageClass::Q4DM {
                continue;
            }
            for (m, tiles) in [(1, 1), (8, 1)] {
                let part = Part { class, n, output: Output::Arena { stride: n } };
                let product = Product {
                    k,
                    parts: vec![part],
                    input: Input::Records,
                    rows: RowsKind::All,
                    m,
                    tiles,
                };
                let bytes = packed_bytes(class, n, k) as u64;
                let kernel = product.kernel();
                let groups = product.groups(m);
                let times = [1, WEIGHTS / bytes.next_multiple_of(256)].map(|places| {
                    let places = usize::try_from(places).expect("few places");
                    time(&device, &buffers, &kernel, groups, (bytes, places.min(COUNT)))
                });
                println!(
                    "{class:?} {n:5} x {k:5} m {m} {:4} workgroups of {:4}: {:6.2} us in the cache, {:6.2} \
                     us fresh, {:7.0} GB/s",
                    groups[0],
                    kernel.workgroup,
                    times[0],
                    times[1],
                    bytes as f64 / times[1] / 1e3
                );
            }
        }
    }
}

struct Buffers {
    weights: Arc<Buffer>,
    arena: Arc<Buffer>,
    step: Arc<Buffer>,
}

impl Buffers {
    fn new(device: &Arc<Device>) -> Self {
        let zeros = |name: &str, bytes: u64, place: Place| {
            let buffer = Buffer::new(device, name, bytes, place).expect("memory");
            Transfer::new(device).clear(&buffer.window()).expect("the buffer is cleared");
            buffer
        };
        let step = zeros("step", 4096, Place::Device);
        Transfer::new(device).write(&step, 0, &8u32.to_le_bytes()).expect("rows");
        let weights = zeros("weights", WEIGHTS + (64 << 20), Place::Device);
        Self { weights, arena: zeros("arena", 16 << 20, Place::Device), step }
    }
}

/// Microseconds of a dispatch, with `places` different weights.
fn time(
    device: &Arc<Device>,
    buffers: &Buffers,
    kernel: &Kernel,
    groups: [u32; 3],
    (bytes, places): (u64, usize),
) -> f64 {
    let module = compile(kernel).expect("the kernel compiles");
    let bindings: Vec<u32> = kernel.slots.iter().map(|slot| slot.binding).collect();
    let desc = PipelineDesc {
        name: &kernel.name,
        spirv: &module.words,
        bindings: &bindings,
        immediates: 4 * kernel.immediates.len() as u32,
        workgroup: kernel.workgroup,
        subgroup: (device.info().subgroups.size == 32).then_some(32),
        inspect: Inspect::No,
    };
    let pipeline = Pipeline::new(device, &desc, None).expect("a pipeline");
    let window = |number: u32, index: usize| match number {
        binding::WEIGHTS => {
            let offset = (index % places) as u64 * bytes.next_multiple_of(256);
            Window { buffer: Arc::clone(&buffers.weights), offset, length: bytes }
        }
        binding::STEP => buffers.step.window(),
        _ => buffers.arena.window(),
    };
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let mut recorder = Recorder::new(device, "alone", 2).expect("a recorder");
        recorder.copy_barrier();
        recorder.timestamp().expect("a timestamp");
        for index in 0..COUNT {
            recorder.barrier();
            let windows: Vec<Window> = bindings.iter().map(|&it| window(it, index)).collect();
            let immediates = vec![0; kernel.immediates.len()];
            recorder.dispatch(&pipeline, &windows, &immediates, groups).expect("a dispatch");
        }
        recorder.timestamp().expect("a timestamp");
        let commands = recorder.finish().expect("commands");
        let ticket = device.submit(&[&commands]).expect("submitted");
        device.wait(ticket, Duration::from_secs(60)).expect("done");
        let ns = commands.times().expect("times");
        times.push((ns[1] - ns[0]) / 1e3 / COUNT as f64);
    }
    times.sort_by(f64::total_cmp);
    times[RUNS / 2]
}
