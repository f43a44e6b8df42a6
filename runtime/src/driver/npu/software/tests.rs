//! Every way to misuse the driver that is known, and what it answers.

use bytemuck::{Pod, bytes_of, bytes_of_mut, cast_slice, pod_read_unaligned};
use onebit_aie::gemm::{Design, Results, Shape};
use xrt_sys::accel::{
    self, ConfigureContext, CreateBuffer, CreateContext, DestroyContext, ExecuteCommand,
    GetBufferInfo, GetInfo, QualityOfService, SyncBuffer, Unit, UnitsHeader, WaitCommand,
    buffer_kind, query,
};
use xrt_sys::drm::{self, GemClose, SyncobjDestroy, SyncobjTimelineWait};
use xrt_sys::ert::{Header, Health, opcode, state};

use super::super::command;
use super::super::ioctl::{Errno, Ioctl, MappingId};
use super::{Setup, SoftwareDriver};

/// An ioctl without addresses.
fn plain<T: Pod>(driver: &mut SoftwareDriver, number: u32, mut it: T) -> Result<T, Errno> {
    driver.ioctl(number, bytes_of_mut(&mut it), &mut []).map(|()| it)
}

/// An ioctl with an address.
fn pointed<T: Pod>(
    driver: &mut SoftwareDriver,
    number: u32,
    mut it: T,
    memory: &[u8],
) -> Result<T, Errno> {
    let mut memory = memory.to_vec();
    driver.ioctl(number, bytes_of_mut(&mut it), &mut [&mut memory]).map(|()| it)
}

fn create(driver: &mut SoftwareDriver, kind: u32, bytes: u64) -> Result<u32, Errno> {
    let create = CreateBuffer { kind, bytes, ..CreateBuffer::default() };
    plain(driver, accel::CREATE_BUFFER, create).map(|create| create.handle)
}

fn info(driver: &mut SoftwareDriver, handle: u32) -> GetBufferInfo {
    let info = GetBufferInfo { handle, ..GetBufferInfo::default() };
    plain(driver, accel::GET_BUFFER_INFO, info).unwrap()
}

fn map(driver: &mut SoftwareDriver, handle: u32, bytes: usize) -> MappingId {
    let offset = info(driver, handle).map_offset;
    driver.map(offset, bytes, 4096).unwrap()
}

fn sync(driver: &mut SoftwareDriver, handle: u32, bytes: u64, direction: u32) {
    let sync = SyncBuffer { handle, direction, offset: 0, bytes };
    plain(driver, accel::SYNC_BUFFER, sync).unwrap();
}

fn create_context(driver: &mut SoftwareDriver, tiles: u32) -> Result<CreateContext, Errno> {
    let create = CreateContext { tiles, ..CreateContext::default() };
    pointed(driver, accel::CREATE_CONTEXT, create, bytes_of(&QualityOfService::default()))
}

/// A driver with a heap, a context that is configured, and all for one product.
struct Machine {
    driver: SoftwareDriver,
    heap: MappingId,
    context: CreateContext,
    pdi: u32,
    /// Address and bytes of the instructions of a product.
    program: (u64, u32),
    /// Handles and addresses of its arguments.
    arguments: Vec<(u32, u64)>,
    results: MappingId,
    command: u32,
    command_mapping: MappingId,
}

const SHAPE: Shape = Shape { n: 64, k: 64, group: 64, results: Results::Combined };

