//! Runs the CPU entries of a plan on a team of threads.
//!
//! Every thread of the team calls the same entry at the same time with a [`StepContext`] of its
//! own; the entry splits the work and meets at the plan's barriers. The code segment is native
//! code and is trusted: rows are checked here, but nothing can check what the code does. Run
//! plans that you or someone you trust compiled.

mod array;
mod memory;
pub mod requirements;
mod topology;
mod trace;

use std::num::NonZeroUsize;

use onebit_cpu::barrier::Barrier;
use onebit_cpu::{Isa, Kernels};
use onebit_plan::abi::{EntryFn, KernelId, StepContext};
use onebit_plan::manifest::{Entry, SegmentKind, TracedEntry};
use onebit_plan::trust::AllowedPlan;
use rayon::{ThreadPool, ThreadPoolBuilder};

use self::array::Array;
use self::memory::{Code, Region};
use self::requirements::{Here, Use};
use self::trace::Recorder;
use crate::Error;
use crate::check;
use crate::driver::npu::Context;
use crate::driver::{Driver, Limits, Row, RowCheck, TappedValue};
use crate::verify::Traced;

pub use topology::physical_cores;
pub use trace::{Keep, TracedRegion};

/// How to set a CPU driver up.
#[derive(Clone, Copy, Debug)]
pub struct CpuOptions {
    /// Threads of the team; `None` takes one for each physical core the process may use.
    pub threads: Option<NonZeroUsize>,
    /// Cache slots to allocate, at most those of the plan.
    pub slots: u32,
}

/// A plan's CPU code with its memory and its team.
pub struct CpuDriver {
    limits: Limits,
    check: RowCheck,
    /// `(max_rows, entry)`, ascending.
    entries: Vec<(usize, EntryFn)>,
    /// `(max_rows, entry, index in the manifest)`, ascending.
    traced: Vec<(usize, EntryFn, usize)>,
    pool: ThreadPool,
    threads: usize,
    instruction_set: Isa,
    /// Microkernels by slot. A plan that decodes cannot name one that is missing here.
    kernels: Box<[*const u8]>,
    barrier: Box<Barrier>,
    arena: Region,
    /// One part of `private_stride` bytes for each thread.
    private: Region,
    private_stride: usize,
    cache: Region,
    tokens: Vec<i32>,
    positions: Vec<i32>,
    slots: Vec<i32>,
    outputs: Vec<i32>,
    code: Code,
    /// A neural processor that does the plan's array products.
    array: Option<Box<Array>>,
    /// Keeps the weights mapped.
    plan: AllowedPlan,
}

impl CpuDriver {
    /// Loads a plan: checks its requirements, maps its code, reserves memory, starts the team.
    /// The time does not grow with the weights, which the kernel maps as they are touched.
    ///
    /// # Errors
    /// What the plan needs and this machine has not.
    pub fn load(plan: AllowedPlan, options: CpuOptions) -> Result<Self, Error> {
        let manifest = plan.manifest();
        let kernels = Kernels::detect();
        let threads = options.threads.unwrap_or_else(physical_cores).get();
        let least = Use::least(manifest, threads);
        check::refuse(&requirements::assess(manifest, &Here::detect(), least))?;
        let code = Code::map(plan.segment(SegmentKind::CpuCode))?;
        let entries = entry_table(&code, &manifest.entries);
        let traced = traced_table(&code, &manifest.traced);
        let max_rows = entries.last().map_or(0, |&(max_rows, _)| max_rows);
        let memory = manifest.memory;
        let slots = options.slots.clamp(1, memory.slots);
        let limits = Limits {
            vocabulary: manifest.model.vocabulary,
            context: manifest.model.context,
            slots,
            max_rows,
        };
        // Parts of two threads never share a page, and so never a cache line.
        let private_stride = memory.private.next_multiple_of(onebit_plan::PAGE);
        let index = || Vec::with_capacity(max_rows);
        Ok(Self {
            limits,
            check: RowCheck::new(limits),
            entries,
            traced,
            pool: start_team(threads)?,
            threads,
            instruction_set: kernels.isa(),
            kernels: addresses(&kernels),
            barrier: Box::new(Barrier::new(threads as u32)),
            arena: Region::reserve("scratch buffers", memory.arena)?,
            private: Region::reserve("threads' scratch", private_stride * threads as u64)?,
            private_stride: private_stride as usize,
            cache: Region::reserve("key/value cache", memory.slot * u64::from(slots))?,
            tokens: index(),
            positions: index(),
            slots: index(),
            outputs: index(),
            code,
            array: None,
            plan,
        })
    }

