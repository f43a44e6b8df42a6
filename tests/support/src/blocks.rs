//! Weights in GGUF block formats: random ones in every format, and plain quantisers for a few.
//!
//! Offsets of scales are those of ggml's `ggml-common.h`.

use half::{bf16, f16};
use onebit_ir::quant::Format;

use crate::random::Random;

/// Where a block holds its scale, and the minimum that centres its codes.
#[derive(Clone, Copy)]
enum ScaleField {
    /// f16 at that byte: this factor times the block's scale.
    F16(usize, f32),
    /// The f16 whose four nibbles are the top ones of the `u16`s from byte 48 on (IQ1_M).
    Nibbles,
    /// A power of two, as its exponent plus 127 in byte 0 (MXFP4).
    Exponent,
}

use ScaleField::{Exponent, F16, Nibbles};

fn scale_fields(format: Format) -> &'static [ScaleField] {
    match format {
        Format::F32 | Format::F16 | Format::BF16 => &[],
        Format::Q4_1 => &[F16(0, 1.0), F16(2, -7.5)],
        Format::Q5_1 => &[F16(0, 1.0), F16(2, -15.5)],
        Format::Q2K => &[F16(80, 1.0), F16(82, 1.5)],
        Format::Q3K => &[F16(108, 1.0)],
        Format::Q4K => &[F16(0, 1.0), F16(2, 7.5)],
        Format::Q5K => &[F16(0, 1.0), F16(2, 15.5)],
        Format::Q6K => &[F16(208, 1.0)],
        Format::Iq1M => &[Nibbles],
        Format::Tq1_0 => &[F16(52, 1.0)],
        Format::Tq2_0 => &[F16(64, 1.0)],
        Format::Mxfp4 => &[Exponent],
        Format::Q4_0
        | Format::Q5_0
        | Format::Q8_0
        | Format::Iq1S
        | Format::Iq2Xxs
        | Format::Iq2Xs
        | Format::Iq2S
        | Format::Iq3Xxs
        | Format::Iq3S
        | Format::Iq4Nl
        | Format::Iq4Xs
        | Format::Q1_0 => &[F16(0, 1.0)],
    }
}

/// `elements` random weights of about that standard deviation, encoded in `format`: random codes
/// under scales of both signs. Panics unless `elements` are whole blocks.
pub fn random_row(format: Format, elements: usize, deviation: f32, random: &mut Random) -> Vec<u8> {
    let blocks = elements / format.block_len();
    assert_eq!(blocks * format.block_len(), elements, "{elements} elements of {format}");
    if format.is_float() {
        let values: Vec<f32> = (0..elements).map(|_| deviation * random.normal()).collect();
        return quantize(format, &values);
    }
    // What the codes alone deviate, measured through the format's decode.
    let sample: Vec<u8> = (0..64).flat_map(|_| random_block(format, 1.0, random)).collect();
    let mut decoded = vec![0.0; 64 * format.block_len()];
    format.decode(&sample, &mut decoded).expect("a whole number of blocks");
    let mean_square = decoded.iter().map(|x| x * x).sum::<f32>() / decoded.len() as f32;
    let scale = deviation / mean_square.sqrt();
    let jittered = |random: &mut Random| {
        let sign = if random.below(2) == 0 { 1.0 } else { -1.0 };
        sign * scale * (0.5 + random.uniform())
    };
    (0..blocks)
        .flat_map(|_| {
            let scale = jittered(random);
            random_block(format, scale, random)
        })
        .collect()
}

/// Random weights written in place, for files of gigabytes. Other than [`random_row`], the minima
/// of K formats centre each group of codes, as quantisers make them: otherwise groups would differ
/// mostly by their offsets.
#[derive(Clone, Copy, Debug)]
pub struct RandomBlocks {
    format: Format,
    deviation: f32,
    /// Of codes that deviate by `deviation`; nothing for floats.
    scale: f32,
}

impl RandomBlocks {
    /// Weights of about that standard deviation.
    pub fn new(format: Format, deviation: f32) -> Self {
        let unscaled = Self { format, deviation, scale: 1.0 };
        if format.is_float() {
            return unscaled;
        }
        let mut sample = vec![0; 256 * format.block_bytes()];
        unscaled.fill(&mut sample, &mut Random::new(0));
        let mut decoded = vec![0.0; 256 * format.block_len()];
        format.decode(&sample, &mut decoded).expect("a whole number of blocks");
        let mean_square = decoded.iter().map(|x| x * x).sum::<f32>() / decoded.len() as f32;
        Self { scale: deviation / mean_square.sqrt(), ..unscaled }
    }

    /// Fills `bytes`, whole blocks, with the next blocks of `random`.
    pub fn fill(&self, bytes: &mut [u8], random: &mut Random) {
        if self.format.is_float() {
            let count = bytes.len() / self.format.block_bytes();
            let values: Vec<f32> = (0..count).map(|_| self.deviation * random.normal()).collect();
            bytes.copy_from_slice(&quantize(self.format, &values));
            return;
        }
        random.fill(bytes);
        for block in bytes.chunks_exact_mut(self.format.block_bytes()) {
            let bits = random.next_u64();
            let sign = if bits & 1 == 0 { 1.0 } else { -1.0 };
            let jitter = 0.5 + (bits >> 40) as f32 / (1u64 << 24) as f32;
            centre(self.format, block);
            restrict(self.format, block);
            set_scales(self.format, block, sign * self.scale * jitter);
        }
    }
}

