//! Plans whose products are for a neural processor: on the CPU against the interpreter, and the
//! same bits at any number of threads, in any steps, and on the emulated array.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use onebit_e2e::{Compiled, chunks, compile_bytes, normalised_error, run};
use onebit_plan::abi::ArrayRole;
use onebit_plan::manifest::SegmentKind;
use onebit_rt::driver::Row;
use onebit_rt::driver::cpu::{CpuDriver, CpuOptions};
use onebit_rt::driver::npu::software::{Setup, SoftwareDriver};
use onebit_rt::driver::npu::{Device, Errno, Ioctl, IoctlContext, MappingId, open};
use onebit_test_support::{Random, TINY_ARCHITECTURES, TinyOptions, tiny_model};
use onebitc::Options;
use onebitc::schedule::array::ArrayLimits;
use onebitc::schedule::repack::Placement;
use xrt_sys::accel::EXECUTE_COMMAND;

/// Weights in int8 with a scale a row change about 1e-5 of a product's squares, activations in 15
/// bits next to nothing; two layers of random weights add a few of them up.
const TOLERANCE: f64 = 1e-3;

fn tiny(arch: &str) -> Compiled {
    tiny_within(arch, ArrayLimits::default())
}

fn tiny_within(arch: &str, array_limits: ArrayLimits) -> Compiled {
    let placement = Placement::Array;
    let options = Options { context: Some(64), placement, array_limits, ..Options::default() };
    // Gates that do not fill the array's columns: all products are plain.
    let tiny = TinyOptions { feed_forward: 448, ..TinyOptions::default() };
    compile_bytes(tiny_model(arch, &tiny), &options)
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
    let mut driver = CpuDriver::load_with_array(compiled.plan.clone(), options, context)
        .expect("the plan loads");
    assert!(run(&mut driver, &steps) == reference);
}

/// A driver made of software that counts what is submitted to it.
struct Counting {
    driver: SoftwareDriver,
    submitted: Arc<AtomicUsize>,
}

impl Ioctl for Counting {
    fn ioctl(
        &mut self,
        number: u32,
        argument: &mut [u8],
        memory: &mut [&mut [u8]],
    ) -> Result<(), Errno> {
        if number == EXECUTE_COMMAND {
            self.submitted.fetch_add(1, Ordering::Relaxed);
        }
        self.driver.ioctl(number, argument, memory)
    }

    fn map(&mut self, offset: u64, bytes: usize, alignment: usize) -> Result<MappingId, Errno> {
        self.driver.map(offset, bytes, alignment)
    }

    fn address(&self, mapping: MappingId) -> u64 {
        self.driver.address(mapping)
    }

    fn memory(&self, mapping: MappingId) -> &[u8] {
        self.driver.memory(mapping)
    }

    fn memory_mut(&mut self, mapping: MappingId) -> &mut [u8] {
        self.driver.memory_mut(mapping)
    }
}

/// Logits of `steps` on the emulated array, and how many commands each step took.
fn offloaded(compiled: &Compiled, steps: &[Vec<Row>]) -> (Vec<Vec<f32>>, usize) {
    let submitted = Arc::new(AtomicUsize::new(0));
    let driver = SoftwareDriver::new(Setup::default());
    let counting = Counting { driver, submitted: Arc::clone(&submitted) };
    let xclbin = compiled.plan.segment(SegmentKind::ArrayConfiguration);
    let context = Box::new(IoctlContext::new(counting, xclbin).expect("our xclbin"));
    let options = CpuOptions { threads: std::num::NonZeroUsize::new(2), slots: 1 };
    let mut driver = CpuDriver::load_with_array(compiled.plan.clone(), options, context)
        .expect("the plan loads");
    let logits = run(&mut driver, steps);
    let submitted = submitted.load(Ordering::Relaxed);
    assert!(submitted.is_multiple_of(steps.len()), "steps are alike");
    (logits, submitted / steps.len())
}

/// A model whose gates fit the array: 512 or more of them, as many as its columns have bricks.
fn tiny_gated(arch: &str) -> Compiled {
    gated(arch, &TinyOptions { feed_forward: 1024, ..TinyOptions::default() })
}

fn gated(arch: &str, tiny: &TinyOptions) -> Compiled {
    let placement = Placement::Array;
    let options = Options { context: Some(64), placement, ..Options::default() };
    compile_bytes(tiny_model(arch, tiny), &options)
}