    /// Loads a plan whose array products `context` does; it was opened with the plan's
    /// configuration. Their weights are copied to the device.
    ///
    /// # Errors
    /// As [`CpuDriver::load`]; a plan without array products; what the device refuses.
    pub fn load_with_array(
        plan: AllowedPlan,
        options: CpuOptions,
        context: Box<dyn Context>,
    ) -> Result<Self, Error> {
        let mut driver = Self::load(plan.clone(), options)?;
        let Some(part) = &plan.manifest().array else { return Err(Error::NoArrayProducts) };
        let array = Array::load(&plan, part, context)?;
        driver.kernels[KernelId::Array.slot()] = array::offload as *const u8;
        driver.array = Some(Box::new(array));
        Ok(driver)
    }

    /// Threads of the team.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The instruction set that the microkernels use.
    pub fn instruction_set(&self) -> Isa {
        self.instruction_set
    }

    /// Runs a step as [`Driver::step`] does, with the same bits in logits and cache, through the
    /// plan's traced entry: slower, because the team waits after every region, and with
    /// allocations. Times are good for comparing regions with each other; their sum is more than
    /// an ordinary step takes.
    ///
    /// # Errors
    /// As [`Driver::step`]; a plan without traced entries; a row to keep that the step has not.
    pub fn trace(
        &mut self,
        rows: &[Row],
        logits: &mut [f32],
        keep: Keep,
    ) -> Result<Vec<TracedRegion>, Error> {
        self.check.check(rows, logits.len())?;
        if let Keep::Row(row) = keep
            && row >= rows.len()
        {
            return Err(Error::Rows { rows: row + 1, max_rows: rows.len() });
        }
        self.fill_rows(rows);
        let fits = self.traced.partition_point(|&(max_rows, ..)| max_rows < rows.len());
        let Some(&(_, entry, index)) = self.traced.get(fits) else { return Err(Error::NotTraced) };
        let plan = self.plan.clone();
        let recorder = Recorder::new(&plan.manifest().traced[index], keep, &self.outputs);
        let trace = (&raw const recorder).cast();
        let context = StepContext { trace, ..self.context(logits) };
        self.run(entry, context)?;
        Ok(recorder.finish())
    }

    /// Runs an entry on the team.
    fn run(&self, entry: EntryFn, shared: StepContext) -> Result<(), Error> {
        let team = Team { shared, private_stride: self.private_stride };
        self.pool.broadcast(|worker| team.run(entry, worker.index()));
        self.array.as_ref().and_then(|array| array.take_failure()).map_or(Ok(()), Err)
    }

    /// Lays the rows out as the arrays that entries read.
    fn fill_rows(&mut self, rows: &[Row]) {
        self.tokens.clear();
        self.positions.clear();
        self.slots.clear();
        self.outputs.clear();
        // Checked rows are below limits of at most 2^24, so no cast can wrap.
        for (index, row) in (0_i32..).zip(rows) {
            self.tokens.push(row.token as i32);
            self.positions.push(row.position as i32);
            self.slots.push(row.slot as i32);
            if row.output {
                self.outputs.push(index);
            }
        }
    }

