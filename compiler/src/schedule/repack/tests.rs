//! What goes into a class is what the format says, bit for bit, whatever the bytes.

use std::collections::HashSet;

use onebit_ir::quant::FORMATS;
use onebit_plan::layout::{Layout, SPAN};

use super::*;

/// Elements of a row: whole blocks of every format and whole records of every class.
const COLUMNS: usize = 1024;

/// Bytes that look like nothing in particular (xorshift64*).
fn noise(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut byte = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 56) as u8
    };
    (0..count).map(|_| byte()).collect()
}

/// Element `i` of a row as docs/storage-classes.md gives it: product first, both roundings kept.
fn value(class: StorageClass, row: &Row<'_>, i: usize) -> f32 {
    let (codes, scales) = match row {
        Row::Float(values) => return values[i],
        Row::Codes { codes, scales } => (codes, scales),
    };
    let half = |values: &[f16], per: usize| f32::from(values[i / per]);
    let layout = Layout::of(class).expect("codes are of integer classes");
    let per_sub = if layout.has_groups() { 16 } else { BLOCK };
    let (scale, min) = match *scales {
        Scales::Block32 { d, m } => (half(d, BLOCK), m.map(|m| half(m, BLOCK))),
        Scales::Span128 { d } => (half(d, SPAN), None),
        Scales::Exponent32 { e } => (2f64.powi(i32::from(e[i / BLOCK]) - 128) as f32, None),
        Scales::Group16 { scale, min } => (scale[i / 16], min.map(|min| min[i / 16])),
        Scales::Super { d, dmin, sub, sub_min } => (
            half(d, 256) * f32::from(sub[i / per_sub]),
            layout.has_min().then(|| -(half(dmin, 256) * f32::from(sub_min[i / per_sub]))),
        ),
    };
    scale * f32::from(codes[i]) + min.unwrap_or(-0.0)
}

#[test]
fn every_format_goes_into_its_class_without_loss() {
    let mut seen = HashSet::new();
    for info in FORMATS {
        let format = info.format;
        // Noise has blocks of IQ1_S whose minimum is no fp16, so both its classes are seen.
        let class = |bytes: &[u8]| match format {
            Format::Iq1S if !format.has_super_scales(bytes) => StorageClass::I8G16M,
            _ => storage_class(format, COLUMNS),
        };
        let matrix = |class| Matrix {
            tensors: vec![info.name.to_owned()],
            tensor_rows: vec![1],
            format,
            class,
            rows: 1,
            columns: COLUMNS,
            offset: 0,
            bytes: 0,
        };
        let mut scratch = RowScratch::default();
        for seed in 0..64 {
            let bytes = noise(format.row_bytes(COLUMNS).expect("whole blocks"), seed);
            let mut expected = vec![0.0; COLUMNS];
            format.decode(&bytes, &mut expected).expect("any bytes decode");
            let class = class(&bytes);
            seen.insert((format.name(), class));
            let row = scratch.read(&matrix(class), &bytes).expect("any bytes have a row");
            for (i, &expected) in expected.iter().enumerate() {
                let found = value(class, &row, i);
                let same =
                    found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan());
                assert!(same, "{format} as {class:?}: element {i} is {found}, not {expected}");
            }
            let mut tile = vec![0; onebit_cpu::tile_bytes(class, COLUMNS)];
            onebit_cpu::pack_tile(class, COLUMNS, &[row], &mut tile).expect("the class holds it");
        }
    }
    for class in [StorageClass::Q2K, StorageClass::I8G16M] {
        assert!(seen.contains(&("iq1_s", class)), "{seen:?}");
    }
}
