//! CDO version 2: the commands that configure the array when a hardware context starts.
//!
//! Five header words, then commands of words, little-endian (bootgen `cdo-v2`, and the files that
//! `bootgen -arch versal -read` reads). Command word: length in words << 16 | module 1 << 8 | api;
//! a length of 255 says that the next word is the length. Of the format's commands only the four
//! that NPU images use are read and written; any other is refused.

use crate::bytes::{Reader, Writer, fit_u32};
use crate::error::{Format, ParseError, WriteError};
use crate::program::{RegisterAddress, RegisterOp, RegisterProgram};

/// Words the header takes, the word that says so included.
const HEADER_WORDS: usize = 5;
/// What the header's first word counts: the words after it.
const HEADER_LENGTH: u32 = 4;
const MAGIC: u32 = u32::from_le_bytes(*b"CDO\0");
const VERSION: u32 = 0x200;

const MASK_WRITE: u32 = 0x102;
const WRITE: u32 = 0x103;
const DMA_WRITE: u32 = 0x105;
const NOP: u32 = 0x111;

/// In a command's length field: the length is in the next word.
const LONG: u32 = 255;
/// The controller's DMA reads the data of a DMA_WRITE from the file; it wants 16-byte units.
const DATA_ALIGNMENT: usize = 16;

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CdoCommand {
    /// Writes one word.
    Write {
        /// Where.
        address: RegisterAddress,
        /// The word.
        value: u32,
    },
    /// Writes the bits of one word that `mask` selects.
    MaskWrite {
        /// Where.
        address: RegisterAddress,
        /// The bits to change.
        mask: u32,
        /// Their new values.
        value: u32,
    },
    /// Writes consecutive words.
    DmaWrite {
        /// Where the first word goes.
        address: RegisterAddress,
        /// The words.
        data: Vec<u32>,
    },
    /// Does nothing; moves what follows.
    Nop {
        /// Words of zeros after the command word.
        padding: u32,
    },
}

/// A whole CDO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cdo {
    /// Its commands, in order.
    pub commands: Vec<CdoCommand>,
}

impl Cdo {
    /// The commands of `program`, with NOPs such that the data of each block lies at a multiple of
    /// 16 bytes from the start of the CDO.
    pub fn from_program(program: &RegisterProgram) -> Self {
        let mut commands = Vec::new();
        let mut at = 4 * HEADER_WORDS;
        for op in &program.ops {
            let command = match op.clone() {
                RegisterOp::Write32 { address, value } => CdoCommand::Write { address, value },
                RegisterOp::MaskWrite { address, mask, value } => {
                    CdoCommand::MaskWrite { address, mask, value }
                }
                RegisterOp::BlockWrite { address, data } => {
                    let data_at = at + 4 * data_position(data.len());
                    let gap = (data_at.next_multiple_of(DATA_ALIGNMENT) - data_at) / 4;
                    // At most three words, of which the NOP itself is one.
                    if let Some(padding) = (gap as u32).checked_sub(1) {
                        commands.push(CdoCommand::Nop { padding });
                        at += 4 * gap;
                    }
                    CdoCommand::DmaWrite { address, data }
                }
            };
            at += 4 * words_of(&command);
            commands.push(command);
        }
        Cdo { commands }
    }

    /// The writes of this CDO.
    pub fn program(&self) -> RegisterProgram {
        let writes = self.commands.iter().filter_map(|command| match command.clone() {
            CdoCommand::Write { address, value } => Some(RegisterOp::Write32 { address, value }),
            CdoCommand::MaskWrite { address, mask, value } => {
                Some(RegisterOp::MaskWrite { address, mask, value })
            }
            CdoCommand::DmaWrite { address, data } => {
                Some(RegisterOp::BlockWrite { address, data })
            }
            CdoCommand::Nop { .. } => None,
        });
        RegisterProgram { ops: writes.collect() }
    }

    /// The bytes of the CDO.
    ///
    /// # Errors
    /// When a length does not fit its 32-bit field.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WriteError> {
        let mut body = Writer::default();
        self.commands.iter().try_for_each(|command| write_command(&mut body, command))?;
        let body = body.finish();
        let words = fit_u32(Format::Cdo, "words of the body", body.len() / 4)?;
        let header = [HEADER_LENGTH, MAGIC, VERSION, words];
        let mut writer = Writer::default();
        writer.words(&header);
        writer.u32(checksum(&header));
        writer.bytes(&body);
        Ok(writer.finish())
    }

    /// Reads a CDO.
    ///
    /// # Errors
    /// At the first field that is not as the format has it: a checksum, a length, an unknown
    /// command, a long form where the short one serves, a NOP that is not zeros.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        Self::read(Reader::new(Format::Cdo, bytes, 0))
    }

    pub(crate) fn read(mut reader: Reader<'_>) -> Result<Self, ParseError> {
        reader.expect_words("header", &[HEADER_LENGTH, MAGIC, VERSION])?;
        let offset = reader.offset();
        let words = reader.u32("words of the body")?;
        reader.expect_u32("checksum", checksum(&[HEADER_LENGTH, MAGIC, VERSION, words]))?;
        if words as usize * 4 != reader.remaining() {
            let expected = format!("{} bytes / 4", reader.remaining());
            return Err(reader.error_at(offset, "words of the body", expected, words));
        }
        let mut commands = Vec::new();
        while reader.remaining() > 0 {
            commands.push(read_command(&mut reader)?);
        }
        Ok(Cdo { commands })
    }
}

