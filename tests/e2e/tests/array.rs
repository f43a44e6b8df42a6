//! Plans whose products are for a neural processor: on the CPU against the interpreter, and the
//! same bits at any number of threads, in any steps, and on the emulated array.

use std::sync::Arc;

use onebit_e2e::{Compiled, chunks, compile_bytes, normalised_error, run};
use onebit_plan::manifest::SegmentKind;
use onebit_rt::driver::cpu::{CpuDriver, CpuOptions};
use onebit_rt::driver::npu::{Device, open};
use onebit_test_support::{Random, TINY_ARCHITECTURES, TinyOptions, tiny_model};
use onebitc::Options;
use onebitc::schedule::repack::Placement;

/// Weights in int8 with a scale a row change about 1e-5 of a product's squares, activations in 15
/// bits next to nothing; two layers of random weights add a few of them up.
const TOLERANCE: f64 = 1e-3;

fn tiny(arch: &str) -> Compiled {
    let options = Options { context: Some(64), placement: Placement::Array, ..Options::default() };
    compile_bytes(tiny_model(arch, &TinyOptions::default()), &options)
}

fn tokens(count: usize, vocabulary: usize) -> Vec<u32> {
    let mut random = Random::new(11);
    (0..count).map(|_| random.below(vocabulary) as u32).collect()
}

#[test]
fn rounding_to_int8_stays_within_its_bound() {
    for arch in TINY_ARCHITECTURES {
        let compiled = tiny(arch);
        let plan = compiled.plan.manifest().array.as_ref().expect("products for the array");
        assert!(plan.products.iter().all(|weights| weights.rounding < 0.02), "{arch}");
        let steps = chunks(&tokens(40, compiled.model.vocabulary()), 1, 32);
        let reference = compiled.oracle(&steps);
        for (found, reference) in run(&mut compiled.driver(2), &steps).iter().zip(&reference) {
            let error = normalised_error(found, reference);
            assert!(error <= TOLERANCE, "{arch}: error {error:.2e} > {TOLERANCE:.0e}");
        }
    }
}

#[test]
fn threads_and_steps_change_no_bit() {
    for arch in TINY_ARCHITECTURES {
        let compiled = tiny(arch);
        let tokens = tokens(40, compiled.model.vocabulary());
        let reference = run(&mut compiled.driver(1), &chunks(&tokens, 0, 32)).concat();
        for (threads, rows) in [(3, 32), (2, 1), (2, 4), (5, 7)] {
            let found = run(&mut compiled.driver(threads), &chunks(&tokens, 0, rows)).concat();
            assert!(found == reference, "{arch}: {threads} threads, steps of {rows} rows");
        }
    }
}

/// The whole way: xclbin and streams from the plan, through the driver's commands, to 32 tiles.
#[test]
fn the_emulated_array_gives_the_bits_of_the_cpu() {
    let compiled = tiny("llama");
    let tokens = tokens(11, compiled.model.vocabulary());
    let steps = chunks(&tokens, 0, 8);
    let reference = run(&mut compiled.driver(2), &steps);
    let xclbin = compiled.plan.segment(SegmentKind::ArrayConfiguration);
    let context = open(Device::Emulator, xclbin).expect("the emulator takes our xclbin");
    let options = CpuOptions { threads: std::num::NonZeroUsize::new(2), slots: 1 };
    let mut driver = CpuDriver::load_with_array(Arc::clone(&compiled.plan), options, context)
        .expect("the plan loads");
    assert!(run(&mut driver, &steps) == reference);
}
