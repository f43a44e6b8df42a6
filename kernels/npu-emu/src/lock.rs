//! Locks: small signed counters that DMA channels and cores wait on.

use crate::Fault;
use crate::geometry::{TileId, bits};

/// The smallest value a lock holds (aie-rt `xaie_locks_aieml.h`).
pub const LEAST: i32 = -64;
/// The largest value a lock holds.
pub const MOST: i32 = 63;

/// One lock of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockId {
    /// The tile it is in.
    pub tile: TileId,
    /// Its number there.
    pub index: u8,
}

impl std::fmt::Display for LockId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} lock {}", self.tile, self.index)
    }
}

/// The locks of one tile.
#[derive(Clone, Debug)]
pub struct Locks {
    tile: TileId,
    values: Vec<i8>,
}

impl Locks {
    /// All locks of `tile`, zero.
    pub fn new(tile: TileId) -> Self {
        Locks { tile, values: vec![0; usize::from(tile.kind().locks())] }
    }

    /// The value of lock `index`; zero for one that does not exist.
    pub fn value(&self, index: u8) -> i32 {
        self.values.get(usize::from(index)).copied().unwrap_or(0).into()
    }

    /// Sets lock `index` as a write of `word` to its register does: the register has six bits.
    pub fn set(&mut self, index: u8, word: u32) {
        if let Some(value) = self.values.get_mut(usize::from(index)) {
            *value = i8::try_from(bits(word, 5, 0)).unwrap_or(0);
        }
    }

    /// Takes the lock if it allows: a negative `value` -n needs at least n and takes n, any other
    /// needs exactly `value` and takes that. False when it has to be waited for.
    ///
    /// # Errors
    /// A lock that does not exist, or a `value` outside [`LEAST`] to [`MOST`].
    pub fn acquire(&mut self, index: u8, value: i32) -> Result<bool, Fault> {
        let lock = LockId { tile: self.tile, index };
        let held = self.values.get_mut(usize::from(index)).ok_or(Fault::NoSuchLock { lock })?;
        check_value(lock, value)?;
        let now = i32::from(*held);
        let (allowed, taken) =
            if value < 0 { (now >= -value, -value) } else { (now == value, value) };
        if allowed {
            *held = i8::try_from(now - taken)
                .map_err(|_| Fault::LockRange { lock, value: now - taken })?;
        }
        Ok(allowed)
    }

    /// Adds `value` to the lock.
    ///
    /// # Errors
    /// A lock that does not exist, or a `value` or a sum outside [`LEAST`] to [`MOST`].
    pub fn release(&mut self, index: u8, value: i32) -> Result<(), Fault> {
        let lock = LockId { tile: self.tile, index };
        let held = self.values.get_mut(usize::from(index)).ok_or(Fault::NoSuchLock { lock })?;
        check_value(lock, value)?;
        let sum = i32::from(*held) + value;
        if !(LEAST..=MOST).contains(&sum) {
            return Err(Fault::LockRange { lock, value: sum });
        }
        *held = i8::try_from(sum).map_err(|_| Fault::LockRange { lock, value: sum })?;
        Ok(())
    }
}

/// A core's operation takes its value from a register, which holds more than a lock does.
fn check_value(lock: LockId, value: i32) -> Result<(), Fault> {
    if (LEAST..=MOST).contains(&value) { Ok(()) } else { Err(Fault::LockValue { lock, value }) }
}