/// Makes each group's minimum the one that centres its codes: the 6 or 4 bits of its minimum
/// become those of its scale.
fn centre(format: Format, block: &mut [u8]) {
    match format {
        // Twelve bytes of eight 6-bit scales and eight 6-bit minima (`get_scale_min_k4`).
        Format::Q4K | Format::Q5K => {
            for group in 0..4 {
                block[4 + 4 + group] = block[4 + group];
                let nibble = block[4 + 8 + group] & 0x0f;
                block[4 + 8 + group] = nibble | (nibble << 4);
            }
        }
        Format::Q2K => block[..16].iter_mut().for_each(|byte| *byte = (*byte & 0x0f) * 0x11),
        _ => {}
    }
}

/// Ternary models have the codes 0, 1 and 2 only; 3 becomes 1.
fn restrict(format: Format, block: &mut [u8]) {
    if format == Format::Tq2_0 {
        block.iter_mut().for_each(|byte| *byte &= !((*byte & (*byte << 1)) & 0xaa));
    }
}

/// A block of random codes under `scale`.
fn random_block(format: Format, scale: f32, random: &mut Random) -> Vec<u8> {
    let mut block = vec![0; format.block_bytes()];
    random.fill(&mut block);
    restrict(format, &mut block);
    set_scales(format, &mut block, scale);
    block
}

fn set_scales(format: Format, block: &mut [u8], scale: f32) {
    for field in scale_fields(format) {
        match *field {
            F16(at, factor) => {
                let bits = f16::from_f32(factor * scale).to_le_bytes();
                block[at..at + 2].copy_from_slice(&bits);
            }
            Nibbles => {
                let bits = f16::from_f32(scale).to_bits();
                for i in 0..4 {
                    let byte = &mut block[48 + 2 * i + 1];
                    let nibble = (bits >> (4 * i)) as u8 & 0x0f;
                    *byte = (*byte & 0x0f) | (nibble << 4);
                }
            }
            Exponent => {
                let exponent = scale.abs().max(f32::MIN_POSITIVE).log2().round();
                block[0] = (exponent + 127.0).clamp(1.0, 254.0) as u8;
            }
        }
    }
}

/// Encodes `values` in a float format, Q4_0, Q4_1 or Q8_0, to the nearest code. Panics for other
/// formats, and unless there are whole blocks.
pub fn quantize(format: Format, values: &[f32]) -> Vec<u8> {
    assert_eq!(values.len() % format.block_len(), 0, "{} elements of {format}", values.len());
    match format {
        Format::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Format::F16 => values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
        Format::BF16 => values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
        Format::Q4_0 => values.chunks_exact(32).flat_map(quantize_q4_0).collect(),
        Format::Q4_1 => values.chunks_exact(32).flat_map(quantize_q4_1).collect(),
        Format::Q8_0 => values.chunks_exact(32).flat_map(quantize_q8_0).collect(),
        other => panic!("there is no quantiser for {other}; use random_row"),
    }
}

/// The scale as it is stored, and what to multiply by to get codes.
fn stored_scale(scale: f32) -> (f16, f32) {
    let stored = f16::from_f32(scale);
    let value = stored.to_f32();
    (stored, if value == 0.0 { 0.0 } else { 1.0 / value })
}

fn code(x: f32, low: f32, high: f32) -> i8 {
    x.round_ties_even().clamp(low, high) as i8
}

/// Codes j and j + 16 share byte j.
fn nibbles(codes: &[i8]) -> impl Iterator<Item = u8> {
    let (low, high) = codes.split_at(16);
    low.iter().zip(high).map(|(&low, &high)| low as u8 | (high as u8) << 4)
}

fn quantize_q4_0(values: &[f32]) -> Vec<u8> {
    let extreme = values.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs()));
    // The extreme value gets the code -8, of which there is no positive twin.
    let (scale, inverse) = stored_scale(extreme.unwrap_or(0.0) / -8.0);
    let codes: Vec<i8> = values.iter().map(|x| 8 + code(x * inverse, -8.0, 7.0)).collect();
    scale.to_le_bytes().into_iter().chain(nibbles(&codes)).collect()
}

fn quantize_q4_1(values: &[f32]) -> Vec<u8> {
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (scale, inverse) = stored_scale((high - low) / 15.0);
    let minimum = f16::from_f32(low);
    let codes = values.iter().map(|x| code((x - minimum.to_f32()) * inverse, 0.0, 15.0));
    let codes: Vec<i8> = codes.collect();
    let header = scale.to_le_bytes().into_iter().chain(minimum.to_le_bytes());
    header.chain(nibbles(&codes)).collect()
}

fn quantize_q8_0(values: &[f32]) -> Vec<u8> {
    let extreme = values.iter().fold(0.0f32, |extreme, x| extreme.max(x.abs()));
    let (scale, inverse) = stored_scale(extreme / 127.0);
    let codes = values.iter().map(|x| code(x * inverse, -127.0, 127.0).cast_unsigned());
    scale.to_le_bytes().into_iter().chain(codes).collect()
}
