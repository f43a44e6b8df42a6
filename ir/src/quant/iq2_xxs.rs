//! IQ2_XXS: 256 elements in 66 bytes, `d * (s + 1/2) / 4 * ±point`; groups of 32.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | `d`, fp16 |
//! | 2..66 | 8 bytes a group: the numbers of 4 grid points, one for 8 elements, then a u32 |
//!
//! The u32 holds 7 bits of signs for each point, lowest first, and `s` in bits 28..32.

use super::{
    Unpacked, f16_at,
    grids::{IQ2_XXS, even_signs, write_signed},
    u32_at,
};

pub(super) fn unpack(block: &[u8], out: &mut Unpacked) {
    let d = f16_at(block, 0).to_f32();
    let words: [u32; 8] = std::array::from_fn(|group| u32_at(block, 6 + 8 * group));
    for (group, q) in out.q.chunks_exact_mut(32).enumerate() {
        let points = &block[2 + 8 * group..][..4];
        for (i, (&point, q)) in points.iter().zip(q.chunks_exact_mut(8)).enumerate() {
            let signs = even_signs((words[group] >> (7 * i) & 127) as u8);
            write_signed(&IQ2_XXS[usize::from(point)], signs, q);
        }
    }
    out.set_scales(words.map(|word| d * (0.5 + (word >> 28) as f32) * 0.25));
}
