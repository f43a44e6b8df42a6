//! The matrix design as bytes: what holds without running it.

use onebit_aie::array::{
    ArrayError, Channel, Configuration, Descriptor, DescriptorId, LockId, Port, Run, Side, Tile,
};
use onebit_aie::cdo::Cdo;
use onebit_aie::gemm::block::Spacing;
use onebit_aie::gemm::gated::{self, Factor, Gated, Row, Weights};
use onebit_aie::gemm::{Argument, Design, Results, Shape, ShapeError, Tiling, pack};
use onebit_aie::program::{RegisterAddress, RegisterMap, RegisterOp};
use onebit_aie::txn::{Txn, TxnHeader, TxnOp};
use onebit_aie::xclbin::Xclbin;
use proptest::prelude::*;

/// Output columns and k of the products of SmolLM2-135M, Qwen3-0.6B and Qwen3-8B, one by one and
/// with those that share their activations fused.
const PRODUCTS: [(u32, u32); 27] = [
    (576, 576),
    (192, 576),
    (1536, 576),
    (576, 1536),
    (49152, 576),
    (960, 576),
    (3072, 576),
    (2048, 1024),
    (1024, 1024),
    (3072, 1024),
    (1024, 2048),
    (1024, 3072),
    (151_936, 1024),
    (4096, 1024),
    (6144, 1024),
    (4096, 4096),
    (1024, 4096),
    (12288, 4096),
    (4096, 12288),
    (151_936, 4096),
    (6144, 4096),
    (24576, 4096),
    // Sizes of no model, to see how it goes on.
    (8192, 8192),
    (16384, 8192),
    (1000, 1000),
    (2560, 9728),
    (32000, 2048),
];

fn shape((n, k): (u32, u32)) -> Shape {
    Shape { n, k, group: k, results: Results::of_fifteen_bits(k) }
}

#[test]
fn padding_is_at_most_a_tenth_of_what_streams() {
    for product in PRODUCTS {
        let tiling = Tiling::new(&shape(product)).unwrap();
        let weights = u64::from(product.0) * u64::from(product.1);
        let streamed = 8 * tiling.weight_bytes();
        assert!(streamed >= weights);
        assert!(10 * (streamed - weights) <= streamed, "{product:?}: {streamed} for {weights}");
        let all = tiling.streamed_bytes() as f64 / tiling.necessary_bytes() as f64;
        assert!(all <= 1.1, "{product:?}: {all}");
    }
}

#[test]
fn modelled_time_is_near_the_memory_bound() {
    let design = Design::new().unwrap();
    for product in PRODUCTS {
        let cost = design.call(&shape(product)).unwrap().cost;
        let ratio = cost.streaming() / cost.memory_bound;
        // So few outputs that the activations take longer than the weights; fused, they are more.
        let limit = if product == (192, 576) { 1.5 } else { 1.25 };
        assert!((1.0..=limit).contains(&ratio), "{product:?}: {ratio}");
        assert!(cost.core < 0.3 * cost.streaming(), "{product:?}: the cores decide");
    }
}

#[test]
fn a_call_is_small_and_says_what_it_is_told_to() {
    let design = Design::new().unwrap();
    for product in PRODUCTS {
        let call = design.call(&shape(product)).unwrap();
        assert!(call.txn.len() <= 6 << 10, "{} bytes", call.txn.len());
        let txn = Txn::parse(&call.txn).unwrap();
        let patches = txn.ops.iter().filter_map(|op| match op {
            TxnOp::AddressPatch { register, argument, addend } => {
                Some((*register, *argument, *addend))
            }
            _ => None,
        });
        let table = call.patches.iter().map(|p| (p.register, p.argument as u32, p.offset));
        assert!(patches.eq(table));
        for (argument, bytes) in [
            (Argument::Activations, call.buffers.activations),
            (Argument::Weights, call.buffers.weights),
            (Argument::Results, call.buffers.results),
        ] {
            let last = call.patches.iter().filter(|patch| patch.argument == argument);
            assert!(last.map(|patch| patch.offset).max().unwrap() < bytes);
        }
        let syncs = txn.ops.iter().filter(|op| matches!(op, TxnOp::Sync { .. }));
        assert_eq!(syncs.count(), 1);
        assert!(matches!(txn.ops.last(), Some(TxnOp::Sync { columns: 8, .. })));
    }
}

