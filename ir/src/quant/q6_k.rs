//! Q6_K: 256 elements in 210 bytes, `(d * sub) * (q - 32)`; groups of 16.
//!
//! | bytes | field |
//! |---|---|
//! | 0..128 | low bits: 64 bytes hold 64 elements in their low nibbles, the next 64 in the high |
//! | 128..192 | bits 4..6: byte j of each 32 holds those of elements j, j + 32, j + 64, j + 96 |
//! | 192..208 | `sub`, i8 each |
//! | 208..210 | `d`, fp16 |

use half::f16;

use super::{SuperScales, Unpacked, f16_at};

pub(super) fn unpack(block: &[u8], out: &mut Unpacked) {
    let low_bits = block[..128].chunks_exact(64);
    let high_bits = block[128..192].chunks_exact(32);
    for ((low, high), q) in low_bits.zip(high_bits).zip(out.q.chunks_exact_mut(128)) {
        for (plane, q) in q.chunks_exact_mut(32).enumerate() {
            let low = &low[plane % 2 * 32..][..32];
            for ((low, high), q) in low.iter().zip(high).zip(q) {
                let low = low >> (plane / 2 * 4) & 15;
                *q = (low | (high >> (2 * plane) & 3) << 4) as i8 - 32;
            }
        }
    }
    out.set_super_scales(SuperScales {
        d: f16_at(block, 208),
        dmin: f16::ZERO,
        sub: std::array::from_fn(|group| block[192 + group] as i8),
        sub_min: [0; 16],
    });
}
