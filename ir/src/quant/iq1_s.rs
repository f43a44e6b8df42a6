//! IQ1_S: 256 elements in 50 bytes, `d * (2 s + 1) * (point ± 1/8)`; groups of 32.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | `d`, fp16 |
//! | 2..34 | low eight bits of the grid points' numbers, one for 8 elements |
//! | 34..50 | a u16 a group, see below |
//!
//! Of a group's u16, bits 3 k to 3 k + 2 are the high bits of point k, bits 12..15 are `s`, and
//! bit 15 is set where 1/8 is taken away.
//!
//! Codes are 8 times the sum and the scale an eighth of `d * (2 s + 1)`, both exact.

use super::{Unpacked, f16_at, grids::IQ1, u16_at};

pub(super) fn unpack(block: &[u8], out: &mut Unpacked) {
    let d = f16_at(block, 0).to_f32();
    let headers: [u16; 8] = std::array::from_fn(|group| u16_at(block, 34 + 2 * group));
    for (i, (&low, q)) in block[2..34].iter().zip(out.q.chunks_exact_mut(8)).enumerate() {
        let header = headers[i / 4];
        let high = header >> (3 * (i % 4)) & 7;
        unpack_point(u16::from(low) | high << 8, header & 0x8000 != 0, q);
    }
    out.set_scales(headers.map(|header| eighth_scale(d, header >> 12)));
}

/// The 8 codes of one grid point, shifted by an eighth down or up; IQ1_M has the same.
pub(super) fn unpack_point(number: u16, down: bool, q: &mut [i8]) {
    let shift = if down { -1 } else { 1 };
    for (q, point) in q.iter_mut().zip(IQ1[usize::from(number)]) {
        *q = point + shift;
    }
}

/// The scale of a group whose `s` is the low three bits given.
pub(super) fn eighth_scale(d: f32, s: u16) -> f32 {
    d * f32::from(2 * (s & 7) + 1) * 0.125
}
