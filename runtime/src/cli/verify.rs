//! `onebit-rt verify`: does the plan compute here what its compiler said?

use std::process::ExitCode;

use onebit_plan::PlanFile;
use onebit_plan::golden::Golden;
use onebit_plan::manifest::{Manifest, SegmentKind};
use onebit_plan::trust::AllowedPlan;
use onebit_rt::Error;
use onebit_rt::driver::npu;
use onebit_rt::driver::vulkan::api::{DeviceKind, Instance, PhysicalDevice, Validation};
use onebit_rt::verify::tolerance::Arithmetic;
use onebit_rt::verify::{self, Divergence, Kind, Stage, SumCheck, Traced, WrongSum};

use super::args::{self, Device, Keys, Machine};
use super::failure::Failure;
use super::load;
use super::screen::found;

/// Exit code where something differs, unlike that of errors.
const DIFFERS: u8 = 3;

/// What one device did.
struct Run {
    device: String,
    stages: Vec<Stage>,
}

/// Checks hashes, sums and steps, prints what came out, and fails if anything differs.
pub fn run(options: &args::Verify) -> Result<ExitCode, Failure> {
    let plan = load::open(&machine(options, Device::Cpu, None))?;
    let Some(golden) = plan.golden()? else {
        let message = "the plan has no golden vectors";
        return Err(Failure::other(message, "compile the GGUF again with this release's onebitc"));
    };
    let mut differences = Vec::new();
    let hashes = plan.verify_weights();
    found(&hash_line(&plan, hashes.is_ok()))?;
    differences.extend(hashes.err().map(|error| error.to_string()));
    let kernels = onebit_cpu::Kernels::detect();
    let sums = verify::sums(&plan, &golden, &kernels)?;
    found(&sums_line(&sums))?;
    let wrong = sums.iter().filter_map(|sum| Some((sum, sum.wrong.as_ref()?)));
    differences.extend(wrong.map(|(sum, wrong)| wrong_sum(&sum.class, wrong)));
    found(&header(&golden))?;
    for machine in machines(&plan, options)? {
        match run_on(&plan, &golden, &machine) {
            Ok(run) => {
                found(&rows(&run))?;
                differences.extend(first_difference(plan.manifest(), &run));
            }
            // What nobody asked for by name may be unable.
            Err(failure) if options.device.is_empty() && machine.device != Device::Cpu => {
                found(&format!("  {:<40} not run: {failure}\n", name(&machine)))?;
            }
            Err(failure) => return Err(failure),
        }
    }
    if differences.is_empty() {
        found("verified\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    for difference in &differences {
        found(&format!("DIFFERS: {difference}\n"))?;
    }
    Ok(ExitCode::from(DIFFERS))
}

/// The options as those commands have them that run on one device.
fn machine(options: &args::Verify, device: Device, gpu: Option<String>) -> Machine {
    Machine {
        plan: options.plan.clone(),
        threads: options.threads,
        device,
        gpu,
        fallback: None,
        matrices: None,
        keys: Keys { keys: options.keys.keys.clone() },
        allow_untrusted: options.allow_untrusted,
        check_weights: false,
    }
}

/// Devices that were asked for, or all that are here and have a part in the plan.
fn machines(plan: &PlanFile, options: &args::Verify) -> Result<Vec<Machine>, Failure> {
    let machine = |device, gpu| machine(options, device, gpu);
    if !options.device.is_empty() {
        let vulkan = options.device.contains(&Device::Vulkan);
        if options.gpu.is_some() && !vulkan {
            let help = "add `--device vulkan`";
            return Err(Failure::other("`--gpu` chooses among Vulkan devices only", help));
        }
        let gpu = |device| options.gpu.clone().filter(|_| device == Device::Vulkan);
        return Ok(options.device.iter().map(|&device| machine(device, gpu(device))).collect());
    }
    let mut all = vec![machine(Device::Cpu, None)];
    if plan.manifest().array.is_some() && npu_is_here(plan) {
        all.push(machine(Device::Npu, None));
    }
    if plan.manifest().gpu.is_some() {
        match &options.gpu {
            Some(gpu) => all.push(machine(Device::Vulkan, Some(gpu.clone()))),
            None => {
                let gpus = vulkan_devices(options.hardware).into_iter();
                all.extend(gpus.map(|index| machine(Device::Vulkan, Some(index.to_string()))));
            }
        }
    }
    Ok(all)
}

fn npu_is_here(plan: &PlanFile) -> bool {
    let configuration = plan.segment(SegmentKind::ArrayConfiguration);
    npu::open(npu::Device::Hardware, configuration).is_ok()
}

/// Indices of the Vulkan devices that can run plans; none where there is no loader.
fn vulkan_devices(hardware: bool) -> Vec<usize> {
    let Ok(instance) = Instance::new(Validation::Off) else { return Vec::new() };
    let devices = instance.devices().unwrap_or_default();
    let able = |&(_, device): &(usize, &PhysicalDevice)| {
        let software = device.info().kind == DeviceKind::Cpu;
        device.info().lacks.is_empty() && !(hardware && software)
    };
    devices.iter().enumerate().filter(able).map(|(index, _)| index).collect()
}

fn run_on(plan: &AllowedPlan, golden: &Golden, machine: &Machine) -> Result<Run, Failure> {
    let manifest = plan.manifest();
    let (mut driver, device, arithmetic): (Box<dyn Traced>, _, _) = match machine.device {
        Device::Vulkan => {
            let driver = load::vulkan(plan, machine, 1)?;
            let device = format!("vulkan: {}", load::describe(&driver));
            (Box::new(driver), device, Arithmetic::of_gpu(manifest))
        }
        Device::Cpu | Device::Npu | Device::NpuEmu => {
            let (driver, device) = load::processor(plan, machine, 1)?;
            (Box::new(driver), format!("cpu: {device}"), Arithmetic::of_cpu(manifest))
        }
    };
    let stages = verify::steps(&mut *driver, golden, arithmetic.tolerance());
    Ok(Run { device, stages: stages.map_err(|error: Error| Failure::from(error))? })
}

fn name(machine: &Machine) -> String {
    match (machine.device, &machine.gpu) {
        (Device::Vulkan, Some(gpu)) => format!("vulkan: device {gpu}"),
        (Device::Vulkan, None) => "vulkan".into(),
        (Device::Cpu, _) => "cpu".into(),
        (Device::Npu, _) => "npu".into(),
        (Device::NpuEmu, _) => "emulated npu".into(),
    }
}

fn hash_line(plan: &PlanFile, right: bool) -> String {
    let manifest = plan.manifest();
    let (count, bytes) = (manifest.segments.len(), plan.file_length() as f64 / 1e6);
    let verdict = if right { "right" } else { "WRONG" };
    format!("{}\nhashes   {count} segments, {bytes:.1} MB: {verdict}\n", manifest.model.name)
}

fn sums_line(sums: &[SumCheck]) -> String {
    let parts = sums.iter().map(|check| {
        let verdict = if check.wrong.is_none() { "exact" } else { "WRONG" };
        format!("{} {} {verdict}", check.class, check.sums)
    });
    format!("sums     {}\n", parts.collect::<Vec<_>>().join(", "))
}

fn header(golden: &Golden) -> String {
    let (tokens, values) = (golden.tokens.len(), golden.values.len());
    format!(
        "steps    {tokens} tokens, {values} values of the graph; the one nearest to its limit, its \
         distances from the interpreter's\n  {:>4} {:>6} {:>8} {:<6} {:>8} {:>8} {:>8} {:>8}  {}\n",
        "rows", "values", "limit", "node", "row", "group", "logits", "top", "device"
    )
}

fn rows(run: &Run) -> String {
    let mut text = String::new();
    for Stage { rows, comparison } in &run.stages {
        let nearest = &comparison.nearest;
        text += &format!(
            "  {rows:>4} {:>6} {:>7.0}% {:<6} {:>8.1e} {:>8.1e} {:>8.1e} {:>5}/{}  {}\n",
            comparison.values,
            100.0 * nearest.share,
            nearest.value,
            nearest.found.row,
            nearest.found.group,
            comparison.logits,
            comparison.shared,
            comparison.top,
            run.device
        );
    }
    text
}

/// The first value that differs in any stage, with the region that makes it.
fn first_difference(manifest: &Manifest, run: &Run) -> Option<String> {
    let differs = |stage: &Stage| Some((stage.rows, stage.comparison.divergence.clone()?));
    let (rows, divergence) = run.stages.iter().find_map(differs)?;
    let Divergence { value, node, found, allowed, what } = divergence;
    let steps = manifest.traced.iter().flat_map(|entry| &entry.steps);
    let region = steps
        .filter(|step| step.taps.iter().any(|tap| tap.value == value))
        .map(|step| manifest.regions[step.region as usize].name.clone())
        .next();
    let region = region.map_or(String::new(), |region| format!(" in {region}"));
    let what = match what {
        Kind::Row => format!("distance {found:.2e}, at most {allowed:.0e} is rounding"),
        Kind::Group(first) => {
            format!("distance {found:.2e} at elements {first}.., at most {allowed:.0e} is rounding")
        }
        Kind::Logit(token) => {
            format!("distance {found:.2e} at token {token}, at most {allowed:.0e} is rounding")
        }
        Kind::Form => "something in it is no number".into(),
    };
    Some(format!(
        "on {} in steps of {rows}: first node {value} = {node}{region}: {what}",
        run.device
    ))
}

fn wrong_sum(class: &str, wrong: &WrongSum) -> String {
    let WrongSum { weight, row, element, rows, expected, found } = wrong;
    format!(
        "this CPU's {class} product of {rows} rows: \"{weight}\" row {row}, elements {element}..{}: \
         sum {expected} expected, {found:.2} found",
        element + 16
    )
}
