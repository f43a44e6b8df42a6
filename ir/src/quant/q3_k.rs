//! Q3_K: 256 elements in 110 bytes, `(d * sub) * (q - 4)`; groups of 16.
//!
//! | bytes | field |
//! |---|---|
//! | 0..32 | third bits: bit g of byte j belongs to element 32 g + j |
//! | 32..96 | low bits, as the codes of Q2_K |
//! | 96..108 | `sub` + 32, 6 bits each, see [`unpack_scales`] |
//! | 108..110 | `d`, fp16 |

use half::f16;

use super::{SuperScales, Unpacked, f16_at, q2_k};

pub(super) fn unpack(block: &[u8], out: &mut Unpacked) {
    q2_k::unpack_codes(&block[32..96], &mut out.q);
    for (bit, q) in out.q.chunks_exact_mut(32).enumerate() {
        for (third_bits, q) in block[..32].iter().zip(q) {
            *q += (third_bits >> bit & 1) as i8 * 4 - 4;
        }
    }
    out.set_super_scales(SuperScales {
        d: f16_at(block, 108),
        dmin: f16::ZERO,
        sub: unpack_scales(&block[96..108]),
        sub_min: [0; 16],
    });
}

/// Groups 0..8 take their low four bits from the low nibbles of bytes 0..8, groups 8..16 from the
/// high ones; bits 2 r and 2 r + 1 of bytes 8..12 are the high two of groups 4 r to 4 r + 3.
fn unpack_scales(packed: &[u8]) -> [i8; 16] {
    std::array::from_fn(|group| {
        let low = packed[group % 8] >> (group / 8 * 4) & 15;
        let high = packed[8 + group % 4] >> (group / 4 * 2) & 3;
        (low | high << 4) as i8 - 32
    })
}
