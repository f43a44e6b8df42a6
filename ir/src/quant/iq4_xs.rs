//! IQ4_XS: 256 elements in 136 bytes, `(d * (s - 32)) * LEVELS[code]`; groups of 32.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | `d`, fp16 |
//! | 2..4 | high two bits of each `s`: bits 2 g and 2 g + 1 of the u16 |
//! | 4..8 | low four bits of each `s`: group 2 j in the low nibble of byte j, 2 j + 1 in the high |
//! | 8..136 | codes, 16 bytes a group, as in IQ4_NL |

use half::f16;

use super::{SuperScales, Unpacked, f16_at, iq4_nl, u16_at};

pub(super) fn unpack(block: &[u8], out: &mut Unpacked) {
    for (bytes, q) in block[8..136].chunks_exact(16).zip(out.q.chunks_exact_mut(32)) {
        iq4_nl::unpack_codes(bytes, q);
    }
    let high_bits = u16_at(block, 2);
    let scale = |group: usize| {
        let low = block[4 + group / 2] >> (group % 2 * 4) & 15;
        let high = (high_bits >> (2 * group) & 3) as u8;
        (low | high << 4) as i8 - 32
    };
    out.set_super_scales(SuperScales {
        d: f16_at(block, 0),
        dmin: f16::ZERO,
        sub: std::array::from_fn(|half| scale(half / 2)),
        sub_min: [0; 16],
    });
}
