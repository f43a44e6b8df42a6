//! The seam under the back end: whoever answers its ioctls and maps its buffers.
//!
//! Structures go through the seam as bytes. Addresses in them do not: what they lead to is given
//! beside the structure, so that a driver made of software needs no address of this process, and
//! the real one never gets an address that nobody vouches for.

use std::mem::{offset_of, size_of};

use xrt_sys::accel::{
    self, ConfigureContext, CreateBuffer, CreateContext, ExecuteCommand, GetInfo, QualityOfService,
};
use xrt_sys::drm::{self, SyncobjTimelineWait, Version};

pub use rustix::io::Errno;

/// A buffer's memory in this process. It stays until the driver is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingId(pub(super) usize);

/// An open device.
pub trait Ioctl: Send {
    /// Does the ioctl `number` on `argument`, its structure. `memory` is what the structure's
    /// addresses lead to, in the order in which the structure has them; nothing stands in the
    /// fields themselves.
    ///
    /// # Errors
    /// What the driver answers; of [`check`], what could not be given to it.
    fn ioctl(
        &mut self,
        number: u32,
        argument: &mut [u8],
        memory: &mut [&mut [u8]],
    ) -> Result<(), Errno>;

    /// Maps `bytes` of the buffer that the driver knows by `offset`, at a multiple of `alignment`.
    ///
    /// # Errors
    /// What the system answers.
    fn map(&mut self, offset: u64, bytes: usize, alignment: usize) -> Result<MappingId, Errno>;

    /// Where a mapping lies.
    fn address(&self, mapping: MappingId) -> u64;

    /// The bytes of a mapping, as this process sees them.
    fn memory(&self, mapping: MappingId) -> &[u8];

    /// The bytes of a mapping, to be changed.
    fn memory_mut(&mut self, mapping: MappingId) -> &mut [u8];

    /// What the driver can tell of its last failure beyond the errno, for people.
    fn diagnosis(&self) -> Option<String> {
        None
    }
}

/// A field of a structure that holds an address.
pub(super) struct Pointer {
    /// Offset of the field.
    pub(super) at: usize,
    extent: Extent,
}

/// How many bytes an address leads to.
enum Extent {
    /// Always as many.
    Bytes(usize),
    /// A u32 at `at` counts `unit` bytes.
    Count { at: usize, unit: usize },
    /// A u64 at this offset counts bytes.
    Long(usize),
}

/// Every ioctl of the back end, with the addresses in its structure.
const IOCTLS: &[(u32, &[Pointer])] = &[
    (
        accel::CREATE_CONTEXT,
        &[Pointer {
            at: offset_of!(CreateContext, quality),
            extent: Extent::Bytes(size_of::<QualityOfService>()),
        }],
    ),
    (accel::DESTROY_CONTEXT, &[]),
    (
        accel::CONFIGURE_CONTEXT,
        &[Pointer {
            at: offset_of!(ConfigureContext, value),
            extent: Extent::Count { at: offset_of!(ConfigureContext, bytes), unit: 1 },
        }],
    ),
    (accel::CREATE_BUFFER, &[]),
    (accel::GET_BUFFER_INFO, &[]),
    (accel::SYNC_BUFFER, &[]),
    (
        accel::EXECUTE_COMMAND,
        &[Pointer {
            at: offset_of!(ExecuteCommand, arguments),
            extent: Extent::Count { at: offset_of!(ExecuteCommand, argument_count), unit: 4 },
        }],
    ),
    (
        accel::GET_INFO,
        &[Pointer {
            at: offset_of!(GetInfo, buffer),
            extent: Extent::Count { at: offset_of!(GetInfo, bytes), unit: 1 },
        }],
    ),
    (accel::WAIT_COMMAND, &[]),
    (
        drm::VERSION,
        &[
            Pointer {
                at: offset_of!(Version, name),
                extent: Extent::Long(offset_of!(Version, name_bytes)),
            },
            Pointer {
                at: offset_of!(Version, date),
                extent: Extent::Long(offset_of!(Version, date_bytes)),
            },
            Pointer {
                at: offset_of!(Version, description),
                extent: Extent::Long(offset_of!(Version, description_bytes)),
            },
        ],
    ),
    (drm::GEM_CLOSE, &[]),
    (drm::SYNCOBJ_DESTROY, &[]),
    (
        drm::SYNCOBJ_TIMELINE_WAIT,
        &[
            Pointer {
                at: offset_of!(SyncobjTimelineWait, handles),
                extent: Extent::Count { at: offset_of!(SyncobjTimelineWait, count), unit: 4 },
            },
            Pointer {
                at: offset_of!(SyncobjTimelineWait, points),
                extent: Extent::Count { at: offset_of!(SyncobjTimelineWait, count), unit: 8 },
            },
        ],
    ),
];

