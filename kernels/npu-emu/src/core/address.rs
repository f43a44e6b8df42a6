//! Memory accesses: addresses, alignment, stores that land late.

use super::CoreFault;
use super::latency::{Class, Window};
use super::operation::{Address, Size};
use super::registers::{Reads, Registers, Scalar};
use crate::bus::Bus;

/// Words from a lock operation to a memory access after it: llvm-aie's core resumes in cycle 8
/// (`AIEBaseInstrInfo::getCoreResumeCycleAfterLock`), memory is accessed in cycle 5.
const AFTER_LOCK: u64 = 4;
/// Words from a lock operation to the next one: the first keeps the lock unit so long (llvm-aie
/// `AIE2PGenSchedule.td`: `InstrStage<4, [LCKREQ]>` of `II_ACQ_*` and `II_REL_*`).
const LOCK_UNIT: u64 = 4;
/// Words from an ordinary access (cycle 5) to a lock operation, which stalls in cycle 2
/// (`getCoreStallCycleAfterLock`).
const BEFORE_LOCK: u64 = 4;
/// The same from a store that shifts and rounds, which accesses memory in cycle 7.
const SHIFTED_BEFORE_LOCK: u64 = 6;
/// Words from a store that shifts and rounds to the first load that sees it: two more than from
/// others, which loads of the next word see.
const SHIFTED_DELAY: u64 = 3;
/// Words from a store of part of a word to any other access (`IsPartWordStore`): it reads the word
/// in cycle 5, its register in cycle 7, and writes in cycle 11 (`II_ST_s8_*`).
const AFTER_PART: u64 = 7;
/// Words after its issue at which it reads its register.
const PART_READS: u64 = 6;
/// Words from it to a lock operation.
const PART_BEFORE_LOCK: u64 = 10;

#[derive(Clone, Copy, Debug)]
struct LateStore {
    due: u64,
    address: u32,
    bytes: [u8; 64],
}

/// A store of part of a word that has not read its register.
#[derive(Clone, Copy, Debug)]
struct PartStore {
    address: u32,
    size: Size,
    register: Scalar,
}

/// The order of memory accesses, and the stores that have not landed.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    /// One is issued in a word at most, and each waits the same.
    late: [Option<LateStore>; SHIFTED_DELAY as usize + 1],
    late_count: u8,
    /// By the cycle in which the register is read.
    parts: [Option<PartStore>; AFTER_PART as usize],
    part_count: u8,
    reads: Reads,
    now: u64,
    /// When the last lock operation was issued.
    locked: Option<u64>,
    after_lock: u64,
    before_lock: u64,
    after_part: u64,
}

impl Memory {
    pub fn new(reads: Reads) -> Self {
        Memory {
            late: [None; SHIFTED_DELAY as usize + 1],
            late_count: 0,
            parts: [None; AFTER_PART as usize],
            part_count: 0,
            reads,
            now: 0,
            locked: None,
            after_lock: 0,
            before_lock: 0,
            after_part: 0,
        }
    }

    /// Starts cycle `now`: late stores land. Calling it twice changes nothing.
    pub fn begin(
        &mut self,
        now: u64,
        registers: &Registers,
        bus: &mut dyn Bus,
    ) -> Result<(), CoreFault> {
        self.now = now;
        if self.part_count > 0
            && let Some(part) = self.parts[(now % AFTER_PART) as usize].take()
        {
            self.part_count -= 1;
            let value = registers.scalar(part.register)?;
            let bytes = value.to_le_bytes();
            bus.store(part.address, &bytes[..part.size.bytes()]).map_err(from_bus)?;
        }
        if self.late_count == 0 {
            return Ok(());
        }
        self.land(bus, |store| store.due == now)
    }

    /// Whether a store is under way.
    pub fn is_busy(&self) -> bool {
        self.late_count > 0 || self.part_count > 0
    }

    fn land(
        &mut self,
        bus: &mut dyn Bus,
        is_due: impl Fn(&LateStore) -> bool,
    ) -> Result<(), CoreFault> {
        // Oldest first.
        for age in (0..=SHIFTED_DELAY).rev() {
            let slot = &mut self.late[(self.now.wrapping_sub(age) % (SHIFTED_DELAY + 1)) as usize];
            if slot.as_ref().is_some_and(&is_due) {
                let store = slot.take().expect("just seen");
                self.late_count -= 1;
                bus.store(store.address, &store.bytes).map_err(from_bus)?;
            }
        }
        Ok(())
    }

    /// Notes a lock operation. One that waits is noted again, and again in the same word.
    pub fn lock(&mut self) -> Result<(), CoreFault> {
        let since = self.locked.map_or(0, |locked| self.now - locked);
        if since != 0 && since < LOCK_UNIT {
            return Err(CoreFault::LocksTooClose { missing: (LOCK_UNIT - since) as u32 });
        }
        self.locked = Some(self.now);
        if self.reads == Reads::Checked && self.now < self.before_lock {
            return Err(CoreFault::LockTooClose { missing: (self.before_lock - self.now) as u32 });
        }
        self.after_lock = self.now + AFTER_LOCK;
        Ok(())
    }

    /// Reads `bytes` at `address`.
    pub fn load(
        &mut self,
        bus: &mut dyn Bus,
        address: u32,
        bytes: &mut [u8],
    ) -> Result<(), CoreFault> {
        self.access(address, bytes.len() as u32)?;
        bus.load(address, bytes).map_err(from_bus)
    }

    /// Writes `bytes` at `address`.
    pub fn store(
        &mut self,
        bus: &mut dyn Bus,
        address: u32,
        bytes: &[u8],
    ) -> Result<(), CoreFault> {
        self.access(address, bytes.len() as u32)?;
        bus.store(address, bytes).map_err(from_bus)
    }