impl Machine {
    fn new() -> Self {
        let mut driver = SoftwareDriver::new(Setup::default());
        let handle = create(&mut driver, buffer_kind::DEVICE_HEAP, accel::HEAP_BYTES).unwrap();
        let heap = map(&mut driver, handle, accel::HEAP_BYTES as usize);
        let context = create_context(&mut driver, 32).unwrap();
        let design = Design::new().unwrap();
        let pdi = design.xclbin().unwrap().partition.pdi.to_bytes().unwrap();
        let (pdi, _) = load(&mut driver, heap, &pdi);
        let call = design.call(&SHAPE).unwrap();
        let (_, address) = load(&mut driver, heap, &call.txn);
        let sizes = [call.buffers.activations, call.buffers.weights, call.buffers.results];
        let mut results = heap;
        let arguments = sizes.map(|bytes| {
            let bytes = bytes.next_multiple_of(4096);
            let handle = create(&mut driver, buffer_kind::SHARE, bytes).unwrap();
            results = map(&mut driver, handle, bytes as usize);
            driver.memory_mut(results).fill(1);
            sync(&mut driver, handle, bytes, accel::TO_DEVICE);
            (handle, info(&mut driver, handle).device_address)
        });
        let command = create(&mut driver, buffer_kind::COMMAND, 4096).unwrap();
        let command_mapping = map(&mut driver, command, 4096);
        Machine {
            driver,
            heap,
            context,
            pdi,
            program: (address, call.txn.len() as u32),
            arguments: arguments.to_vec(),
            results,
            command,
            command_mapping,
        }
    }

    fn configured() -> Self {
        let mut machine = Machine::new();
        machine.configure(1, Unit { buffer: machine.pdi, ..Unit::default() }).unwrap();
        machine.write_call();
        machine
    }

    fn configure(&mut self, count: u16, unit: Unit) -> Result<(), Errno> {
        let header = UnitsHeader { count, ..UnitsHeader::default() };
        let units = [bytes_of(&header), bytes_of(&unit)].concat();
        self.configure_with(|_| (), &units)
    }

    fn configure_with(
        &mut self,
        change: impl FnOnce(&mut ConfigureContext),
        units: &[u8],
    ) -> Result<(), Errno> {
        let bytes = units.len() as u32;
        let handle = self.context.handle;
        let mut configure = ConfigureContext { handle, bytes, ..ConfigureContext::default() };
        change(&mut configure);
        pointed(&mut self.driver, accel::CONFIGURE_CONTEXT, configure, units).map(drop)
    }

    fn write_call(&mut self) {
        let addresses: Vec<u64> = self.arguments.iter().map(|(_, address)| *address).collect();
        let (address, bytes) = self.program;
        let memory = self.driver.memory_mut(self.command_mapping);
        command::write_call(memory, address, bytes, &addresses);
    }

    fn execute(&mut self) -> Result<u64, Errno> {
        self.execute_with(|_| ())
    }

    fn execute_with(&mut self, change: impl FnOnce(&mut ExecuteCommand)) -> Result<u64, Errno> {
        let handles: Vec<u32> = self.arguments.iter().map(|(handle, _)| *handle).collect();
        let mut execute = ExecuteCommand {
            context: self.context.handle,
            commands: self.command.into(),
            command_count: 1,
            argument_count: handles.len() as u32,
            ..ExecuteCommand::default()
        };
        change(&mut execute);
        let memory: &[u8] = cast_slice(&handles);
        let done = pointed(&mut self.driver, accel::EXECUTE_COMMAND, execute, memory);
        done.map(|execute| execute.sequence)
    }

    fn wait(&mut self, sequence: u64) -> Result<(), Errno> {
        let wait = WaitCommand { context: self.context.handle, timeout: 0, sequence };
        plain(&mut self.driver, accel::WAIT_COMMAND, wait).map(drop)
    }

    fn state(&self) -> u32 {
        command::state(self.driver.memory(self.command_mapping))
    }

    /// Changes words of the call, runs it and gives the state it ends in.
    fn ends(&mut self, change: impl FnOnce(&mut [u8])) -> (u32, String) {
        change(self.driver.memory_mut(self.command_mapping));
        let sequence = self.execute().unwrap();
        self.wait(sequence).unwrap();
        (self.state(), self.driver.diagnosis().unwrap_or_default())
    }
}

