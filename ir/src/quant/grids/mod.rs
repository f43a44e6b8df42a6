//! The lattice points that the IQ1, IQ2 and IQ3 formats number, and the signs they share.
//!
//! The points are facts of the formats, from `iq1s_grid`, `iq2xxs_grid`, `iq2xs_grid`,
//! `iq2s_grid`, `iq3xxs_grid` and `iq3s_grid` of ggml-common.h (llama.cpp). A text file lists each
//! grid in order: a word a point, its first element first, a digit an element, which indexes the
//! grid's levels.

/// The grid of IQ1_S and IQ1_M, times 8.
pub(super) static IQ1: [[i8; 8]; 2048] = expand(include_bytes!("iq1.txt"), &[-8, 0, 8]);

/// The grid of IQ2_XXS.
pub(super) static IQ2_XXS: [[i8; 8]; 256] = expand(include_bytes!("iq2_xxs.txt"), &IQ2_LEVELS);

/// The grid of IQ2_XS.
pub(super) static IQ2_XS: [[i8; 8]; 512] = expand(include_bytes!("iq2_xs.txt"), &IQ2_LEVELS);

/// The grid of IQ2_S.
pub(super) static IQ2_S: [[i8; 8]; 1024] = expand(include_bytes!("iq2_s.txt"), &IQ2_LEVELS);

/// The grid of IQ3_XXS.
pub(super) static IQ3_XXS: [[i8; 4]; 256] =
    expand(include_bytes!("iq3_xxs.txt"), &[4, 12, 20, 28, 36, 44, 52, 62]);

/// The grid of IQ3_S.
pub(super) static IQ3_S: [[i8; 4]; 512] =
    expand(include_bytes!("iq3_s.txt"), &[1, 3, 5, 7, 9, 11, 13, 15]);

const IQ2_LEVELS: [i8; 3] = [8, 25, 43];

/// Reads a grid's text when this crate is compiled; a file of another size does not compile.
const fn expand<const WIDTH: usize, const POINTS: usize>(
    text: &[u8],
    levels: &[i8],
) -> [[i8; WIDTH]; POINTS] {
    let mut grid = [[0; WIDTH]; POINTS];
    let (mut at, mut element) = (0, 0);
    while at < text.len() {
        if !text[at].is_ascii_whitespace() {
            grid[element / WIDTH][element % WIDTH] = levels[(text[at] - b'0') as usize];
            element += 1;
        }
        at += 1;
    }
    assert!(element == WIDTH * POINTS);
    grid
}

/// Eight signs stored as seven: their number of minuses is even, so the last follows.
pub(super) fn even_signs(seven: u8) -> u8 {
    seven | ((seven.count_ones() & 1) as u8) << 7
}

/// Copies a point, element j negated where bit j of `signs` is set.
pub(super) fn write_signed(point: &[i8], signs: u8, q: &mut [i8]) {
    for (j, (q, &level)) in q.iter_mut().zip(point).enumerate() {
        *q = if signs >> j & 1 == 0 { level } else { -level };
    }
}
