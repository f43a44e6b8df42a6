//! Q1_0: 128 elements in 18 bytes, `d` or `-d`.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | `d`, fp16 |
//! | 2..18 | bit j % 8 of byte j / 8 is element j: set for `d` |

use super::{NO_MIN, Unpacked, f16_at};

pub(super) fn unpack(block: &[u8], out: &mut Unpacked) {
    for (byte, q) in block[2..18].iter().zip(out.q.chunks_exact_mut(8)) {
        for (bit, q) in q.iter_mut().enumerate() {
            *q = (byte >> bit & 1) as i8 * 2 - 1;
        }
    }
    out.set_scale(f16_at(block, 0).to_f32(), NO_MIN);
}
