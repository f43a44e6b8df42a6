//! Q4_1: 32 elements in 20 bytes, `d * q + m`.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | `d`, fp16 |
//! | 2..4 | `m`, fp16 |
//! | 4..20 | codes: byte j holds element j in its low nibble, j + 16 in its high nibble |

use super::{Unpacked, f16_at};

pub(super) fn unpack(block: &[u8], out: &mut Unpacked) {
    for (j, byte) in block[4..20].iter().enumerate() {
        out.q[j] = (byte & 15) as i8;
        out.q[j + 16] = (byte >> 4) as i8;
    }
    out.set_scale(f16_at(block, 0).to_f32(), f16_at(block, 2).to_f32());
}
