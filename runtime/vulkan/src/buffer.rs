//! Buffers in the device's memory.

use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use ash::vk;

use crate::{Device, VulkanError};

/// What a buffer is for, which decides where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Worked on by the device. In its own memory, and mapped where all of that can be.
    Device,
    /// Few bytes that host and device both look at in every step. Mapped, and in the device's own
    /// memory where some of that can be mapped.
    Shared,
    /// Much that the device writes and the host reads. Mapped, and cached by the host.
    Readback,
}

/// A buffer with its memory. The bytes of a new one are undefined.
pub struct Buffer {
    device: Arc<Device>,
    handle: vk::Buffer,
    memory: vk::DeviceMemory,
    bytes: u64,
    flags: vk::MemoryPropertyFlags,
    /// First byte, where the host sees the memory. The lock keeps two threads of the host apart.
    mapped: Option<Mutex<Mapped>>,
}

struct Mapped(NonNull<u8>);

// SAFETY: the address leads to memory that the buffer owns and that any thread may touch.
unsafe impl Send for Mapped {}

/// Part of a buffer.
#[derive(Clone)]
pub struct Window {
    pub buffer: Arc<Buffer>,
    /// Bytes; a multiple of the device's alignment when a shader sees it.
    pub offset: u64,
    pub length: u64,
}

impl Buffer {
    /// A buffer of `bytes`, not 0. The name is for messages.
    ///
    /// # Errors
    /// [`VulkanError::Limit`], [`VulkanError::Memory`].
    pub fn new(
        device: &Arc<Device>,
        name: &str,
        bytes: u64,
        place: Place,
    ) -> Result<Arc<Self>, VulkanError> {
        let most = device.info().limits.buffer;
        if bytes == 0 || bytes > most {
            let what = format!("the buffer for {name}");
            return Err(VulkanError::Limit { what, found: bytes, allowed: format!("1..={most}") });
        }
        let memory_error = |result| VulkanError::Memory { what: name.into(), bytes, result };
        let usage = vk::BufferUsageFlags::STORAGE_BUFFER
            | vk::BufferUsageFlags::TRANSFER_SRC
            | vk::BufferUsageFlags::TRANSFER_DST;
        let info = vk::BufferCreateInfo::default().size(bytes).usage(usage);
        // SAFETY: the size is within the device's limits, the usage needs no feature.
        let handle = unsafe { device.handle.create_buffer(&info, None) }.map_err(memory_error)?;
        // From here on, dropping the value frees what was made.
        let mut buffer = Self {
            device: Arc::clone(device),
            handle,
            memory: vk::DeviceMemory::null(),
            bytes,
            flags: vk::MemoryPropertyFlags::empty(),
            mapped: None,
        };
        buffer.allocate(place).map_err(memory_error)?;
        // SAFETY: both are new; the memory has the size and a type that the buffer asked for.
        unsafe { device.handle.bind_buffer_memory(handle, buffer.memory, 0) }
            .map_err(memory_error)?;
        buffer.map().map_err(memory_error)?;
        device.name(handle, name);
        Ok(Arc::new(buffer))
    }

    /// Bytes of the buffer.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the host sees the memory, so that copies need no help of the device.
    pub fn is_mapped(&self) -> bool {
        self.mapped.is_some()
    }

    /// Whether the host reads it as fast as its own memory.
    pub fn is_cached(&self) -> bool {
        self.is_mapped() && self.flags.contains(vk::MemoryPropertyFlags::HOST_CACHED)
    }

