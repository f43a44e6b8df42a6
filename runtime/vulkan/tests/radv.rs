//! AMD's compiler on a machine without AMD's hardware: what it tells of a kernel.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::pipeline;
use onebit_plan::gpu::GpuFeature;
use onebit_vulkan::{DeviceKind, Inspect, Instance, Validation};

const RADV: &str = "/usr/share/vulkan/icd.d/radeon_icd.json";
const CHILD: &str = "on_a_device_without_hardware";
/// In the child's standard error, so that a run that did nothing is no success.
const DONE: &str = "looked into gfx1151";

/// Multiplies four int8 with four others.
const DOT: &str = "requires packed_4x8_integer_dot_product;
@group(0) @binding(0) var<storage, read> a: array<u32>;
@group(0) @binding(1) var<storage, read> b: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<i32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    out[id.x] = out[id.x] + dot4I8Packed(a[id.x], b[id.x]);
}";

/// Mesa's RADV compiles for hardware that is not there when it is told which (until Mesa 26.1).
#[test]
fn radv_tells_of_its_code() {
    if !Path::new(RADV).exists() {
        eprintln!("skipped: no {RADV}");
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", CHILD, "--nocapture"])
        .env("VK_ICD_FILENAMES", RADV)
        .env("VK_DRIVER_FILES", RADV)
        .env("RADV_FORCE_FAMILY", "gfx1151")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("has been removed") {
        eprintln!("skipped: this Mesa compiles only for hardware that is there");
        return;
    }
    assert!(output.status.success() && errors.contains(DONE), "{errors}");
}

/// What `radv_tells_of_its_code` runs in a process of its own.
#[test]
fn on_a_device_without_hardware() {
    let environment = fs::read("/proc/self/environ").unwrap_or_default();
    if !environment.split(|&byte| byte == 0).any(|it| it == b"RADV_FORCE_FAMILY=gfx1151") {
        eprintln!("skipped: another test runs this one with a driver of its own");
        return;
    }
    let instance = Instance::new(Validation::Off).unwrap();
    let devices = instance.devices().unwrap();
    let info = devices[0].info();
    assert!(info.name.contains("GFX1151") && info.kind != DeviceKind::Cpu, "{info:?}");
    assert!(info.inspects && info.lacks.is_empty(), "{info:?}");
    let all = [
        GpuFeature::IntegerDot,
        GpuFeature::Float16,
        GpuFeature::Storage16,
        GpuFeature::Int8,
        GpuFeature::MemoryModel,
        GpuFeature::CooperativeF16,
        GpuFeature::CooperativeI8,
    ];
    assert_eq!(info.features, all);
    assert_eq!((info.subgroups.min, info.subgroups.max), (32, 64));
    let device = devices[0].open().unwrap();
    let pipeline = pipeline(&device, DOT, &[0, 1, 3], 0, Inspect::Yes).unwrap();
    let [executable] = pipeline.executables().unwrap().try_into().unwrap();
    let statistic = |name: &str| {
        let found = executable.statistics.iter().find(|(known, _)| known == name);
        found.unwrap_or_else(|| panic!("{name} in {:?}", executable.statistics)).1
    };
    assert!(statistic("VGPRs") > 0.0 && statistic("Code size") > 0.0);
    assert_eq!(statistic("Spilled VGPRs") + statistic("Spilled SGPRs"), 0.0);
    let code = &executable.representations.iter().find(|(name, _)| name == "Assembly").unwrap().1;
    assert!(code.contains("v_dot4_i32_iu8"), "{code}");
    eprintln!("{DONE}");
}
