//! What `check` says beforehand is what a load does.
#![cfg(target_arch = "x86_64")]

mod common;
#[path = "common/gpu.rs"]
mod gpu;
#[path = "common/rewrite.rs"]
mod rewrite;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::{END, counting_plan};
use gpu::gpu_plan;
use onebit_plan::gpu::{GpuFeature, GpuModule, GpuWindow};
use onebit_plan::manifest::{Manifest, Requirement};
use onebit_plan::trust::{AllowedPlan, Trust, TrustStore};
use onebit_plan::{PlanError, PlanFile, PlanHead};
use onebit_rt::Error;
use onebit_rt::check::{Ask, Outcome, Report, Target, Verdict, check};
use onebit_rt::driver::cpu::{CpuDriver, CpuOptions};
use onebit_rt::driver::npu;
use onebit_rt::driver::vulkan::api::{Instance, Validation};
use onebit_rt::driver::vulkan::{Choice, VulkanDriver, VulkanOptions};
use rewrite::{hollow, rewritten};

/// A change of a manifest, by name.
type Change = (&'static str, fn(&mut Manifest));

fn ask(target: Target) -> Ask {
    Ask { targets: vec![target], ..Ask::default() }
}

fn report(path: &Path, target: Target) -> Report {
    check(path, &ask(target)).unwrap()
}

/// Demands that the check says `cannot` exactly where the load fails, for each change and each two.
fn assert_agree(
    from: &Path,
    changes: &[Change],
    ask: &Ask,
    load: impl Fn(AllowedPlan) -> Result<(), Error>,
) {
    let (mut refused, mut taken) = (0, 0);
    for (index, (first, change)) in changes.iter().enumerate() {
        for (second, other) in &changes[index..] {
            let path = rewritten(from, "changed.plan", |manifest| {
                change(manifest);
                other(manifest);
            });
            let report = check(&path, ask).unwrap();
            let loaded = load(AllowedPlan::untrusted(PlanFile::open(&path).unwrap()));
            let says = report.verdict == Verdict::Cannot;
            assert_eq!(says, loaded.is_err(), "{first} and {second}: {loaded:?}\n{report:#?}");
            *(if says { &mut refused } else { &mut taken }) += 1;
        }
    }
    assert!(refused > 5 && taken > 5, "{refused} refused, {taken} taken");
}

#[test]
fn a_processor_refuses_what_the_check_says() {
    let folder = tempfile::tempdir().unwrap();
    let plan = counting_plan(folder.path(), 64, Some(END));
    let changes: &[Change] = &[
        ("nothing", |_| {}),
        ("no requirement", |it| it.requirements.clear()),
        ("aarch64", |it| it.requirements.push(Requirement::Architecture("aarch64".into()))),
        ("a feature", |it| it.requirements.push(Requirement::CpuFeature("sse2".into()))),
        ("no such feature", |it| {
            it.requirements.push(Requirement::CpuFeature("telepathy".into()));
        }),
        ("some memory", |it| it.requirements.push(Requirement::Memory(1 << 20))),
        ("much memory", |it| it.requirements.push(Requirement::Memory(1 << 42))),
        ("a large arena", |it| it.memory.arena = 1 << 42),
        ("much for a thread", |it| it.memory.private = 1 << 42),
        ("a large slot", |it| it.memory.slot = 1 << 42),
        ("many slots", |it| it.memory.slots = 1024),
        ("a long context", |it| it.model.context = 1 << 24),
        ("no part for a GPU", |it| it.gpu = None),
    ];
    let options = CpuOptions { threads: None, slots: 1 };
    let load = |plan| CpuDriver::load(plan, options).map(drop);
    assert_agree(&plan, changes, &ask(Target::Cpu), load);
}

#[test]
fn a_vulkan_device_refuses_what_the_check_says() {
    let devices = Instance::new(Validation::Off).and_then(|it| it.devices()).unwrap_or_default();
    let Some(place) = devices.iter().position(|device| device.info().is_lavapipe()) else {
        eprintln!("skipped: no lavapipe among {} Vulkan devices", devices.len());
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let plan = gpu_plan(folder.path(), |_| {});
    fn modules(manifest: &mut Manifest) -> impl Iterator<Item = &mut GpuModule> {
        let kernels = manifest.gpu.iter_mut().flat_map(|gpu| &mut gpu.kernels);
        kernels.flat_map(|kernel| &mut kernel.modules)
    }
    fn windows(manifest: &mut Manifest) -> impl Iterator<Item = &mut GpuWindow> {
        let entries = manifest.gpu.iter_mut().flat_map(|gpu| &mut gpu.entries);
        entries.flat_map(|it| &mut it.dispatches).flat_map(|it| &mut it.windows)
    }
    let changes: &[Change] = &[
        ("nothing", |_| {}),
        ("aarch64", |it| it.requirements.push(Requirement::Architecture("aarch64".into()))),
        ("no part", |it| it.gpu = None),
        ("subgroups of 64", |it| modules(it).for_each(|it| it.subgroup = Some(64))),
        ("a second choice", |it| {
            for kernel in it.gpu.iter_mut().flat_map(|gpu| &mut gpu.kernels) {
                let first = kernel.modules[0].clone();
                kernel.modules.insert(0, GpuModule { subgroup: Some(32), ..first });
            }
        }),
        ("matrices", |it| {
            modules(it).for_each(|it| it.features = vec![GpuFeature::CooperativeI8]);
        }),
        ("half precision", |it| {
            modules(it).for_each(|it| it.features = vec![GpuFeature::Float16]);
        }),
        ("much to share", |it| modules(it).for_each(|it| it.shared = 1 << 20)),
        ("a little to share", |it| modules(it).for_each(|it| it.shared = 1 << 10)),
        ("a large arena", |it| it.gpu.iter_mut().for_each(|gpu| gpu.arena = 1 << 42)),
        ("a large slot", |it| it.gpu.iter_mut().for_each(|gpu| gpu.slot = 1 << 40)),
        ("a long window", |it| {
            it.gpu.iter_mut().for_each(|gpu| gpu.slot = 1 << 40);
            for window in windows(it) {
                if let GpuWindow::Cache { length, .. } = window {
                    *length = 1 << 32;
                }
            }
        }),
        ("a large vocabulary", |it| it.model.vocabulary = 1 << 24),
        ("a larger vocabulary, many rows", |it| {
            it.model.vocabulary = 1 << 24;
            it.gpu.iter_mut().for_each(|gpu| gpu.entries.retain(|entry| entry.max_rows > 1));
        }),
    ];
    let device = Choice::Index(place);
    let ask = Ask { gpu: device.clone(), ..ask(Target::Vulkan) };
    let options = VulkanOptions { device, ..VulkanOptions::default() };
    assert_agree(&plan, changes, &ask, |plan| VulkanDriver::load(plan, &options).map(drop));
}

#[test]
fn an_npu_is_refused_for_the_reason_that_a_load_gives() {
    let folder = tempfile::tempdir().unwrap();
    let plan = counting_plan(folder.path(), 64, Some(END));
    for (target, device) in
        [(Target::Npu, npu::Device::Hardware), (Target::NpuEmu, npu::Device::Emulator)]
    {
        let report = report(&plan, target);
        let error = npu::open_for(device, &PlanFile::open(&plan).unwrap()).err().unwrap();
        assert!(matches!(error, Error::NoArrayProducts));
        assert_eq!(report.verdict, Verdict::Cannot);
        let check = report.devices[0].checks.iter().find(|it| it.outcome == Outcome::Unmet);
        assert_eq!(check.unwrap().remedy, Some(error.help()));
    }
}

#[test]
fn no_byte_of_a_segment_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let small = gpu_plan(folder.path(), |_| {});
    let large = folder.path().join("large.plan");
    hollow(&small, &large, 5 << 30);
    let head = PlanHead::open(&large).unwrap();
    assert!(head.file_length() > 5 << 30);
    let report = report(&large, Target::Cpu);
    assert!(report.verdict <= Verdict::Slower, "{report:#?}");
    let memory = report.devices[0].checks.iter().find(|it| it.what == "memory").unwrap();
    assert!(memory.needed.contains("5.0 GiB for weights"), "{memory:?}");
    // A load finds at once that code and tokenizer are none.
    assert!(matches!(PlanFile::open(&large), Err(PlanError::Hash { .. })));
}

#[test]
fn head_and_file_agree_about_damage() {
    let folder = tempfile::tempdir().unwrap();
    let plan = counting_plan(folder.path(), 64, Some(END));
    let good = fs::read(&plan).unwrap();
    let offset = u64::from_le_bytes(good[16..24].try_into().unwrap()) as usize;
    let path = folder.path().join("damaged.plan");
    let keys = TrustStore::new(folder.path().join("keys")).keys().unwrap();
    assert!(matches!(PlanHead::open(&plan).unwrap().trust(&keys), Trust::Trusted(_)));
    for at in (0..64).chain((offset..good.len()).step_by(7)) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x20;
        fs::write(&path, &bytes).unwrap();
        match (PlanHead::open(&path), PlanFile::open(&path)) {
            // Damage of the signature itself may leave it well-formed, and is of no key then.
            (Ok(head), Ok(file)) => {
                assert_eq!(head.trust(&keys), file.trust(&keys), "byte {at}");
                assert!(!matches!(head.trust(&keys), Trust::Trusted(_)), "byte {at}");
            }
            (head, file) => {
                let texts = [head.map(drop), file.map(drop)];
                let [head, file] = texts.map(|result| result.unwrap_err().to_string());
                assert_eq!(head, file, "byte {at}");
            }
        }
    }
}

