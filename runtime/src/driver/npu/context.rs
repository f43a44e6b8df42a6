//! The back end itself: contexts, buffers and commands in terms of the driver's ioctls.
//!
//! The order in which things come into being is the driver's: the heap and its mapping, then the
//! context, then the PDI in the heap, then the configuration, then commands. Everything that the
//! driver gave is given back when it is closed, in whatever state this is.

use bytemuck::{Pod, bytes_of, bytes_of_mut};
use onebit_aie::xclbin::Xclbin;
use rustix::time::{ClockId, clock_gettime};
use xrt_sys::accel::{
    self, ArrayMetadata, ConfigureContext, CreateBuffer, CreateContext, DestroyContext,
    ExecuteCommand, GetBufferInfo, GetInfo, QualityOfService, SyncBuffer, Unit, UnitsHeader,
    WaitCommand, buffer_kind, query,
};
use xrt_sys::drm::{self, GemClose, SyncobjDestroy, SyncobjTimelineWait};
use xrt_sys::ert;

use super::command::{self, CALLS_PER_CHAIN, COMMAND_BYTES};
use super::error::{CommandState, MemoryLimit, NpuError};
use super::ioctl::{Errno, Ioctl, MappingId};
use super::{BufferId, COMPUTE_ROWS, Call, Context, ProgramId, ROWS, stream};

/// How long a command may take. The driver itself stops one that makes no progress far earlier.
const PATIENCE_MILLISECONDS: u32 = 60_000;

/// What the system's mappings are multiples of.
const PAGE: u64 = 4096;

/// Operations in a cycle, as every NPU's xclbin says and XRT passes on. Only a hint.
const OPERATIONS_PER_CYCLE: u32 = 2048;

/// A context over an open device.
pub struct IoctlContext<D: Ioctl> {
    driver: D,
    heap: Heap,
    /// Columns of the array that the design takes.
    columns: u16,
    /// Handle of the hardware context.
    context: u32,
    /// Handle of the timeline of its commands.
    timeline: u32,
    wait: Wait,
    buffers: Vec<Buffer>,
    programs: Vec<Program>,
    /// One for each call of a chain, then one for the chain.
    commands: Vec<Command>,
    /// Handles of what the commands under way use.
    pinned: Vec<u32>,
    is_lost: bool,
}

/// What all programs are in.
#[derive(Clone, Copy)]
struct Heap {
    mapping: MappingId,
    /// Where the array sees it.
    address: u64,
}

/// How the end of a command is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// By an ioctl of the driver.
    Command,
    /// By a point of the context's timeline, where the driver has no such ioctl.
    Timeline,
}

struct Buffer {
    handle: u32,
    mapping: MappingId,
    bytes: usize,
    /// Where the array sees it.
    address: u64,
    newer: Newer,
}

/// Whose view of a buffer is newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Newer {
    /// Nobody's.
    Neither,
    /// The host's: it wrote.
    Host,
    /// The array's: it may have written.
    Array,
}

struct Program {
    handle: u32,
    address: u64,
    bytes: u32,
}

struct Command {
    handle: u32,
    mapping: MappingId,
}

impl<D: Ioctl> IoctlContext<D> {
    /// Configures an array with the design of an xclbin, given its bytes.
    ///
    /// # Errors
    /// An xclbin that cannot be read, an array that it does not fit, and the driver's.
    pub fn new(mut driver: D, xclbin: &[u8]) -> Result<Self, NpuError> {
        let partition = Xclbin::parse(xclbin)?.partition;
        // The parser accounts for every byte, so that writing gives the image that was read.
        let pdi = partition.pdi.to_bytes()?;
        let tiles = check_array(&mut driver, partition.column_width)?;
        let heap = create_heap(&mut driver)?;
        let created = create_context(&mut driver, tiles)?;
        let mut context = IoctlContext {
            driver,
            heap,
            columns: partition.column_width,
            context: created.handle,
            timeline: created.syncobj,
            wait: Wait::Command,
            buffers: Vec::new(),
            programs: Vec::new(),
            commands: Vec::new(),
            pinned: Vec::with_capacity(CALLS_PER_CHAIN * (1 + ert::ARGUMENTS)),
            is_lost: false,
        };
        context.configure(&pdi)?;
        for _ in 0..=CALLS_PER_CHAIN {
            let (handle, mapping, _) =
                create_mapped(&mut context.driver, buffer_kind::COMMAND, COMMAND_BYTES as u64)?;
            context.commands.push(Command { handle, mapping });
        }
        Ok(context)
    }

