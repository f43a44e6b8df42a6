//! Products timed by themselves: the same kernel again and again, each waiting for the one before,
//! over weights that stay in the cache and over others each time.
//!
//! `alone [NAME]` takes the first device whose name has NAME in it. Figures are medians of the last
//! 15 submissions of 240 dispatches, after a fifth of a second of them: idle devices are slow at
//! first. All bytes that are multiplied are 0x11. In the same run, what the kernels for one row and
//! for eight make of them must be the same bits, what those of matrices make in narrow and in wide
//! workgroups near each other, and none of it nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use onebit_plan::abi::StorageClass;
use onebit_plan::gpu::{GpuFeature, binding};
use onebit_plan::layout::packed_bytes;
use onebit_shaders::cooperative::{Cooperative, Turn, Work};
use onebit_shaders::product::{Input, Output, Part, Product};
use onebit_shaders::rows::RowsKind;
use onebit_shaders::{Immediate, Kernel, compile};
use onebit_vulkan::{
    Buffer, Device, Inspect, Instance, Pipeline, PipelineDesc, Place, Recorder, Transfer,
    Validation, Window,
};

const COUNT: usize = 240;
const RUNS: usize = 15;
const WARM_UP: Duration = Duration::from_millis(200);
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
            let mut rows = Vec::new();
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
                let mut time = |places: u64| {
                    let places = usize::try_from(places).expect("few places").min(COUNT);
                    let (time, row) = time(&device, &buffers, &kernel, groups, (bytes, places), n);
                    rows.push(row);
                    time
                };
                let times = [1, WEIGHTS / bytes.next_multiple_of(256)].map(&mut time);
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
            assert!(rows.iter().all(|row| row == &rows[0]), "{class:?} {n} x {k}: rows differ");
            assert!(rows[0].iter().any(|&bits| bits != 0), "{class:?} {n} x {k}: nothing came");
        }
    }
    if device.info().features.contains(&GpuFeature::CooperativeF16) {
        for (n, k) in [(576, 576), (3072, 576), (2048, 2048), (4096, 4096), (24_576, 4096)] {
            matrices(&device, &buffers, (n, k));
        }
    }
}

/// Products of 32 rows by matrices, in every turn.
fn matrices(device: &Arc<Device>, buffers: &Buffers, (n, k): (usize, usize)) {
    // Records are of 256 elements.
    let class = if k % 256 == 0 { StorageClass::Q4K } else { StorageClass::Q4DM };
    let bytes = packed_bytes(class, n, k) as u64;
    let rows = Turn::ALL.map(|turn| {
        let cooperative = Cooperative {
            k,
            work: Work::Product { class, n, output: Output::Arena { stride: n } },
            rows: RowsKind::All,
            m: 32,
            turn,
            parts: 1,
        };
        let (kernel, groups) = (cooperative.kernel(), cooperative.groups(32));
        let places = usize::try_from(WEIGHTS / bytes.next_multiple_of(256)).expect("few places");
        let (time, row) =
            time(device, buffers, &kernel, groups, (bytes, places.clamp(1, COUNT)), n);
        println!("{class:?} {n:5} x {k:5} by matrices of 32 rows, {turn:?}: {time:6.2} us fresh");
        row.into_iter().map(f32::from_bits).collect::<Vec<_>>()
    });
    let near = |a: f32, b: f32| (a - b).abs() <= 1e-3 * a.abs();
    let are_near = |row: &Vec<f32>| row.iter().zip(&rows[0]).all(|(a, b)| near(*a, *b));
    assert!(rows.iter().all(are_near), "{n} x {k}: turns differ");
    assert!(rows[0].iter().any(|&x| x != 0.0), "{n} x {k}: nothing came");
}

struct Buffers {
    weights: Arc<Buffer>,
    arena: Arc<Buffer>,
    step: Arc<Buffer>,
}

impl Buffers {
    fn new(device: &Arc<Device>) -> Self {
        let filled = |name: &str, bytes: u64| {
            let buffer = Buffer::new(device, name, bytes, Place::Device).expect("memory");
            let chunk = vec![0x11; 1 << 20];
            let mut transfer = Transfer::new(device);
            for at in (0..bytes).step_by(chunk.len()) {
                let length = chunk.len().min((bytes - at) as usize);
                transfer.write(&buffer, at, &chunk[..length]).expect("the buffer is filled");
            }
            buffer
        };
        let step = filled("step", 4096);
        Transfer::new(device).write(&step, 0, &32u32.to_le_bytes()).expect("rows");
        Self {
            weights: filled("weights", WEIGHTS + (64 << 20)),
            arena: filled("arena", 2 * RESULTS),
            step,
        }
    }
}

/// Bytes of the arena before the results.
const RESULTS: u64 = 8 << 20;

/// Microseconds of a dispatch, with `places` different weights, and the bits of the first row.
fn time(
    device: &Arc<Device>,
    buffers: &Buffers,
    kernel: &Kernel,
    groups: [u32; 3],
    (bytes, places): (u64, usize),
    n: usize,
) -> (f64, Vec<u32>) {
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
    let immediate = |it: &Immediate| match it {
        Immediate::Out { .. } => (RESULTS / 4) as u32,
        _ => 0,
    };
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < RUNS || start.elapsed() < WARM_UP {
        if times.len() == RUNS {
            times.remove(0);
        }
        let mut recorder = Recorder::new(device, "alone", 2).expect("a recorder");
        recorder.copy_barrier();
        recorder.timestamp().expect("a timestamp");
        for index in 0..COUNT {
            recorder.barrier();
            let windows: Vec<Window> = bindings.iter().map(|&it| window(it, index)).collect();
            let immediates: Vec<u32> = kernel.immediates.iter().map(immediate).collect();
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
    let mut bytes = vec![0; 4 * n];
    Transfer::new(device).read(&buffers.arena, RESULTS, &mut bytes).expect("results are read");
    let word = |it: &[u8]| u32::from_le_bytes([it[0], it[1], it[2], it[3]]);
    (times[RUNS / 2], bytes.chunks_exact(4).map(word).collect())
}