/// The checksum of Xilinx boot headers: the complement of the sum of the words.
pub(crate) fn checksum(words: &[u32]) -> u32 {
    !words.iter().fold(0u32, |sum, &word| sum.wrapping_add(word))
}

/// Words of a command of `length` words after its command and length words.
fn header_words(length: usize) -> usize {
    if length < LONG as usize { 1 } else { 2 }
}

/// Words from the start of a DMA_WRITE to its data.
fn data_position(data: usize) -> usize {
    header_words(2 + data) + 2
}

fn words_of(command: &CdoCommand) -> usize {
    match command {
        CdoCommand::Write { .. } => 3,
        CdoCommand::MaskWrite { .. } => 4,
        CdoCommand::DmaWrite { data, .. } => data_position(data.len()) + data.len(),
        CdoCommand::Nop { padding } => header_words(*padding as usize) + *padding as usize,
    }
}

fn write_command(writer: &mut Writer, command: &CdoCommand) -> Result<(), WriteError> {
    match command {
        CdoCommand::Write { address, value } => {
            writer.words(&[2 << 16 | WRITE, address.bits(), *value]);
        }
        CdoCommand::MaskWrite { address, mask, value } => {
            writer.words(&[3 << 16 | MASK_WRITE, address.bits(), *mask, *value]);
        }
        CdoCommand::DmaWrite { address, data } => {
            let length = fit_u32(Format::Cdo, "words of a DMA_WRITE", 2 + data.len())?;
            write_head(writer, DMA_WRITE, length);
            writer.words(&[0, address.bits()]);
            writer.words(data);
        }
        CdoCommand::Nop { padding } => {
            write_head(writer, NOP, *padding);
            writer.zeros(4 * *padding as usize);
        }
    }
    Ok(())
}

fn write_head(writer: &mut Writer, command: u32, length: u32) {
    if length < LONG {
        writer.u32(length << 16 | command);
    } else {
        writer.words(&[LONG << 16 | command, length]);
    }
}

fn read_command(reader: &mut Reader<'_>) -> Result<CdoCommand, ParseError> {
    let offset = reader.offset();
    let word = reader.u32("command")?;
    let (mut length, command) = (word >> 16, word & 0xffff);
    if length >= LONG {
        if length > LONG {
            return Err(reader.error_at(offset, "length of a command", "at most 255", length));
        }
        length = reader.u32("long length of a command")?;
        if length < LONG {
            let field = "long length of a command";
            return Err(reader.error_at(offset + 4, field, "at least 255", length));
        }
    }
    let fixed = |length_wanted: u32, reader: &Reader<'_>| {
        if length == length_wanted {
            return Ok(());
        }
        Err(reader.error_at(offset, "length of a command", length_wanted, length))
    };
    match command {
        WRITE => {
            fixed(2, reader)?;
            let address = RegisterAddress::from_bits(reader.u32("address")?);
            Ok(CdoCommand::Write { address, value: reader.u32("value")? })
        }
        MASK_WRITE => {
            fixed(3, reader)?;
            let address = RegisterAddress::from_bits(reader.u32("address")?);
            let (mask, value) = (reader.u32("mask")?, reader.u32("value")?);
            Ok(CdoCommand::MaskWrite { address, mask, value })
        }
        DMA_WRITE => {
            let Some(words) = length.checked_sub(2) else {
                return Err(reader.error_at(offset, "length of a DMA_WRITE", "at least 2", length));
            };
            reader.expect_u32("upper half of the address", 0)?;
            let address = RegisterAddress::from_bits(reader.u32("address")?);
            let data = reader.words("data of a DMA_WRITE", words as usize)?;
            Ok(CdoCommand::DmaWrite { address, data })
        }
        NOP => {
            // In 64 bits: 32 would overflow for lengths no file has.
            let bytes = usize::try_from(4 * u64::from(length)).unwrap_or(usize::MAX);
            reader.expect_zeros("padding of a NOP", bytes)?;
            Ok(CdoCommand::Nop { padding: length })
        }
        _ => {
            let known = "MASK_WRITE 0x102, WRITE 0x103, DMA_WRITE 0x105 or NOP 0x111";
            Err(reader.error_at(offset, "command", known, format!("{command:#x}")))
        }
    }
}
