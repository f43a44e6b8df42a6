//! TXN: the instruction stream the NPU's controller runs for one call.
//!
//! A 16-byte header and then operations back to back, all of them words, little-endian. Sources:
//! mlir-aie `lib/Targets/AIETargetNPU.cpp`, whose expected words this crate's tests repeat, and
//! aie-rt's `xaie_txn.h`. Operations that only newer firmware knows are refused, not skipped.

use crate::bytes::{Reader, Writer, fit_u32};
use crate::error::{Format, ParseError, WriteError};
use crate::program::{RegisterAddress, RegisterOp, RegisterProgram};

const HEADER_BYTES: usize = 16;

/// The first byte of an operation.
mod opcode {
    pub const WRITE: u32 = 0;
    pub const BLOCK_WRITE: u32 = 1;
    pub const MASK_WRITE: u32 = 3;
    pub const MASK_POLL: u32 = 4;
    pub const NOOP: u32 = 5;
    pub const PREEMPT: u32 = 6;
    pub const MASK_POLL_BUSY: u32 = 7;
    pub const LOAD_PDI: u32 = 8;
    pub const SYNC: u32 = 0x80;
    pub const ADDRESS_PATCH: u32 = 0x81;
}

const WRITE_BYTES: u32 = 0x18;
const MASK_BYTES: u32 = 0x1c;
const BLOCK_HEADER_BYTES: u32 = 0x10;
const SYNC_BYTES: u32 = 0x10;
const PATCH_BYTES: u32 = 0x30;

/// What the stream says of the array it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnHeader {
    /// Format version, first part. 0 for the one written here.
    pub major: u8,
    /// Format version, second part. 1 for the one written here.
    pub minor: u8,
    /// Array generation: 3 AIE2 ("npu1"), 4 AIE2P ("npu4").
    pub generation: u8,
    /// Rows of the array, shim and memory rows included.
    pub rows: u8,
    /// Columns of the partition.
    pub columns: u8,
    /// Rows of memory tiles.
    pub memory_rows: u8,
}

impl TxnHeader {
    /// The header of a stream for `columns` columns of an npu4.
    pub const fn npu4(columns: u8) -> Self {
        TxnHeader { major: 0, minor: 1, generation: 4, rows: 6, columns, memory_rows: 1 }
    }
}

/// Which end of a DMA channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a stream into memory.
    StreamToMemory,
    /// From memory into a stream.
    MemoryToStream,
}

/// How the controller waits in [`TxnOp::MaskPoll`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The controller may do other work meanwhile.
    Yielding,
    /// The controller does nothing else.
    Busy,
}

/// One operation of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnOp {
    /// A write that every serialisation of a program has.
    Register(RegisterOp),
    /// A block write that repeats the column and row of its address in its second word.
    TaggedBlockWrite {
        /// Where the first word goes.
        address: RegisterAddress,
        /// The words.
        data: Vec<u32>,
    },
    /// Waits until the bits that `mask` selects have the value `value`.
    MaskPoll {
        /// The register to read.
        address: RegisterAddress,
        /// The bits to compare.
        mask: u32,
        /// What they must be.
        value: u32,
        /// How to wait.
        wait: Wait,
    },
    /// Does nothing.
    Noop,
    /// A place where the firmware may switch to another context.
    Preempt {
        /// How much state must be saved there.
        level: u8,
    },
    /// Loads a PDI from memory.
    LoadPdi {
        /// Its number.
        id: u16,
        /// Its length in bytes.
        bytes: u32,
        /// Where it lies, as the NPU sees memory.
        address: u64,
    },
    /// Waits for one task-complete token of each tile of a rectangle.
    Sync {
        /// The first column.
        column: u8,
        /// The first row.
        row: u8,
        /// How many columns.
        columns: u8,
        /// How many rows.
        rows: u8,
        /// Which end of the channel reports.
        direction: Direction,
        /// The DMA channel.
        channel: u8,
    },
    /// Puts the address of a kernel argument, plus `addend`, into a buffer descriptor of a shim
    /// DMA, in the place of whatever address is there.
    AddressPatch {
        /// The descriptor's address word (its second).
        register: RegisterAddress,
        /// Which argument, counted from the first buffer.
        argument: u32,
        /// Bytes to add to the argument's address.
        addend: u64,
    },
}

/// A whole stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    /// What it is for.
    pub header: TxnHeader,
    /// What it does, in order.
    pub ops: Vec<TxnOp>,
}

impl Txn {
    /// A stream that does exactly the writes of `program`.
    pub fn from_program(header: TxnHeader, program: &RegisterProgram) -> Self {
        Txn { header, ops: program.ops.iter().cloned().map(TxnOp::Register).collect() }
    }

