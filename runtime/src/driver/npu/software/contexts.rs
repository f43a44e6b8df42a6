//! Hardware contexts: configured once, with a queue of commands and a timeline of their ends.

use std::collections::{BTreeMap, VecDeque};

use bytemuck::pod_read_unaligned;
use onebit_aie::pdi::Pdi;
use onebit_aie::xclbin::Xclbin;
use onebit_aie_emu::{Array, Options};
use xrt_sys::accel::{
    self, ConfigureContext, CreateContext, DestroyContext, ExecuteCommand, Unit, UnitsHeader,
    WaitCommand,
};
use xrt_sys::drm::{self, SyncobjDestroy, SyncobjTimelineWait};
use xrt_sys::ert::{Header, state};

use super::super::ioctl::Errno;
use super::buffers::Buffers;
use super::{commands, must};

/// Commands that a context takes before it lets one wait (`CTX_MAX_CMDS`).
const COMMANDS_AT_MOST: usize = 4;
/// Units that a context can be configured with (`MAX_NUM_CUS`).
const UNITS_AT_MOST: u16 = 32;
/// Compute tiles of a column.
const TILES_OF_COLUMN: u32 = 4;
const COLUMNS: u32 = 8;

/// Where the header of the PDI's only partition stands, which begins with its words, and where
/// what it describes starts.
const PARTITION_HEADER: usize = 0xd0;
const PARTITION: usize = 0x150;

/// All contexts of a process.
pub(super) struct Contexts {
    all: BTreeMap<u32, HardwareContext>,
    /// The context of each timeline.
    timelines: BTreeMap<u32, u32>,
    last: u32,
    options: Options,
    /// Why the last command failed: what the kernel's log would say.
    pub(super) last_failure: Option<String>,
}

/// A context. The array is its own: what other contexts do to it is undone when it is their turn.
pub(super) struct HardwareContext {
    pub(super) array: Array,
    columns: u16,
    /// Units that calls can name; none before the configuration.
    pub(super) units: u16,
    queue: VecDeque<Job>,
    submitted: u64,
}

/// A command that was submitted.
pub(super) struct Job {
    pub(super) command: u32,
    /// Buffers that stay in memory meanwhile.
    pub(super) pinned: Vec<u32>,
    sequence: u64,
}

impl Contexts {
    pub(super) fn new(options: Options) -> Self {
        let (all, timelines) = (BTreeMap::new(), BTreeMap::new());
        Contexts { all, timelines, last: 0, options, last_failure: None }
    }

    pub(super) fn create(
        &mut self,
        create: &mut CreateContext,
        buffers: &Buffers,
    ) -> Result<(), Errno> {
        must(create.ext == 0 && create.ext_flags == 0)?;
        let columns = create.tiles / TILES_OF_COLUMN;
        must(create.tiles.is_multiple_of(TILES_OF_COLUMN) && (1..=COLUMNS).contains(&columns))?;
        if !buffers.has_mapped_heap() {
            return Err(Errno::NOENT);
        }
        self.last += 1;
        (create.handle, create.syncobj) = (self.last, self.last + 0x100);
        create.doorbell = u32::MAX;
        let context = HardwareContext {
            array: Array::new(self.options),
            columns: columns as u16,
            units: 0,
            queue: VecDeque::new(),
            submitted: 0,
        };
        self.all.insert(create.handle, context);
        self.timelines.insert(create.syncobj, create.handle);
        Ok(())
    }

    pub(super) fn configure(
        &mut self,
        configure: &ConfigureContext,
        value: &[u8],
        buffers: &Buffers,
    ) -> Result<(), Errno> {
        must(configure.pad == 0 && configure.kind == accel::CONFIGURE_UNITS)?;
        let bytes = configure.bytes as usize;
        if bytes > accel::CONFIGURATION_BYTES {
            return Err(Errno::TOOBIG);
        }
        let context = self.all.get_mut(&configure.handle).ok_or(Errno::INVAL)?;
        must(context.units == 0)?;
        let (header, units) =
            value[..bytes].split_at_checked(size_of::<UnitsHeader>()).ok_or(Errno::INVAL)?;
        let header: UnitsHeader = pod_read_unaligned(header);
        must((1..=UNITS_AT_MOST).contains(&header.count) && header.pad == [0; 3])?;
        must(units.len() >= usize::from(header.count) * size_of::<Unit>())?;
        let mut array = Array::new(self.options);
        for unit in units.chunks_exact(size_of::<Unit>()).take(header.count.into()) {
            let unit: Unit = pod_read_unaligned(unit);
            must(unit.pad == [0; 3])?;
            let image = buffers.device_buffer(unit.buffer).ok_or(Errno::INVAL)?;
            let design = design(image, context.columns).ok_or(Errno::INVAL)?;
            array.apply(&design).map_err(|fault| {
                self.last_failure = Some(fault.to_string());
                Errno::INVAL
            })?;
        }
        (context.array, context.units) = (array, header.count);
        Ok(())
    }

