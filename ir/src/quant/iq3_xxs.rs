//! IQ3_XXS: 256 elements in 98 bytes, `d * (s + 1/2) / 2 * ±point`; groups of 32.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | `d`, fp16 |
//! | 2..66 | numbers of the grid points, one for 4 elements |
//! | 66..98 | a u32 a group |
//!
//! The u32 holds 7 bits of signs for each 8 elements, lowest first, and `s` in bits 28..32.

use super::{
    Unpacked, f16_at,
    grids::{IQ3_XXS, even_signs, write_signed},
    u32_at,
};

pub(super) fn unpack(block: &[u8], out: &mut Unpacked) {
    let d = f16_at(block, 0).to_f32();
    let words: [u32; 8] = std::array::from_fn(|group| u32_at(block, 66 + 4 * group));
    for (i, q) in out.q.chunks_exact_mut(8).enumerate() {
        let signs = even_signs((words[i / 4] >> (i % 4 * 7) & 127) as u8);
        write_signed(&IQ3_XXS[usize::from(block[2 + 2 * i])], signs, &mut q[..4]);
        write_signed(&IQ3_XXS[usize::from(block[3 + 2 * i])], signs >> 4, &mut q[4..]);
    }
    out.set_scales(words.map(|word| d * (0.5 + (word >> 28) as f32) * 0.5));
}
