//! Q5_1: 32 elements in 24 bytes, `d * q + m`.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | `d`, fp16 |
//! | 2..4 | `m`, fp16 |
//! | 4..24 | fifth bits and low bits, as in Q5_0 |

use super::{Unpacked, f16_at, q5_0, u32_at};

pub(super) fn unpack(block: &[u8], out: &mut Unpacked) {
    q5_0::unpack_codes(u32_at(block, 4), &block[8..24], &mut out.q);
    out.set_scale(f16_at(block, 0).to_f32(), f16_at(block, 2).to_f32());
}
