//! The kernel's driver: `/dev/accel/accel*`.

use std::ffi::c_void;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};

use bytemuck::bytes_of_mut;
use rustix::ioctl::{self, IoctlOutput, Opcode};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use xrt_sys::drm::{self, Version};

use super::error::NpuError;
use super::ioctl::{Errno, Ioctl, MappingId, check};

/// What the names of the driver's versions begin with.
const DRIVER: &str = "amdxdna";

/// An open device of the driver.
pub(super) struct Hardware {
    // Mappings go first: a field is dropped before those behind it.
    mappings: Vec<Mapping>,
    file: File,
}

/// The files of devices under `dev`, by name. Empty when there is no such folder, or none that can
/// be read.
pub(super) fn nodes(dev: &Path) -> Vec<PathBuf> {
    list(&dev.join("accel")).unwrap_or_default()
}

/// The files of devices in `folder`, by name.
fn list(folder: &Path) -> Result<Vec<PathBuf>, Errno> {
    let entries = fs::read_dir(folder).map_err(|error| errno(&error))?;
    let paths: Result<Vec<PathBuf>, std::io::Error> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let is_node = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with("accel"))
    };
    let mut paths = paths.map_err(|error| errno(&error))?;
    paths.retain(is_node);
    paths.sort();
    Ok(paths)
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Why there is no device, the most helpful reason first.
#[derive(Default)]
struct Obstacles {
    /// The first file that may not be opened.
    forbidden: Option<PathBuf>,
    /// The first that fails otherwise.
    failed: Option<(PathBuf, Errno)>,
}

impl Obstacles {
    fn note(&mut self, path: PathBuf, errno: Errno) {
        match errno {
            Errno::ACCESS | Errno::PERM => {
                self.forbidden.get_or_insert(path);
            }
            // Not there: no file, or no device behind it.
            Errno::NOENT | Errno::NXIO => {}
            _ => {
                self.failed.get_or_insert((path, errno));
            }
        }
    }

    fn error(self, folder: PathBuf) -> NpuError {
        match (self.forbidden, self.failed) {
            (Some(path), _) => NpuError::Permission { path },
            (None, Some((path, errno))) => NpuError::Open { path, errno },
            (None, None) => NpuError::Missing { folder },
        }
    }
}

impl Hardware {
    /// The first device of the driver under `dev`.
    ///
    /// # Errors
    /// [`NpuError::Permission`] when there is a device that may not be opened and none that may;
    /// [`NpuError::Open`] when one fails in another way; [`NpuError::Missing`] when there is none
    /// at all.
    pub(super) fn open(dev: &Path) -> Result<Self, NpuError> {
        let folder = dev.join("accel");
        let mut obstacles = Obstacles::default();
        let paths = list(&folder).unwrap_or_else(|errno| {
            obstacles.note(folder.clone(), errno);
            Vec::new()
        });
        for path in paths {
            let opened =
                Self::open_node(&path).and_then(|mut device| Ok((device.version()?, device)));
            match opened {
                Ok(((_, name), device)) if name.starts_with(DRIVER) => return Ok(device),
                // Another driver's, or, of a file that is open, no device of DRM.
                Ok(_) | Err(Errno::NOTTY) => {}
                Err(errno) => obstacles.note(path, errno),
            }
        }
        Err(obstacles.error(folder))
    }

    /// The device of one file, of whatever driver.
    ///
    /// # Errors
    /// What the system answers.
    pub(super) fn open_node(path: &Path) -> Result<Self, Errno> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(|error| errno(&error))?;
        Ok(Hardware { mappings: Vec::new(), file })
    }

    /// Version and name of the driver.
    ///
    /// # Errors
    /// What the system answers; ENOTTY for a file that is no device of DRM.
    pub(super) fn version(&mut self) -> Result<(Version, String), Errno> {
        let mut name = [0; 64];
        let mut version = Version { name_bytes: name.len() as u64, ..Version::default() };
        let memory: &mut [&mut [u8]] = &mut [&mut name, &mut [], &mut []];
        self.ioctl(drm::VERSION, bytes_of_mut(&mut version), memory)?;
        let length = usize::try_from(version.name_bytes).unwrap_or(name.len()).min(name.len());
        Ok((version, String::from_utf8_lossy(&name[..length]).into_owned()))
    }
}

impl Ioctl for Hardware {
    fn ioctl(
        &mut self,
        number: u32,
        argument: &mut [u8],
        memory: &mut [&mut [u8]],
    ) -> Result<(), Errno> {
        let pointers = check(number, argument, memory)?;
        for (pointer, memory) in pointers.iter().zip(memory) {
            let address = if memory.is_empty() { 0 } else { memory.as_mut_ptr() as usize as u64 };
            argument[pointer.at..pointer.at + 8].copy_from_slice(&address.to_ne_bytes());
        }
        loop {
            let request = Request { number, argument: &mut *argument };
            // SAFETY: `check` knows the number, found the structure as long as it says, and behind
            // each address in it, all of which were just written, as many bytes as the kernel
            // touches. Those are borrowed for the call.
            match unsafe { ioctl::ioctl(&self.file, request) } {
                Err(Errno::INTR) => {}
                result => return result,
            }
        }
    }

    fn map(&mut self, offset: u64, bytes: usize, alignment: usize) -> Result<MappingId, Errno> {
        let mapping = Mapping::new(&self.file, offset, bytes, alignment)?;
        self.mappings.push(mapping);
        Ok(MappingId(self.mappings.len() - 1))
    }

