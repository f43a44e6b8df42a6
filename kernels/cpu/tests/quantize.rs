//! The reference quantiser writes what `Activation::Q8` says.

use onebit_cpu::quantize_rows;
use onebit_plan::abi::{panel_bytes, panel_rows, q8_bytes, refinement_bytes};
use proptest::prelude::*;

/// Fields of one row's block record.
struct Fields {
    q: Vec<i8>,
    d: f32,
    s: f32,
    n32: i32,
    n16: i32,
}

fn fields(buffer: &[u8], m: usize, k: usize, row: usize, block: usize) -> Fields {
    let panel = panel_rows(m);
    let record = 48 * panel;
    let start = row / panel * panel_bytes(panel, k) + block * record;
    let (record, row) = (&buffer[start..start + record], row % panel);
    let word = |field: usize| {
        let at = panel * (32 + 4 * field) + 4 * row;
        <[u8; 4]>::try_from(&record[at..at + 4]).expect("four bytes")
    };
    Fields {
        q: record[32 * row..32 * row + 32].iter().map(|q| q.cast_signed()).collect(),
        d: f32::from_le_bytes(word(0)),
        s: f32::from_le_bytes(word(1)),
        n32: i32::from_le_bytes(word(2)),
        n16: i32::from_le_bytes(word(3)),
    }
}

fn check(x: &[f32], m: usize, k: usize) {
    let mut buffer = vec![0x55; q8_bytes(m, k)];
    quantize_rows(x, m, k, &mut buffer);
    for (row, values) in x.chunks(k).enumerate() {
        for (block, values) in values.chunks(32).enumerate() {
            let found = fields(&buffer, m, k, row, block);
            let largest = values.iter().map(|x| x.abs()).fold(0.0, f32::max);
            let sum = |q: &[i8]| q.iter().map(|q| i32::from(*q)).sum::<i32>();
            assert_eq!(found.d, largest / 127.0);
            assert_eq!(found.n32, -sum(&found.q));
            assert_eq!(found.n16, -sum(&found.q[..16]));
            assert_eq!(found.s.to_bits(), (found.d * sum(&found.q) as f32).to_bits());
            for (q, x) in found.q.iter().zip(values) {
                let expected = if largest == 0.0 { 0.0 } else { x * (127.0 / largest) };
                assert_eq!(f32::from(*q), expected.round_ties_even() + 0.0);
            }
        }
    }
}

proptest! {
    #[test]
    fn records_follow_the_contract(
        m in 1usize..20,
        blocks in 1usize..4,
        exponent in -20i32..20,
        seed in prop::collection::vec(-1.0f32..1.0, 32),
    ) {
        let k = blocks * 32;
        let scale = 2.0f32.powi(exponent);
        let value = |i: usize| seed[i % 32] * scale * (1 + i / 32 % 5) as f32;
        let x: Vec<f32> = (0..m * k).map(value).collect();
        check(&x, m, k);
    }
}

/// One element far above the others: its block gets a second record, the others do not.
#[test]
fn a_block_with_an_outlier_is_refined() {
    let k = 128;
    let mut x: Vec<f32> = (0..k).map(|i| (i as f32 * 0.7).sin()).collect();
    x[70] = 300.0;
    let mut buffer = vec![0x55; q8_bytes(1, k)];
    quantize_rows(&x, 1, k, &mut buffer);
    let refinements = &buffer[k / 32 * 48..];
    assert_eq!(refinements.len(), refinement_bytes(k));
    assert_eq!(refinements[..4], 1u32.to_le_bytes());
    let entry = &refinements[64..];
    assert_eq!(entry[48..52], 2u32.to_le_bytes());
    let coarse = fields(&buffer, 1, k, 0, 2);
    let rest = fields(entry, 1, 32, 0, 0);
    for (i, x) in x[64..96].iter().enumerate() {
        let value = |f: &Fields| f.d * f32::from(f.q[i]);
        assert!((value(&coarse) - x).abs() <= coarse.d * 0.5001);
        assert!((value(&coarse) + value(&rest) - x).abs() <= coarse.d / 127.0, "{i}");
    }
}

#[test]
fn ties_go_to_even_and_zero_rows_stay_zero() {
    let mut x = vec![0.0; 64];
    x[0] = 127.0;
    x[1] = 0.5;
    x[2] = 1.5;
    x[3] = -2.5;
    check(&x, 1, 64);
    let mut buffer = vec![0; q8_bytes(1, 64)];
    quantize_rows(&x, 1, 64, &mut buffer);
    let first = fields(&buffer, 1, 64, 0, 0);
    assert_eq!(first.q[..5], [127, 0, 2, -2, 0]);
    let second = fields(&buffer, 1, 64, 0, 1);
    assert_eq!((second.d, second.s, second.n32, second.n16), (0.0, 0.0, 0, 0));
}
