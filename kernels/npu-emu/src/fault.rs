//! What the array would not do as meant.

use onebit_aie::ParseError;
use thiserror::Error;

use crate::core::CoreFault;
use crate::geometry::{ChannelId, TileId};
use crate::lock::LockId;
use crate::switch::{MasterId, SlaveId};

/// A fault of the emulated program: where, what, and what the hardware expects.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    // --- cores ---
    /// A core's address is in no window.
    #[error("core address {address:#x}: outside the data memories a core reaches")]
    NoSuchAddress {
        /// The core's own address.
        address: u32,
    },
    /// A core cannot execute an instruction word.
    #[error("program address {pc:#x}, `{word}`: {cause}")]
    Core {
        /// Byte address of the word in program memory.
        pc: u32,
        /// The word's text.
        word: String,
        /// Why.
        #[source]
        cause: CoreFault,
    },
    /// A load of memory that nobody wrote.
    #[error("byte {address:#x} of {tile} is loaded, never written")]
    UnwrittenLoaded {
        /// The memory's tile.
        tile: TileId,
        /// The byte in that memory.
        address: u32,
    },
    /// A fault of a core, with the core's place.
    #[error("core of {tile}: {fault}")]
    InCore {
        /// The core's tile.
        tile: TileId,
        /// What it did.
        fault: Box<Fault>,
    },
    /// A core that neither waits nor ends, or a group of tiles that never comes to rest.
    #[error("{who}: {steps} {what}")]
    Runaway {
        /// Who was at work when it was enough, a core or a channel.
        who: String,
        /// How much was done.
        steps: u64,
        /// Of what, and how it should have ended.
        what: &'static str,
    },

    // --- input ---
    /// The xclbin or the instruction stream cannot be read.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The instruction stream is for another array.
    #[error("instruction stream for generation {generation} with {rows} rows: not an npu4's")]
    OtherArray {
        /// What the stream's header says: 4 for an npu4.
        generation: u8,
        /// Rows of its array.
        rows: u8,
    },
    /// An operation of the instruction stream that is not emulated.
    #[error("operation {index} of the instruction stream: {what} is not emulated")]
    UnsupportedOperation {
        /// Its number in the stream.
        index: usize,
        /// Its name.
        what: &'static str,
    },
    /// An address patch for an argument that was not given.
    #[error("operation {index} of the instruction stream: there is no argument {argument}")]
    NoSuchArgument {
        /// Its number in the stream.
        index: usize,
        /// The argument it names.
        argument: u32,
    },

    /// A sync that waits for a channel that the array does not have.
    #[error(
        "operation {index} of the instruction stream waits for {channel}, which does not exist"
    )]
    NoSuchChannel {
        /// Its number in the stream.
        index: usize,
        /// The first such channel.
        channel: ChannelId,
    },

    // --- registers ---
    /// A write to a tile that is not there.
    #[error("write to column {column}, row {row}: there is no such tile")]
    NoSuchTile {
        /// The column of the address.
        column: u32,
        /// The row of the address.
        row: u32,
    },
    /// A write to a register that is not known; only a fault when asked for.
    #[error("{tile}: nothing is known of register {offset:#x}")]
    UnknownRegister {
        /// The tile.
        tile: TileId,
        /// Bytes from the start of the tile's addresses.
        offset: u32,
    },
    /// A known register is asked for something that is not emulated.
    #[error("{tile}, register {offset:#x}: {what} is not emulated")]
    Unsupported {
        /// The tile.
        tile: TileId,
        /// Bytes from the start of the tile's addresses.
        offset: u32,
        /// What is asked for.
        what: &'static str,
    },

    // --- streams ---
    /// A connection that the stream switch does not have.
    #[error("{master} cannot be fed from {slave}: the stream switch has no such connection")]
    IllegalRoute {
        /// The port that is fed.
        master: MasterId,
        /// The port it is to be fed from.
        slave: SlaveId,
    },
    /// A master port selects a slave port that does not exist.
    #[error("{master} selects slave port {index}: there is no such port")]
    NoSuchPort {
        /// The master port.
        master: MasterId,
        /// What it selects.
        index: u8,
    },
    /// A port at the array's edge leads nowhere.
    #[error("{master} leads out of the array")]
    RouteOffArray {
        /// The port.
        master: MasterId,
    },
    /// A master port listens to a slave port that is switched off.
    #[error("{master} is fed from {slave}, which is not enabled")]
    SilentPort {
        /// The master port.
        master: MasterId,
        /// The slave port.
        slave: SlaveId,
    },
    /// Two routes want one master port.
    #[error("{master} is driven twice: from slave port {first} and from slave port {second}")]
    DoubleDriven {
        /// The port.
        master: MasterId,
        /// The slave port that had it.
        first: u8,
        /// The slave port that wants it.
        second: u8,
    },
    /// A route that comes back to where it was.
    #[error("the route through {slave} goes in a circle")]
    RouteLoop {
        /// A port it goes through twice.
        slave: SlaveId,
    },
    /// A route that parts and comes together again: one packet would arrive twice.
    #[error("the route through {slave} comes there by two ways")]
    RoutesMeet {
        /// The port where its ways meet.
        slave: SlaveId,
    },
    /// Data sent where nothing takes it.
    #[error("{source_channel}: its stream ends at {end}, which takes no data")]
    DeadEnd {
        /// Where the data comes from.
        source_channel: ChannelId,
        /// Where its way ends.
        end: String,
    },
    /// A packet that no slot of a slave port lets in.
    #[error("{slave}: no slot lets packets of id {id} in")]
    NoSlot {
        /// The slave port.
        slave: SlaveId,
        /// The packet's id.
        id: u8,
    },
    /// A task-complete token that does not reach the controller.
    #[error(
        "{channel}: its task-complete token with id {controller} does not reach the controller"
    )]
    LostToken {
        /// The channel that sends it.
        channel: ChannelId,
        /// The controller id of the channel.
        controller: u8,
    },
    /// Data that nobody took before the end.
    #[error("{channel}: {words} words are left at the end of the run")]
    LeftoverData {
        /// The channel they are at: not yet taken by it, or not yet sent.
        channel: ChannelId,
        /// How many.
        words: u64,
    },

    // --- DMA ---
    /// More tasks than a queue holds.
    #[error("{channel}: a fifth task was put into a queue of four")]
    QueueOverflow {
        /// The channel.
        channel: ChannelId,
    },
    /// A descriptor that is used and not marked valid.
    #[error("{channel}: descriptor {descriptor} is not valid")]
    InvalidDescriptor {
        /// The channel.
        channel: ChannelId,
        /// The descriptor.
        descriptor: u8,
    },
    /// A descriptor that the channel cannot use: none of that number, or one of the other half of
    /// a memory tile's (mlir-aie `AIETargetModel.cpp`, `isBdChannelAccessible`).
    #[error("{channel}: cannot use descriptor {descriptor}")]
    UnreachableDescriptor {
        /// The channel.
        channel: ChannelId,
        /// The descriptor.
        descriptor: u8,
    },
    /// A descriptor with a feature that is not emulated or not allowed.
    #[error("{channel}, descriptor {descriptor}: {what}")]
    BadDescriptor {
        /// The channel.
        channel: ChannelId,
        /// The descriptor.
        descriptor: u8,
        /// What is wrong.
        what: &'static str,
    },
    /// A descriptor that is rewritten while a channel works on it or has it in its queue.
    #[error("{channel}: descriptor {descriptor} is rewritten while in use")]
    DescriptorInUse {
        /// The channel.
        channel: ChannelId,
        /// The descriptor.
        descriptor: u8,
    },
    /// A descriptor that walks out of its memory.
    #[error("{channel}, descriptor {descriptor}: byte {address:#x} is outside the memory")]
    OutOfBounds {
        /// The channel.
        channel: ChannelId,
        /// The descriptor.
        descriptor: u8,
        /// The first byte outside, as the channel counts; of the shim, an address of the machine.
        address: u64,
    },
    /// Memory that is sent before anybody wrote it.
    #[error("{channel}, descriptor {descriptor}: reads byte {address:#x} of {tile}, never written")]
    UnwrittenSent {
        /// The channel.
        channel: ChannelId,
        /// The descriptor.
        descriptor: u8,
        /// The memory's tile.
        tile: TileId,
        /// The byte in that memory.
        address: u32,
    },
    /// Two channels at work on one piece of memory, at least one of them writing.
    #[error("{first} and {second} use the same memory at once, at byte {address:#x}")]
    ConcurrentAccess {
        /// The channel that was there first.
        first: ChannelId,
        /// The channel that came.
        second: ChannelId,
        /// The first byte that both use.
        address: u64,
    },
    /// A core that stores where a channel is at work, without a lock between them.
    #[error("{tile} core stores to byte {address:#x} of {memory} while {channel} works on it")]
    StoreDuringTransfer {
        /// The core's tile.
        tile: TileId,
        /// The tile whose memory it is.
        memory: TileId,
        /// The channel.
        channel: ChannelId,
        /// The first byte that both use.
        address: u64,
    },
    /// Two channels whose walks may meet, one of them in more stretches than are looked at.
    #[error(
        "{channel}, descriptor {descriptor}: more than {most} separate stretches beside {other}, \
         which may use the same memory"
    )]
    TooScattered {
        /// The channel.
        channel: ChannelId,
        /// The descriptor.
        descriptor: u8,
        /// How many stretches are looked at.
        most: usize,
        /// Whom it may meet.
        other: String,
    },
    /// Two columns that use one piece of an argument between two syncs, at least one writing.
    #[error("argument {argument}: columns {columns:?} use byte {offset:#x} without a sync between")]
    UnorderedArgument {
        /// The argument.
        argument: usize,
        /// A column of each of the two parties.
        columns: [u8; 2],
        /// The byte.
        offset: u64,
    },
    /// A task of the shim that did not end before the instruction stream did.
    #[error("{channel}: a task is not complete at the end of the run")]
    UnfinishedTask {
        /// The channel.
        channel: ChannelId,
    },

    // --- locks ---
    /// A lock that does not exist.
    #[error("{lock}: there is no such lock")]
    NoSuchLock {
        /// The lock.
        lock: LockId,
    },
    /// A number that names no lock that a channel reaches.
    #[error("{channel}: there is no lock {number}")]
    UnreachableLock {
        /// The channel.
        channel: ChannelId,
        /// The number, as the channel counts.
        number: u8,
    },
    /// A lock operation with a value that no lock takes.
    #[error("{lock}: an operation with {value}, which is outside -64 to 63")]
    LockValue {
        /// The lock.
        lock: LockId,
        /// What was to be taken or given.
        value: i32,
    },
    /// A lock's value would leave its range.
    #[error("{lock}: {value} is outside -64 to 63")]
    LockRange {
        /// The lock.
        lock: LockId,
        /// The value it would have.
        value: i32,
    },

    // --- the whole ---
    /// Nothing can move any more, and the instruction stream waits.
    #[error("deadlock at operation {index}: {waits_for}\n{}", .waiting.join("\n"))]
    Deadlock {
        /// The operation of the stream that waits.
        index: usize,
        /// What it waits for.
        waits_for: String,
        /// Everybody else who waits, and for what.
        waiting: Vec<String>,
    },
    /// A tile uses a neighbour that was believed independent of it. Never leaves the emulator.
    #[error("{tile} uses {neighbour}")]
    NeedsMerge {
        /// The tile.
        tile: TileId,
        /// The neighbour.
        neighbour: TileId,
    },
}
