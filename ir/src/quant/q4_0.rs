//! Q4_0: 32 elements in 18 bytes, `d * (q - 8)`.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | `d`, fp16 |
//! | 2..18 | codes: byte j holds element j in its low nibble, j + 16 in its high nibble |

use super::{NO_MIN, Unpacked, f16_at};

pub(super) fn unpack(block: &[u8], out: &mut Unpacked) {
    for (j, byte) in block[2..18].iter().enumerate() {
        out.q[j] = (byte & 15) as i8 - 8;
        out.q[j + 16] = (byte >> 4) as i8 - 8;
    }
    out.set_scale(f16_at(block, 0).to_f32(), NO_MIN);
}
