//! IQ3_S: 256 elements in 110 bytes, `d * (2 s + 1) * ±point`; groups of 32.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | `d`, fp16 |
//! | 2..66 | low eight bits of the grid points' numbers, one for 4 elements |
//! | 66..74 | ninth bits of the grid points' numbers, eight a byte, lowest first |
//! | 74..106 | signs, a bit an element, set for minus |
//! | 106..110 | `s`, a nibble a group, low first |

use super::{
    Unpacked, f16_at,
    grids::{IQ3_S, write_signed},
};

pub(super) fn unpack(block: &[u8], out: &mut Unpacked) {
    for (i, q) in out.q.chunks_exact_mut(4).enumerate() {
        let ninth = block[66 + i / 8] >> (i % 8) & 1;
        let point = usize::from(block[2 + i]) | usize::from(ninth) << 8;
        write_signed(&IQ3_S[point], block[74 + i / 2] >> (i % 2 * 4), q);
    }
    let d = f16_at(block, 0).to_f32();
    out.set_scales::<8>(std::array::from_fn(|group| {
        let s = block[106 + group / 2] >> (group % 2 * 4) & 15;
        d * f32::from(2 * s + 1)
    }));
}
