//! IQ4_NL: 32 elements in 18 bytes, `d * LEVELS[code]`.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | `d`, fp16 |
//! | 2..18 | codes: byte j holds element j in its low nibble, j + 16 in its high nibble |

use super::{NO_MIN, Unpacked, f16_at};

/// What each code stands for (`kvalues_iq4nl` of ggml-common.h).
const LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

pub(super) fn unpack(block: &[u8], out: &mut Unpacked) {
    unpack_codes(&block[2..18], &mut out.q[..32]);
    out.set_scale(f16_at(block, 0).to_f32(), NO_MIN);
}

/// The 32 levels that 16 bytes stand for; IQ4_XS has the same.
pub(super) fn unpack_codes(bytes: &[u8], q: &mut [i8]) {
    for (j, &byte) in bytes.iter().enumerate() {
        q[j] = LEVELS[usize::from(byte & 15)];
        q[j + 16] = LEVELS[usize::from(byte >> 4)];
    }
}
