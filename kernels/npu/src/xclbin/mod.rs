//! xclbin: the container (`axlf`) that drivers and XRT take an NPU design in.
//!
//! A header, a table of seven sections in a fixed order, the sections at multiples of 8 bytes, and
//! maybe a JSON copy of it all that `xclbinutil` appends and nothing reads. Layout: XRT `xclbin.h`,
//! structs `axlf`, `axlf_header`, `axlf_section_header`. What the sections around the partition
//! hold never varies for an NPU: [`sections`] says what it is.

pub mod sections;

use crate::bytes::{Reader, Writer, fit_u32};
use crate::error::{Format, ParseError, WriteError};
use crate::partition::AiePartition;
use crate::pdi::Pdi;
use sections::Metadata;

const MAGIC: &[u8; 8] = b"xclbin2\0";
/// Signature length -1 (no signature), 28 spare bytes, 256 bytes of key: all ones when unsigned.
const UNSIGNED: [u8; 288] = [0xff; 288];
/// Interface uuid and the platform's name: an NPU has neither.
const PLATFORM_BYTES: usize = 80;
const DEBUG_NAME_BYTES: usize = 16;

const SECTIONS: usize = 7;
const SECTION_HEADER_BYTES: usize = 40;
const HEADER_BYTES: usize = 0x1c8;
const SECTION_ALIGNMENT: usize = 8;

const MIRROR_START: &str = "XCLBIN_MIRROR_DATA_START";
const MIRROR_END: &str = "XCLBIN_MIRROR_DATA_END";

/// `enum axlf_section_kind`, in the order in which the sections come.
const KINDS: [u32; SECTIONS] = [6, 32, 2, 8, 7, 27, 26];
const PARTITION: usize = 1;
const METADATA: usize = 2;

/// The name of a section: at most 16 bytes, zeros behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionName([u8; 16]);

impl SectionName {
    /// The name `text`; None when it is longer than 16 bytes or holds a zero byte.
    pub const fn new(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() > 16 {
            return None;
        }
        let mut name = [0; 16];
        let mut at = 0;
        while at < text.len() {
            if text[at] == 0 {
                return None;
            }
            name[at] = text[at];
            at += 1;
        }
        Some(SectionName(name))
    }

    const fn of(text: &str) -> Self {
        match Self::new(text) {
            Some(name) => name,
            None => panic!("a section name fits"),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let offset = reader.offset();
        let name: [u8; 16] = reader.array("name of a section")?;
        let length = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        if name[length..].iter().all(|&byte| byte == 0) {
            return Ok(SectionName(name));
        }
        let found = String::from_utf8_lossy(&name).into_owned();
        let expected = "zeros behind the first zero";
        Err(reader.error_at(offset, "name of a section", expected, format!("{found:?}")))
    }
}

/// The version of the tool that made the container, or that it passes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToolVersion {
    /// First part.
    pub major: u8,
    /// Second part.
    pub minor: u8,
    /// Third part.
    pub patch: u16,
}

/// A container with one NPU design.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xclbin {
    /// Seconds since 1970 at which it was made. What is written here derives it from the content.
    pub time_stamp: u64,
    /// The format of XRT this follows.
    pub version: ToolVersion,
    /// Identifies the container: equal containers may share a hardware context.
    pub uuid: [u8; 16],
    /// The name of the MEM_TOPOLOGY section.
    pub topology_name: SectionName,
    /// The name of the AIE_PARTITION section.
    pub partition_name: SectionName,
    /// How the EMBEDDED_METADATA section is spelt.
    pub metadata: Metadata,
    /// The design.
    pub partition: AiePartition,
    /// The JSON copy, without its marks.
    pub mirror: Option<String>,
}

impl Xclbin {
    /// A container for `pdi` on `columns` columns. Identifiers and time stamp are hashes of the
    /// content, so that equal designs give equal files.
    ///
    /// # Errors
    /// When a length does not fit its 32-bit field.
    pub fn new(columns: u16, pdi: Pdi) -> Result<Self, WriteError> {
        let uuid = uuid_of(&pdi.to_bytes()?);
        let partition = AiePartition { column_width: columns, start_column: 0, uuid, pdi };
        let section = partition.to_bytes()?;
        let hash = blake3::hash(&section);
        let [a, b, c, d, ..] = *hash.as_bytes();
        Ok(Xclbin {
            time_stamp: u64::from(u32::from_le_bytes([a, b, c, d])),
            version: ToolVersion { major: 2, minor: 21, patch: 75 },
            uuid: uuid_of(&section),
            topology_name: SectionName::of("mem_topology"),
            partition_name: SectionName::of("aie_partition"),
            metadata: Metadata::PaddedOffsets,
            partition,
            mirror: None,
        })
    }

