//! Activations as kernels of matrices have them: f16, in words of the quads v and v + 4 of a block,
//! each in the order 0 2 1 3.

use half::f16;

/// Where element `i` of a row is among its halves.
fn place(i: usize) -> usize {
    let (quad, element) = (i / 4 % 8, i % 4);
    i / 32 * 32 + quad % 4 * 8 + quad / 4 * 4 + [0, 2, 1, 3][element]
}

/// Words of rows of floats, rounded; a row is whole blocks.
pub fn pack(floats: &[f32]) -> Vec<u32> {
    let mut halves = vec![0; floats.len()];
    for (i, float) in floats.iter().enumerate() {
        halves[place(i)] = f16::from_f32(*float).to_bits();
    }
    halves.chunks_exact(2).map(|pair| u32::from(pair[0]) | u32::from(pair[1]) << 16).collect()
}

/// The floats of words.
pub fn unpack(words: &[u32]) -> Vec<f32> {
    let half = |place: usize| f16::from_bits((words[place / 2] >> (place % 2 * 16)) as u16);
    (0..words.len() * 2).map(|i| half(place(i)).to_f32()).collect()
}
