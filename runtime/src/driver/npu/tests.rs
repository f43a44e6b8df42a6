//! The back end against drivers that fail.

use onebit_aie::gemm::{Design, Results, Shape};
use xrt_sys::accel::{self, GetInfo, query};
use xrt_sys::drm;

use super::software::{Setup, SoftwareDriver};
use super::{Call, Context, Errno, Ioctl, IoctlContext, MappingId, MemoryLimit, NpuError};

/// What a driver is made to do wrong.
#[derive(Clone, Copy)]
enum Fault {
    /// The ioctl of this number fails, after so many of them were done.
    Ioctl(u32, usize, Errno),
    /// Mappings fail, after so many were made.
    Map(usize, Errno),
    /// The array has so many columns, and so many rows.
    Array(u16, u16),
    /// Commands are accepted and never looked at.
    Forgets,
}

/// A driver with a fault. It counts what is open.
struct Faulty {
    driver: SoftwareDriver,
    fault: Fault,
    left: usize,
}

impl Faulty {
    fn new(fault: Fault) -> Self {
        let left = match fault {
            Fault::Ioctl(_, after, _) | Fault::Map(after, _) => after,
            Fault::Array(..) | Fault::Forgets => 0,
        };
        Faulty { driver: SoftwareDriver::new(Setup::default()), fault, left }
    }

    /// Whether this is the time to fail.
    fn is_due(&mut self) -> bool {
        let is_due = self.left == 0;
        self.left = self.left.saturating_sub(1);
        is_due
    }
}

impl Ioctl for Faulty {
    fn ioctl(
        &mut self,
        number: u32,
        argument: &mut [u8],
        memory: &mut [&mut [u8]],
    ) -> Result<(), Errno> {
        let fault = self.fault;
        match fault {
            Fault::Ioctl(faulty, _, errno) if faulty == number && self.is_due() => {
                return Err(errno);
            }
            Fault::Forgets if number == accel::WAIT_COMMAND => return Ok(()),
            _ => {}
        }
        self.driver.ioctl(number, argument, memory)?;
        if let Fault::Array(columns, rows) = self.fault
            && number == accel::GET_INFO
            && bytemuck::pod_read_unaligned::<GetInfo>(argument).query == query::ARRAY_METADATA
        {
            memory[0][4..6].copy_from_slice(&columns.to_le_bytes());
            memory[0][6..8].copy_from_slice(&rows.to_le_bytes());
        }
        Ok(())
    }

    fn map(&mut self, offset: u64, bytes: usize, alignment: usize) -> Result<MappingId, Errno> {
        let fault = self.fault;
        match fault {
            Fault::Map(_, errno) if self.is_due() => Err(errno),
            _ => self.driver.map(offset, bytes, alignment),
        }
    }

    fn address(&self, mapping: MappingId) -> u64 {
        self.driver.address(mapping)
    }

    fn memory(&self, mapping: MappingId) -> &[u8] {
        self.driver.memory(mapping)
    }

    fn memory_mut(&mut self, mapping: MappingId) -> &mut [u8] {
        self.driver.memory_mut(mapping)
    }
}

/// What comes of opening a context, allocating, and running a product on a faulty driver.
fn failure(fault: Fault) -> NpuError {
    let design = Design::new().unwrap();
    let xclbin = design.xclbin().unwrap().to_bytes().unwrap();
    let shape = Shape { n: 64, k: 64, group: 64, results: Results::Combined };
    let call = design.call(&shape).unwrap();
    let result = || {
        let mut context = IoctlContext::new(Faulty::new(fault), &xclbin)?;
        let sizes = [call.buffers.activations, call.buffers.weights, call.buffers.results];
        let mut arguments = Vec::new();
        for bytes in sizes {
            arguments.push(context.allocate(bytes)?);
        }
        context.bytes_mut(arguments[1])?.fill(1);
        let program = context.program(&call.txn)?;
        context.run(&[Call { program, arguments: arguments.clone() }])?;
        context.bytes(arguments[2]).map(drop)
    };
    result().expect_err("the driver is faulty")
}