#[test]
fn the_container_is_read_back_as_the_configuration() {
    for spacing in [Spacing::CONSERVATIVE, Spacing::PIPELINED, Spacing::DOCUMENTED] {
        let design = Design::spaced(&spacing).unwrap();
        let bytes = design.xclbin().unwrap().to_bytes().unwrap();
        assert_eq!(bytes, Design::spaced(&spacing).unwrap().xclbin().unwrap().to_bytes().unwrap());
        let read = Xclbin::parse(&bytes).unwrap();
        assert_eq!(read.partition.pdi.cdo.program(), *design.configuration());

        // The same registers through the other serialisation.
        let txn = Txn::from_program(TxnHeader::npu4(8), design.configuration());
        let txn = Txn::parse(&txn.to_bytes().unwrap()).unwrap();
        let cdo = Cdo::from_program(design.configuration()).to_bytes().unwrap();
        let [mut left, mut right] = [(); 2].map(|()| RegisterMap::default());
        left.apply(&txn.program());
        right.apply(&Cdo::parse(&cdo).unwrap().program());
        assert_eq!(left, right);
        assert!(left.len() > 32 * 1000);
    }
}

#[test]
fn shapes_that_cannot_be_done_are_refused() {
    let good = Shape { n: 64, k: 128, group: 64, results: Results::Combined };
    assert!(Tiling::new(&good).is_ok());
    for bad in [
        Shape { n: 0, ..good },
        Shape { k: 0, group: 0, ..good },
        Shape { group: 0, ..good },
        Shape { group: 48, ..good },
        Shape { group: 256, ..good },
        Shape { k: 192, group: 128, ..good },
        Shape { n: 1 << 21, ..good },
        Shape { k: 1 << 21, group: 1 << 21, ..good },
    ] {
        assert!(Tiling::new(&bad).is_err(), "{bad:?}");
    }
    let wide = Shape { n: 1 << 20, ..good };
    assert!(Tiling::new(&wide).is_ok());
    let error = Tiling::new(&Shape { group: 48, ..good }).unwrap_err();
    assert_eq!(error, ShapeError::Group { group: 48, k: 128 });
}

#[test]
fn every_activation_is_its_planes() {
    for value in pack::LEAST..=pack::MOST {
        let (high, low) = pack::planes(value);
        assert_eq!(i32::from(high) * 128 + i32::from(low), i32::from(value));
        assert!(low >= 0);
    }
    assert_eq!(pack::planes(i16::MAX), pack::planes(pack::MOST));
    assert_eq!(pack::planes(i16::MIN), pack::planes(pack::LEAST));
}

/// What each packed byte of a buffer is made of, by giving one operand at a time a value.
#[test]
fn formats_are_what_they_are_said_to_be() {
    let shape = Shape { n: 1100, k: 320, group: 320, results: Results::Separate };
    let tiling = Tiling::new(&shape).unwrap();
    let (k, n) = (320, 1100);
    let mut high = vec![0; 32 * k];
    (high[19 * k + 77], high[0]) = (5, 1);
    let mut packed = vec![0xff; tiling.activation_bytes() as usize];
    pack::activations(&tiling, &high, &vec![0; 32 * k], &mut packed);
    // Row 19 is row 3 of tile 2; k 77 is piece 4, step 1, k 5.
    let at = ((4 * 4 + 2) * 256) + 2 * 64 + 3 * 8 + 5;
    let set: Vec<usize> = (0..packed.len()).filter(|&at| packed[at] != 0).collect();
    assert_eq!((set, packed[at]), (vec![0, at], 5));

    let mut weights = vec![0; n * k];
    weights[1099 * k + 300] = -1;
    let packed = pack::weights(&tiling, &weights);
    // 18 units a column: 1099 is in column 7, unit 11, n 3; k 300 is brick 4 of 5 segments of one.
    let (column, unit, brick) = (1099 / 144, 1099 % 144 / 8, 300 / 64);
    let at = column * tiling.weight_bytes() as usize
        + (brick * 18 + unit) * 512
        + (300 % 64 / 8) * 64
        + (300 % 8) * 8
        + 1099 % 8;
    let set: Vec<usize> = (0..packed.len()).filter(|&at| packed[at] != 0).collect();
    assert_eq!((set, packed[at]), (vec![at], 255));
}

