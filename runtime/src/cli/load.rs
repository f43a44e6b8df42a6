//! From a path to a session.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use onebit_plan::PlanFile;
use onebit_plan::manifest::SegmentKind;
use onebit_rt::Error;
use onebit_rt::driver::cpu::{CpuDriver, CpuOptions};
use onebit_rt::driver::npu;
use onebit_rt::session::Session;
use onebit_tokenizer::Tokenizer;

use super::args::{Device, Machine};
use super::failure::Failure;

/// A session on the machine's device, and a line about it.
pub struct Loaded {
    pub session: Session,
    pub threads: usize,
    /// `2 threads, avx512`
    pub device: String,
}

/// Opens a plan and lets the kernel map its weights while the rest is set up.
pub fn open(path: &Path) -> Result<Arc<PlanFile>, Failure> {
    let plan = Arc::new(PlanFile::open(path)?);
    let weights = Arc::clone(&plan);
    // Only speed hangs on it: without the thread, pages come as they are touched.
    let _ = thread::Builder::new()
        .name("populate".into())
        .spawn(move || weights.populate(SegmentKind::Weights));
    Ok(plan)
}

/// Loads a plan with so many cache slots, or as many as it has.
pub fn load(plan: &Arc<PlanFile>, machine: &Machine, slots: u32) -> Result<Loaded, Failure> {
    let options = CpuOptions { threads: machine.threads, slots };
    let on_array = |device| -> Result<CpuDriver, Failure> {
        let configuration = plan.segment(SegmentKind::ArrayConfiguration);
        if configuration.is_empty() {
            return Err(Error::NoArrayProducts.into());
        }
        let context = npu::open(device, configuration).map_err(Error::from)?;
        Ok(CpuDriver::load_with_array(Arc::clone(plan), options, context)?)
    };
    let (driver, array) = match machine.device {
        Device::Cpu => (CpuDriver::load(Arc::clone(plan), options)?, ""),
        Device::Npu => (on_array(npu::Device::Hardware)?, ", npu"),
        Device::NpuEmu => (on_array(npu::Device::Emulator)?, ", emulated npu"),
    };
    let threads = driver.threads();
    let plural = if threads == 1 { "" } else { "s" };
    let isa = format!("{:?}", driver.instruction_set()).to_lowercase();
    Ok(Loaded {
        threads,
        device: format!("{threads} thread{plural}, {isa}{array}"),
        session: Session::new(Box::new(driver)),
    })
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
