//! What a core sees of its tile and its neighbours.

use crate::Fault;

/// The data memories and locks that one core reaches.
///
/// Addresses are the core's own: data memory of the southern, western and northern neighbour at
/// 0x40000, 0x50000 and 0x60000, its own at 0x70000, 64 KiB each. Lock numbers are the core's own:
/// 0 to 15 south, 16 to 31 west, 32 to 47 north, 48 to 63 its own tile's.
pub trait Bus {
    /// Reads `bytes.len()` bytes at `address`.
    ///
    /// # Errors
    /// An address outside every window, or bytes that nobody wrote.
    fn load(&mut self, address: u32, bytes: &mut [u8]) -> Result<(), Fault>;

    /// Writes `bytes` at `address`.
    ///
    /// # Errors
    /// An address outside every window.
    fn store(&mut self, address: u32, bytes: &[u8]) -> Result<(), Fault>;

    /// Takes lock `lock` if it allows: a negative `value` -n needs at least n and subtracts n, any
    /// other needs exactly `value` and subtracts it. False when the core has to wait.
    ///
    /// # Errors
    /// A lock that does not exist.
    fn acquire(&mut self, lock: u32, value: i32) -> Result<bool, Fault>;

    /// Adds `value` to lock `lock`.
    ///
    /// # Errors
    /// A lock that does not exist, or a sum outside -64 to 63.
    fn release(&mut self, lock: u32, value: i32) -> Result<(), Fault>;
}
