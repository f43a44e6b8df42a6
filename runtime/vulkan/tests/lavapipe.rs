//! Kernels on lavapipe, watched by the validation layer.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{assert_valid, lavapipe, pipeline, spirv};
use onebit_vulkan::{
    Buffer, Device, Inspect, Pipeline, PipelineCache, PipelineDesc, Place, Recorder, Transfer,
    Validation, VulkanError,
};

/// Adds `p.x` to each of `p.n` words.
const ADD: &str = "
struct Immediates { n: u32, x: u32 }
var<immediate> p: Immediates;
@group(0) @binding(3) var<storage, read_write> words: array<u32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < p.n { words[id.x] = words[id.x] + p.x; }
}";
const TIMEOUT: Duration = Duration::from_secs(60);
const COUNT: usize = 1000;

fn words(device: &Arc<Device>, place: Place) -> Arc<Buffer> {
    let buffer = Buffer::new(device, "words", 4 * COUNT as u64, place).unwrap();
    let bytes: Vec<u8> = (0..COUNT as u32).flat_map(u32::to_le_bytes).collect();
    Transfer::new(device).write(&buffer, 0, &bytes).unwrap();
    buffer
}

fn read(device: &Arc<Device>, buffer: &Arc<Buffer>) -> Vec<u32> {
    let mut bytes = vec![0; buffer.bytes() as usize];
    Transfer::new(device).read(buffer, 0, &mut bytes).unwrap();
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
}

fn add(device: &Arc<Device>) -> Arc<Pipeline> {
    pipeline(device, ADD, &[3], 8, Inspect::No).unwrap()
}

const GROUPS: [u32; 3] = [COUNT.div_ceil(64) as u32, 1, 1];

#[test]
fn the_same_commands_run_as_often_as_they_are_submitted() {
    let Some((instance, device)) = lavapipe(Validation::Synchronisation) else { return };
    for place in [Place::Device, Place::Shared, Place::Readback] {
        let buffer = words(&device, place);
        let mut recorder = Recorder::new(&device, "adds", 3).unwrap();
        recorder.barrier();
        let start = recorder.timestamp().unwrap();
        for x in [5, 2] {
            let immediates = [COUNT as u32, x];
            recorder.dispatch(&add(&device), &[buffer.window()], &immediates, GROUPS).unwrap();
            recorder.barrier();
            recorder.timestamp().unwrap();
        }
        recorder.host_barrier();
        let commands = recorder.finish().unwrap();
        let first = device.submit(&[&commands]).unwrap();
        let last = device.submit(&[&commands, &commands]).unwrap();
        assert!(first < last);
        device.wait(last, TIMEOUT).unwrap();
        let expected: Vec<u32> = (0..COUNT as u32).map(|it| it + 21).collect();
        assert_eq!(read(&device, &buffer), expected);
        let times = commands.times().unwrap();
        assert_eq!((times.len(), times[start.index()]), (3, 0.0));
        assert!(times.is_sorted(), "{times:?}");
    }
    assert_valid(&instance);
}

/// The layer does see what is wrong: otherwise the other tests prove nothing.
#[test]
fn a_kernel_that_uses_what_it_does_not_bind_is_found() {
    let Some((instance, device)) = lavapipe(Validation::Calls) else { return };
    pipeline(&device, ADD, &[2], 8, Inspect::No).unwrap();
    let findings = instance.take_findings();
    assert!(findings.iter().any(|it| it.contains("VUID")), "{findings:?}");
}

#[test]
fn windows_are_parts_of_buffers() {
    let Some((instance, device)) = lavapipe(Validation::Calls) else { return };
    let buffer = words(&device, Place::Device);
    let mut recorder = Recorder::new(&device, "part", 0).unwrap();
    let window = buffer.slice(1024, 512);
    recorder.dispatch(&add(&device), &[window], &[128, 1 << 16], [2, 1, 1]).unwrap();
    recorder.copy_barrier();
    recorder.clear(&buffer.slice(0, 4)).unwrap();
    recorder.copy(&buffer.slice(1024, 4), &buffer.slice(4, 4)).unwrap();
    recorder.host_barrier();
    let commands = recorder.finish().unwrap();
    let ticket = device.submit(&[&commands]).unwrap();
    device.wait(ticket, TIMEOUT).unwrap();
    let mut expected: Vec<u32> = (0..COUNT as u32).collect();
    expected[256..384].iter_mut().for_each(|it| *it += 1 << 16);
    expected[..2].copy_from_slice(&[0, 256 + (1 << 16)]);
    assert_eq!(read(&device, &buffer), expected);
    assert_valid(&instance);
}