    /// The bytes of the container.
    ///
    /// # Errors
    /// When a length does not fit its field.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WriteError> {
        let partition = self.partition.to_bytes()?;
        fit_u32(Format::Xclbin, "bytes of the partition", partition.len())?;
        let metadata = self.metadata.text();
        let contents: [&[u8]; SECTIONS] = self.contents(&partition, metadata.as_bytes());
        let places = places(contents.map(<[u8]>::len));
        let end = places[SECTIONS - 1] + contents[SECTIONS - 1].len();
        let mirror = self.mirror.as_ref().map(|json| format!("{MIRROR_START}{json}{MIRROR_END}"));
        let total = end + mirror.as_ref().map_or(0, String::len);

        let mut writer = Writer::default();
        self.write_header(&mut writer, total as u64);
        for (index, content) in contents.iter().enumerate() {
            writer.u32(KINDS[index]);
            writer.bytes(&self.name(index).0);
            writer.zeros(4);
            writer.u64(places[index] as u64);
            writer.u64(content.len() as u64);
        }
        for content in contents {
            writer.align(SECTION_ALIGNMENT);
            writer.bytes(content);
        }
        writer.bytes(mirror.unwrap_or_default().as_bytes());
        Ok(writer.finish())
    }

    /// Reads a container.
    ///
    /// # Errors
    /// At the first field that is not as the format has it, inner formats included.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(Format::Xclbin, bytes, 0);
        let (time_stamp, version, uuid) = read_header(&mut reader)?;
        let table = Table::read(&mut reader)?;
        table.constant(&mut reader, 0)?;
        let partition = table.section(&mut reader, PARTITION, Format::AiePartition)?;
        let partition = AiePartition::read(partition)?;
        let metadata = Metadata::read(table.section(&mut reader, METADATA, Format::Xclbin)?)?;
        (METADATA + 1..SECTIONS).try_for_each(|index| table.constant(&mut reader, index))?;
        let mirror = read_mirror(&mut reader)?;
        let [topology_name, partition_name, ..] = table.names;
        Ok(Xclbin {
            time_stamp,
            version,
            uuid,
            topology_name,
            partition_name,
            metadata,
            partition,
            mirror,
        })
    }

    fn name(&self, section: usize) -> SectionName {
        match section {
            0 => self.topology_name,
            PARTITION => self.partition_name,
            _ => SectionName::of(""),
        }
    }

    fn contents<'a>(&self, partition: &'a [u8], metadata: &'a [u8]) -> [&'a [u8]; SECTIONS] {
        std::array::from_fn(|index| match index {
            PARTITION => partition,
            METADATA => metadata,
            _ => constant(index),
        })
    }

    fn write_header(&self, writer: &mut Writer, total: u64) {
        let ToolVersion { major, minor, patch } = self.version;
        writer.bytes(MAGIC);
        writer.bytes(&UNSIGNED);
        writer.u64(self.time_stamp);
        writer.u64(total);
        writer.u64(self.time_stamp);
        writer.u64(0);
        writer.bytes(&patch.to_le_bytes());
        writer.bytes(&[major, minor]);
        writer.u32(0);
        writer.zeros(PLATFORM_BYTES);
        writer.bytes(&self.uuid);
        writer.zeros(DEBUG_NAME_BYTES);
        writer.words(&[SECTIONS as u32, 0]);
        debug_assert_eq!(writer.position(), HEADER_BYTES);
    }
}

/// The table of sections as it stands in a file.
struct Table {
    /// Where it starts, in bytes from the start of the file.
    offset: usize,
    names: [SectionName; SECTIONS],
    /// Where each section starts and how many bytes it has.
    extents: [(usize, usize); SECTIONS],
}

impl Table {
    fn read(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let offset = reader.offset();
        let mut names = [SectionName::of(""); SECTIONS];
        let mut extents = [(0, 0); SECTIONS];
        for (index, kind) in KINDS.into_iter().enumerate() {
            reader.expect_u32("kind of a section", kind)?;
            let name_at = reader.offset();
            names[index] = SectionName::read(reader)?;
            if index >= METADATA && names[index] != SectionName::of("") {
                let found = String::from_utf8_lossy(&names[index].0).into_owned();
                return Err(reader.error_at(name_at, "name of a section", "none", found));
            }
            reader.expect_zeros("spare bytes of a section's header", 4)?;
            extents[index] = (read_usize(reader)?, read_usize(reader)?);
        }
        Ok(Table { offset, names, extents })
    }