/// Handle and address of a device buffer with these bytes.
fn load(driver: &mut SoftwareDriver, heap: MappingId, content: &[u8]) -> (u32, u64) {
    let handle = create(driver, buffer_kind::DEVICE, content.len() as u64).unwrap();
    let address = info(driver, handle).device_address;
    let start = (address - accel::HEAP_ADDRESS) as usize;
    driver.memory_mut(heap)[start..start + content.len()].copy_from_slice(content);
    sync(driver, handle, content.len() as u64, accel::TO_DEVICE);
    (handle, address)
}

fn put(command: &mut [u8], word: usize, value: u32) {
    command[4 * word..4 * word + 4].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn buffers_are_made_by_the_rules() {
    let driver = &mut SoftwareDriver::new(Setup::default());
    let good = CreateBuffer { kind: buffer_kind::SHARE, bytes: 1, ..CreateBuffer::default() };
    for wrong in [
        CreateBuffer { flags: 1, ..good },
        CreateBuffer { table: 4096, ..good },
        CreateBuffer { bytes: 0, ..good },
        CreateBuffer { bytes: u64::MAX, ..good },
        CreateBuffer { kind: 0, ..good },
        CreateBuffer { kind: 5, ..good },
        CreateBuffer { kind: buffer_kind::COMMAND, bytes: 3, ..good },
        CreateBuffer { kind: buffer_kind::COMMAND, bytes: 32769, ..good },
        CreateBuffer { kind: buffer_kind::DEVICE_HEAP, bytes: 4096, ..good },
        // There is no heap yet.
        CreateBuffer { kind: buffer_kind::DEVICE, ..good },
    ] {
        assert_eq!(plain(driver, accel::CREATE_BUFFER, wrong), Err(Errno::INVAL), "{wrong:?}");
    }
    let heap = create(driver, buffer_kind::DEVICE_HEAP, accel::HEAP_BYTES).unwrap();
    // There is one that nobody mapped.
    assert_eq!(create(driver, buffer_kind::DEVICE, 4096), Err(Errno::INVAL));
    let again = create(driver, buffer_kind::DEVICE_HEAP, accel::HEAP_BYTES);
    assert_eq!(again, Err(Errno::BUSY));
    map(driver, heap, accel::HEAP_BYTES as usize);
    assert_eq!(create(driver, buffer_kind::DEVICE, accel::HEAP_BYTES + 1), Err(Errno::INVAL));
    let first = create(driver, buffer_kind::DEVICE, 1).unwrap();
    let second = create(driver, buffer_kind::DEVICE, 40 << 10).unwrap();
    assert_eq!(create(driver, buffer_kind::DEVICE, accel::HEAP_BYTES), Err(Errno::NOSPC));
    assert_eq!(info(driver, first).device_address, accel::HEAP_ADDRESS);
    assert_eq!(info(driver, second).device_address, accel::HEAP_ADDRESS + (32 << 10));
    assert_eq!(info(driver, second).map_offset, accel::INVALID_ADDRESS);
    plain(driver, drm::GEM_CLOSE, GemClose { handle: first, pad: 0 }).unwrap();
    let third = create(driver, buffer_kind::DEVICE, 32 << 10).unwrap();
    assert_eq!(info(driver, third).device_address, accel::HEAP_ADDRESS);
}

#[test]
fn handles_and_ranges_are_checked() {
    let driver = &mut SoftwareDriver::new(Setup::default());
    let handle = create(driver, buffer_kind::SHARE, 4096).unwrap();
    let get = GetBufferInfo { handle, ..GetBufferInfo::default() };
    for (wrong, errno) in [
        (GetBufferInfo { ext: 1, ..get }, Errno::INVAL),
        (GetBufferInfo { ext_flags: 1, ..get }, Errno::INVAL),
        (GetBufferInfo { pad: 1, ..get }, Errno::INVAL),
        (GetBufferInfo { handle: 99, ..get }, Errno::NOENT),
    ] {
        assert_eq!(plain(driver, accel::GET_BUFFER_INFO, wrong), Err(errno), "{wrong:?}");
    }
    // What has no mapping has no address.
    assert_eq!(info(driver, handle).device_address, accel::INVALID_ADDRESS);
    let good = SyncBuffer { handle, direction: 0, offset: 0, bytes: 4096 };
    for (wrong, errno) in [
        (SyncBuffer { handle: 99, ..good }, Errno::NOENT),
        (SyncBuffer { direction: 2, ..good }, Errno::INVAL),
        (SyncBuffer { offset: 1, ..good }, Errno::INVAL),
        (SyncBuffer { offset: u64::MAX, bytes: 2, ..good }, Errno::INVAL),
    ] {
        assert_eq!(plain(driver, accel::SYNC_BUFFER, wrong), Err(errno), "{wrong:?}");
    }
    let offset = info(driver, handle).map_offset;
    for (offset, bytes, alignment) in
        [(offset + 1, 4096, 4096), (0, 4096, 4096), (offset, 8192, 4096), (offset, 4096, 3)]
    {
        assert_eq!(driver.map(offset, bytes, alignment), Err(Errno::INVAL));
    }
    let close = GemClose { handle: 99, pad: 0 };
    assert_eq!(plain(driver, drm::GEM_CLOSE, close), Err(Errno::INVAL));
    plain(driver, drm::GEM_CLOSE, GemClose { handle, pad: 0 }).unwrap();
    assert_eq!(plain(driver, accel::GET_BUFFER_INFO, get), Err(Errno::NOENT));
}

#[test]
fn contexts_are_made_and_given_back_by_the_rules() {
    let driver = &mut SoftwareDriver::new(Setup::default());
    assert_eq!(create_context(driver, 32), Err(Errno::NOENT));
    let heap = create(driver, buffer_kind::DEVICE_HEAP, accel::HEAP_BYTES).unwrap();
    assert_eq!(create_context(driver, 32), Err(Errno::NOENT));
    map(driver, heap, accel::HEAP_BYTES as usize);
    for tiles in [0, 3, 36] {
        assert_eq!(create_context(driver, tiles), Err(Errno::INVAL), "{tiles} tiles");
    }
    let quality = QualityOfService::default();
    let good = CreateContext { tiles: 32, ..CreateContext::default() };
    let wrong = CreateContext { ext: 1, ..good };
    let ended = pointed(driver, accel::CREATE_CONTEXT, wrong, bytes_of(&quality));
    assert_eq!(ended, Err(Errno::INVAL));
    assert_eq!(plain(driver, accel::CREATE_CONTEXT, good), Err(Errno::FAULT));
    let CreateContext { handle, syncobj, .. } = create_context(driver, 32).unwrap();
    for (handle, pad) in [(handle, 1), (99, 0)] {
        let destroy = DestroyContext { handle, pad };
        assert_eq!(plain(driver, accel::DESTROY_CONTEXT, destroy), Err(Errno::INVAL));
    }
    plain(driver, accel::DESTROY_CONTEXT, DestroyContext { handle, pad: 0 }).unwrap();
    for (handle, pad) in [(syncobj, 1), (99, 0)] {
        let destroy = SyncobjDestroy { handle, pad };
        assert_eq!(plain(driver, drm::SYNCOBJ_DESTROY, destroy), Err(Errno::INVAL));
    }
    plain(driver, drm::SYNCOBJ_DESTROY, SyncobjDestroy { handle: syncobj, pad: 0 }).unwrap();
}

#[test]
fn a_context_is_configured_once_with_a_pdi_that_it_can_see() {
    let mut machine = Machine::new();
    let pdi = machine.pdi;
    let unit = Unit { buffer: pdi, ..Unit::default() };
    let (shared, _) = machine.arguments[0];
    // Bytes that the host wrote and nobody synchronised.
    let unseen = create(&mut machine.driver, buffer_kind::DEVICE, 1 << 20).unwrap();
    assert_eq!(machine.execute(), Err(Errno::INVAL));
    for (count, wrong) in [
        (0, unit),
        (2, unit),
        (33, unit),
        (1, Unit { pad: [0, 1, 0], ..unit }),
        (1, Unit { buffer: 99, ..unit }),
        (1, Unit { buffer: shared, ..unit }),
        (1, Unit { buffer: unseen, ..unit }),
    ] {
        assert_eq!(machine.configure(count, wrong), Err(Errno::INVAL), "{count} {wrong:?}");
    }
    let header = UnitsHeader { count: 1, ..UnitsHeader::default() };
    let units = [bytes_of(&header), bytes_of(&unit)].concat();
    for (change, errno) in [
        ((|it| it.pad = 1) as fn(&mut ConfigureContext), Errno::INVAL),
        (|it| it.kind = 3, Errno::INVAL),
        (|it| it.handle = 99, Errno::INVAL),
        (|it| it.bytes = 7, Errno::INVAL),
        (|it| it.bytes = 15, Errno::INVAL),
        (|it| it.bytes = 17, Errno::FAULT),
    ] {
        assert_eq!(machine.configure_with(change, &units), Err(errno));
    }
    assert_eq!(machine.configure_with(|_| (), &[0; 4097]), Err(Errno::TOOBIG));
    let padded = UnitsHeader { count: 1, pad: [0, 0, 1] };
    let padded = [bytes_of(&padded), bytes_of(&unit)].concat();
    assert_eq!(machine.configure_with(|_| (), &padded), Err(Errno::INVAL));
    machine.configure(1, unit).unwrap();
    assert_eq!(machine.configure(1, unit), Err(Errno::INVAL));
}

#[test]
fn commands_are_submitted_by_the_rules() {
    let mut machine = Machine::configured();
    let (shared, _) = machine.arguments[0];
    type Change<'a> = (&'a dyn Fn(&mut ExecuteCommand), Errno);
    let changes: [Change<'_>; 9] = [
        (&|it| it.ext = 1, Errno::INVAL),
        (&|it| it.ext_flags = 1, Errno::INVAL),
        (&|it| it.kind = 1, Errno::INVAL),
        (&|it| it.command_count = 2, Errno::INVAL),
        (&|it| it.commands = 0, Errno::INVAL),
        (&|it| it.commands = shared.into(), Errno::INVAL),
        (&|it| it.commands = 1 << 32, Errno::INVAL),
        (&|it| it.context = 99, Errno::INVAL),
        (&|it| it.argument_count = 4, Errno::FAULT),
    ];
    for (change, errno) in changes {
        assert_eq!(machine.execute_with(change), Err(errno));
    }
    machine.arguments.push((99, 0));
    assert_eq!(machine.execute(), Err(Errno::NOENT));
    machine.arguments = vec![(shared, 0); 4096];
    assert_eq!(machine.execute(), Err(Errno::INVAL));
    machine.arguments.truncate(3);
    assert_eq!(machine.wait(0), Err(Errno::INVAL));
    let header = Header::new(opcode::START_CU, 16).with_state(state::COMPLETED);
    put(machine.driver.memory_mut(machine.command_mapping), 0, header.0);
    assert_eq!(machine.execute(), Err(Errno::INVAL));
    machine.write_call();
    let sequence = machine.execute().unwrap();
    assert_eq!(machine.execute(), Err(Errno::BUSY));
    assert_eq!(machine.wait(sequence + 1), Err(Errno::INVAL));
    machine.wait(sequence).unwrap();
}

