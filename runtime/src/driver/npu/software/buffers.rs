//! Buffers: their kinds, addresses, mappings, and the two views of what is in them.

use std::collections::BTreeMap;

use xrt_sys::accel::{
    self, CreateBuffer, GetBufferInfo, HEAP_ADDRESS, HEAP_BYTES, SyncBuffer, buffer_kind,
};
use xrt_sys::drm::GemClose;

use super::super::ioctl::{Errno, MappingId};
use super::must;

const PAGE: u64 = 4096;
/// What device buffers start at multiples of (npu4 `dev_mem_buf_shift`).
const HEAP_UNIT: u64 = 32 << 10;
/// Most bytes of a command (`XDNA_MAX_CMD_BO_SIZE` of the first releases).
const COMMAND_BYTES_AT_MOST: u64 = 32 << 10;
/// Where made-up addresses of the process start.
const FIRST_ADDRESS: u64 = 0x7f00_0000_0000;

/// All buffers of a process.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    all: BTreeMap<u32, Buffer>,
    last_handle: u32,
    heap: Option<u32>,
    /// The buffer of each mapping.
    mappings: Vec<u32>,
    next_address: u64,
}

#[derive(Debug)]
struct Buffer {
    kind: u32,
    /// A multiple of a page.
    bytes: u64,
    /// What the process sees; nothing for a part of the heap.
    host: Vec<u8>,
    /// What the array sees. A command is the driver's and needs no second view.
    array: Vec<u8>,
    /// Where it is in the process, or for a part of the heap, where the array sees it.
    address: Option<u64>,
}

impl Buffers {
    pub(super) fn create(&mut self, create: &mut CreateBuffer) -> Result<(), Errno> {
        must(create.flags == 0 && create.table == 0 && create.bytes != 0)?;
        let bytes = create.bytes.checked_next_multiple_of(PAGE).ok_or(Errno::INVAL)?;
        let mut address = None;
        match create.kind {
            buffer_kind::SHARE => {}
            buffer_kind::DEVICE_HEAP => {
                must(create.bytes == HEAP_BYTES)?;
                if self.heap.is_some() {
                    return Err(Errno::BUSY);
                }
            }
            buffer_kind::DEVICE => address = Some(self.place_in_heap(bytes)?),
            buffer_kind::COMMAND => must((4..=COMMAND_BYTES_AT_MOST).contains(&create.bytes))?,
            _ => return Err(Errno::INVAL),
        }
        let view = |is_there: bool| match is_there {
            true => zeros(bytes),
            false => Ok(Vec::new()),
        };
        let host = view(create.kind != buffer_kind::DEVICE)?;
        let array = view(matches!(create.kind, buffer_kind::SHARE | buffer_kind::DEVICE_HEAP))?;
        self.last_handle += 1;
        create.handle = self.last_handle;
        if create.kind == buffer_kind::DEVICE_HEAP {
            self.heap = Some(create.handle);
        }
        let buffer = Buffer { kind: create.kind, bytes, host, array, address };
        self.all.insert(create.handle, buffer);
        Ok(())
    }

    pub(super) fn info(&self, info: &mut GetBufferInfo) -> Result<(), Errno> {
        must(info.ext == 0 && info.ext_flags == 0 && info.pad == 0)?;
        let buffer = self.all.get(&info.handle).ok_or(Errno::NOENT)?;
        let address = buffer.address.unwrap_or(accel::INVALID_ADDRESS);
        (info.address, info.device_address, info.map_offset) = match buffer.kind {
            buffer_kind::DEVICE => {
                let heap = self.heap_address().ok_or(Errno::INVAL)?;
                (heap + address - HEAP_ADDRESS, address, accel::INVALID_ADDRESS)
            }
            buffer_kind::DEVICE_HEAP => (address, HEAP_ADDRESS, map_offset(info.handle)),
            _ => (address, address, map_offset(info.handle)),
        };
        Ok(())
    }

    pub(super) fn sync(&mut self, sync: &SyncBuffer) -> Result<(), Errno> {
        let buffer = self.all.get(&sync.handle).ok_or(Errno::NOENT)?;
        let end = sync.offset.checked_add(sync.bytes).ok_or(Errno::INVAL)?;
        must(end <= buffer.bytes && sync.direction <= accel::FROM_DEVICE)?;
        let (mut handle, mut start) = (sync.handle, sync.offset);
        match (buffer.kind, buffer.address, self.heap) {
            (buffer_kind::COMMAND, _, _) => return Ok(()),
            (buffer_kind::DEVICE, Some(address), Some(heap)) => {
                (handle, start) = (heap, sync.offset + address - HEAP_ADDRESS);
            }
            _ => {}
        }
        let buffer = self.all.get_mut(&handle).ok_or(Errno::NOENT)?;
        let range = index(start)..index(start + sync.bytes);
        let (host, array) = (&mut buffer.host[range.clone()], &mut buffer.array[range]);
        match sync.direction {
            accel::TO_DEVICE => array.copy_from_slice(host),
            _ => host.copy_from_slice(array),
        }
        Ok(())
    }

    pub(super) fn close(&mut self, close: &GemClose) -> Result<(), Errno> {
        // The heap outlives its handle, as long as there are parts of it.
        must(close.pad == 0 && self.heap != Some(close.handle))?;
        must(!self.mappings.contains(&close.handle))?;
        self.all.remove(&close.handle).map(drop).ok_or(Errno::INVAL)
    }

