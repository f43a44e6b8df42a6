//! AIE_PARTITION: the xclbin section that says which columns to use and carries the PDI.
//!
//! A header of (count, offset) pairs over a tail of strings and arrays; offsets count from the
//! section's start (XRT `xclbin.h`, `aie_partition`, `aie_pdi`, `cdo_group`). Everything lies
//! where `xclbinutil` puts it: in another order it would be another file, and is refused.

use crate::bytes::{Reader, Writer, fit_u32};
use crate::error::{Format, ParseError, WriteError};
use crate::pdi::Pdi;

/// The kernel id that the rest of the container knows the array's one kernel by.
pub(crate) const DPU_KERNEL_ID: u32 = 0x901;

const NAME_AT: u32 = 0xb8;
const COMMIT_AT: u32 = 0xc0;
const START_COLUMNS_AT: u32 = 0xc8;
const IMAGE_AT: u32 = 0xd0;
/// Spare bytes of the header after the start columns.
const SPARE_AFTER_COLUMNS: usize = 0x48;
/// Spare bytes of the header after the offset of the commit id.
const SPARE_AFTER_COMMIT: usize = 0x34;
/// Spare bytes at the end of a CDO group and of a PDI record.
const SPARE_OF_RECORD: usize = 64;

/// What `xclbinutil` is told of every NPU design's speed. Nothing reads it back.
const OPERATIONS_PER_CYCLE: u32 = 2048;
const INFERENCE_FINGERPRINT: u64 = 23423;
const PRE_POST_FINGERPRINT: u64 = 12345;

const GROUP_NAME: &[u8; 8] = b"DPU\0\0\0\0\0";
const GROUP_PRIMARY: u32 = 1;
const PRE_CDO_ID: u32 = 0xc1;
/// The number by which the group names its PDI.
const PDI_ID: u64 = 1;

/// A partition with one PDI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AiePartition {
    /// How many columns it takes.
    pub column_width: u16,
    /// The column it starts at; the driver may place it elsewhere.
    pub start_column: u16,
    /// Identifies the PDI.
    pub uuid: [u8; 16],
    /// What configures the columns.
    pub pdi: Pdi,
}

/// Where the parts after the image lie.
struct Tail {
    group_name: u32,
    kernel_ids: u32,
    pre_cdos: u32,
    groups: u32,
    pdis: u32,
}

impl Tail {
    fn new(image_bytes: u32) -> Option<Self> {
        let group_name = image_bytes.checked_add(IMAGE_AT)?;
        let at = |distance: u32| group_name.checked_add(distance);
        let (kernel_ids, pre_cdos, groups, pdis) = (at(8)?, at(16)?, at(24)?, at(120)?);
        Some(Tail { group_name, kernel_ids, pre_cdos, groups, pdis })
    }
}

impl AiePartition {
    /// The bytes of the section.
    ///
    /// # Errors
    /// When a length does not fit its 32-bit field.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WriteError> {
        let image = self.pdi.to_bytes()?;
        let size = fit_u32(Format::AiePartition, "bytes of the PDI", image.len())?;
        let tail = Tail::new(size).ok_or(WriteError {
            format: Format::AiePartition,
            field: "bytes of the PDI",
            most: u64::from(u32::MAX - IMAGE_AT - 120),
            found: u64::from(size),
        })?;
        let mut writer = Writer::default();
        writer.words(&[0, NAME_AT, OPERATIONS_PER_CYCLE, 0]);
        writer.u64(INFERENCE_FINGERPRINT);
        writer.u64(PRE_POST_FINGERPRINT);
        writer.words(&[u32::from(self.column_width), 0, 1, START_COLUMNS_AT]);
        writer.zeros(SPARE_AFTER_COLUMNS);
        writer.words(&[1, tail.pdis, COMMIT_AT]);
        writer.zeros(SPARE_AFTER_COMMIT);
        // Two empty strings: the partition's name and the kernel's commit id.
        writer.zeros(16);
        writer.words(&[u32::from(self.start_column), 0]);
        writer.bytes(&image);
        writer.bytes(GROUP_NAME);
        writer.words(&[DPU_KERNEL_ID, 0, PRE_CDO_ID, 0]);
        writer.words(&[tail.group_name, GROUP_PRIMARY]);
        writer.u64(PDI_ID);
        writer.words(&[1, tail.kernel_ids, 1, tail.pre_cdos]);
        writer.zeros(SPARE_OF_RECORD);
        writer.bytes(&self.uuid);
        writer.words(&[size, IMAGE_AT, 1, tail.groups]);
        writer.zeros(SPARE_OF_RECORD);
        Ok(writer.finish())
    }

    /// Reads a section.
    ///
    /// # Errors
    /// At the first field that is not as the format has it, in the section or in its PDI.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        Self::read(Reader::new(Format::AiePartition, bytes, 0))
    }

    pub(crate) fn read(mut reader: Reader<'_>) -> Result<Self, ParseError> {
        // The records at the end are of fixed size, so the section's length gives the image's.
        let around = IMAGE_AT as usize + 120 + 96;
        let image = reader.remaining().checked_sub(around).filter(|image| image % 16 == 0);
        let Some((size, tail)) = image
            .and_then(|image| u32::try_from(image).ok())
            .and_then(|size| Tail::new(size).map(|tail| (size, tail)))
        else {
            let expected = format!("{around} bytes and a PDI of 16-byte units");
            let found = format!("{} bytes", reader.remaining());
            return Err(reader.error_at(reader.offset(), "section", expected, found));
        };
        reader.expect_words("header", &[0, NAME_AT, OPERATIONS_PER_CYCLE, 0])?;
        reader.expect_bytes("inference fingerprint", &INFERENCE_FINGERPRINT.to_le_bytes())?;
        reader.expect_bytes("pre_post fingerprint", &PRE_POST_FINGERPRINT.to_le_bytes())?;
        let column_width = reader.u16("column width")?;
        reader.expect_zeros("spare bytes after the column width", 6)?;
        reader.expect_words("start columns", &[1, START_COLUMNS_AT])?;
        reader.expect_zeros("spare bytes of the header", SPARE_AFTER_COLUMNS)?;
        reader.expect_words("PDIs and commit id", &[1, tail.pdis, COMMIT_AT])?;
        reader.expect_zeros("spare bytes of the header", SPARE_AFTER_COMMIT)?;
        reader.expect_zeros("name and commit id", 16)?;
        let start_column = reader.u16("start column")?;
        reader.expect_zeros("spare bytes after the start column", 6)?;
        let pdi = Pdi::read(reader.inner("PDI", size as usize, Format::Pdi)?)?;
        reader.expect_bytes("name of the CDO group", GROUP_NAME)?;
        reader.expect_words("kernel and pre-CDO ids", &[DPU_KERNEL_ID, 0, PRE_CDO_ID, 0])?;
        reader.expect_words("CDO group", &[tail.group_name, GROUP_PRIMARY])?;
        reader.expect_bytes("PDI id", &PDI_ID.to_le_bytes())?;
        reader.expect_words("CDO group", &[1, tail.kernel_ids, 1, tail.pre_cdos])?;
        reader.expect_zeros("spare bytes of the CDO group", SPARE_OF_RECORD)?;
        let uuid = reader.array("uuid of the PDI")?;
        reader.expect_words("PDI record", &[size, IMAGE_AT, 1, tail.groups])?;
        reader.expect_zeros("spare bytes of the PDI record", SPARE_OF_RECORD)?;
        reader.finish()?;
        Ok(AiePartition { column_width, start_column, uuid, pdi })
    }
}