    /// Writes part of a word at `address`, with what the register holds then.
    pub fn store_part(
        &mut self,
        address: u32,
        size: Size,
        register: Scalar,
    ) -> Result<(), CoreFault> {
        self.access(address, size.bytes() as u32)?;
        self.after_part = self.now + AFTER_PART;
        self.before_lock = self.now + PART_BEFORE_LOCK;
        let slot = &mut self.parts[((self.now + PART_READS) % AFTER_PART) as usize];
        *slot = Some(PartStore { address, size, register });
        self.part_count += 1;
        Ok(())
    }

    /// Writes 64 bytes at `address`, late.
    pub fn store_shifted(&mut self, address: u32, bytes: [u8; 64]) -> Result<(), CoreFault> {
        self.access(address, 64)?;
        self.before_lock = self.now + SHIFTED_BEFORE_LOCK;
        let due = self.now + SHIFTED_DELAY;
        let slot = &mut self.late[(self.now % (SHIFTED_DELAY + 1)) as usize];
        *slot = Some(LateStore { due, address, bytes });
        self.late_count += 1;
        Ok(())
    }

    fn access(&mut self, address: u32, bytes: u32) -> Result<(), CoreFault> {
        if !address.is_multiple_of(bytes) {
            return Err(CoreFault::Misaligned { address, bytes });
        }
        if self.reads == Reads::Checked {
            if self.now < self.after_lock {
                return Err(CoreFault::LockTooClose {
                    missing: (self.after_lock - self.now) as u32,
                });
            }
            let overlaps =
                |store: &LateStore| address < store.address + 64 && store.address < address + bytes;
            let is_late = self.late_count > 0 && self.late.iter().flatten().any(overlaps);
            if is_late || self.now < self.after_part {
                return Err(CoreFault::StoreUnderWay);
            }
            self.before_lock = self.before_lock.max(self.now + BEFORE_LOCK);
        }
        Ok(())
    }
}

pub(super) fn from_bus(fault: crate::Fault) -> CoreFault {
    CoreFault::Bus(Box::new(fault))
}

impl Size {
    /// Bytes of the access.
    pub fn bytes(self) -> usize {
        match self {
            Size::Signed8 | Size::Unsigned8 => 1,
            Size::Signed16 | Size::Unsigned16 => 2,
            Size::Word => 4,
        }
    }

    /// The register value of what was read.
    pub fn extend(self, bytes: [u8; 4]) -> u32 {
        let word = u32::from_le_bytes(bytes);
        match self {
            Size::Signed8 => word as i8 as u32,
            Size::Unsigned8 => u32::from(word as u8),
            Size::Signed16 => word as i16 as u32,
            Size::Unsigned16 => u32::from(word as u16),
            Size::Word => word,
        }
    }
}

impl Address {
    /// The address of the access; queues what becomes of the pointer.
    #[inline]
    pub fn resolve(self, registers: &mut Registers, window: Window) -> Result<u32, CoreFault> {
        let (p, by) = match self {
            Address::Offset { p, by } => return add(registers.scalar(p)?, by as u32),
            Address::Index { p, dj } => {
                return add(registers.scalar(p)?, registers.scalar(dj)?);
            }
            Address::Stack { by } => return add(registers.scalar(Scalar::SP)?, by as u32),
            Address::Then { p, by } => (p, by as u32),
            Address::ThenBy { p, m } => (p, registers.scalar(m)?),
            Address::Then2d { p, d } => (p, step_2d(registers, d, window)?),
            Address::Then3d { p, d } => (p, step_3d(registers, d, window)?),
        };
        let address = registers.scalar(p)?;
        registers.write(p, address.wrapping_add(by), window)?;
        Ok(address)
    }
}

/// Pointers have 20 bits.
fn add(pointer: u32, by: u32) -> Result<u32, CoreFault> {
    Ok(pointer.wrapping_add(by) & 0xf_ffff)
}

/// What a 2-dimensional access adds to its pointer: dj as long as the counter dc is not dn, then m.
/// (llvm-aie, `aiev2` and `aie2p` headers: `dims_2d_from_steps` stores sizes less one.)
fn step_2d(registers: &mut Registers, d: u8, window: Window) -> Result<u32, CoreFault> {
    let count = registers.scalar(Scalar::dc(d))?;
    if count == registers.scalar(Scalar::dn(d))? {
        registers.write(Scalar::dc(d), 0, window)?;
        registers.scalar(Scalar::m(d))
    } else {
        registers.write(Scalar::dc(d), count.wrapping_add(1), window)?;
        registers.scalar(Scalar::dj(d))
    }
}

/// The same with a second counter around the first; m of the first is added when both wrap.
fn step_3d(registers: &mut Registers, d: u8, window: Window) -> Result<u32, CoreFault> {
    let outer = d + 4;
    let count = registers.scalar(Scalar::dc(d))?;
    if count != registers.scalar(Scalar::dn(d))? {
        registers.write(Scalar::dc(d), count.wrapping_add(1), window)?;
        return registers.scalar(Scalar::dj(d));
    }
    registers.write(Scalar::dc(d), 0, window)?;
    let count = registers.scalar(Scalar::dc(outer))?;
    if count == registers.scalar(Scalar::dn(outer))? {
        registers.write(Scalar::dc(outer), 0, window)?;
        registers.scalar(Scalar::m(d))
    } else {
        registers.write(Scalar::dc(outer), count.wrapping_add(1), window)?;
        registers.scalar(Scalar::dj(outer))
    }
}

/// Pointer updates are scalar results.
pub(super) const POINTER: Class = Class::Scalar;
