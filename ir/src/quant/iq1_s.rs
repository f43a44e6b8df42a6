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
//! Codes are the grid point's elements plus one, 0 to 2, and an eighth of `d` is the unit of the
//! minimum: `d (2 s + 1) (point ± 1/8) = d (2 s + 1) code - d/8 (2 s + 1) (8 ∓ 1)`. Every term is
//! exact in f32. Where `d / 8` is a fp16 too, these are two-level scales.

use half::f16;

use super::{SuperScales, Unpacked, f16_at, grids::IQ1, u16_at};

pub(super) fn unpack(block: &[u8], out: &mut Unpacked) {
    let d = f16_at(block, 0);
    let headers: [u16; 8] = std::array::from_fn(|group| u16_at(block, 34 + 2 * group));
    for (i, (&low, q)) in block[2..34].iter().zip(out.q.chunks_exact_mut(8)).enumerate() {
        let high = headers[i / 4] >> (3 * (i % 4)) & 7;
        for (q, element) in q.iter_mut().zip(IQ1[usize::from(u16::from(low) | high << 8)]) {
            // The table holds eight times the elements.
            *q = element / 8 + 1;
        }
    }
    let sub = headers.map(odd_scale);
    let sub_min: [u8; 8] = std::array::from_fn(|group| {
        let eighths = if headers[group] & 0x8000 == 0 { 7 } else { 9 };
        sub[group] * eighths
    });
    let eighth = d.to_f32() * 0.125;
    let dmin = f16::from_f32(eighth);
    out.set_super_scales(SuperScales {
        d,
        dmin,
        sub: std::array::from_fn(|group| sub[group / 2] as i8),
        sub_min: std::array::from_fn(|group| sub_min[group / 2]),
    });
    if !has_super_scales(block) {
        out.min = std::array::from_fn(|group| -(eighth * f32::from(sub_min[group / 2])));
        out.super_scales = None;
    }
}

/// Whether an eighth of the block's `d` is a fp16.
pub(super) fn has_super_scales(block: &[u8]) -> bool {
    let eighth = f16_at(block, 0).to_f32() * 0.125;
    f16::from_f32(eighth).to_f32() == eighth
}

/// `2 s + 1` of a group whose `s` is bits 12 to 14 of its u16.
fn odd_scale(header: u16) -> u8 {
    (2 * (header >> 12 & 7) + 1) as u8
}