    /// Puts the PDI into the heap, and names it as what configures the array.
    fn configure(&mut self, pdi: &[u8]) -> Result<(), NpuError> {
        let pdi = self.create_in_heap(pdi)?;
        let header = UnitsHeader { count: 1, ..UnitsHeader::default() };
        // The kernel that every NPU's xclbin describes has `functional="0"`.
        let unit = Unit { buffer: pdi.handle, ..Unit::default() };
        let mut units = [bytes_of(&header), bytes_of(&unit)].concat();
        let mut configure = ConfigureContext {
            handle: self.context,
            kind: accel::CONFIGURE_UNITS,
            bytes: units.len() as u32,
            ..ConfigureContext::default()
        };
        const OPERATION: &str = "configure the array";
        let memory: &mut [&mut [u8]] = &mut [&mut units];
        call(&mut self.driver, OPERATION, accel::CONFIGURE_CONTEXT, &mut configure, memory)
    }

    /// A device buffer with these bytes.
    fn create_in_heap(&mut self, content: &[u8]) -> Result<Program, NpuError> {
        let size = NpuError::Size { bytes: content.len() as u64 };
        let Ok(bytes) = u32::try_from(content.len()) else { return Err(size) };
        let handle = create(&mut self.driver, buffer_kind::DEVICE, bytes.into())?;
        let address = buffer_info(&mut self.driver, handle)?.device_address;
        let heap = self.driver.memory_mut(self.heap.mapping);
        let start = address.checked_sub(self.heap.address);
        let start = start.and_then(|start| usize::try_from(start).ok());
        let place = start.and_then(|start| heap.get_mut(start..)?.get_mut(..content.len()));
        let Some(place) = place else {
            return Err(NpuError::Answer { what: "an address outside the heap,", value: address });
        };
        place.copy_from_slice(content);
        self.sync(handle, content.len(), accel::TO_DEVICE)?;
        Ok(Program { handle, address, bytes })
    }

    fn sync(&mut self, handle: u32, bytes: usize, direction: u32) -> Result<(), NpuError> {
        let mut sync = SyncBuffer { handle, direction, offset: 0, bytes: bytes as u64 };
        call(&mut self.driver, "synchronise a buffer", accel::SYNC_BUFFER, &mut sync, &mut [])
    }

    /// # Errors
    /// [`NpuError::Lost`] after a failed run: the array may still write to all memory.
    fn check_alive(&self) -> Result<(), NpuError> {
        if self.is_lost { Err(NpuError::Lost) } else { Ok(()) }
    }

    /// A buffer as the host should see it.
    fn fetched(&mut self, buffer: BufferId) -> Result<&mut Buffer, NpuError> {
        let BufferId(index) = buffer;
        self.check_alive()?;
        let found = self.buffers.get(index).ok_or(NpuError::NoSuchBuffer { index })?;
        if found.newer == Newer::Array {
            self.sync(found.handle, found.bytes, accel::FROM_DEVICE)?;
            self.buffers[index].newer = Newer::Neither;
        }
        Ok(&mut self.buffers[index])
    }

    /// Whether all numbers in the calls are of this context.
    fn check(&self, calls: &[Call]) -> Result<(), NpuError> {
        for call in calls {
            let ProgramId(index) = call.program;
            if index >= self.programs.len() {
                return Err(NpuError::NoSuchProgram { index });
            }
            if call.arguments.len() > ert::ARGUMENTS {
                return Err(NpuError::Arguments { found: call.arguments.len() });
            }
            for &BufferId(index) in &call.arguments {
                if index >= self.buffers.len() {
                    return Err(NpuError::NoSuchBuffer { index });
                }
            }
        }
        Ok(())
    }

    /// Lets the array see what the host wrote, and takes note that the array may write.
    fn hand_over(&mut self, calls: &[Call]) -> Result<(), NpuError> {
        for &BufferId(index) in calls.iter().flat_map(|call| &call.arguments) {
            let Buffer { handle, bytes, newer, .. } = self.buffers[index];
            if newer == Newer::Host {
                self.sync(handle, bytes, accel::TO_DEVICE)?;
            }
            self.buffers[index].newer = Newer::Array;
        }
        Ok(())
    }

