//! Q2_K: 256 elements in 84 bytes, `(d * sub) * q - (dmin * sub_min)`; groups of 16.
//!
//! | bytes | field |
//! |---|---|
//! | 0..16 | a group each: `sub` in the low nibble, `sub_min` in the high |
//! | 16..80 | codes: byte j of each 32 holds elements j, j + 32, j + 64, j + 96, two bits each |
//! | 80..82 | `d`, fp16 |
//! | 82..84 | `dmin`, fp16 |

use super::{SuperScales, Unpacked, f16_at};

pub(super) fn unpack(block: &[u8], out: &mut Unpacked) {
    unpack_codes(&block[16..80], &mut out.q);
    out.set_super_scales(SuperScales {
        d: f16_at(block, 80),
        dmin: f16_at(block, 82),
        sub: std::array::from_fn(|group| (block[group] & 15) as i8),
        sub_min: std::array::from_fn(|group| block[group] >> 4),
    });
}

/// The 256 unsigned 2-bit codes, which Q3_K and TQ2_0 store alike.
pub(super) fn unpack_codes(bytes: &[u8], q: &mut [i8; 256]) {
    for (bytes, q) in bytes.chunks_exact(32).zip(q.chunks_exact_mut(128)) {
        for (plane, q) in q.chunks_exact_mut(32).enumerate() {
            for (byte, q) in bytes.iter().zip(q) {
                *q = (byte >> (2 * plane) & 3) as i8;
            }
        }
    }
}
