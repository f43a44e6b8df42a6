//! A plan's checks for each device.

use std::path::Path;

use onebit_plan::manifest::Manifest;
use onebit_plan::trust::TrustedKeys;
use onebit_plan::{FORMAT_VERSION, PlanError, PlanHead};
use serde::Serialize;

use super::{Check, Verdict, bytes_text, verdict};
use crate::Error;
use crate::driver::cpu::physical_cores;
use crate::driver::cpu::requirements::{self as cpu, Here, Use};
use crate::driver::npu::{self, probe};
use crate::driver::vulkan::{self, Choice, Matrices};
use crate::machine::Roots;

/// Where a plan is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    Cpu,
    Vulkan,
    Npu,
    NpuEmu,
}

impl Target {
    /// `npu-emu`, as options name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Vulkan => "vulkan",
            Self::Npu => "npu",
            Self::NpuEmu => "npu-emu",
        }
    }
}

/// What is asked of a plan.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Devices to look at.
    pub targets: Vec<Target>,
    pub gpu: Choice,
    pub matrices: Matrices,
    /// Positions that each sequence will have; `None` takes the plan's.
    pub context: Option<u32>,
    /// Sequences at once.
    pub slots: u32,
    /// Threads; `None` takes one for each physical core.
    pub threads: Option<usize>,
    /// Keys, of which one must have signed the plan; `None` lets anyone have made it.
    pub keys: Option<TrustedKeys>,
}

impl Default for Ask {
    fn default() -> Self {
        Self {
            targets: vec![Target::Cpu, Target::Vulkan, Target::Npu],
            gpu: Choice::Best,
            matrices: Matrices::default(),
            context: None,
            slots: 1,
            threads: None,
            keys: None,
        }
    }
}

/// All that can be said of a plan on this machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The model, for people; empty when the plan cannot be read.
    pub model: String,
    /// What concerns the file itself. One that is not met holds for every device.
    pub plan: Vec<Check>,
    pub devices: Vec<DeviceReport>,
    /// Of the best device.
    pub verdict: Verdict,
}

/// A device's part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeviceReport {
    pub target: Target,
    /// `AMD Radeon 8060S (RADV GFX1151)`, where a device was found.
    pub name: Option<String>,
    pub checks: Vec<Check>,
    pub verdict: Verdict,
}

/// Checks the plan at `path` against this machine. The time does not depend on the plan's size.
///
/// # Errors
/// A file that is not there, cannot be read or is no plan at all. A plan that this release does not
/// read is no error but a verdict.
pub fn check(path: &Path, ask: &Ask) -> Result<Report, Error> {
    let head = match PlanHead::open(path) {
        Ok(head) => head,
        Err(error) => return unreadable(error),
    };
    let here = Here::detect();
    let mut plan = vec![format(FORMAT_VERSION), intact(&head)];
    plan.extend(ask.keys.as_ref().map(|keys| trusted(&head, keys)));
    let manifest = head.manifest();
    let devices = ask.targets.iter().map(|&target| device(manifest, &here, target, ask));
    let devices: Vec<DeviceReport> = devices.collect();
    let best = devices.iter().map(|device| device.verdict).min().unwrap_or(Verdict::Cannot);
    let verdict = best.max(verdict(&plan));
    Ok(Report { model: manifest.model.name.clone(), plan, devices, verdict })
}

/// A plan's checks on one device of a machine, without a look at the file.
pub fn device(manifest: &Manifest, here: &Here, target: Target, ask: &Ask) -> DeviceReport {
    let threads = ask.threads.unwrap_or_else(|| physical_cores().get());
    let context = ask.context.unwrap_or(manifest.model.context);
    let used = Use { context, slots: ask.slots, threads };
    let mut name = None;
    let processor = || cpu::assess(manifest, here, used);
    let checks = match target {
        Target::Cpu => {
            let mut checks = processor();
            checks.extend(array_on_processor(manifest));
            checks
        }
        Target::Vulkan => {
            let memory = here.memory;
            let matrices = ask.matrices;
            let (info, mut checks) =
                vulkan::requirements::examine(manifest, &ask.gpu, matrices, memory, used);
            name = info.map(|info| info.name);
            checks.extend(cpu::sizes(manifest, used));
            checks
        }
        Target::Npu => {
            let limit = probe::memory_limit();
            let mut checks =
                npu::requirements::assess(manifest.array.as_ref(), &Roots::system().dev, limit);
            checks.extend(processor());
            checks
        }
        Target::NpuEmu => {
            let mut checks = vec![emulator(manifest)];
            checks.extend(processor());
            checks
        }
    };
    let verdict = verdict(&checks);
    DeviceReport { target, name, checks, verdict }
}

fn format(found: u32) -> Check {
    let needed = format!("a runtime that reads format {found}");
    let has = format!("format {FORMAT_VERSION}");
    if found == FORMAT_VERSION {
        return Check::met("format", needed, has);
    }
    let error = PlanError::Version { path: "".into(), found };
    Check::unmet("format", needed, has, error.help())
}

fn intact(head: &PlanHead) -> Check {
    let found = format!("{}, its header and manifest undamaged", bytes_text(head.file_length()));
    Check::met("file", "a whole file", found)
}

/// Whether the plan's code may run here.
fn trusted(head: &PlanHead, keys: &TrustedKeys) -> Check {
    const WHAT: &str = "signature";
    let needed = "the signature of a key that this machine trusts";
    match head.trust(keys).require(head.path()) {
        Ok(id) => Check::met(WHAT, needed, format!("key {id}")),
        Err(error) => Check::unmet(WHAT, needed, error.to_string(), error.help()),
    }
}

/// The report about a plan that cannot be loaded, whatever the device.
fn unreadable(error: PlanError) -> Result<Report, Error> {
    let check = match &error {
        PlanError::Io { .. } | PlanError::NotAFile { .. } | PlanError::NotAPlan { .. } => {
            return Err(error.into());
        }
        PlanError::Version { found, .. } => format(*found),
        _ => Check::unmet("file", "a whole file", error.to_string(), error.help()),
    };
    let (plan, devices) = (vec![check], Vec::new());
    Ok(Report { model: String::new(), plan, devices, verdict: Verdict::Cannot })
}

/// Products that were packed for an array and that the CPU does here.
fn array_on_processor(manifest: &Manifest) -> Option<Check> {
    let part = manifest.array.as_ref()?;
    let needed = format!("a neural processor for {} products", part.products.len());
    let remedy = "run with `--device npu` where there is one, or compile without `--target \
                  strix-halo`";
    Some(Check::slower("array", needed, "the processor does them", remedy))
}

fn emulator(manifest: &Manifest) -> Check {
    const WHAT: &str = "emulator";
    let needed = "an emulated neural processor";
    if manifest.array.is_none() {
        let error = Error::NoArrayProducts;
        return Check::unmet(WHAT, needed, error.to_string(), error.help());
    }
    if cfg!(feature = "npu-emu") {
        let remedy = "for tests; run with `--device npu` or `--device cpu`";
        return Check::slower(WHAT, needed, "seconds a step", remedy);
    }
    let error = npu::NpuError::NoEmulator;
    Check::unmet(WHAT, needed, error.to_string(), error.help())
}