    fn address(&self, MappingId(index): MappingId) -> u64 {
        self.mappings[index].start.as_ptr() as usize as u64
    }

    fn memory(&self, MappingId(index): MappingId) -> &[u8] {
        let Mapping { start, bytes, .. } = self.mappings[index];
        // SAFETY: the mapping lives as long as the device, which is borrowed. The array and the
        // kernel write to it only between the start of a command and the end of its wait, in
        // which the device is borrowed mutably; after a wait that failed, the context shows no
        // memory any more.
        unsafe { std::slice::from_raw_parts(start.as_ptr().cast(), bytes) }
    }

    fn memory_mut(&mut self, MappingId(index): MappingId) -> &mut [u8] {
        let Mapping { start, bytes, .. } = self.mappings[index];
        // SAFETY: as in `memory`; the device is borrowed mutably, and its mappings do not overlap.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr().cast(), bytes) }
    }
}

/// An ioctl that was checked.
struct Request<'a> {
    number: u32,
    argument: &'a mut [u8],
}

// SAFETY: the structure is as long as the number says, and is borrowed mutably.
unsafe impl ioctl::Ioctl for Request<'_> {
    type Output = ();

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.number as Opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.argument.as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

/// A mapped buffer, inside address space that was reserved to align it.
struct Mapping {
    start: NonNull<c_void>,
    bytes: usize,
    reserved: NonNull<c_void>,
    reserved_bytes: usize,
}

// SAFETY: memory is not of a thread, and access to it goes through the device that owns it.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(file: &File, offset: u64, bytes: usize, alignment: usize) -> Result<Self, Errno> {
        let reserved_bytes = bytes.checked_add(alignment).ok_or(Errno::NOMEM)?;
        let nothing = ProtFlags::empty();
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice overlaps nothing.
        let reserved = unsafe { mmap_anonymous(ptr::null_mut(), reserved_bytes, nothing, flags) }?;
        let aligned = reserved.wrapping_byte_add(reserved.align_offset(alignment));
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // Locked as XRT's shim has it: the array has no page faults that it could wait for.
        let flags = MapFlags::SHARED | MapFlags::LOCKED | MapFlags::FIXED;
        // A failure leaks the reservation: the kernel may have made a hole in it, in which another
        // thread's mapping may be by now.
        // SAFETY: the range is inside the reservation, which nobody else knows: from an address
        // less than `alignment` behind its start it has `bytes` to go.
        let start = unsafe { mmap(aligned, bytes, protection, flags, file, offset) }?;
        let start = NonNull::new(start).ok_or(Errno::NOMEM)?;
        let reserved = NonNull::new(reserved).ok_or(Errno::NOMEM)?;
        Ok(Mapping { start, bytes, reserved, reserved_bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is this value's own, and what borrowed it borrowed the device.
        // A failure leaks address space, nothing else.
        let _ = unsafe { munmap(self.reserved.as_ptr(), self.reserved_bytes) };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn mappings_are_aligned_shared_and_kept_to_their_length() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; 1 << 16]).unwrap();
        let mut device = Hardware { mappings: Vec::new(), file };
        // A plain file may be locked as little as a device's memory.
        let mapping = device.map(4096, 8192, 1 << 21).unwrap();
        assert_eq!(device.address(mapping) % (1 << 21), 0);
        assert_eq!(device.memory(mapping), &[7; 8192]);
        device.memory_mut(mapping)[5] = 9;
        let mut read = [0; 6];
        std::os::unix::fs::FileExt::read_exact_at(&device.file, &mut read, 4096).unwrap();
        assert_eq!(read, [7, 7, 7, 7, 7, 9]);
        assert_eq!(device.map(1, 4096, 4096).err(), Some(Errno::INVAL));
        assert_eq!(device.map(0, usize::MAX, 4096).err(), Some(Errno::NOMEM));
    }

    #[test]
    fn a_file_is_no_device_and_a_folder_without_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Hardware::open(folder.path()).err().unwrap();
        assert!(matches!(missing, NpuError::Missing { .. }), "{missing}");
        fs::create_dir(folder.path().join("accel")).unwrap();
        fs::write(folder.path().join("accel/accel0"), b"no device").unwrap();
        fs::write(folder.path().join("accel/other"), b"").unwrap();
        let nodes = nodes(folder.path());
        assert_eq!(nodes, [folder.path().join("accel/accel0")]);
        let mut device = Hardware::open_node(&nodes[0]).unwrap();
        assert_eq!(device.version().err(), Some(Errno::NOTTY));
        let missing = Hardware::open(folder.path()).err().unwrap();
        assert!(missing.to_string().contains("accel"), "{missing}");
    }

    /// What stands in the way of a device that is there is told, and not taken for its absence.
    #[test]
    fn a_device_that_cannot_be_opened_is_there() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let accel = folder.path().join("accel");
        let error = || Hardware::open(folder.path()).err().unwrap().to_string();
        fs::write(&accel, b"no folder").unwrap();
        assert!(error().contains("accel: Not a directory"), "{}", error());
        fs::remove_file(&accel).unwrap();
        fs::create_dir(&accel).unwrap();
        symlink("nowhere", accel.join("accel0")).unwrap();
        assert!(error().starts_with("no NPU"), "{}", error());
        symlink("accel1", accel.join("accel1")).unwrap();
        fs::create_dir(accel.join("accel2")).unwrap();
        let looped = error();
        assert!(looped.contains("accel/accel1: Too many"), "{looped}");
    }
}