#[test]
fn timelines_are_waited_on_by_the_rules() {
    let mut machine = Machine::configured();
    let sequence = machine.execute().unwrap();
    let good = SyncobjTimelineWait { count: 1, flags: drm::WAIT_FOR_SUBMIT, ..Default::default() };
    let syncobj = machine.context.syncobj;
    let mut wait = |mut it: SyncobjTimelineWait, handle: u32, point: u64| {
        let (mut handle, mut point) = (handle, point);
        let memory: &mut [&mut [u8]] = &mut [bytes_of_mut(&mut handle), bytes_of_mut(&mut point)];
        machine.driver.ioctl(drm::SYNCOBJ_TIMELINE_WAIT, bytes_of_mut(&mut it), memory)
    };
    let wrong = SyncobjTimelineWait { flags: 1 << 5, ..good };
    assert_eq!(wait(wrong, syncobj, sequence), Err(Errno::INVAL));
    assert_eq!(wait(SyncobjTimelineWait { count: 0, ..good }, syncobj, 0), Err(Errno::INVAL));
    assert_eq!(wait(SyncobjTimelineWait { pad: 1, ..good }, syncobj, 0), Err(Errno::INVAL));
    assert_eq!(wait(good, 99, sequence), Err(Errno::NOENT));
    assert_eq!(wait(good, syncobj, sequence + 1), Err(Errno::TIME));
    assert_eq!(wait(good, syncobj, sequence), Ok(()));
    assert_eq!(machine.state(), state::COMPLETED);
}

