//! What a configuration may not ask of the array.

use thiserror::Error;

use super::{Channel, DescriptorId, LockId, Port, Tile};

/// A request that the array cannot fulfil: where, what, and what there is.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ArrayError {
    /// A part that this kind of tile does not have, or not so many of.
    #[error("{tile}: {what} {index}, but the tile has {count}")]
    NoSuchPart {
        /// The tile.
        tile: Tile,
        /// What was asked for.
        what: &'static str,
        /// Its number.
        index: u64,
        /// How many there are.
        count: u64,
    },
    /// A number that its register has no room for.
    #[error("{tile}: {field} is {found}, outside {least} to {most}")]
    OutOfRange {
        /// The tile.
        tile: Tile,
        /// What the number is.
        field: &'static str,
        /// The least that fits.
        least: i64,
        /// The most that fits.
        most: i64,
        /// The number.
        found: i64,
    },
    /// Bytes outside a tile's memory.
    #[error("{tile}: bytes {start:#x} to {end:#x}, but the memory has {size:#x}")]
    OutsideMemory {
        /// The tile.
        tile: Tile,
        /// The first byte.
        start: u64,
        /// The byte behind the last.
        end: u64,
        /// Bytes of the memory.
        size: u64,
    },
    /// An address or a length that is not whole words.
    #[error("{tile}: {field} is {found} bytes, not a multiple of 4")]
    NotWords {
        /// The tile.
        tile: Tile,
        /// What the number is.
        field: &'static str,
        /// The number of bytes.
        found: u64,
    },
    /// Something that is set a second time.
    #[error("{tile}: {what} {index} is set twice")]
    SetTwice {
        /// The tile.
        tile: Tile,
        /// What it is.
        what: &'static str,
        /// Its number.
        index: u64,
    },
    /// A descriptor that is named but was never written.
    #[error("{tile}: descriptor {descriptor:?} is started or chained, but not written")]
    NoDescriptor {
        /// The tile.
        tile: Tile,
        /// The descriptor.
        descriptor: DescriptorId,
    },
    /// A descriptor that its channel cannot use: in a memory tile the even channels use 0 to 23,
    /// the odd ones 24 to 47.
    #[error("{channel}: cannot use descriptor {descriptor:?}")]
    NotForChannel {
        /// The channel.
        channel: Channel,
        /// The descriptor.
        descriptor: DescriptorId,
    },
    /// A lock that a descriptor names but nothing initialises.
    #[error("{tile}: lock {lock:?} is used, but never set")]
    LockNotSet {
        /// The tile.
        tile: Tile,
        /// The lock.
        lock: LockId,
    },
    /// A connection that the tile's switch does not have.
    #[error("{tile}: its switch does not connect {from} to {to}")]
    NoConnection {
        /// The tile.
        tile: Tile,
        /// Where the stream would come from.
        from: Port,
        /// Where it would go.
        to: Port,
    },
    /// An output that two streams would share.
    #[error("{tile}: {to} gets {first} and {second}")]
    DrivenTwice {
        /// The tile.
        tile: Tile,
        /// The output.
        to: Port,
        /// What it already gets.
        first: Port,
        /// What it should get too.
        second: Port,
    },
    /// A route that ends between two tiles.
    #[error("{tile}: nothing on the other side of {port}")]
    OpenRoute {
        /// The tile.
        tile: Tile,
        /// The port that only this tile uses.
        port: Port,
    },
}
