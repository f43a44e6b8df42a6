//! Runs the Vulkan entries of a plan: whole steps on the device, recorded at load.
//!
//! A step is: fill the step buffer, submit, wait, read the logits. Memory is allocated and shaders
//! are compiled at load. Shaders are as trusted as the CPU's code: rows are checked here, but
//! nothing can check what a shader does. Run plans that you or someone you trust compiled.
//!
//! Plans have, for steps of many rows, entries that multiply by matrices of f16 besides those that
//! round alike in steps of any size; [`Matrices`] says which are taken.

mod choose;
mod error;
mod kernels;
mod pieces;
mod profile;
mod record;
pub mod requirements;
mod rope;
mod store;
mod trace;
mod trial;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use onebit_plan::PlanFile;
use onebit_plan::gpu::{GPU_AHEAD, GPU_ROWS, GpuPlan, step};
use onebit_vulkan::{
    Buffer, Commands, Device, DeviceInfo, Instance, Pipeline, Place, Ticket, Validation,
};

use self::record::{Buffers, Clock};
use crate::Error;
use crate::driver::{Driver, Limits, Row, RowCheck};

pub use choose::Choice;
pub use error::GpuError;
pub use onebit_vulkan as api;
pub use profile::{Measured, Profile};

/// Whether products of many rows may go through a device's matrix units, in f16 with sums in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Matrices {
    /// Where the device has them, the plan has entries for them, and a trial at load shows that they
    /// give what dot products give. Steps of 9 rows and more then
    /// round otherwise than those of fewer, and the driver is not [uniform](Driver::is_uniform);
    /// activations beyond 65504, the largest f16, become that.
    #[default]
    Auto,
    /// A row's logits depend on its own sequence only, bit for bit.
    Never,
}

/// How to set a Vulkan driver up.
#[derive(Clone, Debug)]
pub struct VulkanOptions {
    pub device: Choice,
    pub matrices: Matrices,
    /// Cache slots to allocate, at most those of the plan.
    pub slots: u32,
    pub validation: Validation,
    /// Folder for compiled pipelines; `None` keeps none.
    pub cache: Option<PathBuf>,
    /// Longest time that steps without a look at their tokens may take together: people wait for
    /// them, and systems stop work that keeps a device for seconds.
    pub burst: Duration,
}

impl Default for VulkanOptions {
    fn default() -> Self {
        Self {
            device: Choice::Best,
            matrices: Matrices::default(),
            slots: 1,
            validation: Validation::Off,
            cache: None,
            burst: Duration::from_millis(100),
        }
    }
}

/// A plan's steps on a Vulkan device.
pub struct VulkanDriver {
    limits: Limits,
    check: RowCheck,
    uniform: bool,
    entries: Vec<Entry>,
    buffers: Buffers,
    readback: Readback,
    /// What goes into the step buffer, and what comes back of it.
    words: Vec<u32>,
    picks: Vec<u32>,
    burst: Duration,
    /// What a step of the last burst took; all of a burst before the first.
    step_time: Duration,
    pipelines: Vec<Option<Arc<Pipeline>>>,
    notes: Vec<String>,
    plan: Arc<PlanFile>,
    device: Arc<Device>,
    instance: Instance,
}

/// Whether a device has what every plan needs.
///
/// # Errors
/// [`GpuError::Vulkan`] with what it lacks.
fn able(info: &DeviceInfo) -> Result<(), GpuError> {
    Ok(info.able()?)
}

struct Entry {
    max_rows: usize,
    /// Place among the plan's entries.
    index: usize,
    commands: Commands,
}

/// How logits come to the host.
enum Readback {
    /// The host reads them where they are.
    Direct,
    /// By a copy of 1, 2, 4... rows.
    Copies { to: Arc<Buffer>, commands: Vec<Commands> },
}

/// A step that takes longer never ends: drivers stop work after some seconds.
const TIMEOUT: Duration = Duration::from_secs(300);

