//! Q8_0: 32 elements in 34 bytes, `d * q`.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | `d`, fp16 |
//! | 2..34 | codes, i8 each |

use super::{NO_MIN, Unpacked, f16_at};

pub(super) fn unpack(block: &[u8], out: &mut Unpacked) {
    for (q, &byte) in out.q.iter_mut().zip(&block[2..34]) {
        *q = byte as i8;
    }
    out.set_scale(f16_at(block, 0).to_f32(), NO_MIN);
}
