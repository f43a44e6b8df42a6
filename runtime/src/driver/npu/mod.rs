//! Runs instruction streams on AMD's XDNA 2 array, through the Linux driver alone.
//!
//! * [`Context`]: an array that one xclbin configures, with its buffers and programs.
//! * [`open`]: a context on the real array, or on one that the emulator is (feature `npu-emu`).
//! * [`IoctlContext`]: the only implementation, over [`Ioctl`]: the kernel, or a driver made of
//!   software that checks what the kernel and the firmware would. So what tests run is what
//!   the hardware gets.
//! * [`probe`](mod@probe): what there is, for people.
//!
//! This module knows buffers, programs and calls; no matrix, no plan. It never ran on silicon:
//! what it rests on is the driver's source and the emulator.

mod command;
mod context;
mod error;
#[cfg(target_os = "linux")]
mod hardware;
mod ioctl;
pub mod probe;
pub mod requirements;
#[cfg(feature = "npu-emu")]
pub mod software;
mod stream;

#[cfg(all(test, feature = "npu-emu"))]
mod tests;

use onebit_plan::PlanFile;
use onebit_plan::manifest::SegmentKind;

use crate::Error;

pub use context::IoctlContext;
pub use error::{CommandState, LOCKED_HELP, MemoryLimit, NpuError};
pub use ioctl::{Errno, Ioctl, MappingId};
pub use xrt_sys::ert::HealthReport;

/// Columns of the array that plans are made for.
pub const COLUMNS: u16 = onebit_aie::array::COLUMNS as u16;
/// Rows of that array.
pub const ROWS: u16 = 6;
/// Rows of it that are compute tiles.
pub const COMPUTE_ROWS: u16 = 4;
/// Bytes that every context locks before it has a single weight.
pub const HEAP_BYTES: u64 = xrt_sys::accel::HEAP_BYTES;

/// A buffer of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(usize);

/// An instruction stream of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProgramId(usize);

/// One run of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What runs.
    pub program: ProgramId,
    /// The buffers that its address patches number: bo0 and so on, at most five.
    pub arguments: Vec<BufferId>,
}

/// Which array a context is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The first that the system's driver has.
    Hardware,
    /// One that the emulator is. It takes the time that emulation takes.
    Emulator,
}

/// A context on an array that one xclbin configures.
///
/// Host and array see a buffer through different caches. The context keeps them in step: what the
/// host changed reaches the array with the next run that has the buffer as an argument, and what a
/// run may have changed is fetched when the host next looks at that buffer, and only then. Weights
/// that are written once cost nothing later.
pub trait Context: Send {
    /// A buffer of zeros that host and array share. It lives as long as the context.
    ///
    /// # Errors
    /// [`NpuError::Size`] of no bytes; no memory, or none that may be locked;
    /// [`NpuError::Lost`] after a failed run.
    fn allocate(&mut self, bytes: u64) -> Result<BufferId, NpuError>;

    /// What is in a buffer after all runs so far.
    ///
    /// # Errors
    /// [`NpuError::NoSuchBuffer`]; [`NpuError::Lost`] after a failed run; the driver's.
    fn bytes(&mut self, buffer: BufferId) -> Result<&[u8], NpuError>;

    /// A buffer, to be changed.
    ///
    /// # Errors
    /// As of [`Context::bytes`].
    fn bytes_mut(&mut self, buffer: BufferId) -> Result<&mut [u8], NpuError>;

    /// Makes an instruction stream known. It lives as long as the context, in a heap of 64 MiB
    /// in units of 32 KiB.
    ///
    /// # Errors
    /// [`NpuError::Instructions`] for bytes that are no TXN; [`NpuError::Stream`] for one that is
    /// for another array or asks for more than registers and buffers; no room in the heap;
    /// [`NpuError::Lost`] after a failed run.
    fn program(&mut self, txn: &[u8]) -> Result<ProgramId, NpuError>;

    /// Does the calls one after the other and waits for the end of the last. A single call is a
    /// command of its own, several go as chains of at most 36. The driver stops a command that
    /// makes no progress for some seconds; how much work a chain may hold is the caller's matter.
    ///
    /// # Errors
    /// [`NpuError::Command`] names the call that failed. The context is lost then: all that
    /// follows is [`NpuError::Lost`]. Wrong arguments are found before anything runs.
    fn run(&mut self, calls: &[Call]) -> Result<(), NpuError>;
}

/// A context for the design of an xclbin, given its bytes.
///
/// # Errors
/// An xclbin that cannot be read; no device, no permission for it, a driver, a firmware or an
/// array that do not do; for the emulator, a program that was built without it.
pub fn open(device: Device, xclbin: &[u8]) -> Result<Box<dyn Context>, NpuError> {
    match device {
        Device::Hardware => open_hardware(xclbin),
        Device::Emulator => open_emulator(xclbin),
    }
}

/// A context for the products of a plan.
///
/// # Errors
/// A plan without any; less memory that may be locked than they need; as of [`open`].
pub fn open_for(device: Device, plan: &PlanFile) -> Result<Box<dyn Context>, Error> {
    let Some(part) = &plan.manifest().array else { return Err(Error::NoArrayProducts) };
    match device {
        Device::Hardware => requirements::lockable(part, probe::memory_limit())?,
        Device::Emulator => {}
    }
    Ok(open(device, plan.segment(SegmentKind::ArrayConfiguration))?)
}

#[cfg(target_os = "linux")]
fn open_hardware(xclbin: &[u8]) -> Result<Box<dyn Context>, NpuError> {
    let driver = hardware::Hardware::open(std::path::Path::new("/dev"))?;
    Ok(Box::new(IoctlContext::new(driver, xclbin)?))
}

#[cfg(not(target_os = "linux"))]
fn open_hardware(_xclbin: &[u8]) -> Result<Box<dyn Context>, NpuError> {
    Err(NpuError::Missing { folder: "/dev/accel".into() })
}

#[cfg(feature = "npu-emu")]
fn open_emulator(xclbin: &[u8]) -> Result<Box<dyn Context>, NpuError> {
    let driver = software::SoftwareDriver::new(software::Setup::default());
    Ok(Box::new(IoctlContext::new(driver, xclbin)?))
}

#[cfg(not(feature = "npu-emu"))]
fn open_emulator(_xclbin: &[u8]) -> Result<Box<dyn Context>, NpuError> {
    Err(NpuError::NoEmulator)
}

/// The errors that loading a design or a device gives without any.
#[cfg(test)]
mod without_device {
    use super::*;

    #[test]
    #[cfg(not(feature = "npu-emu"))]
    fn the_emulator_is_missed_by_name() {
        let error = open(Device::Emulator, &[]).err().unwrap();
        assert!(matches!(error, NpuError::NoEmulator));
        assert!(error.help().contains("npu-emu"));
    }

    #[test]
    #[cfg(feature = "npu-emu")]
    fn garbage_is_no_xclbin() {
        let error = open(Device::Emulator, b"garbage").err().unwrap();
        assert!(matches!(error, NpuError::Xclbin(_)), "{error}");
    }
}
