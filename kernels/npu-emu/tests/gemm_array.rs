//! The whole matrix design: its xclbin's and its calls' bytes, run on the emulated array, give the
//! product bit for bit.

mod gemm_data;

use gemm_data::{GatedOperands, Operands, results};
use onebit_aie::gemm::block::Spacing;
use onebit_aie::gemm::gated::{self, Factor, Gated};
use onebit_aie::gemm::{Argument, Call, Design, Results, Shape, pack};
use onebit_aie::txn::{Txn, TxnHeader};
use onebit_aie_emu::array::{Latency, Options, UnknownRegisters};
use onebit_aie_emu::report::Report;
use onebit_aie_emu::{Array, Fault};
use proptest::prelude::*;

fn options(seed: Option<u64>, latency: Latency) -> Options {
    let unknown_registers = UnknownRegisters::Refused;
    Options { seed, latency, unknown_registers, ..Options::default() }
}

/// The bytes that a driver would load.
fn xclbin(design: &Design) -> Vec<u8> {
    design.xclbin().unwrap().to_bytes().unwrap()
}

/// Runs one call and gives back its unpacked results.
fn run(array: &mut Array, call: &Call, operands: &Operands) -> Result<(Vec<i32>, Report), Fault> {
    let tiling = &call.tiling;
    let mut arguments = vec![Vec::new(); 3];
    arguments[Argument::Activations as usize] = operands.activations(tiling);
    arguments[Argument::Weights as usize] = pack::weights(tiling, &operands.weights);
    arguments[Argument::Results as usize] = vec![0xa5; call.buffers.results as usize];
    let report = array.run(&call.txn, &mut arguments)?;
    Ok((results(tiling, &arguments[Argument::Results as usize]), report))
}

/// Runs `shape` on `array` and compares every result with its sum of products.
fn check(array: &mut Array, design: &Design, shape: &Shape, seed: u64) -> Report {
    let call = design.call(shape).unwrap();
    let operands = Operands::random(shape, 32, seed);
    let (found, report) = run(array, &call, &operands).unwrap();
    let expected = pack::product(&call.tiling, &operands.high, &operands.low, &operands.weights);
    let wrong = found.iter().zip(&expected).position(|(found, expected)| found != expected);
    assert_eq!((wrong, found.len()), (None, expected.len()), "{shape:?}");
    report
}

const fn shape(n: u32, k: u32, group: u32, results: Results) -> Shape {
    Shape { n, k, group, results }
}

const SHAPES: [Shape; 7] = [
    shape(64, 64, 64, Results::Combined),
    shape(192, 576, 576, Results::Combined),
    shape(576, 576, 576, Results::Combined),
    shape(100, 200, 200, Results::Separate),
    shape(1024, 512, 256, Results::Separate),
    shape(1, 1, 1, Results::Combined),
    shape(4200, 192, 64, Results::Combined),
];

/// One array, many calls: a call leaves the array as it found it, whatever the next shape is.
#[test]
fn calls_of_all_shapes_follow_one_configuration() {
    let design = Design::new().unwrap();
    let mut array = Array::configure(&xclbin(&design), options(None, Latency::Documented)).unwrap();
    for (seed, shape) in (0..).zip(SHAPES.iter().chain(SHAPES.iter().rev())) {
        check(&mut array, &design, shape, seed);
    }
}

#[test]
fn no_latency_and_no_order_of_events_changes_a_result() {
    for spacing in [Spacing::CONSERVATIVE, Spacing::PIPELINED, Spacing::DOCUMENTED] {
        let design = Design::spaced(&spacing).unwrap();
        let container = xclbin(&design);
        for (seed, shape) in (1..).zip(&SHAPES[..5]) {
            let latencies = match spacing {
                Spacing::CONSERVATIVE | Spacing::PIPELINED => {
                    vec![Latency::Shortest, Latency::Documented, Latency::Longest, Latency::Checked]
                }
                _ => vec![Latency::Documented],
            };
            for latency in latencies {
                let options = options(Some(seed), latency);
                let mut array = Array::configure(&container, options).unwrap();
                check(&mut array, &design, shape, seed);
            }
        }
    }
}

/// The configuration may as well come as an instruction stream.
#[test]
fn configured_by_a_stream_it_does_the_same() {
    let design = Design::new().unwrap();
    let stream = Txn::from_program(TxnHeader::npu4(8), design.configuration());
    let mut array = Array::new(options(None, Latency::Documented));
    array.run(&stream.to_bytes().unwrap(), &mut []).unwrap();
    check(&mut array, &design, &SHAPES[2], 5);
}

/// The array moves what the tiling says, and takes the time that the model says.
#[test]
fn traffic_and_time_are_those_of_the_model() {
    let design = Design::new().unwrap();
    for (shape, most) in [
        (shape(960, 576, 576, Results::Combined), 1.35),
        (shape(3072, 576, 576, Results::Combined), 1.15),
        (shape(1024, 2048, 2048, Results::Separate), 1.15),
    ] {
        let mut array =
            Array::configure(&xclbin(&design), options(None, Latency::Documented)).unwrap();
        let report = check(&mut array, &design, &shape, 9);
        let call = design.call(&shape).unwrap();
        let streamed = report.bytes_read + report.bytes_written;
        assert_eq!(streamed, call.tiling.streamed_bytes(), "{shape:?}");
        let ratio = report.microseconds() / (1e6 * call.cost.streaming());
        assert!((0.9..most).contains(&ratio), "{shape:?}: {ratio} of the model");
    }
}