    /// Runs at most a chain of calls; `first` is the number of the first of them.
    fn submit(&mut self, first: usize, calls: &[Call]) -> Result<(), NpuError> {
        for (index, call) in calls.iter().enumerate() {
            self.write_call(index, call);
        }
        let submitted = match calls {
            [_] => 0,
            _ => {
                let (commands, chain) = self.commands.split_at(CALLS_PER_CHAIN);
                let handles = commands[..calls.len()].iter().map(|command| command.handle);
                command::write_chain(self.driver.memory_mut(chain[0].mapping), handles);
                CALLS_PER_CHAIN
            }
        };
        self.pin(calls);
        let sequence = self.execute(self.commands[submitted].handle)?;
        self.wait_for(sequence)?;
        self.outcome(first, submitted, calls.len())
    }

    fn write_call(&mut self, index: usize, call: &Call) {
        let Program { address, bytes, .. } = self.programs[call.program.0];
        let mut addresses = [0; ert::ARGUMENTS];
        for (address, &BufferId(buffer)) in addresses.iter_mut().zip(&call.arguments) {
            *address = self.buffers[buffer].address;
        }
        let memory = self.driver.memory_mut(self.commands[index].mapping);
        command::write_call(memory, address, bytes, &addresses);
    }

    /// Collects the handles of all buffers that the calls use.
    fn pin(&mut self, calls: &[Call]) {
        self.pinned.clear();
        for call in calls {
            self.pinned.push(self.programs[call.program.0].handle);
            self.pinned.extend(call.arguments.iter().map(|buffer| self.buffers[buffer.0].handle));
        }
        self.pinned.sort_unstable();
        self.pinned.dedup();
    }

    fn execute(&mut self, command: u32) -> Result<u64, NpuError> {
        let mut execute = ExecuteCommand {
            context: self.context,
            kind: accel::EXECUTE_BUFFER,
            commands: command.into(),
            command_count: 1,
            argument_count: self.pinned.len() as u32,
            ..ExecuteCommand::default()
        };
        let pinned: &mut [u8] = bytemuck::cast_slice_mut(&mut self.pinned);
        let memory: &mut [&mut [u8]] = &mut [pinned];
        call(&mut self.driver, "run a command", accel::EXECUTE_COMMAND, &mut execute, memory)?;
        Ok(execute.sequence)
    }

    fn wait_for(&mut self, sequence: u64) -> Result<(), NpuError> {
        const OPERATION: &str = "wait for a command";
        if self.wait == Wait::Command {
            let timeout = PATIENCE_MILLISECONDS;
            let mut wait = WaitCommand { context: self.context, timeout, sequence };
            match self.driver.ioctl(accel::WAIT_COMMAND, bytes_of_mut(&mut wait), &mut []) {
                Ok(()) => return Ok(()),
                // What DRM answers to a number beyond a driver's table, or a hole in it.
                Err(Errno::INVAL | Errno::NOTTY | Errno::OPNOTSUPP)
                    if self.timeline != accel::INVALID_SYNCOBJ =>
                {
                    self.wait = Wait::Timeline;
                }
                Err(errno) => return Err(self.failed_wait(OPERATION, errno)),
            }
        }
        let now = clock_gettime(ClockId::Monotonic);
        let deadline = now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec);
        let patience = i64::from(PATIENCE_MILLISECONDS) * 1_000_000;
        let mut wait = SyncobjTimelineWait {
            timeout: deadline.saturating_add(patience),
            count: 1,
            flags: drm::WAIT_FOR_SUBMIT,
            ..SyncobjTimelineWait::default()
        };
        let (mut handle, mut point) = (self.timeline, sequence);
        let memory: &mut [&mut [u8]] = &mut [bytes_of_mut(&mut handle), bytes_of_mut(&mut point)];
        self.driver
            .ioctl(drm::SYNCOBJ_TIMELINE_WAIT, bytes_of_mut(&mut wait), memory)
            .map_err(|errno| self.failed_wait(OPERATION, errno))
    }

    fn failed_wait(&self, operation: &'static str, errno: Errno) -> NpuError {
        match errno {
            Errno::TIME => NpuError::NoAnswer { milliseconds: PATIENCE_MILLISECONDS },
            _ => NpuError::of_driver(operation, errno, self.driver.diagnosis()),
        }
    }

    /// What came of the command that was submitted, and in it of so many calls.
    fn outcome(&self, first: usize, submitted: usize, calls: usize) -> Result<(), NpuError> {
        let memory = |index: usize| self.driver.memory(self.commands[index].mapping);
        let state = CommandState::of(command::state(memory(submitted)));
        if state == CommandState::Completed {
            return Ok(());
        }
        let failed = match calls {
            1 => 0,
            _ => (command::error_index(memory(submitted)) as usize).min(calls - 1),
        };
        let health = match state {
            CommandState::Timeout => command::health(memory(failed)),
            _ => None,
        };
        let detail = self.driver.diagnosis();
        Err(NpuError::Command { call: first + failed, state, health, detail })
    }
}

