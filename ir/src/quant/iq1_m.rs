//! IQ1_M: 256 elements in 56 bytes, `d * (2 s + 1) * (point ± 1/8)`; groups of 16.
//!
//! | bytes | field |
//! |---|---|
//! | 0..32 | low eight bits of the grid points' numbers, one for 8 elements |
//! | 32..48 | a nibble a point, low first: its high three bits, then set where 1/8 is taken away |
//! | 48..56 | four u16: `s` of four groups, three bits each, then a nibble of `d`, lowest first |
//!
//! Codes are 8 times the sum and the scale an eighth of `d * (2 s + 1)`, both exact.

use half::f16;

use super::{Unpacked, grids::IQ1, u16_at};

pub(super) fn unpack(block: &[u8], out: &mut Unpacked) {
    for (i, (&low, q)) in block[..32].iter().zip(out.q.chunks_exact_mut(8)).enumerate() {
        let nibble = block[32 + i / 2] >> (i % 2 * 4) & 15;
        let number = u16::from(low) | u16::from(nibble & 7) << 8;
        let eighth = if nibble & 8 != 0 { -1 } else { 1 };
        for (q, element) in q.iter_mut().zip(IQ1[usize::from(number)]) {
            *q = element + eighth;
        }
    }
    let words: [u16; 4] = std::array::from_fn(|i| u16_at(block, 48 + 2 * i));
    let d = words.iter().rev().fold(0, |bits, word| bits << 4 | word >> 12);
    let d = f16::from_bits(d).to_f32();
    out.set_scales::<16>(std::array::from_fn(|group| {
        let s = words[group / 4] >> (group % 4 * 3) & 7;
        d * f32::from(2 * s + 1) * 0.125
    }));
}