/// Results are there when the command was waited for and the buffer synchronised, not earlier.
#[test]
fn nothing_is_seen_too_early() {
    let mut machine = Machine::configured();
    let sequence = machine.execute().unwrap();
    let (results, _) = machine.arguments[2];
    let length = machine.driver.memory(machine.results).len() as u64;
    sync(&mut machine.driver, results, length, accel::FROM_DEVICE);
    assert!(machine.driver.memory(machine.results).iter().all(|&byte| byte == 1));
    assert_eq!(machine.state(), state::NEW);
    machine.wait(sequence).unwrap();
    assert_eq!(machine.state(), state::COMPLETED);
    assert!(machine.driver.memory(machine.results).iter().all(|&byte| byte == 1));
    sync(&mut machine.driver, results, length, accel::FROM_DEVICE);
    // Rows of 64 ones by columns of 64 ones, in both planes.
    let first: i32 = pod_read_unaligned(&machine.driver.memory(machine.results)[..4]);
    assert_eq!(first, 64 * 128 + 64);
}

/// What the driver does not pass on stays new.
#[test]
fn malformed_commands_stay_new() {
    for (change, why) in [
        ((|it| put(it, 0, Header::new(7, 16).0)) as fn(&mut [u8]), "operation 7"),
        (|it| put(it, 0, Header::new(opcode::START_NPU, 16).0), "operation 20"),
        (|it| put(it, 0, Header::new(opcode::START_CU, 0).0), "0 words"),
        (|it| put(it, 0, Header::new(opcode::START_CU, 1).0), "1 words"),
        (|it| put(it, 0, Header::new(opcode::START_CU, 0x7ff).0), "2047 words"),
        (|it| put(it, 0, Header::new(opcode::START_CU, 21).0), "20 words of arguments"),
        (|it| put(it, 1, 0), "no unit"),
    ] {
        let (state, diagnosis) = Machine::configured().ends(change);
        assert_eq!(state, state::NEW, "{why}");
        assert!(diagnosis.contains(why), "{why}: {diagnosis}");
    }
}