    pub(super) fn map(
        &mut self,
        offset: u64,
        bytes: usize,
        alignment: usize,
    ) -> Result<MappingId, Errno> {
        let handle = u32::try_from(offset / (1 << 40)).map_err(|_| Errno::INVAL)?;
        let buffer = self.all.get_mut(&handle).ok_or(Errno::INVAL)?;
        must(offset == map_offset(handle) && bytes as u64 == buffer.bytes)?;
        must(buffer.kind != buffer_kind::DEVICE && buffer.address.is_none())?;
        must(alignment.is_power_of_two())?;
        let address = self.next_address.max(FIRST_ADDRESS).next_multiple_of(alignment as u64);
        // A page between buffers, so that what goes beyond one is in none.
        self.next_address = address + buffer.bytes + PAGE;
        buffer.address = Some(address);
        self.mappings.push(handle);
        Ok(MappingId(self.mappings.len() - 1))
    }

    pub(super) fn mapped_at(&self, MappingId(mapping): MappingId) -> u64 {
        self.all[&self.mappings[mapping]].address.unwrap_or(accel::INVALID_ADDRESS)
    }

    pub(super) fn host_view(&self, MappingId(mapping): MappingId) -> &[u8] {
        &self.all[&self.mappings[mapping]].host
    }

    pub(super) fn host_view_mut(&mut self, MappingId(mapping): MappingId) -> &mut [u8] {
        let handle = self.mappings[mapping];
        // A mapped buffer cannot be closed.
        self.all.get_mut(&handle).map_or(&mut [], |buffer| &mut buffer.host)
    }

    pub(super) fn exists(&self, handle: u32) -> bool {
        self.all.contains_key(&handle)
    }

    pub(super) fn has_mapped_heap(&self) -> bool {
        self.heap_address().is_some()
    }

    /// The words of a command.
    pub(super) fn command(&self, handle: u32) -> Option<&[u8]> {
        let buffer = self.all.get(&handle)?;
        (buffer.kind == buffer_kind::COMMAND).then_some(&buffer.host)
    }

    /// The words of a command, for the driver's answer.
    pub(super) fn command_mut(&mut self, handle: u32) -> Option<&mut [u8]> {
        let buffer = self.all.get_mut(&handle)?;
        (buffer.kind == buffer_kind::COMMAND).then_some(&mut buffer.host)
    }

    /// What the array sees of a device buffer.
    pub(super) fn device_buffer(&self, handle: u32) -> Option<&[u8]> {
        let buffer = self.all.get(&handle).filter(|buffer| buffer.kind == buffer_kind::DEVICE)?;
        self.heap_bytes(buffer.address?, buffer.bytes)
    }

    /// `bytes` at an address of the array inside one device buffer.
    pub(super) fn instructions(&self, address: u64, bytes: u64) -> Option<&[u8]> {
        let end = address.checked_add(bytes)?;
        self.all.values().find_map(|buffer| {
            let start = buffer.address.filter(|_| buffer.kind == buffer_kind::DEVICE)?;
            let is_inside = start <= address && end <= start + buffer.bytes;
            is_inside.then(|| self.heap_bytes(address, bytes))?
        })
    }

    /// Handle and offset of an address in a buffer that host and array share.
    pub(super) fn shared_at(&self, address: u64) -> Option<(u32, usize)> {
        self.all.iter().find_map(|(&handle, buffer)| {
            let start = buffer.address.filter(|_| buffer.kind == buffer_kind::SHARE)?;
            let offset = address.checked_sub(start).filter(|&offset| offset < buffer.bytes)?;
            Some((handle, index(offset)))
        })
    }

    /// What the array sees of a shared buffer.
    pub(super) fn shared_mut(&mut self, handle: u32) -> Option<&mut Vec<u8>> {
        let buffer = self.all.get_mut(&handle)?;
        (buffer.kind == buffer_kind::SHARE).then_some(&mut buffer.array)
    }

    fn heap_address(&self) -> Option<u64> {
        self.all.get(&self.heap?)?.address
    }

    fn heap_bytes(&self, address: u64, bytes: u64) -> Option<&[u8]> {
        let heap = self.all.get(&self.heap?)?;
        let start = address.checked_sub(HEAP_ADDRESS)?;
        heap.array.get(index(start)..index(start.checked_add(bytes)?))
    }

    /// The first free place for `bytes` in the heap.
    fn place_in_heap(&self, bytes: u64) -> Result<u64, Errno> {
        must(self.has_mapped_heap() && bytes <= HEAP_BYTES)?;
        let parts = self.all.values().filter(|buffer| buffer.kind == buffer_kind::DEVICE);
        let mut taken: Vec<(u64, u64)> =
            parts.filter_map(|buffer| Some((buffer.address?, buffer.bytes))).collect();
        taken.sort_unstable();
        let mut place = HEAP_ADDRESS;
        for (start, taken) in taken {
            if start - place >= bytes {
                break;
            }
            place = (start + taken).next_multiple_of(HEAP_UNIT);
        }
        let is_inside = place + bytes <= HEAP_ADDRESS + HEAP_BYTES;
        is_inside.then_some(place).ok_or(Errno::NOSPC)
    }
}

/// What `mmap` takes for a buffer.
fn map_offset(handle: u32) -> u64 {
    u64::from(handle) << 40
}

fn zeros(bytes: u64) -> Result<Vec<u8>, Errno> {
    let length = usize::try_from(bytes).map_err(|_| Errno::NOMEM)?;
    // `vec!` ends the process when there is no memory; this asks before.
    Vec::<u8>::new().try_reserve_exact(length).map_err(|_| Errno::NOMEM)?;
    Ok(vec![0; length])
}

/// A position in memory that is there.
fn index(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}