impl VulkanDriver {
    /// Loads a plan onto a device: compiles its kernels, uploads its weights, records its entries.
    ///
    /// # Errors
    /// [`GpuError`] in all its forms.
    pub fn load(plan: Arc<PlanFile>, options: &VulkanOptions) -> Result<Self, Error> {
        let mut driver = Self::open(Arc::clone(&plan), options)?;
        if driver.uniform {
            return Ok(driver);
        }
        let Some(error) = driver.matrix_error()? else { return Ok(driver) };
        drop(driver);
        let exact = VulkanOptions { matrices: Matrices::Never, ..options.clone() };
        let mut driver = Self::open(plan, &exact)?;
        driver.notes.push(format!(
            "the device's matrices give other logits than dot products (error {error:.1e}) and are \
             not used"
        ));
        Ok(driver)
    }

    fn open(plan: Arc<PlanFile>, options: &VulkanOptions) -> Result<Self, GpuError> {
        let manifest = plan.manifest();
        let Some(gpu) = &manifest.gpu else { return Err(GpuError::NoPart) };
        let instance = Instance::new(options.validation)?;
        let device = choose::choose(&instance, &options.device)?.open()?;
        let slots = options.slots.clamp(1, manifest.memory.slots);
        let (vocabulary, context) = (manifest.model.vocabulary, manifest.model.context);
        let scale = requirements::scale(manifest, slots);
        let fit = requirements::fit(gpu, device.info(), scale, options.matrices)?;
        let mut selection = fit.selection;
        let folder = options.cache.as_deref();
        let pipelines = kernels::pipelines(&device, &plan, gpu, &mut selection, folder)?;
        let buffers = Buffers::new(&device, &plan, gpu, &selection.entries, scale)?;
        let mut entries = Vec::new();
        for entry in &selection.entries {
            let commands = buffers.record(&device, entry, &pipelines, Clock::Off)?;
            let index = gpu.entries.iter().position(|it| std::ptr::eq(it, *entry)).unwrap_or(0);
            entries.push(Entry { max_rows: entry.max_rows as usize, index, commands });
        }
        let max_rows = entries.last().map_or(0, |entry| entry.max_rows);
        let readback = Readback::new(&device, &buffers, max_rows)?;
        let limits = Limits { vocabulary, context, slots, max_rows };
        Ok(Self {
            limits,
            check: RowCheck::new(limits),
            uniform: selection.is_uniform(),
            entries,
            readback,
            words: vec![0; step::PICKS],
            picks: vec![0; GPU_AHEAD * GPU_ROWS],
            burst: options.burst,
            step_time: options.burst,
            pipelines,
            notes: selection.notes,
            buffers,
            device,
            instance,
            plan,
        })
    }

    /// The device that runs the steps.
    pub fn device(&self) -> &DeviceInfo {
        self.device.info()
    }

    /// What did not come to be and is no error: entries that the device cannot run, pipelines
    /// that could not be stored.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Bytes of weights on the device.
    pub fn weight_bytes(&self) -> u64 {
        self.buffers.weight_bytes()
    }

    /// Takes what the validation layer found so far.
    pub fn take_findings(&self) -> Vec<String> {
        self.instance.take_findings()
    }

    /// The first entry that holds so many rows. Checked rows fit the last.
    fn fitting(&self, rows: usize) -> &Entry {
        let fits = self.entries.partition_point(|entry| entry.max_rows < rows);
        &self.entries[fits.min(self.entries.len() - 1)]
    }

    /// Writes the rows into the step buffer.
    fn fill_step(&mut self, rows: &[Row]) -> Result<(), GpuError> {
        self.words.fill(0);
        self.words[step::ROWS] = rows.len() as u32;
        let mut outputs = 0;
        for (index, row) in rows.iter().enumerate() {
            self.words[step::TOKENS + index] = row.token;
            self.words[step::POSITIONS + index] = row.position;
            self.words[step::SLOTS + index] = row.slot;
            if row.output {
                self.words[step::OUTPUTS + outputs] = index as u32;
                outputs += 1;
            }
        }
        self.words[step::OUTPUT_ROWS] = outputs as u32;
        Ok(self.buffers.step.write(0, bytemuck::cast_slice(&self.words))?)
    }

