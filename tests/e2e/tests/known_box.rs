//! Plans for a machine that a `box.sys` describes: what is left out, what is required, what is
//! predicted, and that nothing but the description's content decides.

use std::fs;
use std::path::Path;

use onebit_e2e::{chunks, compile_bytes, run};
use onebit_models::Model;
use onebit_models::gguf::GgufFile;
use onebit_plan::PlanFile;
use onebit_plan::box_sys::{BoxDescription, BoxGpu, BoxNpu};
use onebit_plan::gpu::GpuFeature;
use onebit_plan::manifest::Manifest;
use onebit_plan::trust::AllowedPlan;
use onebit_rt::check::{Ask, Verdict, check};
use onebit_rt::driver::npu;
use onebit_rt::driver::vulkan::api::{DeviceInfo, Instance, Validation};
use onebit_rt::driver::vulkan::{Choice, VulkanDriver, VulkanOptions};
use onebit_rt::machine::Roots;
use onebit_rt::probe::{Speed, probe};
use onebit_test_support::{TinyOptions, radeon_8060s, strix_halo, tiny_model};
use onebitc::target::machine::{Machine, Require, Target};
use onebitc::{CompileError, Options, Vulkan};

fn machine(description: BoxDescription) -> Target {
    let hash = description.hash().unwrap();
    Target::Machine(Box::new(Machine { description, hash }))
}

fn base() -> Options {
    Options { batch: 16, context: Some(64), ..Options::default() }
}

fn tiny() -> Vec<u8> {
    tiny_model("llama", &TinyOptions::default())
}

/// The manifest and the report of the tiny model for a machine.
fn compiled(
    description: BoxDescription,
    require: Option<Require>,
) -> Result<(Manifest, String), CompileError> {
    let options = base().for_target(machine(description), require)?;
    let model = Model::from_file(GgufFile::parse(tiny()).unwrap())?;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.plan");
    let source = Path::new("model.gguf");
    let report = onebitc::compile(&model, source, &path, &options, &mut |_, _| {})?;
    Ok((PlanFile::open(&path)?.manifest().clone(), report.to_string()))
}

#[test]
fn products_go_to_an_npu_only_where_there_is_one() {
    let (plan, _) = compiled(strix_halo(), None).unwrap();
    assert!(plan.array.is_some() && plan.gpu.is_none());
    for npu in [None, strix_halo().npu.map(|npu| BoxNpu { columns: 4, ..npu })] {
        let (plan, report) = compiled(BoxDescription { npu, ..strix_halo() }, None).unwrap();
        assert!(plan.array.is_none() && plan.gpu.is_some());
        assert!(report.contains("gpu: predicted for Radeon 8060S from the box's"), "{report}");
    }
}

#[test]
fn a_box_without_vulkan_gets_no_part_for_it() {
    let bare = BoxDescription { gpus: Vec::new(), npu: None, ..strix_halo() };
    let (plan, report) = compiled(bare.clone(), None).unwrap();
    assert!(plan.gpu.is_none());
    assert!(report.contains("gpu: no part for it: the box has no Vulkan device"), "{report}");
    let bytes: u64 = plan.regions.iter().map(|region| region.weight_bytes).sum();
    let expected = format!("{:.2} ms a token", bytes as f64 / 100e9 * 1e3);
    assert!(report.contains("cpu: predicted from the box's bandwidth"), "{report}");
    assert!(report.contains(&expected), "{expected}: {report}");
    let weak = BoxGpu { features: Vec::new(), invocations: 32, ..radeon_8060s() };
    let weak = BoxDescription { gpus: vec![weak], ..bare };
    let (plan, report) = compiled(weak.clone(), None).unwrap();
    assert!(plan.gpu.is_none());
    assert!(report.contains("no step fits a Vulkan device of the box"), "{report}");
    let error = compiled(weak, Some(Require::Gpu)).unwrap_err().to_string();
    assert!(error.starts_with("--require-target gpu: no step"), "{error}");
}

#[test]
fn what_is_required_and_cannot_be_had_fails() {
    let bare = BoxDescription { gpus: Vec::new(), npu: None, ..strix_halo() };
    for (require, says) in [
        (Require::Npu, "--require-target npu: the box has no NPU"),
        (Require::Gpu, "--require-target gpu: the box has no Vulkan device"),
    ] {
        let error = compiled(bare.clone(), Some(require)).unwrap_err();
        assert!(error.to_string().starts_with(says), "{error}");
    }
    assert!(compiled(bare, Some(Require::Cpu)).is_ok());
    let (plan, _) = compiled(strix_halo(), Some(Require::Gpu)).unwrap();
    assert!(plan.array.is_none() && plan.gpu.is_some());
    let (plan, _) = compiled(strix_halo(), Some(Require::Cpu)).unwrap();
    assert!(plan.array.is_none());
    let (plan, _) = compiled(strix_halo(), Some(Require::Npu)).unwrap();
    let products = plan.regions.iter().filter(|region| region.macs > 0);
    assert!(products.into_iter().all(|region| region.target == "npu"));
    let host = base().for_target(Target::Host, Some(Require::Npu)).unwrap_err().to_string();
    assert!(host.contains("nothing is known of an NPU there"), "{host}");
    let without = Options { vulkan: Vulkan::Without, ..base() };
    let error = without.for_target(Target::Host, Some(Require::Gpu)).unwrap_err().to_string();
    assert!(error.contains("--no-gpu"), "{error}");
}

#[test]
fn a_processor_that_lacks_what_the_code_needs_is_refused() {
    let mut old = strix_halo();
    old.processor.features.retain(|feature| feature != "avx2" && feature != "fma");
    let error = compiled(old, None).unwrap_err();
    assert!(matches!(&error, CompileError::Features { lacks } if lacks == "avx2 fma"), "{error}");
}

