//! IQ2_XS: 256 elements in 74 bytes, `d * (s + 1/2) / 4 * ±point`; groups of 16.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | `d`, fp16 |
//! | 2..66 | a u16 for 8 elements: grid point number in bits 0..9, signs in bits 9..16 |
//! | 66..74 | `s`, a nibble a group, low first |

use super::{
    Unpacked, f16_at,
    grids::{IQ2_XS, even_signs, write_signed},
    u16_at,
};

pub(super) fn unpack(block: &[u8], out: &mut Unpacked) {
    for (i, q) in out.q.chunks_exact_mut(8).enumerate() {
        let word = u16_at(block, 2 + 2 * i);
        write_signed(&IQ2_XS[usize::from(word & 511)], even_signs((word >> 9) as u8), q);
    }
    out.set_scales(unpack_scales(f16_at(block, 0).to_f32(), &block[66..74]));
}

/// The groups' scales, which IQ2_S stores alike.
pub(super) fn unpack_scales(d: f32, nibbles: &[u8]) -> [f32; 16] {
    std::array::from_fn(|group| {
        let s = nibbles[group / 2] >> (group % 2 * 4) & 15;
        d * (0.5 + f32::from(s)) * 0.25
    })
}
