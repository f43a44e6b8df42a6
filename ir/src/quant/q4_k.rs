//! Q4_K: 256 elements in 144 bytes, `(d * sub) * q - (dmin * sub_min)`; groups of 32.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | `d`, fp16 |
//! | 2..4 | `dmin`, fp16 |
//! | 4..16 | 8 `sub` and 8 `sub_min`, 6 bits each, see [`unpack_scales`] |
//! | 16..144 | codes: 32 bytes hold 32 elements in their low nibbles, the next 32 in the high |

use super::{SuperScales, Unpacked, f16_at};

pub(super) fn unpack(block: &[u8], out: &mut Unpacked) {
    let codes = block[16..144].chunks_exact(32);
    for (bytes, q) in codes.zip(out.q.chunks_exact_mut(64)) {
        for (j, byte) in bytes.iter().enumerate() {
            q[j] = (byte & 15) as i8;
            q[j + 32] = (byte >> 4) as i8;
        }
    }
    out.set_super_scales(unpack_scales(block));
}

/// Bytes 0..16 of a block, which Q5_K begins with too.
///
/// With the 12 bytes in three rows of four, groups 0..4 take `sub` from the low six bits of row 0
/// and `sub_min` from those of row 1; groups 4..8 take their low four bits from the nibbles of
/// row 2 and their high two from what is left of rows 0 and 1.
pub(super) fn unpack_scales(block: &[u8]) -> SuperScales {
    let (row0, row1, row2) = (&block[4..8], &block[8..12], &block[12..16]);
    let (mut sub, mut sub_min) = ([0; 16], [0; 16]);
    for i in 0..4 {
        let (low, high) = (2 * i, 2 * (i + 4));
        sub[low..low + 2].fill((row0[i] & 63) as i8);
        sub_min[low..low + 2].fill(row1[i] & 63);
        sub[high..high + 2].fill((row2[i] & 15 | row0[i] >> 6 << 4) as i8);
        sub_min[high..high + 2].fill(row2[i] >> 4 | row1[i] >> 6 << 4);
    }
    SuperScales { d: f16_at(block, 0), dmin: f16_at(block, 2), sub, sub_min }
}
