//! GGUF block formats: layout and decode, one file each, listed in [`FORMATS`].
//!
//! Decoding is written once, as exact integers and scales ([`Unpacked`]); [`Format::decode`] and
//! the compiler's repacking both read that. A format's integers never leave i8. Layouts, type ids
//! and arithmetic are those of ggml (`ggml-common.h`, `dequantize_row_*`): every format decodes to
//! the same f32 bits, NaN payloads aside.
//!
//! Bytes are untrusted: any bytes of the right length decode, whatever their scales hold.

use std::fmt;

use half::f16;

mod floats;
mod grids;
mod iq1_m;
mod iq1_s;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod mxfp4;
mod q1_0;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod tq1_0;
mod tq2_0;

#[cfg(test)]
mod tests;

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

/// What is fixed about one format: a row of [`FORMATS`].
#[derive(Clone, Copy, Debug)]
pub struct FormatInfo {
    pub format: Format,
    /// Its name in the text IR and in reports, e.g. `q4_k`.
    pub name: &'static str,
    /// Its type id in a GGUF tensor record (`enum ggml_type`).
    pub ggml_type: u32,
    /// Elements in a block; 1 for floats.
    pub block_len: usize,
    /// Bytes in a block.
    pub block_bytes: usize,
    codec: Codec,
}

/// How a format's bytes are read. Both kinds may rely on the lengths [`Format`] has checked.
#[derive(Clone, Copy, Debug)]
enum Codec {
    /// A whole row of floats.
    Floats(fn(&[u8], &mut [f32])),
    /// One block; must set every code, scale and minimum of the block, and `super_scales`.
    Blocks(fn(&[u8], &mut Unpacked)),
}

const fn floats(
    format: Format,
    name: &'static str,
    ggml_type: u32,
    block_bytes: usize,
    decode: fn(&[u8], &mut [f32]),
) -> FormatInfo {
    FormatInfo { format, name, ggml_type, block_len: 1, block_bytes, codec: Codec::Floats(decode) }
}

const fn blocks(
    format: Format,
    name: &'static str,
    ggml_type: u32,
    (block_len, block_bytes): (usize, usize),
    unpack: fn(&[u8], &mut Unpacked),
) -> FormatInfo {
    FormatInfo { format, name, ggml_type, block_len, block_bytes, codec: Codec::Blocks(unpack) }
}

/// Every format, in the order of [`Format`]: name, GGUF type id, (elements, bytes) of a block.
#[rustfmt::skip]
pub const FORMATS: &[FormatInfo] = &[
    floats(Format::F32,    "f32",     0,  4, floats::decode_f32),
    floats(Format::F16,    "f16",     1,  2, floats::decode_f16),
    floats(Format::BF16,   "bf16",    30, 2, floats::decode_bf16),
    blocks(Format::Q4_0,   "q4_0",    2,  (32, 18),   q4_0::unpack),
    blocks(Format::Q4_1,   "q4_1",    3,  (32, 20),   q4_1::unpack),
    blocks(Format::Q5_0,   "q5_0",    6,  (32, 22),   q5_0::unpack),
    blocks(Format::Q5_1,   "q5_1",    7,  (32, 24),   q5_1::unpack),
    blocks(Format::Q8_0,   "q8_0",    8,  (32, 34),   q8_0::unpack),
    blocks(Format::Q2K,    "q2_k",    10, (256, 84),  q2_k::unpack),
    blocks(Format::Q3K,    "q3_k",    11, (256, 110), q3_k::unpack),
    blocks(Format::Q4K,    "q4_k",    12, (256, 144), q4_k::unpack),
    blocks(Format::Q5K,    "q5_k",    13, (256, 176), q5_k::unpack),
    blocks(Format::Q6K,    "q6_k",    14, (256, 210), q6_k::unpack),
    blocks(Format::Iq1S,   "iq1_s",   19, (256, 50),  iq1_s::unpack),
    blocks(Format::Iq1M,   "iq1_m",   29, (256, 56),  iq1_m::unpack),
    blocks(Format::Iq2Xxs, "iq2_xxs", 16, (256, 66),  iq2_xxs::unpack),
    blocks(Format::Iq2Xs,  "iq2_xs",  17, (256, 74),  iq2_xs::unpack),
    blocks(Format::Iq2S,   "iq2_s",   22, (256, 82),  iq2_s::unpack),
    blocks(Format::Iq3Xxs, "iq3_xxs", 18, (256, 98),  iq3_xxs::unpack),
    blocks(Format::Iq3S,   "iq3_s",   21, (256, 110), iq3_s::unpack),
    blocks(Format::Iq4Nl,  "iq4_nl",  20, (32, 18),   iq4_nl::unpack),
    blocks(Format::Iq4Xs,  "iq4_xs",  23, (256, 136), iq4_xs::unpack),
    blocks(Format::Tq1_0,  "tq1_0",   34, (256, 54),  tq1_0::unpack),
    blocks(Format::Tq2_0,  "tq2_0",   35, (256, 66),  tq2_0::unpack),
    blocks(Format::Q1_0,   "q1_0",    41, (128, 18),  q1_0::unpack),
    blocks(Format::Mxfp4,  "mxfp4",   39, (32, 17),   mxfp4::unpack),
];

