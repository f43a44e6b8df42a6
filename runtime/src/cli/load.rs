//! From a path to a session.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use onebit_plan::PlanFile;
use onebit_plan::manifest::SegmentKind;
use onebit_rt::Error;
use onebit_rt::driver::Driver;
use onebit_rt::driver::cpu::{CpuDriver, CpuOptions};
use onebit_rt::driver::npu;
use onebit_rt::driver::vulkan::{self, Choice, VulkanDriver, VulkanOptions};
use onebit_rt::session::Session;
use onebit_tokenizer::Tokenizer;

use super::args::{Device, Fallback, Machine, Matrices};
use super::failure::Failure;
use super::screen::note;
use super::trust;

/// A session on the machine's device, and a line about it.
pub struct Loaded {
    pub session: Session,
    /// Threads that compute; 1 when a graphics processor does.
    pub threads: usize,
    pub memory: MemoryOf,
    /// `2 threads, avx512`
    pub device: String,
}

/// Whose memory weights are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryOf {
    Processor,
    Graphics,
}

/// Opens a plan whose code may run, and lets the kernel map its weights while the rest is set up.
/// All commands that run code of a plan get it here.
pub fn open(machine: &Machine) -> Result<Arc<PlanFile>, Failure> {
    let plan = Arc::new(PlanFile::open(&machine.plan)?);
    trust::require(&plan, machine)?;
    if machine.check_weights {
        plan.verify_weights()?;
    }
    let weights = Arc::clone(&plan);
    // Only speed hangs on it: without the thread, pages come as they are touched.
    let _ = thread::Builder::new()
        .name("populate".into())
        .spawn(move || weights.populate(SegmentKind::Weights));
    Ok(plan)
}

/// Loads a plan with so many cache slots, or as many as it has.
pub fn load(plan: &Arc<PlanFile>, machine: &Machine, slots: u32) -> Result<Loaded, Failure> {
    check(machine)?;
    if machine.device != Device::Vulkan {
        return load_processor(plan, machine, slots);
    }
    match (self::vulkan(plan, machine, slots), machine.fallback) {
        (Ok(driver), _) => Ok(Loaded {
            threads: 1,
            memory: MemoryOf::Graphics,
            device: describe(&driver),
            session: Session::new(Box::new(driver)),
        }),
        (Err(failure), Some(Fallback::Cpu)) => {
            note(format_args!("note: {failure}; running on the processor\n"));
            load_processor(plan, machine, slots)
        }
        (Err(failure), None) => Err(failure),
    }
}

/// A driver on the machine's graphics processor. What it could not do and does not need is noted.
pub fn vulkan(
    plan: &Arc<PlanFile>,
    machine: &Machine,
    slots: u32,
) -> Result<VulkanDriver, Failure> {
    let device = machine.gpu.as_deref().map_or(Choice::Best, Choice::parse);
    let cache = cache_folder();
    let matrices = match machine.matrices {
        None | Some(Matrices::Auto) => vulkan::Matrices::Auto,
        Some(Matrices::Never) => vulkan::Matrices::Never,
    };
    let options = VulkanOptions { device, matrices, slots, cache, ..VulkanOptions::default() };
    let driver = VulkanDriver::load(Arc::clone(plan), &options)?;
    for text in driver.notes() {
        note(format_args!("note: {text}\n"));
    }
    Ok(driver)
}

/// `AMD Radeon 8060S (RADV GFX1151), radv Mesa 25.0.7, matrices`
pub fn describe(driver: &VulkanDriver) -> String {
    let info = driver.device();
    let matrices = if driver.is_uniform() { "" } else { ", matrices" };
    format!("{}, {} {}{matrices}", info.name, info.driver.name, info.driver.info)
}

/// Options that have no meaning on the device.
fn check(machine: &Machine) -> Result<(), Failure> {
    let help = "add `--device vulkan`";
    match machine {
        Machine { device: Device::Vulkan, .. } => Ok(()),
        Machine { gpu: Some(_), .. } => {
            Err(Failure::other("`--gpu` chooses among Vulkan devices only", help))
        }
        Machine { fallback: Some(_), .. } => {
            Err(Failure::other("`--fallback` is for Vulkan devices only", help))
        }
        Machine { matrices: Some(_), .. } => {
            Err(Failure::other("`--matrices` is for Vulkan devices only", help))
        }
        _ => Ok(()),
    }
}

/// Where the XDG base directory specification wants the cache. No folder, no cache.
#[expect(clippy::disallowed_methods, reason = "the specification leaves no other way to know it")]
fn cache_folder() -> Option<PathBuf> {
    let named = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|it| it.is_absolute());
    let folder = named.or_else(|| env::home_dir().map(|home| home.join(".cache")))?;
    Some(folder.join("onebit"))
}

fn load_processor(plan: &Arc<PlanFile>, machine: &Machine, slots: u32) -> Result<Loaded, Failure> {
    let (driver, device) = processor(plan, machine, slots)?;
    let (threads, memory) = (driver.threads(), MemoryOf::Processor);
    Ok(Loaded { threads, memory, device, session: Session::new(Box::new(driver)) })
}

/// A driver on the processor, with the machine's neural processor where that is asked for, and a
/// line about it.
pub fn processor(
    plan: &Arc<PlanFile>,
    machine: &Machine,
    slots: u32,
) -> Result<(CpuDriver, String), Failure> {
    check(machine)?;
    let options = CpuOptions { threads: machine.threads, slots };
    let on_array = |device| -> Result<CpuDriver, Failure> {
        let context = npu::open_for(device, plan)?;
        Ok(CpuDriver::load_with_array(Arc::clone(plan), options, context)?)
    };
    let (driver, array) = match machine.device {
        Device::Cpu | Device::Vulkan => (CpuDriver::load(Arc::clone(plan), options)?, ""),
        Device::Npu => (on_array(npu::Device::Hardware)?, ", npu"),
        Device::NpuEmu => (on_array(npu::Device::Emulator)?, ", emulated npu"),
    };
    let threads = driver.threads();
    let plural = if threads == 1 { "" } else { "s" };
    let isa = format!("{:?}", driver.instruction_set()).to_lowercase();
    let device = format!("{threads} thread{plural}, {isa}{array}");
    Ok((driver, device))
}

/// The plan's tokenizer, checked against its vocabulary.
pub fn tokenizer(plan: &PlanFile) -> Result<Tokenizer<'_>, Failure> {
    let failed = |reason: String| Error::Tokenizer { reason };
    let tokenizer = Tokenizer::from_bytes(plan.segment(SegmentKind::Tokenizer))
        .map_err(|error| failed(error.to_string()))?;
    let vocabulary = plan.manifest().model.vocabulary;
    if tokenizer.vocabulary() > vocabulary {
        let reason = format!("{} tokens, but the model has {vocabulary}", tokenizer.vocabulary());
        return Err(failed(reason).into());
    }
    Ok(tokenizer)
}