/// What the firmware refuses is an error.
#[test]
fn wrong_calls_end_in_an_error() {
    for (change, why) in [
        ((|it| put(it, 1, 2)) as fn(&mut [u8]), "unit 1 of 1"),
        (|it| put(it, 2, 2), "opcode 2"),
        (|it| put(it, 0, Header::new(opcode::START_CU, 4).0), "3 words of arguments"),
        (|it| put(it, 4, 0x100), "instructions at 0x100"),
        (|it| put(it, 4, u32::from_le_bytes(it[16..20].try_into().unwrap()) + 2), "instructions"),
        (|it| put(it, 6, 1 << 20), "1048576 words of instructions"),
        (|it| put(it, 6, 100), "TXN"),
        (|it| put(it, 8, 0x7777), "no shared buffer"),
        // The results' buffer is no argument any more, but the stream patches its address.
        (|it| it[44..52].fill(0), "outside"),
    ] {
        let (state, diagnosis) = Machine::configured().ends(change);
        assert_eq!(state, state::ERROR, "{why}: {diagnosis}");
        assert!(diagnosis.contains(why), "{why}: {diagnosis}");
    }
    let mut machine = Machine::configured();
    machine.arguments.pop();
    let (state, diagnosis) = machine.ends(|_| ());
    assert_eq!(state, state::ERROR, "{diagnosis}");
    assert!(diagnosis.contains("not named"), "{diagnosis}");
}

