//! Q5_0: 32 elements in 22 bytes, `d * (q - 16)`.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | `d`, fp16 |
//! | 2..6 | fifth bits: bit j of the u32 is bit 4 of element j |
//! | 6..22 | low bits: byte j holds element j in its low nibble, j + 16 in its high nibble |

use super::{NO_MIN, Unpacked, f16_at, u32_at};

pub(super) fn unpack(block: &[u8], out: &mut Unpacked) {
    unpack_codes(u32_at(block, 2), &block[6..22], &mut out.q);
    for q in &mut out.q[..32] {
        *q -= 16;
    }
    out.set_scale(f16_at(block, 0).to_f32(), NO_MIN);
}

/// The 32 unsigned 5-bit codes, which Q5_1 stores alike.
pub(super) fn unpack_codes(fifth_bits: u32, low_bits: &[u8], q: &mut [i8]) {
    let fifth = |element| (fifth_bits >> element & 1) as u8 * 16;
    for (j, byte) in low_bits.iter().enumerate() {
        q[j] = (byte & 15 | fifth(j)) as i8;
        q[j + 16] = (byte >> 4 | fifth(j + 16)) as i8;
    }
}