    /// Commands that were submitted still run.
    pub(super) fn destroy(
        &mut self,
        destroy: &DestroyContext,
        buffers: &mut Buffers,
    ) -> Result<(), Errno> {
        must(destroy.pad == 0)?;
        let mut context = self.all.remove(&destroy.handle).ok_or(Errno::INVAL)?;
        while let Some(job) = context.queue.pop_front() {
            self.last_failure = commands::run(&mut context, &job, buffers);
        }
        Ok(())
    }

    pub(super) fn destroy_timeline(&mut self, destroy: &SyncobjDestroy) -> Result<(), Errno> {
        must(destroy.pad == 0)?;
        self.timelines.remove(&destroy.handle).map(drop).ok_or(Errno::INVAL)
    }

    pub(super) fn execute(
        &mut self,
        execute: &mut ExecuteCommand,
        arguments: &[u8],
        buffers: &mut Buffers,
    ) -> Result<(), Errno> {
        must(execute.ext == 0 && execute.ext_flags == 0)?;
        must(execute.kind == accel::EXECUTE_BUFFER && execute.command_count == 1)?;
        must(execute.argument_count <= accel::ARGUMENTS_AT_MOST)?;
        let command = u32::try_from(execute.commands).map_err(|_| Errno::INVAL)?;
        let words = buffers.command(command).ok_or(Errno::INVAL)?;
        let header: Header = pod_read_unaligned(&words[..4]);
        let pinned = arguments.chunks_exact(4).take(execute.argument_count as usize);
        let pinned: Vec<u32> = pinned.map(pod_read_unaligned).collect();
        if !pinned.iter().all(|&handle| buffers.exists(handle)) {
            return Err(Errno::NOENT);
        }
        let context = self.all.get_mut(&execute.context).ok_or(Errno::INVAL)?;
        must(context.units != 0 && header.state() == state::NEW)?;
        if context.queue.iter().any(|job| job.command == command) {
            return Err(Errno::BUSY);
        }
        if context.queue.len() == COMMANDS_AT_MOST
            && let Some(job) = context.queue.pop_front()
        {
            self.last_failure = commands::run(context, &job, buffers);
        }
        execute.sequence = context.submitted;
        context.queue.push_back(Job { command, pinned, sequence: context.submitted });
        context.submitted += 1;
        Ok(())
    }

    pub(super) fn wait(&mut self, wait: &WaitCommand, buffers: &mut Buffers) -> Result<(), Errno> {
        self.run_until(wait.context, wait.sequence, buffers)
    }

    pub(super) fn wait_on_timeline(
        &mut self,
        wait: &SyncobjTimelineWait,
        memory: &[&mut [u8]],
        buffers: &mut Buffers,
    ) -> Result<(), Errno> {
        must(wait.flags == drm::WAIT_FOR_SUBMIT && wait.pad == 0 && wait.count == 1)?;
        let (handle, point): (u32, u64) =
            (pod_read_unaligned(&memory[0][..4]), pod_read_unaligned(&memory[1][..8]));
        let context = *self.timelines.get(&handle).ok_or(Errno::NOENT)?;
        // A point that nobody will submit comes only after the time is over.
        self.run_until(context, point, buffers).map_err(|_| Errno::TIME)
    }

    fn run_until(
        &mut self,
        context: u32,
        sequence: u64,
        buffers: &mut Buffers,
    ) -> Result<(), Errno> {
        let context = self.all.get_mut(&context).ok_or(Errno::INVAL)?;
        must(sequence < context.submitted)?;
        while context.queue.front().is_some_and(|job| job.sequence <= sequence) {
            let Some(job) = context.queue.pop_front() else { break };
            self.last_failure = commands::run(context, &job, buffers);
        }
        Ok(())
    }
}

/// The design of a PDI in a device buffer, which is longer than the PDI.
fn design(image: &[u8], columns: u16) -> Option<Xclbin> {
    let words: u32 = pod_read_unaligned(image.get(PARTITION_HEADER..PARTITION_HEADER + 4)?);
    let end = PARTITION.checked_add(usize::try_from(words).ok()?.checked_mul(4)?)?;
    let pdi = Pdi::parse(image.get(..end)?).ok()?;
    Xclbin::new(columns, pdi).ok()
}