impl<D: Ioctl> Context for IoctlContext<D> {
    fn allocate(&mut self, bytes: u64) -> Result<BufferId, NpuError> {
        self.check_alive()?;
        let size = NpuError::Size { bytes };
        let Ok(length) = usize::try_from(bytes) else { return Err(size) };
        if bytes == 0 || bytes > isize::MAX as u64 - PAGE {
            return Err(size);
        }
        let (handle, mapping, address) =
            create_mapped(&mut self.driver, buffer_kind::SHARE, bytes)?;
        let index = self.buffers.len();
        self.buffers.push(Buffer { handle, mapping, bytes: length, address, newer: Newer::Host });
        Ok(BufferId(index))
    }

    fn bytes(&mut self, buffer: BufferId) -> Result<&[u8], NpuError> {
        let Buffer { mapping, bytes, .. } = *self.fetched(buffer)?;
        Ok(&self.driver.memory(mapping)[..bytes])
    }

    fn bytes_mut(&mut self, buffer: BufferId) -> Result<&mut [u8], NpuError> {
        let buffer = self.fetched(buffer)?;
        buffer.newer = Newer::Host;
        let Buffer { mapping, bytes, .. } = *buffer;
        Ok(&mut self.driver.memory_mut(mapping)[..bytes])
    }

    fn program(&mut self, txn: &[u8]) -> Result<ProgramId, NpuError> {
        self.check_alive()?;
        // The firmware believes what it is given.
        stream::check(txn, self.columns)?;
        let program = self.create_in_heap(txn)?;
        self.programs.push(program);
        Ok(ProgramId(self.programs.len() - 1))
    }

    fn run(&mut self, calls: &[Call]) -> Result<(), NpuError> {
        self.check_alive()?;
        self.check(calls)?;
        self.hand_over(calls)?;
        for (index, chain) in calls.chunks(CALLS_PER_CHAIN).enumerate() {
            let result = self.submit(index * CALLS_PER_CHAIN, chain);
            self.is_lost = result.is_err();
            result?;
        }
        Ok(())
    }
}

impl<D: Ioctl> Drop for IoctlContext<D> {
    /// Gives the context back before the buffers that it uses. Nobody is left to tell of failures,
    /// and closing the device does the rest.
    fn drop(&mut self) {
        let mut timeline = SyncobjDestroy { handle: self.timeline, pad: 0 };
        if self.timeline != accel::INVALID_SYNCOBJ {
            let _ = self.driver.ioctl(drm::SYNCOBJ_DESTROY, bytes_of_mut(&mut timeline), &mut []);
        }
        let mut context = DestroyContext { handle: self.context, pad: 0 };
        let _ = self.driver.ioctl(accel::DESTROY_CONTEXT, bytes_of_mut(&mut context), &mut []);
    }
}

/// Does one ioctl, and says what its failure means.
fn call<D: Ioctl, T: Pod>(
    driver: &mut D,
    operation: &'static str,
    number: u32,
    argument: &mut T,
    memory: &mut [&mut [u8]],
) -> Result<(), NpuError> {
    let result = driver.ioctl(number, bytes_of_mut(argument), memory);
    result.map_err(|errno| NpuError::of_driver(operation, errno, driver.diagnosis()))
}

/// Compute tiles of `columns` columns, if the array has these.
fn check_array<D: Ioctl>(driver: &mut D, columns: u16) -> Result<u32, NpuError> {
    let mut metadata = ArrayMetadata::default();
    let bytes = size_of::<ArrayMetadata>() as u32;
    let mut get = GetInfo { query: query::ARRAY_METADATA, bytes, buffer: 0 };
    let memory: &mut [&mut [u8]] = &mut [bytes_of_mut(&mut metadata)];
    call(driver, "describe the array", accel::GET_INFO, &mut get, memory)?;
    let found = [metadata.columns, metadata.rows, metadata.core.rows];
    fitting(Ok(found), columns)?;
    Ok(u32::from(columns) * u32::from(COMPUTE_ROWS))
}