fn program(plan: &Path, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onebit-rt"));
    command.arg("check").arg(plan).arg("--keys").arg(plan.parent().unwrap().join("keys"));
    command.args(options).output().unwrap()
}

#[test]
fn exit_codes_say_whether_and_how() {
    let folder = tempfile::tempdir().unwrap();
    let plan = counting_plan(folder.path(), 64, Some(END));
    let foreign = rewritten(&plan, "foreign.plan", |it| {
        it.requirements.push(Requirement::Architecture("aarch64".into()));
    });
    let unsigned = rewritten(&plan, "unsigned.plan", |_| {});
    let future = folder.path().join("future.plan");
    let mut bytes = fs::read(&plan).unwrap();
    bytes[8] = 99;
    fs::write(&future, &bytes).unwrap();
    let cut = folder.path().join("cut.plan");
    fs::write(&cut, &fs::read(&plan).unwrap()[..5000]).unwrap();
    let text = folder.path().join("text");
    fs::write(&text, "no plan").unwrap();
    let isa = onebit_cpu::Kernels::detect().isa();
    let best = if isa == onebit_cpu::Isa::Avx512 { 0 } else { 3 };
    for (plan, options, code, says) in [
        (&plan, &["--device", "cpu"][..], best, "with --device cpu"),
        (&plan, &[], best, "npu: cannot run"),
        (&unsigned, &[], 4, "is not signed, so nobody answers for the code in it"),
        (&unsigned, &["--allow-untrusted"], best, "with --device cpu"),
        (&plan, &["--device", "npu"], 4, "help: compile the GGUF with `--target strix-halo`"),
        (&plan, &["--ctx", "65"], 4, "needs 65 positions of a slot; found 64 in the plan"),
        (&plan, &["--slots", "9"], 4, "compile the GGUF with `--batch 9`"),
        (&plan, &["--slots", "8", "--ctx", "64", "--device", "cpu"], best, "runs"),
        (&foreign, &["--device", "cpu"], 4, "needs the architecture aarch64; found x86_64"),
        (&future, &[], 4, "needs a runtime that reads format 99; found format 1"),
        (&cut, &[], 4, "damaged or was cut short"),
        (&text, &[], 1, ""),
        (&folder.path().join("nothing"), &[], 1, ""),
        (&plan, &["--slots", "0"], 2, ""),
    ] {
        let output = program(plan, options);
        let found = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{} {options:?}\n{found}", plan.display());
        assert!(found.contains(says), "{says}\n{found}");
    }
    let json = program(&plan, &["--device", "cpu", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let checks = value["devices"][0]["checks"].as_array().unwrap();
    assert!(checks.iter().all(|it| it["needed"].is_string() && it["found"].is_string()));
}