/// Gates on the array are near the interpreter, and have the same bits at any number of threads and
/// in any steps. SiLU and GELU.
#[test]
fn gates_in_integers_stay_near_and_uniform() {
    for (arch, role) in
        [("llama", ArrayRole::Silu), ("qwen3", ArrayRole::Silu), ("gemma3", ArrayRole::GeluTanh)]
    {
        let compiled = tiny_gated(arch);
        let part = compiled.plan.manifest().array.as_ref().unwrap();
        let gates = part.products.iter().filter(|product| product.role == role).count();
        assert_eq!(gates, compiled.plan.manifest().model.layers as usize, "{arch}");
        let steps = chunks(&tokens(40, compiled.model.vocabulary()), 1, 32);
        let reference = compiled.oracle(&steps);
        let found = run(&mut compiled.driver(2), &steps);
        for (found, reference) in found.iter().zip(&reference) {
            let error = normalised_error(found, reference);
            assert!(error <= TOLERANCE, "{arch}: error {error:.2e} > {TOLERANCE:.0e}");
        }
        for (threads, rows) in [(1, 32), (3, 1), (11, 5)] {
            let steps = chunks(&tokens(40, compiled.model.vocabulary()), 1, rows);
            let again = run(&mut compiled.driver(threads), &steps).concat();
            assert!(again == found.concat(), "{arch}: {threads} threads, {rows} rows");
        }
    }
}

/// Three submissions a layer: q + k + v, output, and gate + up with down. Any number of rows.
#[test]
fn a_gate_and_its_reader_are_one_submission() {
    for arch in ["llama", "gemma3"] {
        let compiled = tiny_gated(arch);
        for rows in [1, 3, 12] {
            let steps = chunks(&tokens(12, compiled.model.vocabulary()), 0, rows);
            let reference = run(&mut compiled.driver(2), &steps);
            let (logits, submitted) = offloaded(&compiled, &steps);
            assert!(logits == reference, "{arch}: {rows} rows");
            let layers = compiled.plan.manifest().model.layers as usize;
            assert_eq!(submitted, 3 * layers + 1, "{arch}: {rows} rows");
        }
    }
}

/// Layers as wide as SmolLM2's, and as many gates as Qwen3-0.6B has, which take three passes.
#[test]
fn layers_of_real_sizes_have_three_submissions() {
    let layer = TinyOptions { layers: 1, ..TinyOptions::default() };
    let smol = TinyOptions {
        width: 576,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        feed_forward: 1536,
        ..layer.clone()
    };
    for tiny in [smol, TinyOptions { feed_forward: 3072, ..layer }] {
        let compiled = gated("llama", &tiny);
        let steps = chunks(&tokens(32, compiled.model.vocabulary()), 0, 32);
        let reference = run(&mut compiled.driver(2), &steps);
        let (logits, submitted) = offloaded(&compiled, &steps);
        assert!(logits == reference, "{} gates", tiny.feed_forward);
        assert_eq!(submitted, 3 + 1, "{} gates", tiny.feed_forward);
    }
}

/// A product beyond what one call may do is several calls, which go to the driver in chains that
/// keep to their modelled time; bits stay what they are.
#[test]
fn a_product_of_several_calls_goes_in_chains_that_keep_to_their_time() {
    let whole = tiny("llama");
    let tokens = tokens(9, whole.model.vocabulary());
    let steps = chunks(&tokens, 0, 3);
    let reference = run(&mut whole.driver(2), &steps);
    let (logits, submitted) = offloaded(&whole, &steps);
    assert!(logits == reference);
    let part = whole.plan.manifest().array.as_ref().unwrap();
    assert_eq!(submitted, part.products.len(), "one command for each product");
    // Four products a layer and the head.
    assert_eq!(submitted, 4 * whole.plan.manifest().model.layers as usize + 1);

    // A call of these sizes is modelled with 60 us and a little: two fit a chain, three do not.
    let split = tiny_within("llama", ArrayLimits { outputs: 64, group_seconds: 140e-6 });
    let part = split.plan.manifest().array.as_ref().unwrap();
    let head = part.products.last().unwrap();
    assert_eq!(head.first_row + head.rows, split.model.vocabulary() as u32);
    let calls = |seconds: &dyn Fn(f64) -> bool| {
        let seconds_of =
            |at: u32| part.calls[part.products[at as usize].call as usize].modelled_seconds;
        part.groups.iter().all(|group| {
            let range = group.first..group.first + group.count;
            seconds(range.map(seconds_of).sum())
        })
    };
    assert!(calls(&|seconds| seconds <= 140e-6));
    assert!(part.groups.iter().all(|group| group.count <= 2));
    let of_head =
        part.groups.iter().filter(|g| part.products[g.first as usize].tensors == head.tensors);
    let of_head: Vec<u32> = of_head.map(|group| group.count).collect();
    assert_eq!(of_head, [2, 2, 1], "320 outputs in calls of 64");
    let (logits, submitted) = offloaded(&split, &steps);
    assert!(logits == reference, "on the array");
    assert_eq!(submitted, part.groups.len());
    assert!(run(&mut split.driver(3), &steps) == reference, "on the CPU");
}