    /// The writes of this stream; what else it does is left out.
    pub fn program(&self) -> RegisterProgram {
        let writes = self.ops.iter().filter_map(|op| match op {
            TxnOp::Register(op) => Some(op.clone()),
            TxnOp::TaggedBlockWrite { address, data } => {
                Some(RegisterOp::BlockWrite { address: *address, data: data.clone() })
            }
            _ => None,
        });
        RegisterProgram { ops: writes.collect() }
    }

    /// The bytes of the stream.
    ///
    /// # Errors
    /// When a length does not fit its 32-bit field.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WriteError> {
        let mut body = Writer::default();
        self.ops.iter().try_for_each(|op| write_op(&mut body, op))?;
        let body = body.finish();
        let total = fit_u32(Format::Txn, "bytes of the stream", HEADER_BYTES + body.len())?;
        let ops = fit_u32(Format::Txn, "number of operations", self.ops.len())?;
        let TxnHeader { major, minor, generation, rows, columns, memory_rows } = self.header;
        let mut writer = Writer::default();
        writer.bytes(&[major, minor, generation, rows, columns, memory_rows, 0, 0]);
        writer.words(&[ops, total]);
        writer.bytes(&body);
        Ok(writer.finish())
    }

    /// Reads a stream.
    ///
    /// # Errors
    /// At the first field that is not as the format has it: an unknown operation, a size or a
    /// count that does not agree with the operations, a spare word that is not zero.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(Format::Txn, bytes, 0);
        let [major, minor, generation, rows, columns, memory_rows] = reader.array("header")?;
        reader.expect_zeros("spare bytes of the header", 2)?;
        let count = reader.u32("number of operations")?;
        let offset = reader.offset();
        let total = reader.u32("bytes of the stream")?;
        if usize::try_from(total) != Ok(bytes.len()) {
            return Err(reader.error_at(offset, "bytes of the stream", bytes.len(), total));
        }
        let mut ops = Vec::new();
        while reader.remaining() > 0 {
            ops.push(read_op(&mut reader)?);
        }
        if usize::try_from(count) != Ok(ops.len()) {
            return Err(reader.error_at(8, "number of operations", ops.len(), count));
        }
        let header = TxnHeader { major, minor, generation, rows, columns, memory_rows };
        Ok(Txn { header, ops })
    }
}

fn write_op(writer: &mut Writer, op: &TxnOp) -> Result<(), WriteError> {
    match op {
        TxnOp::Register(RegisterOp::Write32 { address, value }) => {
            writer.words(&[opcode::WRITE, 0, address.bits(), 0, *value, WRITE_BYTES]);
        }
        TxnOp::Register(RegisterOp::MaskWrite { address, mask, value }) => {
            let [address, mask, value] = [address.bits(), *mask, *value];
            writer.words(&[opcode::MASK_WRITE, 0, address, 0, value, mask, MASK_BYTES]);
        }
        TxnOp::Register(RegisterOp::BlockWrite { address, data }) => {
            write_block(writer, *address, 0, data)?;
        }
        TxnOp::TaggedBlockWrite { address, data } => {
            write_block(writer, *address, tile_tag(*address), data)?;
        }
        TxnOp::MaskPoll { address, mask, value, wait } => {
            let opcode = match wait {
                Wait::Yielding => opcode::MASK_POLL,
                Wait::Busy => opcode::MASK_POLL_BUSY,
            };
            writer.words(&[opcode, 0, address.bits(), 0, *value, *mask, MASK_BYTES]);
        }
        TxnOp::Noop => writer.u32(opcode::NOOP),
        TxnOp::Preempt { level } => writer.u32(opcode::PREEMPT | u32::from(*level) << 8),
        TxnOp::LoadPdi { id, bytes, address } => {
            writer.words(&[opcode::LOAD_PDI | u32::from(*id) << 16, *bytes]);
            writer.u64(*address);
        }
        TxnOp::Sync { column, row, columns, rows, direction, channel } => {
            let direction = match direction {
                Direction::StreamToMemory => 0,
                Direction::MemoryToStream => 1,
            };
            writer.words(&[opcode::SYNC, SYNC_BYTES]);
            writer.bytes(&[direction, *row, *column, 0, 0, *rows, *columns, *channel]);
        }
        TxnOp::AddressPatch { register, argument, addend } => {
            writer.words(&[opcode::ADDRESS_PATCH, PATCH_BYTES, 0, 0, 0, 0]);
            writer.words(&[register.bits(), 0, *argument, 0]);
            writer.u64(*addend);
        }
    }
    Ok(())
}

fn write_block(
    writer: &mut Writer,
    address: RegisterAddress,
    tag: u32,
    data: &[u32],
) -> Result<(), WriteError> {
    let bytes = BLOCK_HEADER_BYTES as usize + 4 * data.len();
    let size = fit_u32(Format::Txn, "bytes of a block write", bytes)?;
    writer.words(&[opcode::BLOCK_WRITE, tag, address.bits(), size]);
    writer.words(data);
    Ok(())
}

