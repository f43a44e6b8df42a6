//! Anonymous memory for buffers and for code.

use std::ffi::c_void;
use std::io;
use std::ptr::{self, NonNull};

use onebit_plan::PAGE;
use onebit_plan::abi::EntryFn;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

use crate::Error;

/// Page-aligned memory that reads as zero and costs nothing until it is touched.
pub(super) struct Region {
    start: NonNull<c_void>,
    length: usize,
}

impl Region {
    /// Reserves `bytes` (at least a page) of address space; pages come as they are written.
    pub(super) fn reserve(what: &'static str, bytes: u64) -> Result<Self, Error> {
        let failed = |source: io::Error| Error::Memory { what, bytes, source };
        let length = bytes
            .max(1)
            .checked_next_multiple_of(PAGE)
            .and_then(|length| usize::try_from(length).ok())
            .ok_or_else(|| failed(io::ErrorKind::OutOfMemory.into()))?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice overlaps nothing.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), length, protection, flags) };
        let start = start.map_err(|error| failed(error.into()))?;
        let start = NonNull::new(start)
            .ok_or_else(|| failed(io::Error::other("the system mapped address zero")))?;
        Ok(Self { start, length })
    }

    /// The first byte.
    pub(super) fn start(&self) -> *mut u8 {
        self.start.as_ptr().cast()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: this value made the mapping and hands out its address for its lifetime only.
        // A failure leaks address space, nothing else.
        let _ = unsafe { munmap(self.start.as_ptr(), self.length) };
    }
}

/// A copy of a plan's code segment, writable while it is filled and executable after, never both.
pub(super) struct Code {
    region: Region,
    length: usize,
}

impl Code {
    /// Copies `bytes` and makes the copy read-only and executable.
    pub(super) fn map(bytes: &[u8]) -> Result<Self, Error> {
        const WHAT: &str = "plan's code";
        let region = Region::reserve(WHAT, bytes.len() as u64)?;
        // SAFETY: the region is new, at least as long as `bytes`, and nobody else knows it.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), region.start(), bytes.len()) };
        let flags = MprotectFlags::READ | MprotectFlags::EXEC;
        // SAFETY: the range is the region's own mapping.
        let changed = unsafe { mprotect(region.start.as_ptr(), region.length, flags) };
        changed.map_err(|error| Error::Memory {
            what: WHAT,
            bytes: bytes.len() as u64,
            source: error.into(),
        })?;
        synchronise_instructions(region.start(), bytes.len());
        Ok(Self { region, length: bytes.len() })
    }

    /// The first byte.
    pub(super) fn start(&self) -> *const u8 {
        self.region.start()
    }

    /// The function at `offset`.
    ///
    /// # Panics
    /// When the offset is outside the segment, which the plan's checks exclude.
    pub(super) fn entry(&self, offset: usize) -> EntryFn {
        assert!(offset < self.length, "entry at {offset} of {} bytes of code", self.length);
        let address = self.start().wrapping_add(offset);
        // SAFETY: the address is inside mapped, executable code, where a trusted plan says that a
        // function of this signature begins. Whoever keeps the function keeps the `Code`, too.
        unsafe { std::mem::transmute::<*const u8, EntryFn>(address) }
    }
}

/// x86-64 keeps instruction fetch coherent with stores.
#[cfg(not(target_arch = "aarch64"))]
fn synchronise_instructions(_start: *const u8, _length: usize) {}

/// Cleans the data cache and drops stale instructions, line by line, as the Arm ARM (B2.4.4)
/// asks after writing code. 4-byte steps would be safe on any core; `CTR_EL0` gives the lines.
/// Other cores pass a context synchronisation event when the team's threads start.
#[cfg(target_arch = "aarch64")]
fn synchronise_instructions(start: *const u8, length: usize) {
    use std::arch::asm;

    let types: usize;
    // SAFETY: Linux lets user code read this register of cache line sizes.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) types, options(nomem, nostack)) };
    let data_line = 4 << ((types >> 16) & 15);
    let code_line = 4 << (types & 15);
    let end = start as usize + length;
    for line in (start as usize / data_line * data_line..end).step_by(data_line) {
        // SAFETY: cleaning a line of our own mapping to the point of unification changes no data.
        unsafe { asm!("dc cvau, {}", in(reg) line, options(nostack)) };
    }
    // SAFETY: a barrier changes nothing but order.
    unsafe { asm!("dsb ish", options(nostack)) };
    for line in (start as usize / code_line * code_line..end).step_by(code_line) {
        // SAFETY: dropping fetched instructions of our own mapping changes no data.
        unsafe { asm!("ic ivau, {}", in(reg) line, options(nostack)) };
    }
    // SAFETY: barriers change nothing but order.
    unsafe { asm!("dsb ish", "isb", options(nostack)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_zero_and_aligned() {
        let region = Region::reserve("test", 10_000).unwrap();
        assert_eq!(region.start().align_offset(4096), 0);
        let last = region.start().wrapping_add(9_999);
        // SAFETY: the byte is inside the region, which nobody else uses.
        assert_eq!(unsafe { last.read() }, 0);
        assert!(matches!(Region::reserve("test", u64::MAX), Err(Error::Memory { .. })));
        assert!(matches!(Region::reserve("test", 1 << 60), Err(Error::Memory { .. })));
    }

    #[test]
    fn code_is_executable_and_not_writable() {
        let code = Code::map(&[0xc3; 16]).unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let start = format!("{:x}-", code.start() as usize);
        let line = maps.lines().find(|line| line.starts_with(&start)).unwrap();
        assert!(line.contains(" r-xp "), "{line}");
    }
}