/// Bytes that are not what a format's row or block must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A row that ends inside a block.
    #[error(
        "{format} rows hold whole blocks of {} elements, found {elements} elements",
        format.block_len()
    )]
    PartialBlock { format: Format, elements: usize },
    /// Bytes too few or too many for the elements asked for.
    #[error("{elements} elements of {format} are {expected} bytes, found {found}")]
    Length { format: Format, elements: usize, expected: usize, found: usize },
    /// Block codes asked of a float format.
    #[error("{format} has no blocks to unpack; decode it instead")]
    NotBlocks { format: Format },
}

/// One block as exact integers: element i is `scale[i/16] * q[i] + min[i/16]` in f32,
/// product first, both roundings kept.
///
/// Only the first `block_len` codes and `block_len / 16` groups belong to the block; what follows
/// them is left as it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Unpacked {
    /// Integer codes, `block_len` of them; the format's signed value where it has no minimum
    /// (Q4_0: -8..=7), else the unsigned code (Q4_1: 0..=15).
    pub q: [i8; 256],
    /// Scale of each group of 16 elements.
    pub scale: [f32; 16],
    /// Additive minimum of each group of 16 (already negated where the format subtracts it);
    /// -0.0 where the format has none, because adding that keeps the sign of a zero product.
    pub min: [f32; 16],
    /// The two-level scales of the K formats, IQ4_XS and most blocks of IQ1_S, from which `scale`
    /// and `min` are made.
    pub super_scales: Option<SuperScales>,
}

/// `scale = d * sub[g]`, `min = -(dmin * sub_min[g])` for group g of 16 elements, in f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SuperScales {
    pub d: f16,
    /// Zero, as is all of `sub_min`, where the format has no minimum.
    pub dmin: f16,
    pub sub: [i8; 16],
    pub sub_min: [u8; 16],
}