    fn run(&self, commands: &[&Commands]) -> Result<(), GpuError> {
        let ticket: Ticket = self.device.submit(commands)?;
        Ok(self.device.wait(ticket, TIMEOUT)?)
    }

    fn step_on_device(&mut self, rows: &[Row], logits: &mut [f32]) -> Result<(), GpuError> {
        self.fill_step(rows)?;
        let entry = &self.fitting(rows.len()).commands;
        let outputs = rows.iter().filter(|row| row.output).count();
        let source = match &self.readback {
            _ if outputs == 0 => return self.run(&[entry]),
            Readback::Direct => {
                self.run(&[entry])?;
                &self.buffers.logits
            }
            Readback::Copies { to, commands } => {
                let index = outputs.next_power_of_two().trailing_zeros() as usize;
                self.run(&[entry, &commands[index]])?;
                to
            }
        };
        Ok(source.read(0, bytemuck::cast_slice_mut(logits))?)
    }

    /// Submits the entry `steps` times and reads the tokens that it picked.
    fn run_ahead(&mut self, rows: &[Row], steps: usize, picks: &mut [u32]) -> Result<(), GpuError> {
        self.fill_step(rows)?;
        let entry = &self.fitting(rows.len()).commands;
        let all = [entry; GPU_AHEAD];
        let start = Instant::now();
        self.run(&all[..steps])?;
        self.step_time = start.elapsed() / steps as u32;
        let found = &mut self.picks[..steps * GPU_ROWS];
        self.buffers.step.read(4 * step::PICKS as u64, bytemuck::cast_slice_mut(found))?;
        for (to, from) in picks.chunks_exact_mut(rows.len()).zip(found.chunks_exact(GPU_ROWS)) {
            to.copy_from_slice(&from[..rows.len()]);
        }
        Ok(())
    }

    /// Steps of a burst, at least one.
    fn burst_steps(&self) -> usize {
        let steps = self.burst.as_nanos() / self.step_time.as_nanos().max(1);
        steps.clamp(1, GPU_AHEAD as u128) as usize
    }

    fn gpu_plan(&self) -> Result<&GpuPlan, GpuError> {
        self.plan.manifest().gpu.as_ref().ok_or(GpuError::NoPart)
    }
}

impl Driver for VulkanDriver {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn is_uniform(&self) -> bool {
        self.uniform
    }

    fn step(&mut self, rows: &[Row], logits: &mut [f32]) -> Result<(), Error> {
        self.check.check(rows, logits.len())?;
        Ok(self.step_on_device(rows, logits)?)
    }

    fn decode_ahead(
        &mut self,
        rows: &[Row],
        steps: usize,
        picks: &mut [u32],
    ) -> Result<usize, Error> {
        let width = self.limits.vocabulary as usize;
        self.check.check(rows, rows.iter().filter(|row| row.output).count() * width)?;
        let last = rows.iter().map(|row| row.position).max().unwrap_or(0);
        let steps = steps.min(self.burst_steps()).min((self.limits.context - last) as usize);
        let picks = match picks.get_mut(..steps * rows.len()) {
            Some(picks) if rows.iter().all(|row| row.output) => picks,
            _ => {
                let (expected, found) = (steps * rows.len(), picks.len());
                return Err(Error::Picks { expected, found });
            }
        };
        self.run_ahead(rows, steps, picks)?;
        for (&token, row) in picks.iter().zip(rows.iter().cycle()) {
            if token >= self.limits.vocabulary {
                return Err(Error::NotFinite { slot: row.slot, token });
            }
        }
        Ok(steps)
    }
}

impl Readback {
    fn new(device: &Arc<Device>, buffers: &Buffers, max_rows: usize) -> Result<Self, GpuError> {
        if buffers.logits.is_cached() {
            return Ok(Self::Direct);
        }
        let bytes = buffers.logits.bytes();
        let to = Buffer::new(device, "logits of the host", bytes, Place::Readback)?;
        let mut commands = Vec::new();
        for power in 0..=max_rows.next_power_of_two().trailing_zeros() {
            let rows = (1_u64 << power).min(max_rows as u64);
            commands.push(buffers.record_readback(device, rows, &to)?);
        }
        Ok(Self::Copies { to, commands })
    }
}
