//! A driver made of software: it checks what the kernel's driver and the firmware would, and runs
//! the instructions on the emulated array.
//!
//! Two drivers exist, Linux's own and AMD's, in several releases; this one is as strict as the
//! strictest of them. What it promises:
//!
//! * A wrong ioctl gets the errno of the real one and changes nothing.
//! * Caches are as incoherent as they can be: what the host writes to a buffer is not there for the
//!   array, nor the other way round, before the buffer is synchronised.
//! * A command runs when it is waited for, so nobody sees results that was too early.
//! * A wrong command is not refused when it is submitted: it stays new or ends in an error, as with
//!   the real driver. A deadlock of the array is a timeout, with the operation that waits.
//! * A buffer that a command does not name is out of the array's reach.
//!
//! It does not know time, and not several processes.

mod buffers;
mod commands;
mod contexts;
#[cfg(test)]
mod tests;

use bytemuck::{Pod, bytes_of, pod_read_unaligned};
use onebit_aie_emu::Options;
use xrt_sys::accel::{self, ArrayMetadata, FirmwareVersion, GetInfo, TileMetadata, query};
use xrt_sys::drm::{self, Version};

use self::buffers::Buffers;
use self::contexts::Contexts;
use super::ioctl::{Errno, Ioctl, MappingId, check};

/// What the driver calls itself.
const NAME: &[u8] = b"amdxdna_emulator";

/// Which driver and array to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    /// How the array runs.
    pub options: Options,
    /// Which ways there are to wait.
    pub waiting: Waiting,
}

/// Which ways a driver has to wait for a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Waiting {
    /// An ioctl of its own, as AMD's driver, and the timeline.
    #[default]
    OwnIoctl,
    /// The timeline only, as Linux's own driver.
    TimelineOnly,
}

/// A driver made of software.
pub struct SoftwareDriver {
    buffers: Buffers,
    contexts: Contexts,
    waiting: Waiting,
}

impl SoftwareDriver {
    /// A driver that nobody has used yet.
    pub fn new(setup: Setup) -> Self {
        let Setup { options, waiting } = setup;
        SoftwareDriver { buffers: Buffers::default(), contexts: Contexts::new(options), waiting }
    }
}

impl Ioctl for SoftwareDriver {
    fn ioctl(
        &mut self,
        number: u32,
        argument: &mut [u8],
        memory: &mut [&mut [u8]],
    ) -> Result<(), Errno> {
        check(number, argument, memory)?;
        let SoftwareDriver { buffers, contexts, waiting } = self;
        match number {
            accel::CREATE_BUFFER => with(argument, |it| buffers.create(it)),
            accel::GET_BUFFER_INFO => with(argument, |it| buffers.info(it)),
            accel::SYNC_BUFFER => with(argument, |it| buffers.sync(it)),
            drm::GEM_CLOSE => with(argument, |it| buffers.close(it)),
            accel::CREATE_CONTEXT => with(argument, |it| contexts.create(it, buffers)),
            accel::CONFIGURE_CONTEXT => {
                with(argument, |it| contexts.configure(it, memory[0], buffers))
            }
            accel::DESTROY_CONTEXT => with(argument, |it| contexts.destroy(it, buffers)),
            drm::SYNCOBJ_DESTROY => with(argument, |it| contexts.destroy_timeline(it)),
            accel::EXECUTE_COMMAND => with(argument, |it| contexts.execute(it, memory[0], buffers)),
            accel::WAIT_COMMAND if *waiting == Waiting::TimelineOnly => Err(Errno::INVAL),
            accel::WAIT_COMMAND => with(argument, |it| contexts.wait(it, buffers)),
            drm::SYNCOBJ_TIMELINE_WAIT => {
                with(argument, |it| contexts.wait_on_timeline(it, memory, buffers))
            }
            accel::GET_INFO => with(argument, |it| information(it, memory[0])),
            drm::VERSION => with(argument, |it| version(it, memory[0])),
            _ => Err(Errno::NOTTY),
        }
    }

    fn map(&mut self, offset: u64, bytes: usize, alignment: usize) -> Result<MappingId, Errno> {
        self.buffers.map(offset, bytes, alignment)
    }

    fn address(&self, mapping: MappingId) -> u64 {
        self.buffers.mapped_at(mapping)
    }

    fn memory(&self, mapping: MappingId) -> &[u8] {
        self.buffers.host_view(mapping)
    }

    fn memory_mut(&mut self, mapping: MappingId) -> &mut [u8] {
        self.buffers.host_view_mut(mapping)
    }

    fn diagnosis(&self) -> Option<String> {
        self.contexts.last_failure.clone()
    }
}

/// Does something with a structure. What it changes comes back only when it succeeds.
fn with<T: Pod>(
    argument: &mut [u8],
    operation: impl FnOnce(&mut T) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let mut value: T = pod_read_unaligned(argument);
    operation(&mut value)?;
    argument.copy_from_slice(bytes_of(&value));
    Ok(())
}

/// EINVAL unless something is as it must be.
fn must(condition: bool) -> Result<(), Errno> {
    if condition { Ok(()) } else { Err(Errno::INVAL) }
}

/// What npu4 and its relatives say of themselves.
fn information(get: &mut GetInfo, memory: &mut [u8]) -> Result<(), Errno> {
    let tile = |rows, first_row, dma_channels, locks| TileMetadata {
        rows,
        first_row,
        dma_channels,
        locks,
        ..TileMetadata::default()
    };
    let metadata = ArrayMetadata {
        column_bytes: 1 << 25,
        columns: 8,
        rows: 6,
        version: accel::ArrayVersion { major: 2, minor: 0 },
        core: tile(4, 2, 2, 16),
        memory: tile(1, 1, 6, 64),
        shim: tile(1, 0, 2, 16),
    };
    // The first firmware that takes all forms of commands.
    let firmware = FirmwareVersion { major: 6, minor: 15, ..FirmwareVersion::default() };
    let answer = match get.query {
        query::ARRAY_METADATA => bytes_of(&metadata),
        query::ARRAY_VERSION => bytes_of(&metadata.version),
        query::FIRMWARE_VERSION => bytes_of(&firmware),
        _ => return Err(Errno::OPNOTSUPP),
    };
    must(get.bytes as usize >= answer.len())?;
    memory[..answer.len()].copy_from_slice(answer);
    Ok(())
}

fn version(version: &mut Version, name: &mut [u8]) -> Result<(), Errno> {
    [version.major, version.minor, version.patch] = [1, 0, 0];
    let count = name.len().min(NAME.len());
    name[..count].copy_from_slice(&NAME[..count]);
    version.name_bytes = NAME.len() as u64;
    Ok(())
}