/// The same of a gated product.
#[test]
fn gated_formats_are_what_they_are_said_to_be() {
    let gated = Gated { outputs: 3072, k: 64, factor: Factor::Sigmoid };
    let tiling = gated.tiling().unwrap();
    assert_eq!((tiling.passes, tiling.units, tiling.gated_width()), (3, 32, 384));
    let weights = Weights { exponents: [0, 0], squares: [1 << 24, 1 << 20] };
    let row = Row::new(&weights, &[1 << 13; 64], -2);
    let mut packed = vec![0; tiling.activation_bytes() as usize];
    gated::pack_row(&tiling, 11, &row, &mut packed);
    // Behind a brick of activations, row 3 of tile 1. |sum| < 2^(13 + 3 + 12): 13 bits too many; of
    // the other one two less.
    let words = packed[4096 + 256 + 3 * 32..][..32].as_chunks().0;
    let words: Vec<i32> = words.iter().map(|word| i32::from_le_bytes(*word)).collect();
    assert_eq!(words, [-14, -12, -1, 0, 16, 0, 0, 0]);
    assert!(packed.iter().filter(|byte| **byte != 0).count() <= 5 * 4);

    let mut scales = vec![0; 6144];
    scales[768 * 7 + 256 + 9] = 0x1234;
    let packed = pack::gated_weights(&tiling, &vec![0; 6144 * 64], &scales, 7);
    assert_eq!(packed.len() as u64, tiling.weight_bytes());
    let at = 2 * 32 * 512 + 2048 + 9 * 4;
    assert_eq!(packed[at..at + 2], [0x34, 0x12]);

    // Column 2, unit 17 of its codes, row 19, lane 5; and the shift of that row.
    let bytes = tiling.result_bytes() as usize;
    assert_eq!(bytes, 384 * 64 + 1024);
    let mut results = vec![0; 8 * bytes];
    let at = 2 * bytes + (17 / 2 * 4 + 19 / 8) * 256 + 128 + 19 % 8 * 8 + 5;
    (results[at], results[at + 64]) = (0xff, 100);
    results[2 * bytes + 384 * 64 + 2 * 256 + 3 * 4] = 9;
    let codes = gated::codes(&tiling, 32, &results);
    let set: Vec<usize> = (0..codes.len()).filter(|&at| codes[at] != 0).collect();
    let at = 19 * 3072 + 2 * 384 + 17 * 8 + 5;
    assert_eq!((set, codes[at]), (vec![at], -28));
    let shifts = gated::shifts(&tiling, &results);
    assert_eq!((shifts[2][19], shifts.iter().flatten().sum::<u32>()), (9, 9));
}

/// A call that reads gated results leaves the shifts between them out.
#[test]
fn gated_results_are_read_in_blocks() {
    let design = Design::new().unwrap();
    let gated = Gated { outputs: 1536, k: 576, factor: Factor::Normal };
    let call = design.call_of_gated(&gated, 576).unwrap();
    assert!(call.txn.len() <= 6 << 10);
    assert_eq!(call.buffers.activations, design.gated_call(&gated).unwrap().buffers.results);
    let txn = Txn::parse(&call.txn).unwrap();
    let words = txn.ops.iter().find_map(|op| match op {
        TxnOp::Register(RegisterOp::BlockWrite { address, data })
            if *address == RegisterAddress::new(0, 0, 0x1d000).unwrap() =>
        {
            Some(data.clone())
        }
        _ => None,
    });
    // Of 3072 words of codes, 4 runs of 768; 3328 words to the next column.
    let words = words.unwrap();
    assert_eq!(words[0], 8 * 3072);
    assert_eq!(words[3..6], [768 << 20, 3 << 30 | 4 << 20 | 767, 2 << 24 | 3327]);
}