    /// Copies bytes from the host into a mapped buffer. What the device does to them meanwhile is
    /// the caller's concern.
    ///
    /// # Errors
    /// [`VulkanError::Limit`] for a buffer that is not mapped or too short.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), VulkanError> {
        let mapped = self.range(offset, bytes.len())?;
        let mapped = mapped.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the range was checked, so the address is inside the mapping.
        let to = unsafe { mapped.0.add(offset as usize) };
        // SAFETY: the range is inside the mapping, which no Rust reference leads to; the lock
        // keeps other threads away.
        unsafe { to.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// Copies bytes of a mapped buffer to the host.
    ///
    /// # Errors
    /// As of [`Buffer::write`].
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), VulkanError> {
        let mapped = self.range(offset, bytes.len())?;
        let mapped = mapped.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the range was checked, so the address is inside the mapping.
        let from = unsafe { mapped.0.add(offset as usize) };
        // SAFETY: the range is inside the mapping, which no Rust reference leads to; the lock
        // keeps other threads away.
        unsafe { from.as_ptr().copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    pub(crate) fn handle(&self) -> vk::Buffer {
        self.handle
    }

    pub(crate) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// All of the buffer.
    pub fn window(self: &Arc<Self>) -> Window {
        Window { buffer: Arc::clone(self), offset: 0, length: self.bytes }
    }

    /// Part of the buffer.
    pub fn slice(self: &Arc<Self>, offset: u64, length: u64) -> Window {
        Window { buffer: Arc::clone(self), offset, length }
    }

    fn range(&self, offset: u64, length: usize) -> Result<&Mutex<Mapped>, VulkanError> {
        let end = offset.checked_add(length as u64);
        match &self.mapped {
            Some(mapped) if end.is_some_and(|end| end <= self.bytes) => Ok(mapped),
            mapped => Err(VulkanError::Limit {
                what: format!("the end of a copy of {length} bytes"),
                found: end.unwrap_or(u64::MAX),
                allowed: mapped.as_ref().map_or_else(
                    || "none: the host does not see this memory".into(),
                    |_| format!("0..={}", self.bytes),
                ),
            }),
        }
    }

    /// Takes memory of the best type that has room.
    fn allocate(&mut self, place: Place) -> Result<(), vk::Result> {
        let device = &self.device;
        // SAFETY: the buffer is this device's.
        let needs = unsafe { device.handle.get_buffer_memory_requirements(self.handle) };
        let mut failure = vk::Result::ERROR_OUT_OF_DEVICE_MEMORY;
        for index in candidates(&device.memory, needs.memory_type_bits, place) {
            let info = vk::MemoryAllocateInfo::default()
                .allocation_size(needs.size)
                .memory_type_index(index);
            // SAFETY: the type is one that the device has and the buffer takes.
            match unsafe { device.handle.allocate_memory(&info, None) } {
                Ok(memory) => {
                    self.memory = memory;
                    self.flags = device.memory.memory_types[index as usize].property_flags;
                    return Ok(());
                }
                Err(result) => failure = result,
            }
        }
        Err(failure)
    }

    /// Lets the host see the memory, where it can be seen without flushes.
    fn map(&mut self) -> Result<(), vk::Result> {
        if !self.flags.contains(VISIBLE) {
            return Ok(());
        }
        let (whole, flags) = (vk::WHOLE_SIZE, vk::MemoryMapFlags::empty());
        // SAFETY: the memory is new, of a visible type and not mapped yet.
        let start = unsafe { self.device.handle.map_memory(self.memory, 0, whole, flags) }?;
        let start = NonNull::new(start.cast()).ok_or(vk::Result::ERROR_MEMORY_MAP_FAILED)?;
        self.mapped = Some(Mutex::new(Mapped(start)));
        Ok(())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: commands that use the buffer keep it until they ended, so it is idle.
        unsafe { self.device.handle.destroy_buffer(self.handle, None) };
        // SAFETY: as above; freeing unmaps. No memory (null) is allowed.
        unsafe { self.device.handle.free_memory(self.memory, None) };
    }
}

/// What lets the host see memory without flushing.
const VISIBLE: vk::MemoryPropertyFlags = vk::MemoryPropertyFlags::from_raw(
    vk::MemoryPropertyFlags::HOST_VISIBLE.as_raw()
        | vk::MemoryPropertyFlags::HOST_COHERENT.as_raw(),
);

/// Memory types for a place, best first: each wish of the list that a type fulfils is worth more
/// than all later ones together. The system's own order, which is the driver's preference, decides
/// among equals.
fn candidates(memory: &vk::PhysicalDeviceMemoryProperties, allowed: u32, place: Place) -> Vec<u32> {
    use vk::MemoryPropertyFlags as Flags;
    let types = memory.memory_types_as_slice();
    let unwanted = Flags::LAZILY_ALLOCATED
        | Flags::PROTECTED
        | Flags::DEVICE_COHERENT_AMD
        | Flags::DEVICE_UNCACHED_AMD;
    // A small window into a card's memory is no place for what is large.
    let own = |heap: &&vk::MemoryHeap| heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL);
    let largest = memory.memory_heaps_as_slice().iter().filter(own).map(|heap| heap.size).max();
    let roomy =
        |kind: &vk::MemoryType| Some(memory.memory_heaps[kind.heap_index as usize].size) == largest;
    let score = |kind: &vk::MemoryType| {
        let flags = kind.property_flags;
        let wishes = match place {
            Place::Device => {
                [flags.contains(Flags::DEVICE_LOCAL), roomy(kind), flags.contains(VISIBLE)]
            }
            Place::Shared => [flags.contains(VISIBLE), flags.contains(Flags::DEVICE_LOCAL), false],
            Place::Readback => [flags.contains(VISIBLE), flags.contains(Flags::HOST_CACHED), false],
        };
        wishes.into_iter().fold(0, |sum, wish| 2 * sum + u32::from(wish))
    };
    let usable = |(index, kind): &(u32, &vk::MemoryType)| {
        allowed & (1 << index) != 0
            && !kind.property_flags.intersects(unwanted)
            && (place == Place::Device || kind.property_flags.contains(VISIBLE))
    };
    let mut found: Vec<_> = (0..).zip(types).filter(usable).collect();
    found.sort_by_key(|(_, kind)| std::cmp::Reverse(score(kind)));
    found.into_iter().map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use vk::MemoryPropertyFlags as Flags;

    fn memory(heaps: &[(u64, bool)], types: &[(Flags, u32)]) -> vk::PhysicalDeviceMemoryProperties {
        let mut memory = vk::PhysicalDeviceMemoryProperties::default();
        for (to, &(size, own)) in memory.memory_heaps.iter_mut().zip(heaps) {
            to.size = size;
            if own {
                to.flags = vk::MemoryHeapFlags::DEVICE_LOCAL;
            }
        }
        for (to, &(property_flags, heap_index)) in memory.memory_types.iter_mut().zip(types) {
            *to = vk::MemoryType { property_flags, heap_index };
        }
        memory.memory_heap_count = heaps.len() as u32;
        memory.memory_type_count = types.len() as u32;
        memory
    }

    fn first(memory: &vk::PhysicalDeviceMemoryProperties, place: Place) -> Option<u32> {
        candidates(memory, u32::MAX, place).first().copied()
    }

    #[test]
    fn a_card_with_a_small_window_keeps_it_for_shared_buffers() {
        let cached = VISIBLE | Flags::HOST_CACHED;
        let heaps = [(8 << 30, true), (16 << 30, false), (256 << 20, true)];
        let types = [
            (Flags::DEVICE_LOCAL, 0),
            (VISIBLE, 1),
            (Flags::DEVICE_LOCAL | VISIBLE, 2),
            (cached, 1),
        ];
        let memory = memory(&heaps, &types);
        assert_eq!(first(&memory, Place::Device), Some(0));
        assert_eq!(first(&memory, Place::Shared), Some(2));
        assert_eq!(first(&memory, Place::Readback), Some(3));
        assert_eq!(candidates(&memory, 0b1010, Place::Shared), [1, 3]);
    }

    #[test]
    fn shared_memory_is_mapped() {
        let heaps = [(64 << 30, true)];
        let own = Flags::DEVICE_LOCAL;
        let types =
            [(own, 0), (own | VISIBLE, 0), (own | VISIBLE | Flags::HOST_CACHED, 0), (own, 0)];
        let memory = memory(&heaps, &types);
        assert_eq!(first(&memory, Place::Device), Some(1));
        assert_eq!(first(&memory, Place::Readback), Some(2));
    }

    #[test]
    fn memory_that_needs_flushes_or_rights_is_not_taken() {
        let heaps = [(1 << 30, true)];
        let types = [
            (Flags::HOST_VISIBLE | Flags::HOST_CACHED, 0),
            (VISIBLE | Flags::PROTECTED, 0),
            (VISIBLE | Flags::DEVICE_UNCACHED_AMD, 0),
        ];
        assert_eq!(first(&memory(&heaps, &types), Place::Readback), None);
    }
}
