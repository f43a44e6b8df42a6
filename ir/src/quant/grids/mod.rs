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
pub(super) fn write_signed<const WIDTH: usize>(point: &[i8; WIDTH], signs: u8, q: &mut [i8]) {
    for (j, (q, level)) in q.iter_mut().zip(point).enumerate() {
        let minus = (signs >> j & 1) as i8;
        *q = level * (1 - 2 * minus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FNV-1a over the elements' bytes.
    fn checksum(elements: &[i8]) -> u64 {
        elements.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &element| {
            (hash ^ u64::from(element as u8)).wrapping_mul(0x100_0000_01b3)
        })
    }

    /// The sums were computed from the tables as ggml-common.h prints them.
    #[test]
    fn grids_are_the_published_ones() {
        assert_eq!(checksum(IQ1.as_flattened()), 0x9964_9f4b_16b0_d5dd);
        assert_eq!(checksum(IQ2_XXS.as_flattened()), 0xbb4e_e025_b5ac_6e8e);
        assert_eq!(checksum(IQ2_XS.as_flattened()), 0xc9b1_ee61_e799_09bd);
        assert_eq!(checksum(IQ2_S.as_flattened()), 0x123e_dd38_a3b6_2b90);
        assert_eq!(checksum(IQ3_XXS.as_flattened()), 0xdfa5_dc83_d6a1_55d5);
        assert_eq!(checksum(IQ3_S.as_flattened()), 0xfa37_020c_25b4_4829);
    }

    #[test]
    fn stored_signs_have_an_even_number_of_minuses() {
        for seven in 0..128 {
            let signs = even_signs(seven);
            assert_eq!(signs & 127, seven);
            assert_eq!(signs.count_ones() % 2, 0);
        }
    }
}