#[test]
fn what_does_not_fit_is_refused_before_it_is_recorded() {
    let Some((instance, device)) = lavapipe(Validation::Calls) else { return };
    let (buffer, add) = (words(&device, Place::Device), add(&device));
    let align = device.info().limits.storage_align;
    let mut recorder = Recorder::new(&device, "wrong", 0).unwrap();
    let whole = || vec![buffer.window()];
    let cases = [
        ("no window", vec![], vec![1, 1], [1, 1, 1]),
        ("behind the end", vec![buffer.slice(align, 4 * COUNT as u64)], vec![1, 1], [1, 1, 1]),
        ("empty", vec![buffer.slice(0, 0)], vec![1, 1], [1, 1, 1]),
        ("beyond counting", vec![buffer.slice(u64::MAX, 4)], vec![1, 1], [1, 1, 1]),
        ("not aligned", vec![buffer.slice(2, 4)], vec![1, 1], [1, 1, 1]),
        ("few immediates", whole(), vec![1], [1, 1, 1]),
        ("no groups", whole(), vec![1, 1], [0, 1, 1]),
        ("many groups", whole(), vec![1, 1], [u32::MAX, 1, 1]),
    ];
    for (what, windows, immediates, groups) in cases {
        let error = recorder.dispatch(&add, &windows, &immediates, groups).expect_err(what);
        assert!(matches!(error, VulkanError::Limit { .. }), "{what}: {error}");
    }
    assert!(matches!(recorder.timestamp(), Err(VulkanError::Limit { .. })));
    assert!(recorder.copy(&buffer.slice(0, 8), &buffer.slice(16, 4)).is_err());
    assert!(recorder.clear(&buffer.slice(1, 4)).is_err());
    assert!(Buffer::new(&device, "nothing", 0, Place::Device).is_err());
    assert!(Buffer::new(&device, "all", u64::MAX, Place::Device).is_err());
    assert!(matches!(buffer.read(4000, &mut [0]), Err(VulkanError::Limit { .. })));
    assert!(matches!(device.submit(&[]), Err(VulkanError::Limit { .. })));
    let most = device.info().subgroups.max;
    let spirv = spirv(ADD);
    for (immediates, workgroup, subgroup) in
        [(1 << 20, 64, None), (8, 1 << 20, None), (8, 64, Some(2 * most)), (8, 64, Some(3))]
    {
        let (name, bindings, inspect) = ("wrong", &[3][..], Inspect::No);
        let spirv = &spirv;
        let desc = PipelineDesc { name, spirv, bindings, immediates, workgroup, subgroup, inspect };
        let error = Pipeline::new(&device, &desc, None).err().unwrap();
        assert!(matches!(error, VulkanError::Limit { .. }), "{error}");
    }
    assert_valid(&instance);
}

#[test]
fn pipelines_are_cached() {
    let Some((instance, device)) = lavapipe(Validation::Calls) else { return };
    let spirv = spirv(ADD);
    let desc = PipelineDesc {
        name: "add",
        spirv: &spirv,
        bindings: &[3],
        immediates: 8,
        workgroup: 64,
        subgroup: Some(device.info().subgroups.max),
        inspect: Inspect::No,
    };
    let cache = PipelineCache::new(&device, &[]).unwrap();
    Pipeline::new(&device, &desc, Some(&cache)).unwrap();
    let data = cache.data().unwrap();
    assert!(data.len() >= 32, "the header alone has 32 bytes");
    let cache = PipelineCache::new(&device, &data).unwrap();
    Pipeline::new(&device, &desc, Some(&cache)).unwrap();
    assert_valid(&instance);
}

#[test]
fn a_device_tells_what_it_is() {
    let Some((_, device)) = lavapipe(Validation::Off) else { return };
    let info = device.info();
    assert_eq!(info.kind, onebit_vulkan::DeviceKind::Cpu);
    assert!(info.lacks.is_empty(), "{info:?}");
    assert!(info.features.is_sorted() && !info.features.is_empty(), "{info:?}");
    assert!(info.limits.storage_range >= 128 << 20 && info.limits.storage_align <= 256);
    assert!(info.driver.info.contains("Mesa"), "{info:?}");
    assert!(info.subgroups.min >= 4 && info.subgroups.min <= info.subgroups.max);
}

/// Layers of 1.3.239 see every dispatch as a reader: a copy after one must wait.
#[test]
fn a_missing_barrier_is_found() {
    let Some((instance, device)) = lavapipe(Validation::Synchronisation) else { return };
    let buffer = words(&device, Place::Device);
    let mut recorder = Recorder::new(&device, "race", 0).unwrap();
    let immediates = [COUNT as u32, 1];
    recorder.dispatch(&add(&device), &[buffer.window()], &immediates, GROUPS).unwrap();
    recorder.clear(&buffer.window()).unwrap();
    drop(recorder.finish().unwrap());
    let findings = instance.take_findings();
    assert!(findings.iter().any(|it| it.contains("SYNC-HAZARD")), "{findings:?}");
}
