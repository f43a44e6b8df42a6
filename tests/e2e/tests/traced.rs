//! Traced entries: the same bits as the ordinary ones, and values that are the graph's.

use std::collections::HashMap;
use std::num::NonZeroU32;

use onebit_e2e::{Compiled, chunks, compile_bytes, normalised_error, run};
use onebit_ir::interp::{self, CacheKind, Interp, InterpOptions};
use onebit_rt::driver::cpu::Keep;
use onebit_rt::driver::{Driver, Row};
use onebit_test_support::{TINY_ARCHITECTURES, TinyOptions, tiny_model};
use onebitc::schedule::repack::Placement;
use onebitc::{Options, pipeline};

/// As in `oracle.rs`: int8 activations, over fewer products.
const TOLERANCE: f64 = 2e-3;
const TOKENS: [u32; 9] = [5, 77, 300, 2, 2, 19, 250, 33, 8];

fn compiled(arch: &str) -> Compiled {
    let options = Options { context: Some(64), ..Options::default() };
    compile_bytes(tiny_model(arch, &TinyOptions::default()), &options)
}

#[test]
fn a_traced_step_gives_the_bits_of_an_ordinary_one() {
    let compiled = compiled("gemma3");
    for (threads, rows) in [(1, 1), (2, 3), (2, 9), (3, 9)] {
        let mut steps = chunks(&TOKENS, 1, rows);
        steps[0][0].output = false;
        let expected = run(&mut compiled.driver(threads), &steps);
        let mut driver = compiled.driver(threads);
        let width = driver.limits().vocabulary as usize;
        for (step, expected) in steps.iter().zip(&expected) {
            let outputs = step.iter().filter(|row| row.output).count();
            let mut logits = vec![f32::NAN; outputs * width];
            let regions = driver.trace(step, &mut logits, Keep::Times).expect("the step runs");
            let same = logits.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same && logits.len() == expected.len(), "{threads} threads, {rows} rows");
            let all = compiled.plan.manifest().regions.len();
            // Without logits a step ends before the regions that make them.
            assert!(regions.len() == all || (outputs == 0 && regions.len() < all));
            assert!(regions.iter().enumerate().all(|(at, region)| region.region == at));
            assert!(regions.iter().all(|region| region.values.is_empty()));
        }
    }
}

#[test]
fn regions_are_those_of_the_fused_graph() {
    let compiled = compiled("qwen3");
    let manifest = compiled.plan.manifest();
    assert_eq!(manifest.traced.len(), 2);
    for traced in &manifest.traced {
        assert_eq!(traced.steps.len(), manifest.regions.len());
        for step in &traced.steps {
            let region = &manifest.regions[step.region as usize];
            let own = step.taps.iter().all(|tap| {
                // Besides the loop or product itself, what a pair of products leaves.
                region.ops.contains(&tap.op) || tap.op == "linear"
            });
            assert!(own, "{}: {:?} does not make {:?}", traced.name, region.ops, step.taps);
        }
    }
}

/// The interpreter's values of the last row, by name, over the graph that was lowered.
fn oracle(compiled: &Compiled, rows: &[Row]) -> HashMap<String, Vec<f32>> {
    let mut graph = compiled.model.graph().clone();
    let info = pipeline::run(&mut graph, Placement::Cpu).expect("the passes run");
    let options = InterpOptions {
        context: NonZeroU32::new(64).expect("not zero"),
        slots: NonZeroU32::new(2).expect("not zero"),
        cache: CacheKind::F16,
        weight_memory: usize::MAX,
    };
    let rows: Vec<interp::Row> = rows
        .iter()
        .map(|&Row { token, position, slot, output }| interp::Row { token, position, slot, output })
        .collect();
    let mut values = HashMap::new();
    let mut interp = Interp::new(&graph, &info, &compiled.model, options);
    interp.observe(|value, all| {
        let width: usize = graph.ty(value).shape[1..]
            .iter()
            .map(|dim| match dim {
                onebit_ir::Dim::Size(size) => *size,
                other => panic!("rows of {other:?}"),
            })
            .product();
        values.insert(value.to_string(), all[all.len() - width..].to_vec());
    });
    interp.step(&rows).expect("the oracle runs");
    drop(interp);
    values
}

#[test]
fn tapped_values_are_those_of_the_graph() {
    for arch in TINY_ARCHITECTURES {
        let compiled = compiled(arch);
        for count in [4, 9] {
            let rows = chunks(&TOKENS[..count], 1, count).remove(0);
            let expected = oracle(&compiled, &rows);
            let mut driver = compiled.driver(2);
            let mut logits = vec![0.0; count * driver.limits().vocabulary as usize];
            let last = Keep::Row(count - 1);
            let regions = driver.trace(&rows, &mut logits, last).expect("the step runs");
            let mut seen = 0;
            for value in regions.iter().flat_map(|region| &region.values) {
                let reference = &expected[&value.value];
                let error = normalised_error(&value.row, reference);
                let name = format!("{arch}, {count} rows: {} {}", value.value, value.op);
                assert!(error <= TOLERANCE, "{name}: error {error:.1e}");
                seen += 1;
            }
            let products = compiled.plan.manifest().weights.len() - 1;
            assert!(seen > products, "{arch}: {seen} values of {products} products");
        }
    }
}
