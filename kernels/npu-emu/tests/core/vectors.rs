//! Vectors: lanes, moves, and sums stored as bytes.

use onebit_aie::isa::RegisterFile;
use onebit_aie_emu::core::CoreFault;
use proptest::prelude::*;

use crate::machine::{Tile, nops, refusal, run, vector};

const LOADED: &str = "movxm p0, #458752\nvlda x0, [p0], #64\nvlda x1, [p0], #64\n";

fn result(a: &[u8], b: &[u8], text: &str) -> Vec<u8> {
    let mut tile = Tile::new().with(0x70000, a).with(0x70040, b);
    let text = format!("{LOADED}{}{text}\n{}", nops(7), nops(2));
    vector(&run(&text, &mut tile), RegisterFile::X, 2)
}

proptest! {
    #[test]
    fn lanes_are_added(a in prop::collection::vec(any::<u8>(), 64), b in prop::collection::vec(any::<u8>(), 64)) {
        for width in [1usize, 2, 4] {
            let lane = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
            let sums: Vec<u8> = a
                .chunks(width)
                .zip(b.chunks(width))
                .flat_map(|(a, b)| (lane(a) + lane(b)).to_le_bytes()[..width].to_vec())
                .collect();
            prop_assert_eq!(result(&a, &b, &format!("vadd.{} x2, x0, x1", width * 8)), sums);
        }
    }
}

#[test]
fn bits_of_both_are_kept() {
    let (a, b): (Vec<u8>, Vec<u8>) =
        ((0..64).collect(), (0..64u8).map(|at| at.wrapping_mul(37)).collect());
    let both: Vec<u8> = a.iter().zip(&b).map(|(a, b)| a & b).collect();
    assert_eq!(result(&a, &b, "vband x2, x0, x1"), both);
}

#[test]
fn broadcasts_fill_lanes() {
    let value = "movxm r0, #305419896\n";
    let with = |width| result(&[0; 64], &[0; 64], &format!("{value}vbcst.{width} x2, r0"));
    assert_eq!(with(8), [0x78; 64]);
    assert_eq!(with(16), [0x78, 0x56].repeat(32));
    assert_eq!(with(32), [0x78, 0x56, 0x34, 0x12].repeat(16));
}

#[test]
fn shifts_take_from_two_vectors() {
    let (a, b): (Vec<u8>, Vec<u8>) = ((0..64).collect(), (64..128).collect());
    for by in [0u8, 1, 17, 63, 64] {
        let expected: Vec<u8> = (by..by + 64).collect();
        assert_eq!(result(&a, &b, &format!("movx r0, #{by}\nvshift x2, x0, x1, r0")), expected);
    }
}

#[test]
fn moves_between_vectors_and_accumulators() {
    let (a, b): (Vec<u8>, Vec<u8>) = ((0..64).collect(), (64..128).collect());
    assert_eq!(result(&a, &b, "vmov x2, x1"), b);
    assert_eq!(result(&a, &b, "vmov bmhl3, x1\nnop\nvmov x2, bmhl3"), b);
    let halves = "vmov wh2, wl0\nnop\nvmov wl2, wh1";
    assert_eq!(result(&a, &b, halves), [&b[32..], &a[..32]].concat());
    let accumulators = "vmov bmhl3, x0\nvmov bmhh3, x1\nnop\nvmov cml1, cmh3\nnop\nvmov x2, bmlh1";
    assert_eq!(result(&a, &b, accumulators), b);
}

/// Stores dm0, `sums` followed by zeros, as bytes.
fn stored(sums: &[i32], shift: u32, rounding: u32, saturation: u32, sign: u32) -> Vec<u8> {
    let mut bytes: Vec<u8> = sums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
    bytes.resize(256, 0);
    let mut tile = Tile::new().with(0x70000, &bytes);
    run(&store_text(shift, rounding, saturation, sign), &mut tile);
    tile.bytes(0x70400, sums.len())
}

