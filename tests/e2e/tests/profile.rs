//! Profiles of steps, and their traces: read back as text, every piece once, nested, in order.

use std::collections::BTreeMap;

use onebit_e2e::{Compiled, compile_bytes};
use onebit_rt::driver::Row;
use onebit_rt::driver::cpu::{CpuDriver, CpuOptions};
use onebit_rt::driver::npu;
use onebit_rt::driver::vulkan::api::{DeviceInfo, Instance, Validation};
use onebit_rt::driver::vulkan::{Choice, VulkanDriver, VulkanOptions};
use onebit_rt::profile::{
    ArrayTimes, Origin, Place, RoofOrigin, StepProfile, chrome, on_processor, on_vulkan,
};
use onebit_test_support::{TinyOptions, tiny_model};
use onebitc::schedule::repack::Placement;
use onebitc::{Options, Vulkan};
use serde_json::Value;

fn compiled(placement: Placement) -> Compiled {
    let vulkan = match placement {
        Placement::Cpu => Vulkan::Required,
        Placement::Array => Vulkan::Without,
    };
    let options = Options { context: Some(64), placement, vulkan, ..Options::default() };
    compile_bytes(tiny_model("qwen3", &TinyOptions::default()), &options)
}

fn rows(count: u32) -> Vec<Row> {
    let row = |slot| Row { token: 7 + slot, position: 3, slot, output: true };
    (0..count).map(row).collect()
}

/// A trace as a reader sees it: complete events by track, each begin and end in nanoseconds.
struct Read {
    names: BTreeMap<u64, String>,
    tracks: BTreeMap<u64, Vec<(u64, u64, Value)>>,
}

fn read(profile: &StepProfile) -> Read {
    let trace = chrome::trace(profile, "a device", "a model");
    let text = serde_json::to_string(&trace).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    let mut read = Read { names: BTreeMap::new(), tracks: BTreeMap::new() };
    for event in value["traceEvents"].as_array().unwrap() {
        let pid = event["pid"].as_u64().unwrap();
        assert_eq!(event["tid"], pid);
        match event["ph"].as_str().unwrap() {
            "M" if event["name"] == "process_name" => {
                read.names.insert(pid, event["args"]["name"].as_str().unwrap().into());
            }
            "M" => assert_eq!(event["name"], "thread_name"),
            "X" => {
                let nanoseconds = |name: &str| (event[name].as_f64().unwrap() * 1e3).round() as u64;
                let begin = nanoseconds("ts");
                let end = begin + nanoseconds("dur");
                read.tracks.entry(pid).or_default().push((begin, end, event.clone()));
            }
            other => panic!("an event of the kind {other}"),
        }
    }
    read
}

/// Demands that every event lies within the one that it begins in, and that none begins before the
/// one ahead of it.
#[track_caller]
fn assert_nested(track: &[(u64, u64, Value)]) {
    let mut open: Vec<(u64, u64)> = Vec::new();
    let mut last = 0;
    for &(begin, end, ref event) in track {
        assert!(begin >= last && end >= begin, "{event}");
        last = begin;
        while open.last().is_some_and(|&(_, until)| until <= begin && until < end) {
            open.pop();
        }
        if let Some(&(from, until)) = open.last() {
            assert!(begin >= from && end <= until, "{event} sticks out of {from}..{until}");
        }
        open.push((begin, end));
    }
}

/// Demands that the trace has the profile's pieces, each once, in their order.
#[track_caller]
fn assert_pieces(profile: &StepProfile, read: &Read) {
    let mut found: Vec<(u64, &Value)> = Vec::new();
    for (begin, _, event) in read.tracks.values().flatten() {
        if ["region", "dispatch"].contains(&event["cat"].as_str().unwrap()) {
            found.push((*begin, event));
        }
    }
    found.sort_by_key(|(begin, _)| *begin);
    assert_eq!(found.len(), profile.pieces.len());
    let mut expected: Vec<&str> = profile.pieces.iter().map(|it| it.region.as_str()).collect();
    let mut nodes: Vec<&str> =
        found.iter().map(|(_, event)| event["args"]["node"].as_str().unwrap()).collect();
    expected.sort_unstable();
    nodes.sort_unstable();
    assert_eq!(nodes, expected);
    for (_, event) in found {
        let args = &event["args"];
        assert_eq!(args["rows"], profile.rows);
        assert!(args["bytes"].is_u64() && args["macs"].is_u64() && args["ops"].is_array());
        assert!(args["regions"].is_array(), "{args}");
        assert_eq!(event["name"], args["node"]);
    }
    for track in read.tracks.values() {
        assert_nested(track);
    }
}