impl Format {
    /// Its row of [`FORMATS`].
    pub fn info(self) -> &'static FormatInfo {
        &FORMATS[self as usize]
    }

    /// Its name in the text IR and in reports, e.g. `q4_k`.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// The format of that [`name`](Format::name).
    pub fn from_name(name: &str) -> Option<Format> {
        FORMATS.iter().find(|info| info.name == name).map(|info| info.format)
    }

    /// The format with that GGUF type id; `None` for ids that hold no weights we decode.
    pub fn from_ggml_type(id: u32) -> Option<Format> {
        FORMATS.iter().find(|info| info.ggml_type == id).map(|info| info.format)
    }

    /// Elements in a block; 1 for floats.
    pub fn block_len(self) -> usize {
        self.info().block_len
    }

    /// Bytes in a block.
    pub fn block_bytes(self) -> usize {
        self.info().block_bytes
    }

    /// Whether it stores plain floats, which have no codes to unpack.
    pub fn is_float(self) -> bool {
        matches!(self.info().codec, Codec::Floats(_))
    }

    /// Bytes of a row of `elements`; `None` if it would end inside a block, or overflows.
    pub fn row_bytes(self, elements: usize) -> Option<usize> {
        let info = self.info();
        if !elements.is_multiple_of(info.block_len) {
            return None;
        }
        (elements / info.block_len).checked_mul(info.block_bytes)
    }

    /// Whether all of `blocks`, whole blocks, have two-level scales: [`Unpacked::super_scales`].
    pub fn has_super_scales(self, blocks: &[u8]) -> bool {
        match self {
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K | Self::Iq4Xs => true,
            Self::Iq1S => blocks.chunks_exact(self.block_bytes()).all(iq1_s::has_super_scales),
            _ => false,
        }
    }

    /// Splits one block into codes and scales.
    ///
    /// # Errors
    /// If this is a float format, or `block` is not [`block_bytes`](Format::block_bytes) long.
    pub fn unpack(self, block: &[u8], out: &mut Unpacked) -> Result<(), DecodeError> {
        let Codec::Blocks(unpack) = self.info().codec else {
            return Err(DecodeError::NotBlocks { format: self });
        };
        self.check_length(self.block_len(), block)?;
        unpack(block, out);
        Ok(())
    }

    /// Decodes `out.len()` elements, whole blocks of them, from all of `bytes`.
    ///
    /// # Errors
    /// If `out` ends inside a block, or `bytes` is not [`row_bytes`](Format::row_bytes) of it long.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) -> Result<(), DecodeError> {
        self.check_length(out.len(), bytes)?;
        let info = self.info();
        match info.codec {
            Codec::Floats(decode) => decode(bytes, out),
            Codec::Blocks(unpack) => {
                let mut unpacked = Unpacked::new();
                let rows = bytes.chunks_exact(info.block_bytes);
                for (block, out) in rows.zip(out.chunks_exact_mut(info.block_len)) {
                    unpack(block, &mut unpacked);
                    unpacked.dequantize(out);
                }
            }
        }
        Ok(())
    }

    fn check_length(self, elements: usize, bytes: &[u8]) -> Result<(), DecodeError> {
        let Some(expected) = self.row_bytes(elements) else {
            return Err(DecodeError::PartialBlock { format: self, elements });
        };
        if bytes.len() != expected {
            let found = bytes.len();
            return Err(DecodeError::Length { format: self, elements, expected, found });
        }
        Ok(())
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Unpacked {
    /// A block of zeros, for [`Format::unpack`] to fill.
    pub fn new() -> Unpacked {
        Unpacked { q: [0; 256], scale: [0.0; 16], min: [-0.0; 16], super_scales: None }
    }

    /// Writes the values of the first `out.len()` elements; at most 256.
    fn dequantize(&self, out: &mut [f32]) {
        let groups = out.chunks_mut(16).zip(self.q.chunks_exact(16));
        for ((out, q), (&scale, &min)) in groups.zip(self.scale.iter().zip(&self.min)) {
            for (value, &q) in out.iter_mut().zip(q) {
                *value = scale * f32::from(q) + min;
            }
        }
    }

    /// One scale and minimum for all groups of a small block.
    fn set_scale(&mut self, scale: f32, min: f32) {
        self.scale = [scale; 16];
        self.min = [min; 16];
        self.super_scales = None;
    }

    /// A scale for each group of 16 or, shared by their groups, of 32; no minimum.
    fn set_scales<const N: usize>(&mut self, scales: [f32; N]) {
        const { assert!(N == 16 || N == 8) };
        self.scale = std::array::from_fn(|group| scales[group * N / 16]);
        self.min = [NO_MIN; 16];
        self.super_scales = None;
    }

    /// Two-level scales and minimums.
    fn set_super_scales(&mut self, scales: SuperScales) {
        let (d, dmin) = (scales.d.to_f32(), scales.dmin.to_f32());
        self.scale = scales.sub.map(|sub| d * f32::from(sub));
        self.min = scales.sub_min.map(|sub| -(dmin * f32::from(sub)));
        self.super_scales = Some(scales);
    }
}

impl Default for Unpacked {
    fn default() -> Unpacked {
        Unpacked::new()
    }
}

/// The minimum of a format without one: the f32 that changes nothing it is added to.
const NO_MIN: f32 = -0.0;

/// The fp16 at a byte offset of a block.
fn f16_at(block: &[u8], at: usize) -> f16 {
    f16::from_le_bytes([block[at], block[at + 1]])
}

/// The u16 at a byte offset of a block.
fn u16_at(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

/// The u32 at a byte offset of a block.
fn u32_at(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}
