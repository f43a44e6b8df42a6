//! PDI: the image around one CDO, as Versal boot images are laid out.
//!
//! A magic number, image header table, image header, partition header, then the CDO, padded with
//! zeros to 16 bytes. Field names are those that `bootgen -arch versal -read` prints; the values
//! that no image of this array varies are constants and are checked as such.

use crate::bytes::{Reader, Writer, fit_u32};
use crate::cdo::{Cdo, checksum};
use crate::error::{Format, ParseError, WriteError};

/// What PDIs for the array's controller start with: a word of their own, then the bus width
/// detection words of Zynq and Versal images. They have no boot header.
const MAGIC: [u32; 4] = [0x0000_00dd, 0x1122_3344, 0x5566_7788, 0x99aa_bbcc];

/// Image header table: version 4, one image at word 0x24, one partition at word 0x34, the id code
/// of the device, id string, header sizes, length of all headers, extended id code 1.
const IMAGE_HEADER_TABLE: [u32; 31] = {
    let mut words = [0; 31];
    words[0] = 0x0004_0000;
    words[1] = 1;
    words[2] = 0x24;
    words[3] = 1;
    words[4] = 0x34;
    words[6] = 0x14ca_8093;
    words[10] = u32::from_le_bytes(*b"IDPP");
    words[11] = 0x0020_1020;
    words[12] = 0x30;
    words[17] = 1;
    words
};

/// Image header: partition headers at word 0x34, one section, name "aie_image", image id.
const IMAGE_HEADER: [u32; 15] = {
    let mut words = [0; 15];
    words[0] = 0x34;
    words[1] = 1;
    words[4] = u32::from_le_bytes(*b"aie_");
    words[5] = u32::from_le_bytes(*b"imag");
    words[6] = u32::from_le_bytes(*b"e\0\0\0");
    words[8] = 0x1c00_0000;
    words
};
const REVOKE_ID: usize = 2;
const LAST_WORD: usize = 14;

/// Partition header: no load address, data at word 0x54, owner PLM, type CDO, one section.
const PARTITION_HEADER: [u32; 31] = {
    let mut words = [0; 31];
    words[6] = u32::MAX;
    words[7] = u32::MAX;
    words[8] = 0x54;
    words[9] = 0x0200_0006;
    words[10] = 1;
    words
};

const ALIGNMENT: usize = 16;

/// An image with one partition, which holds one CDO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pdi {
    /// "mHdr_revoke_id" of the image header: zero in what is written here, not in all images.
    pub revoke_id: u32,
    /// The last word of the image header before its checksum. Images of different tools have zero
    /// or all ones there; zero is what is written here.
    pub image_word: u32,
    /// What the image does.
    pub cdo: Cdo,
}

impl Pdi {
    /// An image around `cdo`.
    pub fn new(cdo: Cdo) -> Self {
        Pdi { revoke_id: 0, image_word: 0, cdo }
    }

    /// The bytes of the image.
    ///
    /// # Errors
    /// When a length does not fit its 32-bit field.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WriteError> {
        let cdo = self.cdo.to_bytes()?;
        let padded = cdo.len().next_multiple_of(ALIGNMENT);
        let mut writer = Writer::default();
        writer.words(&MAGIC);
        write_checked(&mut writer, &IMAGE_HEADER_TABLE);
        write_checked(&mut writer, &self.image_header());
        write_checked(&mut writer, &partition_header(cdo.len() / 4, padded / 4)?);
        writer.bytes(&cdo);
        writer.align(ALIGNMENT);
        Ok(writer.finish())
    }

    /// Reads an image.
    ///
    /// # Errors
    /// At the first word that is not as the format has it, checksums and padding included.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        Self::read(Reader::new(Format::Pdi, bytes, 0))
    }

    pub(crate) fn read(mut reader: Reader<'_>) -> Result<Self, ParseError> {
        reader.expect_words("magic number", &MAGIC)?;
        expect_checked(&mut reader, "image header table", &IMAGE_HEADER_TABLE)?;
        let header = reader.words("image header", IMAGE_HEADER.len())?;
        let [revoke_id, image_word] = [header[REVOKE_ID], header[LAST_WORD]];
        let mut pdi = Pdi { revoke_id, image_word, cdo: Cdo::default() };
        for (index, (&found, expected)) in header.iter().zip(pdi.image_header()).enumerate() {
            if found != expected {
                let offset = reader.offset() - 4 * (header.len() - index);
                let [expected, found] = [expected, found].map(|word| format!("{word:#010x}"));
                return Err(reader.error_at(offset, "image header", expected, found));
            }
        }
        reader.expect_u32("checksum of the image header", checksum(&header))?;

        let lengths = reader.offset();
        let padded_words = reader.u32("encrypted_length")?;
        let words = reader.u32("unencrypted_length")?;
        if words.checked_next_multiple_of(4) != Some(padded_words) {
            let expected = format!("{words} rounded up to a multiple of 4");
            return Err(reader.error_at(lengths, "encrypted_length", expected, padded_words));
        }
        let expected = partition_words(words, padded_words);
        reader.expect_words("partition header", &expected[2..])?;
        reader.expect_u32("checksum of the partition header", checksum(&expected))?;
        let cdo = reader.inner("CDO", 4 * words as usize, Format::Cdo)?;
        pdi.cdo = Cdo::read(cdo)?;
        reader.expect_zeros("padding of the image", 4 * (padded_words - words) as usize)?;
        reader.finish()?;
        Ok(pdi)
    }

    fn image_header(&self) -> [u32; 15] {
        let mut words = IMAGE_HEADER;
        words[REVOKE_ID] = self.revoke_id;
        words[LAST_WORD] = self.image_word;
        words
    }
}

fn partition_header(words: usize, padded: usize) -> Result<[u32; 31], WriteError> {
    let words = fit_u32(Format::Pdi, "words of the CDO", words)?;
    let padded = fit_u32(Format::Pdi, "words of the CDO", padded)?;
    Ok(partition_words(words, padded))
}

fn partition_words(words: u32, padded: u32) -> [u32; 31] {
    let mut header = PARTITION_HEADER;
    [header[0], header[1], header[2]] = [padded, words, padded];
    header
}

fn write_checked(writer: &mut Writer, words: &[u32]) {
    writer.words(words);
    writer.u32(checksum(words));
}

fn expect_checked(
    reader: &mut Reader<'_>,
    field: &'static str,
    words: &[u32],
) -> Result<(), ParseError> {
    reader.expect_words(field, words)?;
    reader.expect_u32(field, checksum(words))
}