/// A gated product and the product that reads its results, one behind the other.
fn check_gated(
    array: &mut Array,
    design: &Design,
    gated: &Gated,
    n: u32,
    seed: u64,
) -> [Report; 2] {
    let calls = [design.gated_call(gated).unwrap(), design.call_of_gated(gated, n).unwrap()];
    let operands = GatedOperands::random(gated, 32, seed);
    let tiling = &calls[0].tiling;
    let mut arguments = vec![
        operands.activations(tiling),
        operands.packed_weights(tiling),
        vec![0xa5; calls[0].buffers.results as usize],
    ];
    let first = array.run(&calls[0].txn, &mut arguments).unwrap();
    let (codes, shifts) = operands.expected(tiling);
    assert!(gated::codes(tiling, 32, &arguments[2]) == codes, "{gated:?}");
    let found = gated::shifts(tiling, &arguments[2]);
    assert!(found.iter().map(|rows| &rows[..]).eq(shifts.iter().map(|rows| &rows[..])));

    let reader = calls[1].tiling;
    let weights = Operands::random(&reader.shape, 1, seed).weights;
    assert_eq!(arguments[2].len() as u64, calls[1].buffers.activations);
    let mut arguments = vec![
        arguments.swap_remove(2),
        pack::weights(&reader, &weights),
        vec![0xa5; calls[1].buffers.results as usize],
    ];
    let second = array.run(&calls[1].txn, &mut arguments).unwrap();
    let (high, low): (Vec<i8>, Vec<i8>) = codes.into_iter().map(pack::planes).unzip();
    let expected = pack::product(&reader, &high, &low, &weights);
    assert!(results(&reader, &arguments[2]) == expected, "{gated:?}, then {n}");
    [first, second]
}

const GATED: [(Gated, u32); 4] = [
    (Gated { outputs: 512, k: 64, factor: Factor::Normal }, 64),
    (Gated { outputs: 1536, k: 576, factor: Factor::Sigmoid }, 576),
    (Gated { outputs: 3072, k: 130, factor: Factor::Sigmoid }, 100),
    (Gated { outputs: 2048, k: 640, factor: Factor::Normal }, 640),
];

/// Gated products, what reads them, and others between, under all latencies and orders of events.
#[test]
fn gated_products_feed_the_next_call() {
    let design = Design::new().unwrap();
    let container = xclbin(&design);
    for (seed, (gated, n)) in (1..).zip(&GATED) {
        for latency in [Latency::Shortest, Latency::Documented, Latency::Longest, Latency::Checked]
        {
            let options = options((seed > 1).then_some(seed), latency);
            let mut array = Array::configure(&container, options).unwrap();
            check_gated(&mut array, &design, gated, *n, seed);
            check(&mut array, &design, &SHAPES[1], seed);
            check_gated(&mut array, &design, gated, *n, seed + 10);
        }
    }
}

/// The model knows what the emulated array needs for a gate.
#[test]
fn the_time_of_a_gate_is_that_of_the_model() {
    let design = Design::new().unwrap();
    for (gated, n) in [GATED[1], (GATED[2].0, 1024)] {
        let mut array =
            Array::configure(&xclbin(&design), options(None, Latency::Documented)).unwrap();
        let reports = check_gated(&mut array, &design, &gated, n, 3);
        let calls = [design.gated_call(&gated).unwrap(), design.call_of_gated(&gated, n).unwrap()];
        for (report, call) in reports.iter().zip(&calls) {
            let streamed = report.bytes_read + report.bytes_written;
            assert_eq!(streamed, call.tiling.streamed_bytes());
            let ratio = report.microseconds() / (1e6 * call.cost.streaming());
            assert!((0.9..1.15).contains(&ratio), "{gated:?}: {ratio} of the model");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Any shape, any operands, any order of events, after whatever other call.
    #[test]
    fn any_product_is_right(
        first in any_shape(),
        second in any_shape(),
        seed in any::<u64>(),
        is_tight in any::<bool>(),
    ) {
        let (spacing, latency) = match is_tight {
            true => (Spacing::DOCUMENTED, Latency::Documented),
            false => (Spacing::PIPELINED, Latency::Longest),
        };
        let design = Design::spaced(&spacing).unwrap();
        let mut array = Array::configure(&xclbin(&design), options(Some(seed), latency)).unwrap();
        check(&mut array, &design, &first, seed);
        check(&mut array, &design, &second, seed ^ 1);
    }
}

fn any_shape() -> impl Strategy<Value = Shape> {
    let results = prop_oneof![Just(Results::Combined), Just(Results::Separate)];
    let extents = prop_oneof![
        (1u32..700, 1u32..700).prop_map(|(n, k)| (n, k, k)),
        (1u32..300, 1u32..5, 1u32..7)
            .prop_map(|(n, groups, bricks)| { (n, 64 * groups * bricks, 64 * bricks) }),
        (4000u32..5000, 1u32..200).prop_map(|(n, k)| (n, k, k)),
    ];
    (extents, results).prop_map(|((n, k, group), results)| Shape { n, k, group, results })
}

/// The largest product of the plan: 32 rows, 8192 k, 16384 outputs.
#[test]
fn a_product_of_134_million_weights() {
    let design = Design::new().unwrap();
    let mut array = Array::configure(&xclbin(&design), options(None, Latency::Documented)).unwrap();
    check(&mut array, &design, &shape(16384, 8192, 8192, Results::Separate), 3);
}
