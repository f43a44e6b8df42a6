//! Which block format each tensor of a quantised file has: llama.cpp's choices (`src/llama-quant.cpp`,
//! `llama_tensor_get_type_impl` and `tensor_type_fallback`) for dense models of less than 70 billion
//! weights, quantised without an importance matrix.
//!
//! Left out: the finer choices of mixtures other than Q4_K_M (`q2_k` here is Q2_K for every matrix of
//! a layer, for example). A format of one's name is that format in every matrix of a layer.

use std::fmt;
use std::str::FromStr;

use onebit_ir::quant::{FORMATS, Format};

/// How a file is quantised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantisation {
    /// One format for the matrices of layers; the output matrix as llama.cpp chooses it.
    Uniform(Format),
    /// Q4_K with Q6_K in half of `attn_v` and `ffn_down`: `Q4_K_M`, what people download most.
    Q4KM,
}

/// What a matrix is, as far as its format hangs on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The embedding table, where the output matrix is another tensor.
    Embedding,
    /// The output matrix, also where it is the embedding table.
    Output,
    /// `attn_v` or `ffn_down`, which mixtures give more bits in some layers.
    Refined {
        layer: usize,
    },
    Other,
}

impl Quantisation {
    /// The format of a matrix with rows of `width` weights.
    pub(super) fn format_of(self, role: Role, width: usize, layers: usize) -> Format {
        let base = match self {
            Self::Uniform(format) => format,
            Self::Q4KM => Format::Q4K,
        };
        let wanted = match role {
            Role::Output => output(base, width),
            Role::Refined { layer } if self == Self::Q4KM && has_more_bits(layer, layers) => {
                Format::Q6K
            }
            Role::Embedding | Role::Refined { .. } | Role::Other => base,
        };
        if width.is_multiple_of(wanted.block_len()) { wanted } else { fallback(wanted) }
    }

    /// `general.file_type` (`enum llama_ftype` of `include/llama.h`), for the ones in use.
    pub(super) fn file_type(self) -> Option<u32> {
        Some(match self {
            Self::Uniform(Format::F32) => 0,
            Self::Uniform(Format::F16) => 1,
            Self::Uniform(Format::Q4_0) => 2,
            Self::Uniform(Format::Q4_1) => 3,
            Self::Uniform(Format::Q8_0) => 7,
            Self::Uniform(Format::Q4K) => 14,
            Self::Q4KM => 15,
            Self::Uniform(Format::BF16) => 32,
            Self::Uniform(Format::Q1_0) => 40,
            Self::Uniform(_) => return None,
        })
    }
}

fn output(base: Format, width: usize) -> Format {
    match base {
        // Floats stay; the 1-bit Bonsai models are 1-bit from end to end (their model cards).
        Format::F32 | Format::F16 | Format::BF16 | Format::Q1_0 | Format::Q8_0 => base,
        Format::Mxfp4 => Format::Q8_0,
        _ if !width.is_multiple_of(base.block_len()) => Format::Q8_0,
        Format::Iq1S
        | Format::Iq1M
        | Format::Iq2Xxs
        | Format::Iq2Xs
        | Format::Iq2S
        | Format::Iq3Xxs => Format::Q5K,
        _ => Format::Q6K,
    }
}

/// The first and last eighth of the layers, and every third between (`use_more_bits`).
fn has_more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

/// What stands in where rows are no whole blocks; the same again where nothing does.
fn fallback(format: Format) -> Format {
    match format {
        Format::Iq1S
        | Format::Iq1M
        | Format::Iq2Xxs
        | Format::Iq2Xs
        | Format::Iq2S
        | Format::Iq3Xxs
        | Format::Iq3S
        | Format::Iq4Xs => Format::Iq4Nl,
        Format::Q2K | Format::Q3K | Format::Tq1_0 | Format::Tq2_0 => Format::Q4_0,
        Format::Q4K => Format::Q5_0,
        Format::Q5K => Format::Q5_1,
        Format::Q6K => Format::Q8_0,
        other => other,
    }
}

impl fmt::Display for Quantisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform(format) => f.write_str(format.info().name),
            Self::Q4KM => f.write_str("q4_k_m"),
        }
    }
}

impl FromStr for Quantisation {
    type Err = String;

    /// The name of a format, or `q4_k_m`.
    fn from_str(name: &str) -> Result<Self, String> {
        if name == "q4_k_m" {
            return Ok(Self::Q4KM);
        }
        let known = FORMATS.iter().find(|info| info.name == name);
        known.map(|info| Self::Uniform(info.format)).ok_or_else(|| {
            let names: Vec<&str> = FORMATS.iter().map(|info| info.name).collect();
            format!("no quantisation {name}; there are q4_k_m, {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses_formats_as_llama_cpp_does() {
        let layers = 28;
        let of = |name: &str, role, width| {
            name.parse::<Quantisation>().unwrap().format_of(role, width, layers)
        };
        assert_eq!(of("q4_k", Role::Output, 2048), Format::Q6K);
        assert_eq!(of("q4_k", Role::Embedding, 4096), Format::Q4K);
        assert_eq!(of("q4_1", Role::Output, 576), Format::Q8_0);
        assert_eq!(of("q4_k", Role::Other, 576), Format::Q5_0);
        assert_eq!(of("q1_0", Role::Output, 2048), Format::Q1_0);
        let more: Vec<usize> = (0..layers)
            .filter(|&layer| of("q4_k_m", Role::Refined { layer }, 2048) == Format::Q6K)
            .collect();
        assert_eq!(more, [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27]);
        assert!("q9".parse::<Quantisation>().is_err());
    }
}