/// Column and row as the second word of a block write repeats them.
fn tile_tag(address: RegisterAddress) -> u32 {
    address.column() | address.row() << 8
}

fn read_op(reader: &mut Reader<'_>) -> Result<TxnOp, ParseError> {
    let offset = reader.offset();
    let first = reader.u32("operation")?;
    match first {
        opcode::WRITE => {
            let address = read_address(reader)?;
            let value = reader.u32("value")?;
            reader.expect_u32("size of a write", WRITE_BYTES)?;
            Ok(TxnOp::Register(RegisterOp::Write32 { address, value }))
        }
        opcode::BLOCK_WRITE => read_block(reader),
        opcode::MASK_WRITE => {
            let (address, mask, value) = read_masked(reader)?;
            Ok(TxnOp::Register(RegisterOp::MaskWrite { address, mask, value }))
        }
        opcode::MASK_POLL | opcode::MASK_POLL_BUSY => {
            let (address, mask, value) = read_masked(reader)?;
            let wait = if first == opcode::MASK_POLL { Wait::Yielding } else { Wait::Busy };
            Ok(TxnOp::MaskPoll { address, mask, value, wait })
        }
        opcode::NOOP => Ok(TxnOp::Noop),
        opcode::SYNC => read_sync(reader),
        opcode::ADDRESS_PATCH => {
            reader.expect_words("an address patch's fixed words", &[PATCH_BYTES, 0, 0, 0, 0])?;
            let register = RegisterAddress::from_bits(reader.u32("register")?);
            reader.expect_u32("upper half of the register", 0)?;
            let argument = reader.u32("argument")?;
            reader.expect_u32("upper half of the argument", 0)?;
            Ok(TxnOp::AddressPatch { register, argument, addend: reader.u64("addend")? })
        }
        _ => match first.to_le_bytes() {
            [6, level, 0, 0] => Ok(TxnOp::Preempt { level }),
            [8, 0, low, high] => Ok(TxnOp::LoadPdi {
                id: u16::from_le_bytes([low, high]),
                bytes: reader.u32("bytes of a PDI")?,
                address: reader.u64("address of a PDI")?,
            }),
            _ => {
                let known = "an operation of 0, 1, 3 to 8, 0x80, 0x81 with its spare bytes zero";
                Err(reader.error_at(offset, "operation", known, format!("{first:#010x}")))
            }
        },
    }
}

/// The second to fourth word of a write: spare, address, upper half of the address.
fn read_address(reader: &mut Reader<'_>) -> Result<RegisterAddress, ParseError> {
    reader.expect_u32("spare word", 0)?;
    let address = RegisterAddress::from_bits(reader.u32("address")?);
    reader.expect_u32("upper half of the address", 0)?;
    Ok(address)
}

fn read_masked(reader: &mut Reader<'_>) -> Result<(RegisterAddress, u32, u32), ParseError> {
    let address = read_address(reader)?;
    let (value, mask) = (reader.u32("value")?, reader.u32("mask")?);
    reader.expect_u32("size of a masked operation", MASK_BYTES)?;
    Ok((address, mask, value))
}

fn read_block(reader: &mut Reader<'_>) -> Result<TxnOp, ParseError> {
    let tag_offset = reader.offset();
    let tag = reader.u32("tile of a block write")?;
    let address = RegisterAddress::from_bits(reader.u32("address")?);
    let size_offset = reader.offset();
    let size = reader.u32("bytes of a block write")?;
    if size < BLOCK_HEADER_BYTES || size % 4 != 0 {
        let expected = "a multiple of 4, at least 16";
        return Err(reader.error_at(size_offset, "bytes of a block write", expected, size));
    }
    let words = (size - BLOCK_HEADER_BYTES) / 4;
    let data = reader.words("data of a block write", words as usize)?;
    if tag == 0 {
        return Ok(TxnOp::Register(RegisterOp::BlockWrite { address, data }));
    }
    if tag == tile_tag(address) {
        return Ok(TxnOp::TaggedBlockWrite { address, data });
    }
    let expected = format!("0 or {:#x}", tile_tag(address));
    Err(reader.error_at(tag_offset, "tile of a block write", expected, format!("{tag:#x}")))
}

fn read_sync(reader: &mut Reader<'_>) -> Result<TxnOp, ParseError> {
    reader.expect_u32("size of a sync", SYNC_BYTES)?;
    let offset = reader.offset();
    let [direction, row, column] = reader.array("tile of a sync")?;
    let direction = match direction {
        0 => Direction::StreamToMemory,
        1 => Direction::MemoryToStream,
        other => return Err(reader.error_at(offset, "direction of a sync", "0 or 1", other)),
    };
    reader.expect_zeros("spare bytes of a sync", 2)?;
    let [rows, columns, channel] = reader.array("extent of a sync")?;
    Ok(TxnOp::Sync { column, row, columns, rows, direction, channel })
}
