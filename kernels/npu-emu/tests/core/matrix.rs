//! Products of matrices and sums of accumulators, against their definition.

use onebit_aie_emu::core::{Core, CoreFault, LatencyModel, Status};
use proptest::prelude::*;

use crate::machine::{Tile, ended, finish, load, nops, refusal, run, sums};

const SIGNED: u32 = 0x308;
const ZERO: u32 = 1;
const SECOND_SIGNED: u32 = 1 << 8;
const FIRST_SIGNED: u32 = 1 << 9;
const NEGATE_PRODUCT: u32 = 1 << 11;
const NEGATE_FIRST: u32 = 1 << 12;
const NEGATE_SECOND: u32 = 1 << 13;

/// Loads x0, x1 and dm0 from 0x70000 on, and r0 with `configuration`.
fn loaded(configuration: u32, then: &str) -> String {
    format!(
        "movxm p0, #458752\nmovxm r0, #{configuration}\nvlda x0, [p0], #64\nvlda x1, [p0], #64\nvlda bmll0, [p0], #64\n\
         vlda bmlh0, [p0], #64\nvlda bmhl0, [p0], #64\nvlda bmhh0, [p0], #64\n{}{then}\n{}",
        nops(8),
        nops(8)
    )
}

fn tile(a: &[u8], b: &[u8], c: &[i32]) -> Tile {
    let c: Vec<u8> = c.iter().flat_map(|sum| sum.to_le_bytes()).collect();
    Tile::new().with(0x70000, a).with(0x70040, b).with(0x70080, &c)
}

/// The sums of products, by the definition.
fn expected(configuration: u32, a: &[u8], b: &[u8], c: &[i32]) -> Vec<i32> {
    let widen = |byte: u8, bit| {
        if configuration & bit != 0 { i64::from(byte as i8) } else { i64::from(byte) }
    };
    let sum = |index: usize| {
        let product: i64 = (0..8)
            .map(|k| {
                widen(a[index / 8 * 8 + k], FIRST_SIGNED)
                    * widen(b[k * 8 + index % 8], SECOND_SIGNED)
            })
            .sum();
        let product = if configuration & NEGATE_PRODUCT != 0 { -product } else { product };
        let start = match configuration & (ZERO | NEGATE_FIRST) {
            0 => i64::from(c[index]),
            NEGATE_FIRST => -i64::from(c[index]),
            _ => 0,
        };
        (start + product) as i32
    };
    (0..64).map(sum).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn products_of_8_by_8(
        a in prop::collection::vec(any::<u8>(), 64),
        b in prop::collection::vec(any::<u8>(), 64),
        c in prop::collection::vec(any::<i32>(), 64),
        bits in 0u32..32,
    ) {
        let choose = |bit: u32, what| if bits >> bit & 1 == 1 { what } else { 0 };
        let configuration = 8
            | choose(0, FIRST_SIGNED)
            | choose(1, SECOND_SIGNED)
            | choose(2, ZERO)
            | choose(3, NEGATE_PRODUCT)
            | choose(4, NEGATE_FIRST);
        let core = run(&loaded(configuration, "vmac dm1, dm0, x0, x1, r0"), &mut tile(&a, &b, &c));
        prop_assert_eq!(sums(&core, 1), expected(configuration, &a, &b, &c));
        let core = run(&loaded(configuration, "vmul dm1, x0, x1, r0"), &mut tile(&a, &b, &c));
        prop_assert_eq!(sums(&core, 1), expected(configuration | ZERO, &a, &b, &c));
    }
}

#[test]
fn extremes_do_not_overflow_on_the_way() {
    for (first, second) in [(0x80, 0x80), (0x80, 0x7f), (0xff, 0xff)] {
        for configuration in [8, SIGNED, 8 | FIRST_SIGNED, 8 | SECOND_SIGNED] {
            let (a, b, c) = ([first; 64], [second; 64], [i32::MAX; 64]);
            let core =
                run(&loaded(configuration, "vmac dm1, dm0, x0, x1, r0"), &mut tile(&a, &b, &c));
            assert_eq!(sums(&core, 1), expected(configuration, &a, &b, &c));
        }
    }
}

