//! IQ2_S: 256 elements in 82 bytes, `d * (s + 1/2) / 4 * ±point`; groups of 16.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | `d`, fp16 |
//! | 2..34 | low eight bits of the grid points' numbers, one for 8 elements |
//! | 34..66 | signs, a bit an element, set for minus |
//! | 66..74 | high two bits of the grid points' numbers, four a byte, lowest first |
//! | 74..82 | `s`, a nibble a group, low first |

use super::{
    Unpacked, f16_at,
    grids::{IQ2_S, write_signed},
    iq2_xs,
};

pub(super) fn unpack(block: &[u8], out: &mut Unpacked) {
    for (i, q) in out.q.chunks_exact_mut(8).enumerate() {
        let high = block[66 + i / 4] >> (i % 4 * 2) & 3;
        let point = usize::from(block[2 + i]) | usize::from(high) << 8;
        write_signed(&IQ2_S[point], block[34 + i], q);
    }
    out.set_scales(iq2_xs::unpack_scales(f16_at(block, 0).to_f32(), &block[74..82]));
}
