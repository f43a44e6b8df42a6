//! The formats of instruction words: which slots, in which bits, with which fixed bits between.
//!
//! From `AIE2PCompositeFormats.td`, most significant bit first. The low bits of the first byte
//! give the length; the sets of slots of any two formats differ.

use std::sync::LazyLock;

use super::Slot;

/// A format: its length and where its slots lie.
#[derive(Debug)]
pub(super) struct Format {
    /// Bytes of the word.
    pub bytes: usize,
    /// Bits that are the same in each word of this format.
    pub mask: u128,
    /// Their value.
    pub value: u128,
    /// Slots with their lowest bit, the most significant first.
    pub slots: Vec<(Slot, u32)>,
}

/// Bytes of the word whose first byte is `first`.
pub(super) fn length(first: u8) -> usize {
    match first & 0xf {
        low if low & 1 == 1 => 16,
        low if low & 7 == 4 => 6,
        0b1000 => 4,
        0b0010 => 8,
        0b1010 => 10,
        0b0110 => 12,
        0b1110 => 14,
        _ => 2,
    }
}

/// All formats but the 2-byte NOP, which has no slot.
pub(super) static FORMATS: LazyLock<Vec<Format>> =
    LazyLock::new(|| LAYOUTS.iter().map(|layout| Format::new(layout)).collect());

impl Format {
    fn new(layout: &str) -> Self {
        let width = |token: &str| Slot::from_name(token).map_or(token.len() as u32, Slot::width);
        let mut at: u32 = layout.split(' ').map(width).sum();
        let mut format = Format { bytes: at as usize / 8, mask: 0, value: 0, slots: Vec::new() };
        for token in layout.split(' ') {
            at -= width(token);
            if let Some(slot) = Slot::from_name(token) {
                format.slots.push((slot, at));
            } else {
                let bits = u128::from_str_radix(token, 2).expect("fixed bits of a format");
                format.mask |= ((1 << token.len()) - 1) << at;
                format.value |= bits << at;
            }
        }
        format
    }
}

#[rustfmt::skip]
const LAYOUTS: &[&str] = &[
    "00000 lda 001 1000",
    "00111 ldb 000001 1000",
    "00010 alu 001 1000",
    "00011 mv 1 1000",
    "00001 st 001 1000",
    "vec 00 1000",
    "lda ldb 00000111 100",
    "lda st 00001 100",
    "lda alu 00101 100",
    "lda mv 010 100",
    "ldb 000 st 01001 100",
    "ldb 000 alu 00011 100",
    "ldb 000 mv 110 100",
    "lng 000 100",
    "alu mv 100 100",
    "st alu 01011 100",
    "lda 000000000100 vec 10 0010",
    "00000 ldb 0000000000 vec 10 0010",
    "st 0000000000 mv 00000000 0010",
    "st 000000000010 vec 10 0010",
    "0000000000 alu 01 vec 10 0010",
    "00000 mv 00110 vec 10 0010",
    "lda ldb st 011 0010",
    "lda ldb alu 001 0010",
    "st ldb alu 101 0010",
    "lda 0 ldb 00000000 mv 11101011 1010",
    "lda 0 ldb 0000011101 vec 00 1010",
    "lda 0 st 000000000000 alu 111 1010",
    "lda 0 st 00000 mv 00101011 1010",
    "lda 0 st 0001001 vec 00 1010",
    "lda 000000 lng 00001011 1010",
    "lda 000000 alu mv 10001011 1010",
    "lda 000000 alu 00 vec 10 1010",
    "lda 0 mv 00010 vec 00 1010",
    "st 0 ldb 00000000 mv 01101011 1010",
    "st 0 ldb 0000000001 vec 00 1010",
    "0000 ldb 00000 lng 00000011 1010",
    "0000 ldb 00000 alu mv 10000011 1010",
    "0000 ldb 00000 alu 10 vec 10 1010",
    "0000 ldb mv 00110 vec 00 1010",
    "st 000000 lng 00010011 1010",
    "st 000000 alu mv 10010011 1010",
    "st 000000 alu 01 vec 10 1010",
    "st 0 mv 00100 vec 00 1010",
    "00000 lng 0 vec 01 1010",
    "00000 alu mv 1 vec 01 1010",
    "lda ldb 00000 alu st 0000010011 0110",
    "lda ldb st 00000 mv 00001111 0110",
    "lda ldb 0 st 001110 vec 10 0110",
    "lda ldb 00000 lng 00001011 0110",
    "lda ldb 00000 alu mv 10001011 0110",
    "lda ldb 00000 alu 11 vec 10 0110",
    "lda ldb mv 00010 vec 10 0110",
    "lda 0 st 0 lng 00000111 0110",
    "lda 0 st 0 alu mv 10000111 0110",
    "lda 0 st 0 alu 00 vec 10 0110",
    "lda 0 lng 0 vec 00 0110",
    "lda 0 alu mv 1 vec 00 0110",
    "st ldb 00000 lng 00000011 0110",
    "st ldb 00000 alu mv 10000011 0110",
    "st ldb 00000 alu 01 vec 10 0110",
    "st ldb mv 00110 vec 10 0110",
    "ldb lng 01010 vec 10 0110",
    "ldb alu mv 11010 vec 10 0110",
    "st 0 lng 0 vec 01 0110",
    "st 0 alu mv 1 vec 01 0110",
    "lda st 000000000000000001 mv vec 10 1110",
    "lda ldb lng 0 st 00000111 1110",
    "lda ldb alu mv 1 st 00000111 1110",
    "lda ldb alu 00 st 0 vec 10 1110",
    "st ldb lng 0 vec 01 1110",
    "st ldb alu mv 1 vec 01 1110",
    "lda ldb lng 0 vec 00 1110",
    "lda ldb alu mv 1 vec 00 1110",
    "lda ldb st 0 lng 0 vec 1",
    "lda ldb st 0 alu mv 1 vec 1",
];