    /// The step's context, but for the fields that belong to a thread.
    fn context(&mut self, logits: &mut [f32]) -> StepContext {
        StepContext {
            kernels: self.kernels.as_ptr(),
            code: self.code.start(),
            weights: self.plan.segment(SegmentKind::Weights).as_ptr(),
            arena: self.arena.start(),
            private: self.private.start(),
            cache: self.cache.start(),
            tokens: self.tokens.as_ptr(),
            positions: self.positions.as_ptr(),
            slots: self.slots.as_ptr(),
            outputs: self.outputs.as_ptr(),
            logits: logits.as_mut_ptr(),
            barrier: (&raw const *self.barrier).cast(),
            array: self
                .array
                .as_deref()
                .map_or(std::ptr::null(), |array| (&raw const *array).cast()),
            trace: std::ptr::null(),
            rows: self.tokens.len() as u32,
            output_rows: self.outputs.len() as u32,
            thread: 0,
            threads: self.threads as u32,
        }
    }
}

impl Driver for CpuDriver {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn step(&mut self, rows: &[Row], logits: &mut [f32]) -> Result<(), Error> {
        self.check.check(rows, logits.len())?;
        self.fill_rows(rows);
        // The check bounds the rows by the last entry's.
        let fits = self.entries.partition_point(|&(max_rows, _)| max_rows < rows.len());
        let (_, entry) = self.entries[fits];
        let context = self.context(logits);
        self.run(entry, context)
    }
}

impl Traced for CpuDriver {
    fn entry_rows(&self) -> Vec<usize> {
        self.traced.iter().map(|&(max_rows, ..)| max_rows).collect()
    }

    fn step_with_values(
        &mut self,
        rows: &[Row],
        logits: &mut [f32],
        keep: usize,
    ) -> Result<Vec<TappedValue>, Error> {
        let regions = self.trace(rows, logits, Keep::Row(keep))?;
        Ok(regions.into_iter().flat_map(|region| region.values).collect())
    }
}

/// What the threads of one step share.
struct Team {
    shared: StepContext,
    private_stride: usize,
}

// SAFETY: the pointers lead to memory that outlives the step (the driver is borrowed for it) and
// that entries share by the rules of `onebit_plan::abi`: disjoint parts between two barriers.
unsafe impl Sync for Team {}

impl Team {
    /// Runs the entry as thread `thread` of the team.
    fn run(&self, entry: EntryFn, thread: usize) {
        let private = self.shared.private.wrapping_add(thread * self.private_stride);
        let context = StepContext { private, thread: thread as u32, ..self.shared };
        // SAFETY: `entry` is an entry of the mapped code of a checked plan, which is trusted to
        // keep to the contract of `EntryFn`; the context describes live buffers of the sizes that
        // the plan asked for, and all threads of the team run it at the same time.
        unsafe { entry(&raw const context) };
    }
}

/// Entries by the rows they hold. The plan's checks put their offsets inside the code.
fn entry_table(code: &Code, entries: &[Entry]) -> Vec<(usize, EntryFn)> {
    let mut table: Vec<_> = entries
        .iter()
        .map(|entry| (entry.max_rows as usize, code.entry(entry.offset as usize)))
        .collect();
    table.sort_by_key(|&(max_rows, _)| max_rows);
    table
}

/// Traced entries by the rows they hold.
fn traced_table(code: &Code, entries: &[TracedEntry]) -> Vec<(usize, EntryFn, usize)> {
    let mut table: Vec<_> = entries
        .iter()
        .enumerate()
        .map(|(at, entry)| (entry.max_rows as usize, code.entry(entry.offset as usize), at))
        .collect();
    table.sort_by_key(|&(max_rows, ..)| max_rows);
    table
}

/// Microkernels by slot; what notes the steps of traced entries is ours.
fn addresses(kernels: &Kernels) -> Box<[*const u8]> {
    let mut all = kernels.addresses();
    all[KernelId::Trace.slot()] = trace::note as *const u8;
    all.into()
}

fn start_team(threads: usize) -> Result<ThreadPool, Error> {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("step-{index}"))
        .build()
        .map_err(|error| Error::Threads { threads, reason: error.to_string() })
}