/// A stream of which the host's last changes were not synchronised is another stream.
#[test]
fn the_array_sees_only_what_was_synchronised() {
    let mut machine = Machine::configured();
    let start = (machine.program.0 - accel::HEAP_ADDRESS) as usize;
    machine.driver.memory_mut(machine.heap)[start..start + 64].fill(0xff);
    assert_eq!(machine.ends(|_| ()).0, state::COMPLETED);
}

#[test]
fn chains_are_checked_and_name_the_call_that_failed() {
    let mut machine = Machine::configured();
    let chain = create(&mut machine.driver, buffer_kind::COMMAND, 4096).unwrap();
    let mapping = map(&mut machine.driver, chain, 4096);
    let call = std::mem::replace(&mut machine.command, chain);
    let call_mapping = std::mem::replace(&mut machine.command_mapping, mapping);
    let (shared, _) = machine.arguments[0];
    for (handles, count, why) in [
        (vec![call; 1], 0, "chain of 0"),
        (vec![call; 64], 65, "chain of 65"),
        (vec![call; 2], 3, "chain of 3"),
        (vec![call; 37], 37, "does not fit"),
        (vec![call, shared], 2, "is no command"),
        (vec![call, chain], 2, "operation 19"),
    ] {
        let (state, diagnosis) = machine.ends(|it| {
            command::write_chain(it, handles.into_iter());
            put(it, 1, count);
        });
        assert_eq!(state, state::NEW, "{why}");
        assert!(diagnosis.contains(why), "{why}: {diagnosis}");
    }
    let bad = create(&mut machine.driver, buffer_kind::COMMAND, 4096).unwrap();
    let bad_mapping = map(&mut machine.driver, bad, 4096);
    let good = machine.driver.memory(call_mapping).to_vec();
    machine.driver.memory_mut(bad_mapping).copy_from_slice(&good);
    put(machine.driver.memory_mut(bad_mapping), 2, 9);
    let (state, _) = machine.ends(|it| command::write_chain(it, [call, bad, call].into_iter()));
    assert_eq!(state, state::ERROR);
    assert_eq!(command::error_index(machine.driver.memory(mapping)), 1);
}

#[test]
fn questions_are_answered_or_refused() {
    let driver = &mut SoftwareDriver::new(Setup::default());
    let mut ask = |query: u32, bytes: u32| {
        let get = GetInfo { query, bytes, buffer: 0 };
        pointed(driver, accel::GET_INFO, get, &vec![0; bytes as usize]).map(drop)
    };
    assert_eq!(ask(query::ARRAY_METADATA, 64), Ok(()));
    assert_eq!(ask(query::ARRAY_METADATA, 63), Err(Errno::INVAL));
    assert_eq!(ask(query::FIRMWARE_VERSION, 16), Ok(()));
    assert_eq!(ask(77, 64), Err(Errno::OPNOTSUPP));
    assert_eq!(plain(driver, 0xdead, 0_u32), Err(Errno::NOTTY));
    let short = [0_u8; 4];
    assert_eq!(plain(driver, accel::WAIT_COMMAND, short), Err(Errno::INVAL));
    assert_eq!(size_of::<Health>(), 32);
}