/// Whether an array of so many columns, rows and rows with cores has room for a design.
///
/// # Errors
/// [`NpuError::OtherArray`], or the driver's when it does not say.
pub(super) fn fitting(found: Result<[u16; 3], Errno>, columns: u16) -> Result<(), NpuError> {
    let found = found.map_err(|errno| NpuError::of_driver("describe the array", errno, None))?;
    let [has, rows, cores] = found;
    if has >= columns && (rows, cores) == (ROWS, COMPUTE_ROWS) {
        return Ok(());
    }
    let needs = format!("{columns} columns of {ROWS} tiles, {COMPUTE_ROWS} of them for cores");
    let has = format!("{has} columns of {rows} tiles, {cores} of them for cores");
    Err(NpuError::OtherArray { needs, has })
}

fn create_heap<D: Ioctl>(driver: &mut D) -> Result<Heap, NpuError> {
    let handle = create(driver, buffer_kind::DEVICE_HEAP, accel::HEAP_BYTES)?;
    let info = buffer_info(driver, handle)?;
    // The firmware maps the heap in one piece, for which the address must be as round as its size
    // is (XRT's shim does the same, `pcidev.cpp`).
    let mapping = map(driver, info.map_offset, accel::HEAP_BYTES, accel::HEAP_BYTES)?;
    Ok(Heap { mapping, address: info.device_address })
}

fn create_context<D: Ioctl>(driver: &mut D, tiles: u32) -> Result<CreateContext, NpuError> {
    let priority = accel::NORMAL_PRIORITY;
    let mut quality = QualityOfService { priority, ..QualityOfService::default() };
    let most_operations = OPERATIONS_PER_CYCLE;
    let mut create = CreateContext { tiles, most_operations, ..CreateContext::default() };
    let memory: &mut [&mut [u8]] = &mut [bytes_of_mut(&mut quality)];
    call(driver, "create a context", accel::CREATE_CONTEXT, &mut create, memory)?;
    Ok(create)
}

/// A new buffer's handle.
fn create<D: Ioctl>(driver: &mut D, kind: u32, bytes: u64) -> Result<u32, NpuError> {
    let mut create = CreateBuffer { kind, bytes, ..CreateBuffer::default() };
    call(driver, "create a buffer", accel::CREATE_BUFFER, &mut create, &mut [])?;
    Ok(create.handle)
}

fn buffer_info<D: Ioctl>(driver: &mut D, handle: u32) -> Result<GetBufferInfo, NpuError> {
    let mut info = GetBufferInfo { handle, ..GetBufferInfo::default() };
    call(driver, "describe a buffer", accel::GET_BUFFER_INFO, &mut info, &mut [])?;
    Ok(info)
}

/// Handle and mapping of a new buffer of whole pages, and where the array sees it.
fn create_mapped<D: Ioctl>(
    driver: &mut D,
    kind: u32,
    bytes: u64,
) -> Result<(u32, MappingId, u64), NpuError> {
    let bytes = bytes.next_multiple_of(PAGE);
    let handle = create(driver, kind, bytes)?;
    let mapped = buffer_info(driver, handle).and_then(|info| {
        let mapping = map(driver, info.map_offset, bytes, PAGE)?;
        // An array that shares the process's page tables sees a buffer where the process does,
        // which the driver cannot know before the mapping.
        let address = match info.device_address {
            accel::INVALID_ADDRESS => driver.address(mapping),
            address => address,
        };
        Ok((handle, mapping, address))
    });
    if mapped.is_err() {
        let mut close = GemClose { handle, pad: 0 };
        // The first failure is the one to tell.
        let _ = driver.ioctl(drm::GEM_CLOSE, bytes_of_mut(&mut close), &mut []);
    }
    mapped
}

fn map<D: Ioctl>(
    driver: &mut D,
    offset: u64,
    bytes: u64,
    alignment: u64,
) -> Result<MappingId, NpuError> {
    let (Ok(length), Ok(alignment)) = (usize::try_from(bytes), usize::try_from(alignment)) else {
        return Err(NpuError::Size { bytes });
    };
    driver.map(offset, length, alignment).map_err(|errno| match errno {
        // What mmap answers to MAP_LOCKED beyond the limit (mmap(2)).
        Errno::AGAIN | Errno::PERM => NpuError::Locked { bytes, limit: memory_limit() },
        _ => NpuError::of_driver("map a buffer", errno, driver.diagnosis()),
    })
}

/// How much memory this process may lock: any, where it has the right to (`CAP_IPC_LOCK`).
pub(super) fn memory_limit() -> MemoryLimit {
    use rustix::process::{Resource, getrlimit};
    if super::probe::may_lock(std::path::Path::new("/proc")) {
        return MemoryLimit::Unlimited;
    }
    getrlimit(Resource::Memlock).current.map_or(MemoryLimit::Unlimited, MemoryLimit::Bytes)
}
