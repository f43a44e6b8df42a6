//! Every format against `golden/<name>.txt`, and what holds for all of them on any bytes.

use std::{collections::HashSet, fs, path::Path};

use proptest::prelude::*;

use super::*;

/// The longest block of any format.
const LONGEST_BLOCK: usize = 210;

struct Golden {
    bytes: Vec<u8>,
    values: Vec<u32>,
}

/// Reads `bytes` and `values` sections of hex digits, two and eight a number.
fn goldens(name: &str) -> Vec<Golden> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/quant/golden/{name}.txt"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.split("bytes\n").skip(1).map(golden).collect()
}

fn golden(section: &str) -> Golden {
    let (bytes, values) = section.split_once("values\n").expect("values after bytes");
    let digits = bytes.split_whitespace().collect::<String>();
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    Golden {
        bytes: (0..digits.len()).step_by(2).map(byte).collect(),
        values: values.split_whitespace().map(|v| u32::from_str_radix(v, 16).unwrap()).collect(),
    }
}

fn decode(format: Format, bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![0.0; bytes.len() / format.block_bytes() * format.block_len()];
    format.decode(bytes, &mut out).unwrap();
    out
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

#[test]
fn formats_decode_to_the_golden_bits() {
    for info in FORMATS {
        let goldens = goldens(info.name);
        assert!(!goldens.is_empty(), "{} has no golden blocks", info.name);
        for (number, golden) in goldens.iter().enumerate() {
            let decoded = decode(info.format, &golden.bytes);
            assert_eq!(decoded.len(), golden.values.len(), "{} block {number}", info.name);
            for (i, (value, &bits)) in decoded.iter().zip(&golden.values).enumerate() {
                let expected = f32::from_bits(bits);
                assert_eq!(
                    value.to_bits(),
                    bits,
                    "{} block {number}, element {i}: {value}, expected {expected}",
                    info.name
                );
            }
        }
    }
}

#[test]
fn formats_are_listed_in_order_and_once() {
    let (mut names, mut ids) = (HashSet::new(), HashSet::new());
    for (i, info) in FORMATS.iter().enumerate() {
        assert_eq!(info.format as usize, i);
        assert_eq!(info.format.info().name, info.name);
        assert_eq!(Format::from_name(info.name), Some(info.format));
        assert_eq!(Format::from_ggml_type(info.ggml_type), Some(info.format));
        assert!(names.insert(info.name) && ids.insert(info.ggml_type), "{} repeats", info.name);
        assert!(info.block_bytes <= LONGEST_BLOCK && info.block_len <= 256);
        assert!(info.format.is_float() || info.block_len.is_multiple_of(16));
    }
    assert_eq!(Format::from_name("q4_k_m"), None);
    // Q4_2, long removed, and the types of integers.
    assert_eq!([4, 24, 1000].map(Format::from_ggml_type), [None; 3]);
}

#[test]
fn rows_are_whole_blocks() {
    assert_eq!(Format::Q4K.row_bytes(0), Some(0));
    assert_eq!(Format::Q4K.row_bytes(1024), Some(576));
    assert_eq!(Format::Q4K.row_bytes(1000), None);
    assert_eq!(Format::F32.row_bytes(usize::MAX), None);
}

#[test]
fn wrong_lengths_are_errors_that_say_what_was_expected() {
    let mut values = [0.0; 48];
    let error = Format::Q8_0.decode(&[0; 34], &mut values).unwrap_err();
    assert_eq!(error.to_string(), "q8_0 rows hold whole blocks of 32 elements, found 48 elements");
    let error = Format::Q8_0.decode(&[0; 35], &mut values[..32]).unwrap_err();
    assert_eq!(error.to_string(), "32 elements of q8_0 are 34 bytes, found 35");
    let error = Format::Q8_0.unpack(&[0; 33], &mut Unpacked::new()).unwrap_err();
    assert_eq!(error.to_string(), "32 elements of q8_0 are 34 bytes, found 33");
    let error = Format::BF16.unpack(&[0; 2], &mut Unpacked::new()).unwrap_err();
    assert_eq!(error.to_string(), "bf16 has no blocks to unpack; decode it instead");
}

#[test]
fn formats_of_two_level_scales_alone_have_super_scales() {
    use Format::{Iq4Xs, Q2K, Q3K, Q4K, Q5K, Q6K};
    for format in FORMATS.iter().map(|info| info.format).filter(|format| !format.is_float()) {
        let mut unpacked = Unpacked::new();
        // What an earlier block left must not be taken for this one's.
        Q6K.unpack(&[1; 210], &mut unpacked).unwrap();
        format.unpack(&vec![1; format.block_bytes()], &mut unpacked).unwrap();
        let expected = matches!(format, Iq4Xs | Q2K | Q3K | Q4K | Q5K | Q6K);
        assert_eq!(unpacked.super_scales.is_some(), expected, "{format}");
    }
}

proptest! {
    #[test]
    fn any_bytes_decode_to_what_they_unpack_to(
        bytes in prop::collection::vec(any::<u8>(), 2 * LONGEST_BLOCK),
    ) {
        for info in FORMATS {
            let bytes = &bytes[..2 * info.block_bytes];
            let decoded = decode(info.format, bytes);
            if info.format.is_float() {
                continue;
            }
            let mut unpacked = Unpacked::new();
            let blocks = bytes.chunks_exact(info.block_bytes);
            for (block, values) in blocks.zip(decoded.chunks_exact(info.block_len)) {
                info.format.unpack(block, &mut unpacked).unwrap();
                for (i, &value) in values.iter().enumerate() {
                    let (q, group) = (f32::from(unpacked.q[i]), i / 16);
                    let expected = unpacked.scale[group] * q + unpacked.min[group];
                    prop_assert!(same(value, expected), "{} element {i}", info.name);
                }
            }
        }
    }

    #[test]
    fn super_scales_make_the_scales(bytes in prop::collection::vec(any::<u8>(), LONGEST_BLOCK)) {
        for format in FORMATS.iter().map(|info| info.format).filter(|format| !format.is_float()) {
            let mut unpacked = Unpacked::new();
            format.unpack(&bytes[..format.block_bytes()], &mut unpacked).unwrap();
            let Some(scales) = unpacked.super_scales else { continue };
            let (d, dmin) = (scales.d.to_f32(), scales.dmin.to_f32());
            for group in 0..16 {
                let scale = d * f32::from(scales.sub[group]);
                let min = -(dmin * f32::from(scales.sub_min[group]));
                prop_assert!(same(unpacked.scale[group], scale), "{format} group {group}");
                prop_assert!(same(unpacked.min[group], min), "{format} group {group}");
            }
        }
    }
}
