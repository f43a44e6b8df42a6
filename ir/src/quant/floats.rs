//! F32, F16 and BF16: one little-endian value an element. Every fp16 and bf16 is an f32 exactly.

use half::{bf16, f16};

pub(super) fn decode_f32(bytes: &[u8], out: &mut [f32]) {
    for (bytes, value) in bytes.as_chunks::<4>().0.iter().zip(out) {
        *value = f32::from_le_bytes(*bytes);
    }
}

pub(super) fn decode_f16(bytes: &[u8], out: &mut [f32]) {
    for (bytes, value) in bytes.as_chunks::<2>().0.iter().zip(out) {
        *value = f16::from_le_bytes(*bytes).to_f32();
    }
}

pub(super) fn decode_bf16(bytes: &[u8], out: &mut [f32]) {
    for (bytes, value) in bytes.as_chunks::<2>().0.iter().zip(out) {
        *value = bf16::from_le_bytes(*bytes).to_f32();
    }
}