    /// Enters the next section, which is the one with this index: it starts at the next multiple
    /// of 8 bytes.
    fn section<'a>(
        &self,
        reader: &mut Reader<'a>,
        index: usize,
        format: Format,
    ) -> Result<Reader<'a>, ParseError> {
        let expected = reader.offset().next_multiple_of(SECTION_ALIGNMENT);
        reader.expect_zeros("gap before a section", expected - reader.offset())?;
        let (place, size) = self.extents[index];
        if place != expected {
            let offset = self.offset + index * SECTION_HEADER_BYTES + 24;
            return Err(reader.error_at(offset, "offset of a section", expected, place));
        }
        reader.inner("section", size, format)
    }

    /// Reads a section that never varies.
    fn constant(&self, reader: &mut Reader<'_>, index: usize) -> Result<(), ParseError> {
        let mut section = self.section(reader, index, Format::Xclbin)?;
        section.expect_bytes("section", constant(index))?;
        section.finish()
    }
}

/// A uuid of version 8 (RFC 9562: bits of the maker's choice): a hash of `content`.
fn uuid_of(content: &[u8]) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&blake3::hash(content).as_bytes()[..16]);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

/// Where sections of these sizes start.
fn places(sizes: [usize; SECTIONS]) -> [usize; SECTIONS] {
    let mut at = HEADER_BYTES + SECTIONS * SECTION_HEADER_BYTES;
    sizes.map(|size| {
        let place = at.next_multiple_of(SECTION_ALIGNMENT);
        at = place + size;
        place
    })
}

/// The content of a section that never varies.
fn constant(section: usize) -> &'static [u8] {
    match section {
        3 => &sections::IP_LAYOUT,
        4 => &sections::CONNECTIVITY,
        5 => &sections::GROUP_CONNECTIVITY,
        // Memory topology and group topology are the same.
        _ => &sections::MEMORY_TOPOLOGY,
    }
}

fn read_header(reader: &mut Reader<'_>) -> Result<(u64, ToolVersion, [u8; 16]), ParseError> {
    let whole = reader.remaining();
    reader.expect_bytes("magic", MAGIC)?;
    reader.expect_bytes("signature", &UNSIGNED)?;
    let time_stamp = reader.u64("unique id")?;
    let offset = reader.offset();
    let total = read_usize(reader)?;
    if total != whole {
        return Err(reader.error_at(offset, "total length", whole, total));
    }
    reader.expect_bytes("time stamp, the same as the unique id", &time_stamp.to_le_bytes())?;
    reader.expect_zeros("time stamp of a feature ROM", 8)?;
    let patch = reader.u16("version")?;
    let [major, minor] = reader.array("version")?;
    reader.expect_zeros("mode and action mask", 4)?;
    reader.expect_zeros("interface and platform", PLATFORM_BYTES)?;
    let uuid = reader.array("uuid")?;
    reader.expect_zeros("name of a debug file", DEBUG_NAME_BYTES)?;
    reader.expect_words("number of sections", &[SECTIONS as u32, 0])?;
    Ok((time_stamp, ToolVersion { major, minor, patch }, uuid))
}

fn read_usize(reader: &mut Reader<'_>) -> Result<usize, ParseError> {
    let offset = reader.offset();
    let value = reader.u64("offset or size")?;
    usize::try_from(value)
        .map_err(|_| reader.error_at(offset, "offset or size", "a size of this machine", value))
}

fn read_mirror(reader: &mut Reader<'_>) -> Result<Option<String>, ParseError> {
    if reader.remaining() == 0 {
        return Ok(None);
    }
    let offset = reader.offset();
    let bytes = reader.take("JSON copy", reader.remaining())?;
    let json = std::str::from_utf8(bytes).ok();
    let json = json.and_then(|text| text.strip_prefix(MIRROR_START)?.strip_suffix(MIRROR_END));
    let Some(json) = json else {
        let expected = format!("nothing, or UTF-8 from {MIRROR_START} to {MIRROR_END}");
        let found = format!("{} other bytes", bytes.len());
        return Err(reader.error_at(offset, "JSON copy", expected, found));
    };
    Ok(Some(json.to_owned()))
}
