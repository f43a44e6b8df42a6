//! MXFP4: 32 elements in 17 bytes, `2^(e - 127) * LEVELS[code] / 2`.
//!
//! | bytes | field |
//! |---|---|
//! | 0 | `e`, an E8M0 exponent |
//! | 1..17 | codes: byte j holds element j in its low nibble, j + 16 in its high nibble |
//!
//! From the OCP Microscaling Formats specification 1.0, save that ggml reads `e` = 255 as the
//! next power of two, not as NaN, and the code of -0 as 0.

use super::{NO_MIN, Unpacked};

/// Twice the E2M1 value of each code, a whole number.
const LEVELS: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

pub(super) fn unpack(block: &[u8], out: &mut Unpacked) {
    for (j, &byte) in block[1..17].iter().enumerate() {
        out.q[j] = LEVELS[usize::from(byte & 15)];
        out.q[j + 16] = LEVELS[usize::from(byte >> 4)];
    }
    out.set_scale(half_scale(block[0]), NO_MIN);
}

/// 2^(e - 128), which is subnormal for the lowest two exponents.
fn half_scale(exponent: u8) -> f32 {
    f32::from_bits(match exponent {
        0 => 1 << 21,
        1 => 1 << 22,
        _ => u32::from(exponent - 1) << 23,
    })
}