#[test]
fn failures_of_ioctls_say_what_could_not_be_done() {
    for (number, after, name) in [
        (accel::GET_INFO, 0, "describe the array"),
        (accel::CREATE_BUFFER, 0, "create a buffer"),
        (accel::CREATE_BUFFER, 40, "create a buffer"),
        (accel::GET_BUFFER_INFO, 1, "describe a buffer"),
        (accel::CREATE_CONTEXT, 0, "create a context"),
        (accel::CONFIGURE_CONTEXT, 0, "configure the array"),
        (accel::SYNC_BUFFER, 0, "synchronise a buffer"),
        // PDI, program and three arguments; then the results on the way back.
        (accel::SYNC_BUFFER, 5, "synchronise a buffer"),
        (accel::EXECUTE_COMMAND, 0, "run a command"),
        (accel::WAIT_COMMAND, 0, "wait for a command"),
    ] {
        let error = failure(Fault::Ioctl(number, after, Errno::NOMEM));
        let NpuError::Driver { operation, errno: Errno::NOMEM, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(operation, name);
    }
}

#[test]
fn errnos_tell_an_old_driver_from_a_firmware_that_is_silent() {
    let old = failure(Fault::Ioctl(accel::CREATE_CONTEXT, 0, Errno::OPNOTSUPP));
    assert!(matches!(old, NpuError::DriverTooOld { operation: "create a context", .. }), "{old}");
    let silent = failure(Fault::Ioctl(accel::CREATE_CONTEXT, 0, Errno::NODEV));
    assert!(matches!(silent, NpuError::Firmware { .. }), "{silent}");
    let silent = failure(Fault::Ioctl(accel::WAIT_COMMAND, 0, Errno::TIME));
    assert!(matches!(silent, NpuError::NoAnswer { milliseconds: 60_000 }), "{silent}");
}

/// The way of waiting changes only for a driver that has no other, and says so when that fails.
#[test]
fn a_driver_without_any_way_to_wait_is_too_old() {
    struct Deaf(SoftwareDriver);
    impl Ioctl for Deaf {
        fn ioctl(
            &mut self,
            number: u32,
            argument: &mut [u8],
            memory: &mut [&mut [u8]],
        ) -> Result<(), Errno> {
            match number {
                accel::WAIT_COMMAND => Err(Errno::NOTTY),
                drm::SYNCOBJ_TIMELINE_WAIT => Err(Errno::OPNOTSUPP),
                _ => self.0.ioctl(number, argument, memory),
            }
        }
        fn map(&mut self, offset: u64, bytes: usize, to: usize) -> Result<MappingId, Errno> {
            self.0.map(offset, bytes, to)
        }
        fn address(&self, mapping: MappingId) -> u64 {
            self.0.address(mapping)
        }
        fn memory(&self, mapping: MappingId) -> &[u8] {
            self.0.memory(mapping)
        }
        fn memory_mut(&mut self, mapping: MappingId) -> &mut [u8] {
            self.0.memory_mut(mapping)
        }
    }
    let design = Design::new().unwrap();
    let xclbin = design.xclbin().unwrap().to_bytes().unwrap();
    let driver = Deaf(SoftwareDriver::new(Setup::default()));
    let mut context = IoctlContext::new(driver, &xclbin).unwrap();
    let shape = Shape { n: 1, k: 1, group: 1, results: Results::Combined };
    let program = context.program(&design.call(&shape).unwrap().txn).unwrap();
    let error = context.run(&[Call { program, arguments: Vec::new() }]).unwrap_err();
    assert!(matches!(error, NpuError::DriverTooOld { .. }), "{error}");
    assert!(matches!(context.run(&[]), Err(NpuError::Lost)));
    assert!(matches!(context.allocate(64), Err(NpuError::Lost)));
    assert!(matches!(context.program(&design.call(&shape).unwrap().txn), Err(NpuError::Lost)));
}

#[test]
fn memory_that_cannot_be_locked_is_called_so() {
    // The heap, a command, an argument.
    for after in [0, 20, 38] {
        let error = failure(Fault::Map(after, Errno::AGAIN));
        let NpuError::Locked { bytes, limit } = error else { panic!("{error}") };
        assert!(bytes.is_multiple_of(4096));
        assert!(matches!(limit, MemoryLimit::Bytes(_) | MemoryLimit::Unlimited));
        assert!(error.help().contains("ulimit -l unlimited"), "{}", error.help());
    }
    let error = failure(Fault::Map(0, Errno::NODEV));
    assert!(matches!(error, NpuError::Firmware { operation: "map a buffer", .. }), "{error}");
}

#[test]
fn another_array_is_refused_before_anything_is_made() {
    for (columns, rows) in [(5, 6), (8, 4)] {
        let error = failure(Fault::Array(columns, rows));
        let NpuError::OtherArray { needs, has } = error else { panic!("{error}") };
        assert!(needs.starts_with("8 columns of 6 tiles"), "{needs}");
        assert!(has.starts_with(&format!("{columns} columns of {rows} tiles")), "{has}");
    }
}

/// A command whose wait succeeds and which is still new was refused: it did not run.
#[test]
fn a_command_that_did_not_run_is_no_success() {
    let error = failure(Fault::Forgets);
    let NpuError::Command { call: 0, state: super::CommandState::New, .. } = error else {
        panic!("{error}");
    };
    assert!(error.help().contains("firmware may be too old"), "{}", error.help());
}
