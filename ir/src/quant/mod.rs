//! GGUF block formats: layout and decode, one file each, listed in [`FORMATS`].
//!
//! Decoding is written once, as exact integers and scales ([`Unpacked`]); [`Format::decode`] and
//! the compiler's repacking both read that. A format's integers never leave i8.

use half::f16;

/// A GGUF element format. The order is that of [`FORMATS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Iq1S,
    Iq1M,
    Iq2Xxs,
    Iq2Xs,
    Iq2S,
    Iq3Xxs,
    Iq3S,
    Iq4Nl,
    Iq4Xs,
    Tq1_0,
    Tq2_0,
    Q1_0,
    Mxfp4,
}

/// One block as exact integers: element i is `scale[i/16] * q[i] + min[i/16]` in f32,
/// product first, both roundings kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Unpacked {
    /// Integer codes, `block_len` of them; the format's signed value where it has no minimum
    /// (Q4_0: -8..=7), else the unsigned code (Q4_1: 0..=15).
    pub q: [i8; 256],
    /// Scale of each group of 16 elements.
    pub scale: [f32; 16],
    /// Additive minimum of each group of 16 (already negated where the format subtracts it).
    pub min: [f32; 16],
    /// The two-level scales of the K formats, from which `scale` and `min` are made.
    pub super_scales: Option<SuperScales>,
}

/// `scale = d * sub[g]`, `min = -(dmin * sub_min[g])` for group g of 16 elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SuperScales {
    pub d: f16,
    pub dmin: f16,
    pub sub: [i8; 16],
    pub sub_min: [u8; 16],
}

impl Format {
    /// Its name in the text IR and in reports, e.g. `q4_k`.
    pub fn name(self) -> &'static str {
        "stub"
    }
}