/// A configuration with a core, and one thing more that it must refuse.
fn refused(change: impl FnOnce(&mut Configuration) -> Result<(), ArrayError>) -> ArrayError {
    let mut configuration = Configuration::default();
    match change(&mut configuration) {
        Err(error) => error,
        Ok(()) => configuration.register_program().expect_err("an error"),
    }
}

#[test]
fn what_the_array_cannot_do_is_refused() {
    let [shim, memory, compute] = [0, 1, 2].map(|row| Tile::new(3, row).unwrap());
    let port = Port::new;
    let linear = |next| Descriptor {
        address: 0,
        bytes: 64,
        acquire: None,
        release: None,
        next: Some(DescriptorId(next)),
    };
    let connection = |tile, from, to| refused(|array| array.connect(tile, from, to));
    assert!(matches!(refused(|a| a.program(memory, &[0; 16])), ArrayError::NoSuchPart { .. }));
    let long = vec![0; (16 << 10) + 16];
    assert!(matches!(refused(|a| a.program(compute, &long)), ArrayError::OutsideMemory { .. }));
    assert!(matches!(refused(|a| a.lock(compute, LockId(16), 0)), ArrayError::NoSuchPart { .. }));
    assert!(matches!(refused(|a| a.lock(compute, LockId(0), -1)), ArrayError::OutOfRange { .. }));
    // A memory tile has no side ports, and passes streams straight on.
    let (south, dma) = (port(Side::South, 0), port(Side::Dma, 0));
    for (tile, from, to) in [
        (memory, port(Side::East, 0), dma),
        (memory, south, port(Side::North, 1)),
        (memory, dma, port(Side::Dma, 1)),
        (compute, south, port(Side::South, 1)),
        (compute, port(Side::North, 4), dma),
        (compute, port(Side::Dma, 2), port(Side::North, 0)),
        (shim, dma, port(Side::North, 0)),
    ] {
        assert!(matches!(connection(tile, from, to), ArrayError::NoConnection { .. }));
    }
    let twice = refused(|array| {
        array.connect(compute, south, dma)?;
        array.connect(compute, port(Side::South, 1), dma)
    });
    assert!(matches!(twice, ArrayError::DrivenTwice { .. }));
    assert!(matches!(connection(compute, south, dma), ArrayError::OpenRoute { .. }));
    let up = (dma, port(Side::North, 0));
    assert!(matches!(connection(memory, up.0, up.1), ArrayError::OpenRoute { .. }));
    // The first half of a memory tile's descriptors is for its even channels.
    let odd = refused(|array| {
        array.descriptor(memory, DescriptorId(0), linear(0))?;
        array.start(Channel::into_memory(memory, 1), Run::once(DescriptorId(0)))
    });
    assert!(matches!(odd, ArrayError::NotForChannel { .. }));
    let missing = refused(|array| {
        array.descriptor(compute, DescriptorId(0), linear(1))?;
        array.start(Channel::into_memory(compute, 0), Run::once(DescriptorId(0)))
    });
    assert!(matches!(missing, ArrayError::NoDescriptor { .. }));
    assert!(matches!(
        refused(|array| array.shim_port(Channel::into_memory(memory, 0)).map(drop)),
        ArrayError::NoSuchPart { .. }
    ));
}

proptest! {
    #[test]
    fn any_shape_is_cut_into_what_covers_it(n in 1u32..200_000, k in 1u32..20_000) {
        let shape = shape((n, k));
        let tiling = Tiling::new(&shape).unwrap();
        prop_assert!(8 * tiling.width() >= n);
        prop_assert!(tiling.depth() >= k && tiling.depth() < k + 64);
        prop_assert!(tiling.units <= 64 && tiling.bricks <= 4 && tiling.passes <= 256);
        prop_assert!(tiling.streamed_bytes() >= tiling.necessary_bytes());
        // Never a pass more than needed, never more than a unit a pass and column in vain.
        let spare = 8 * u64::from(tiling.width()) - u64::from(n);
        prop_assert!(spare < 64 * u64::from(tiling.passes));
    }
}