fn store_text(shift: u32, rounding: u32, saturation: u32, sign: u32) -> String {
    let loads =
        ["bmll0", "bmlh0", "bmhl0", "bmhh0"].map(|quarter| format!("vlda {quarter}, [p0], #64\n"));
    format!(
        "movxm p0, #458752\nmovxm p1, #459776\nmovxm s1, #{shift}\nmovxm crrnd, #{rounding}\nmovxm crsat, #{saturation}\n\
         movxm crsrsmode, #0\nmovxm srssign1, #{sign}\n{}{}vst.srs.4x dm0, s1, srssign1, [p1], #64\nnop\nnop",
        loads.concat(),
        nops(7)
    )
}

#[test]
fn sums_are_rounded() {
    // Sixteenths: -2.5, -1.75, -1.5, -0.25, 0.25, 0.5, 1.5, 1.75.
    let sums = [-40, -28, -24, -4, 4, 8, 24, 28];
    for (mode, expected) in [
        (0, [-3, -2, -2, -1, 0, 0, 1, 1]),
        (1, [-2, -1, -1, 0, 1, 1, 2, 2]),
        (2, [-2, -1, -1, 0, 0, 0, 1, 1]),
        (3, [-3, -2, -2, -1, 1, 1, 2, 2]),
        (8, [-3, -2, -2, 0, 0, 0, 1, 2]),
        (9, [-2, -2, -1, 0, 0, 1, 2, 2]),
        (10, [-2, -2, -1, 0, 0, 0, 1, 2]),
        (11, [-3, -2, -2, 0, 0, 1, 2, 2]),
        (12, [-2, -2, -2, 0, 0, 0, 2, 2]),
        (13, [-3, -2, -1, 0, 0, 1, 1, 2]),
    ] {
        let expected: Vec<u8> = expected.iter().map(|value: &i32| *value as u8).collect();
        assert_eq!(stored(&sums, 4, mode, 1, 1), expected, "mode {mode}");
    }
}

#[test]
fn sums_are_saturated() {
    let sums = [-1000, -129, -128, -127, 126, 127, 128, 1000];
    let wrapped: Vec<u8> = sums.iter().map(|sum| *sum as u8).collect();
    assert_eq!(stored(&sums, 0, 0, 0, 1), wrapped);
    let signed: Vec<u8> = sums.iter().map(|sum: &i32| (*sum).clamp(-128, 127) as u8).collect();
    assert_eq!(stored(&sums, 0, 0, 1, 1), signed);
    let symmetric: Vec<u8> = sums.iter().map(|sum: &i32| (*sum).clamp(-127, 127) as u8).collect();
    assert_eq!(stored(&sums, 0, 0, 3, 1), symmetric);
    assert_eq!(stored(&[0, 255, 256, 5000], 0, 0, 1, 0), [0, 255, 255, 255]);
}

#[test]
fn roundings_that_no_source_documents_are_refused() {
    for (shift, rounding, saturation) in [(32, 0, 1), (4, 4, 1), (4, 0, 2)] {
        let mut tile = Tile::new().with(0x70000, &[1; 256]);
        let cause = refusal(&store_text(shift, rounding, saturation, 1), &mut tile);
        assert!(matches!(cause, CoreFault::Undocumented { .. }), "{cause}");
    }
}

/// Such a store lands two words after one that does not shift.
#[test]
fn shifted_stores_land_late() {
    let load = |distance| {
        let text = format!(
            "{}{}vlda x5, [p1, #-64]\n{}",
            store_text(0, 0, 1, 1).trim_end_matches("\nnop\nnop").to_owned() + "\n",
            nops(distance),
            nops(7)
        );
        let mut tile = Tile::new().with(0x70000, &[0; 256]).with(0x70400, &[7; 64]);
        vector(&run(&text, &mut tile), RegisterFile::X, 5)
    };
    assert_eq!(load(0), [7; 64]);
    assert_eq!(load(1), [7; 64]);
    assert_eq!(load(2), [0; 64]);
}