/// Modules for other devices are left out, and what stays runs as before.
#[test]
fn a_part_holds_what_its_devices_take_and_no_more() {
    let whole = compile_bytes(tiny(), &Options { vulkan: Vulkan::Required, ..base() });
    let whole_part = whole.plan.manifest().gpu.as_ref().unwrap();
    let narrow =
        BoxGpu { subgroup_sizes: (8, 8), features: vec![GpuFeature::IntegerDot], ..radeon_8060s() };
    let only = BoxDescription { gpus: vec![narrow.clone()], npu: None, ..strix_halo() };
    let (plan, _) = compiled(only.clone(), None).unwrap();
    let part = plan.gpu.unwrap();
    assert!(part.kernels.len() < whole_part.kernels.len());
    assert!(part.entries.len() < whole_part.entries.len(), "entries of matrices are left out");
    let device = narrow.capabilities();
    for kernel in &part.kernels {
        for module in &kernel.modules {
            assert_eq!(device.lacks(kernel, module), [], "{}", kernel.name);
        }
    }
    let both = BoxDescription { gpus: vec![narrow, radeon_8060s()], npu: None, ..strix_halo() };
    let (plan, _) = compiled(both, None).unwrap();
    assert_eq!(plan.gpu.unwrap().entries.len(), whole_part.entries.len());
}

/// The machine that runs this: its own description makes a plan that its own devices run, with the
/// bits of a plan for any machine.
#[test]
fn a_plan_for_this_box_runs_on_it() {
    let description = probe(&Roots::system(), Speed::Unknown).unwrap();
    let options = base().for_target(machine(description), Some(Require::Cpu)).unwrap();
    let known = compile_bytes(tiny(), &options);
    let any = compile_bytes(tiny(), &base());
    let tokens: Vec<u32> = (0..40).map(|at| at * 7 % 50).collect();
    let steps = chunks(&tokens, 1, 16);
    assert_eq!(run(&mut known.driver(2), &steps), run(&mut any.driver(2), &steps));
    let devices = Instance::new(Validation::Off).and_then(|it| it.devices()).unwrap_or_default();
    let Some(place) = devices.iter().map(|it| it.info()).position(DeviceInfo::is_lavapipe) else {
        eprintln!("skipped: lavapipe is not among the {} devices", devices.len());
        return;
    };
    let driver = |plan: &AllowedPlan| {
        let device = Choice::Index(place);
        let options = VulkanOptions { device, slots: 2, ..VulkanOptions::default() };
        VulkanDriver::load(plan.clone(), &options).unwrap()
    };
    assert_eq!(run(&mut driver(&known.plan), &steps), run(&mut driver(&any.plan), &steps));
}

#[test]
fn the_content_of_a_description_decides_and_not_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let text = strix_halo().to_text().unwrap();
    let paths = [folder.path().join("a.sys"), folder.path().join("other/b.json")];
    fs::create_dir(folder.path().join("other")).unwrap();
    fs::write(&paths[0], &text).unwrap();
    fs::write(&paths[1], text.replace("\n  ", "\n\t")).unwrap();
    let plans = paths.map(|path| {
        let target = Target::parse(path.to_str().unwrap()).unwrap();
        let options = base().for_target(target, None).unwrap();
        let compiled = compile_bytes(tiny(), &options);
        fs::read(compiled.plan.path()).unwrap()
    });
    assert!(plans[0] == plans[1], "the same bytes");
    let (plan, _) = compiled(strix_halo(), None).unwrap();
    let expected = format!("box={}", strix_halo().hash().unwrap());
    assert!(plan.provenance.options.contains(&expected), "{:?}", plan.provenance.options);
    assert!(plan.provenance.options.is_sorted());
    let wrong = folder.path().join("wrong.sys");
    fs::write(&wrong, text.replace("\"cores\"", "\"kernel\"")).unwrap();
    let error = Target::parse(wrong.to_str().unwrap()).unwrap_err();
    assert!(matches!(error, CompileError::Box { .. }), "{error}");
    assert!(error.to_string().contains("unknown field `kernel`"), "{error}");
    assert!(matches!(Target::parse("no/such.sys"), Err(CompileError::Read { .. })));
}

/// A plan with products for an array: what the check says of each device is what a load does.
#[test]
fn checks_and_loads_of_a_plan_for_an_npu_agree() {
    let options = base().for_target(machine(strix_halo()), None).unwrap();
    let compiled = compile_bytes(tiny(), &options);
    let report = |target| {
        let ask = Ask { targets: vec![target], ..Ask::default() };
        check(compiled.plan.path(), &ask).unwrap()
    };
    let cpu = report(onebit_rt::check::Target::Cpu);
    assert_eq!(cpu.verdict, Verdict::Slower, "the processor does the array's products: {cpu:#?}");
    compiled.driver(2);
    let emulated = report(onebit_rt::check::Target::NpuEmu);
    assert_eq!(emulated.verdict, Verdict::Slower, "{emulated:#?}");
    assert!(npu::open_for(npu::Device::Emulator, &compiled.plan).is_ok());
    let vulkan = report(onebit_rt::check::Target::Vulkan);
    assert_eq!(vulkan.verdict, Verdict::Cannot);
    assert!(VulkanDriver::load(compiled.plan.clone(), &VulkanOptions::default()).is_err());
    let real = report(onebit_rt::check::Target::Npu);
    let loads = npu::open_for(npu::Device::Hardware, &compiled.plan).is_ok();
    assert_eq!(real.verdict != Verdict::Cannot, loads, "{real:#?}");
}