#[test]
fn sums_of_accumulators() {
    let (a, b) = ([1; 64], [1; 64]);
    let c: Vec<i32> = (0..64).map(|index| index * 1000 - 30_000).collect();
    let text = "vclr dm1\nvmov.d dm2, dm0\nvmul dm3, x0, x1, r0\nnop\nnop\nnop\nvmov.d dm4, dm3";
    let core = run(&loaded(SIGNED, text), &mut tile(&a, &b, &c));
    assert_eq!(sums(&core, 1), [0; 64]);
    assert_eq!(sums(&core, 2), c);
    assert_eq!(sums(&core, 4), [8; 64]);
    for (bits, combine) in [
        (0, (|c: i32| c + 8) as fn(i32) -> i32),
        (NEGATE_FIRST, |c| 8 - c),
        (NEGATE_SECOND, |c| c - 8),
        (ZERO, |_| 8),
    ] {
        let text =
            format!("vmul dm1, x0, x1, r0\nmovxm r1, #{bits}\n{}vadd dm2, dm0, dm1, r1", nops(6));
        let core = run(&loaded(SIGNED, &text), &mut tile(&a, &b, &c));
        let expected: Vec<i32> = c.iter().map(|c| combine(*c)).collect();
        assert_eq!(sums(&core, 2), expected, "{bits:#x}");
    }
}

#[test]
fn other_shapes_are_refused() {
    for word in [0, 1 << 4 | 8, 1 << 5 | 8, 2 | 8, 1 << 10 | 8, 1 << 16 | 8] {
        let text = loaded(word, "vmul dm1, x0, x1, r0");
        let cause = refusal(&text, &mut tile(&[0; 64], &[0; 64], &[0; 64]));
        assert_eq!(cause, CoreFault::Configuration { word });
    }
}

/// A product written so that it waits for every result has one value under all models.
#[test]
fn a_waiting_program_means_the_same_under_all_models() {
    let a: Vec<u8> = (0..64).map(|index| index * 37 % 251).map(|byte: u32| byte as u8).collect();
    let b: Vec<u8> =
        (0..64).map(|index| (index * 91 + 5) % 253).map(|byte: u32| byte as u8).collect();
    let c: Vec<i32> = (0..64).collect();
    let text =
        loaded(SIGNED, &format!("vmac dm0, dm0, x0, x1, r0\n{}vmac dm0, dm0, x0, x1, r0", nops(7)));
    let (minimum, maximum) = (LatencyModel::minimum(), LatencyModel::maximum());
    let once = expected(SIGNED, &a, &b, &c);
    let twice = expected(SIGNED, &a, &b, &once);
    for core in [
        Core::new(&minimum),
        Core::new(&maximum),
        Core::new(&LatencyModel::documented()),
        Core::checked(&minimum, &maximum),
    ] {
        let mut core = load(core, &ended(&text));
        finish(&mut core, &mut tile(&a, &b, &c)).unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!(sums(&core, 0), twice);
    }
}

/// A word that waits for a lock holds the products under way, and adds nothing to them twice.
#[test]
fn a_wait_between_a_product_and_its_sum_changes_nothing() {
    let (a, b) = ([3; 64], [5; 64]);
    let c: Vec<i32> = (0..64).collect();
    let words = |distance| {
        let product = format!("vmac dm1, dm0, x0, x1, r0\n{}acq #48, r1", nops(distance));
        loaded(SIGNED, &format!("movx r1, #-1\n{}{product}", nops(3)))
    };
    for distance in 0..8 {
        for model in [LatencyModel::documented(), LatencyModel::minimum(), LatencyModel::maximum()]
        {
            let mut core = load(Core::new(&model), &ended(&words(distance)));
            let mut tile = tile(&a, &b, &c);
            let waits = |status| matches!(status, Status::WaitsForLock { lock: 48, .. });
            while !waits(core.step(&mut tile).unwrap()) {}
            for _ in 0..4 {
                assert!(waits(core.step(&mut tile).unwrap()));
            }
            tile.locks[48] = 1;
            finish(&mut core, &mut tile).unwrap();
            assert_eq!(sums(&core, 1), expected(SIGNED, &a, &b, &c), "{distance} words before");
        }
    }
}