/// Checks that the bytes of a structure are as many as the number says, and that behind each
/// address there is all that the driver will touch.
///
/// # Errors
/// ENOTTY for a number that the back end does not use, EINVAL for a structure of another size or
/// one that asks for the process's own memory, EFAULT for memory that is missing or too short.
pub(super) fn check(
    number: u32,
    argument: &[u8],
    memory: &[&mut [u8]],
) -> Result<&'static [Pointer], Errno> {
    let row = IOCTLS.iter().find(|(known, _)| *known == number);
    let &(_, pointers) = row.ok_or(Errno::NOTTY)?;
    if argument.len() != drm::argument_bytes(number) {
        return Err(Errno::INVAL);
    }
    // The table that this field leads to holds addresses itself.
    if number == accel::CREATE_BUFFER && u64_at(argument, offset_of!(CreateBuffer, table)) != 0 {
        return Err(Errno::INVAL);
    }
    if memory.len() != pointers.len() {
        return Err(Errno::FAULT);
    }
    for (pointer, memory) in pointers.iter().zip(memory) {
        let needed = match pointer.extent {
            Extent::Bytes(bytes) => bytes as u64,
            Extent::Count { at, unit } => u64::from(u32_at(argument, at)) * unit as u64,
            Extent::Long(at) => u64_at(argument, at),
        };
        if (memory.len() as u64) < needed {
            return Err(Errno::FAULT);
        }
    }
    Ok(pointers)
}

/// The word at an offset inside the structure.
fn u32_at(argument: &[u8], at: usize) -> u32 {
    bytemuck::pod_read_unaligned(&argument[at..at + 4])
}

/// The double word at an offset inside the structure.
fn u64_at(argument: &[u8], at: usize) -> u64 {
    bytemuck::pod_read_unaligned(&argument[at..at + 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(number: u32, argument: &[u8], memory: &[&mut [u8]]) -> Errno {
        check(number, argument, memory).err().unwrap()
    }

    #[test]
    fn nothing_passes_that_the_kernel_would_follow_out_of_bounds() {
        let query = GetInfo { query: 1, bytes: 64, buffer: 0 };
        let argument = bytemuck::bytes_of(&query);
        assert!(check(accel::GET_INFO, argument, &[&mut [0; 64]]).is_ok());
        assert_eq!(fails(accel::GET_INFO, argument, &[&mut [0; 63]]), Errno::FAULT);
        assert_eq!(fails(accel::GET_INFO, argument, &[]), Errno::FAULT);
        assert_eq!(fails(accel::GET_INFO, &argument[1..], &[&mut [0; 64]]), Errno::INVAL);
        // `DRM_IOCTL_AMDXDNA_SET_STATE`, which we do not use.
        assert_eq!(fails(0xc010_6448, argument, &[&mut [0; 64]]), Errno::NOTTY);
        let create = CreateBuffer { table: 8, ..CreateBuffer::default() };
        assert_eq!(fails(accel::CREATE_BUFFER, bytemuck::bytes_of(&create), &[]), Errno::INVAL);
        let execute = ExecuteCommand { argument_count: 3, ..ExecuteCommand::default() };
        let argument = bytemuck::bytes_of(&execute);
        assert_eq!(fails(accel::EXECUTE_COMMAND, argument, &[&mut [0; 11]]), Errno::FAULT);
        let version = Version { name_bytes: u64::MAX, ..Version::default() };
        let argument = bytemuck::bytes_of(&version);
        let memory: [&mut [u8]; 3] = [&mut [0; 64], &mut [], &mut []];
        assert_eq!(fails(drm::VERSION, argument, &memory), Errno::FAULT);
    }

    #[test]
    fn fields_with_addresses_are_inside_their_structures() {
        for (number, pointers) in IOCTLS {
            for pointer in *pointers {
                assert!(pointer.at + 8 <= drm::argument_bytes(*number), "{number:#x}");
            }
        }
    }
}