#[test]
fn regions_of_the_processor_are_all_in_the_trace() {
    let compiled = compiled(Placement::Cpu);
    let manifest = compiled.plan.manifest();
    let mut driver = compiled.driver(2);
    for count in [1, 5] {
        let profile =
            on_processor(&mut driver, manifest, &rows(count), 3, ArrayTimes::Measured).unwrap();
        let names: Vec<&str> = profile.pieces.iter().map(|it| it.region.as_str()).collect();
        let expected: Vec<&str> = manifest.regions.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, expected);
        let bytes: u64 = profile.pieces.iter().map(|piece| piece.weight_bytes).sum();
        assert_eq!(bytes, manifest.regions.iter().map(|it| it.weight_bytes).sum::<u64>());
        let macs: u64 = profile.pieces.iter().map(|piece| piece.macs).sum();
        let one: u64 = manifest.regions.iter().map(|region| region.macs).sum();
        assert_eq!(macs, one * u64::from(count));
        assert!(profile.seconds > 0.0 && profile.roof.bytes_per_second > 0.0);
        assert_eq!(profile.roof.origin, RoofOrigin::SystemMemory);
        for piece in &profile.pieces {
            let predicted = piece.weight_bytes as f64 / profile.roof.bytes_per_second;
            assert_eq!(piece.predicted, (piece.weight_bytes > 0).then_some(predicted));
            assert_eq!((piece.place, piece.origin), (Place::Cpu, Origin::Measured));
        }
        let read = read(&profile);
        assert_pieces(&profile, &read);
        assert_eq!(read.names.values().collect::<Vec<_>>(), ["a device"]);
        let track = &read.tracks[&1];
        let of = |category: &str| track.iter().filter(|it| it.2["cat"] == category).count();
        assert_eq!((of("step"), of("layer")), (1, manifest.model.layers as usize));
    }
}

#[test]
fn an_emulated_array_has_modelled_times_on_a_track_of_its_own() {
    let compiled = compiled(Placement::Array);
    let manifest = compiled.plan.manifest();
    let context = npu::open_for(npu::Device::Emulator, &compiled.plan).unwrap();
    let options = CpuOptions { threads: None, slots: 2 };
    let plan = compiled.plan.clone();
    let mut driver = CpuDriver::load_with_array(plan, options, context).unwrap();
    let profile = on_processor(&mut driver, manifest, &rows(2), 1, ArrayTimes::Modelled).unwrap();
    let array = manifest.array.as_ref().unwrap();
    let calls = array.products.iter().map(|it| array.calls[it.call as usize].modelled_seconds);
    let expected: f64 = calls.sum();
    let on_array: Vec<_> = profile.pieces.iter().filter(|it| it.place == Place::Npu).collect();
    let found: f64 = on_array.iter().map(|piece| piece.seconds).sum();
    assert!((found - expected).abs() < 1e-12, "{found} of {expected}");
    assert!(on_array.iter().all(|it| it.origin == Origin::Modelled && it.predicted.is_some()));
    let others = profile.pieces.iter().filter(|it| it.place == Place::Cpu);
    assert!(others.into_iter().all(|piece| piece.origin == Origin::Measured));
    let read = read(&profile);
    assert_pieces(&profile, &read);
    assert_eq!(read.names[&2], "NPU (modelled, never measured)");
    let track = &read.tracks[&2];
    assert_eq!(track.len(), on_array.len());
    assert!(track.iter().all(|(_, _, event)| event["args"]["origin"] == "modelled"));
}

#[test]
fn dispatches_of_a_vulkan_device_are_all_in_the_trace() {
    let devices = Instance::new(Validation::Off).and_then(|it| it.devices()).unwrap_or_default();
    let Some(place) = devices.iter().map(|it| it.info()).position(DeviceInfo::is_lavapipe) else {
        eprintln!("skipped: lavapipe is not among the {} devices", devices.len());
        return;
    };
    let compiled = compiled(Placement::Cpu);
    let manifest = compiled.plan.manifest();
    let device = Choice::Index(place);
    let options = VulkanOptions { device, slots: 2, ..VulkanOptions::default() };
    let mut driver = VulkanDriver::load(compiled.plan.clone(), &options).unwrap();
    for count in [1, 2] {
        let profile = on_vulkan(&mut driver, manifest, &rows(count), 3).unwrap();
        let entries = manifest.gpu.iter().flat_map(|gpu| &gpu.entries);
        let entry = entries.into_iter().find(|entry| entry.name == profile.entry).unwrap();
        let names: Vec<&str> = profile.pieces.iter().map(|it| it.region.as_str()).collect();
        let expected: Vec<&str> = entry.dispatches.iter().map(|it| it.region.as_str()).collect();
        assert_eq!(names, expected);
        let last = profile.pieces.last().unwrap();
        assert!((last.end - profile.seconds).abs() < 1e-9, "the run of median length is shown");
        let macs: u64 = profile.pieces.iter().map(|piece| piece.macs).sum();
        let one: u64 = manifest.regions.iter().map(|region| region.macs).sum();
        assert_eq!(macs, one * u64::from(count), "every product once");
        assert!(profile.pieces.iter().all(|it| it.kernel.is_some()));
        let read = read(&profile);
        assert_pieces(&profile, &read);
    }
}
