//! TQ2_0: 256 elements in 66 bytes, `d * (q - 1)`.
//!
//! | bytes | field |
//! |---|---|
//! | 0..64 | codes, as in Q2_K; 3 is not written by quantisers and decodes to 2 d |
//! | 64..66 | `d`, fp16 |

use super::{NO_MIN, Unpacked, f16_at, q2_k};

pub(super) fn unpack(block: &[u8], out: &mut Unpacked) {
    q2_k::unpack_codes(&block[..64], &mut out.q);
    for q in &mut out.q {
        *q -= 1;
    }
    out.set_scale(f16_at(block, 64).to_f32(), NO_MIN);
}
