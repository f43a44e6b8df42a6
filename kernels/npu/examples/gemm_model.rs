//! Prints what the products of three models cost on the array, by the model of
//! `onebit_aie::gemm::cost`. Nothing in it is measured.

use onebit_aie::gemm::gated::{Factor, Gated};
use onebit_aie::gemm::{Cost, Design, GemmError, Results, Shape, Tiling, cost};

/// A model's products: name, n, k, how often in a step of 32 rows.
type Products = &'static [(&'static str, u32, u32, u32)];

const MODELS: [(&str, Products); 4] = [
    (
        "SmolLM2-135M",
        &[
            ("q", 576, 576, 30),
            ("k, v", 192, 576, 60),
            ("o", 576, 576, 30),
            ("gate, up", 1536, 576, 60),
            ("down", 576, 1536, 30),
            ("output", 49152, 576, 1),
        ],
    ),
    (
        "SmolLM2-135M, fused",
        &[
            ("qkv", 960, 576, 30),
            ("o", 576, 576, 30),
            ("gate+up", 3072, 576, 30),
            ("down", 576, 1536, 30),
            ("output", 49152, 576, 1),
        ],
    ),
    (
        "Qwen3-0.6B, fused",
        &[
            ("qkv", 4096, 1024, 28),
            ("o", 1024, 2048, 28),
            ("gate+up", 6144, 1024, 28),
            ("down", 1024, 3072, 28),
            ("output", 151936, 1024, 1),
        ],
    ),
    (
        "Qwen3-8B, fused",
        &[
            ("qkv", 6144, 4096, 36),
            ("o", 4096, 4096, 36),
            ("gate+up", 24576, 4096, 36),
            ("down", 4096, 12288, 36),
            ("output", 151936, 4096, 1),
        ],
    ),
];

/// What a sum covers: all of k, and sizes that a scale for each group of weights asks for.
const GROUPS: [u32; 6] = [4096, 2048, 1024, 512, 256, 128];

fn main() -> Result<(), GemmError> {
    let design = Design::new()?;
    println!("All times are modelled, none is measured. 32 rows, two planes of activations.");
    for (model, products) in MODELS {
        print_model(&design, model, products)?;
    }
    print_groups(&design)?;
    print_gates(&design)
}

/// A model's gate, and what reads it: name, gated outputs, k, outputs of the reader, and the groups of k
/// that a reader of floats has.
const GATES: [(&str, Gated, u32, u32); 4] = [
    ("SmolLM2-135M", Gated { outputs: 1536, k: 576, factor: Factor::Sigmoid }, 576, 768),
    ("Gemma-3-270m", Gated { outputs: 2048, k: 640, factor: Factor::Normal }, 640, 1024),
    ("Qwen3-0.6B", Gated { outputs: 3072, k: 1024, factor: Factor::Sigmoid }, 1024, 1024),
    ("Qwen3-8B", Gated { outputs: 12288, k: 4096, factor: Factor::Sigmoid }, 4096, 1024),
];

/// One layer's gate + up and down in one submission, and in two.
fn print_gates(design: &Design) -> Result<(), GemmError> {
    println!(
        "\ngate + up and down of a layer, in us: one submission, and two with the gate on the CPU"
    );
    println!(
        "{:>13} {:>7} {:>6} {:>10} {:>9} {:>9} {:>9} {:>9}",
        "model", "outputs", "k", "cycles", "gate+up", "down", "together", "apart"
    );
    for (model, gated, n, group) in GATES {
        let Gated { outputs, k, .. } = gated;
        let plain = |n, k, group: u32| {
            let shape = Shape { n, k, group, results: Results::of_fifteen_bits(group) };
            design.call(&shape)
        };
        let [gate, down] = [plain(2 * outputs, k, k.min(1024))?, plain(n, outputs, group)?];
        let apart = 1e6 * (gate.cost.total() + down.cost.total());
        print!("{model:>13} {outputs:>7} {k:>6} ");
        let calls =
            design.gated_call(&gated).and_then(|gate| Ok([gate, design.call_of_gated(&gated, n)?]));
        match calls {
            Err(error) => println!("{apart:>49.1}: {error}"),
            Ok([gate, down]) => {
                let [first, second] = [&gate, &down].map(|call| 1e6 * call.cost.streaming());
                let cycles = cost::gate_cycles(&gate.tiling, design.kernel());
                let together = 1e6 * gate.cost.total() + second;
                println!("{cycles:>10.0} {first:>9.1} {second:>9.1} {together:>9.1} {apart:>9.1}");
            }
        }
    }
    Ok(())
}

fn print_model(design: &Design, model: &str, products: Products) -> Result<(), GemmError> {
    println!("\n{model}");
    println!(
        "{:>9} {:>7} {:>6} {:>9} {:>6} {:>6} {:>6} {:>6} {:>7} {:>8} {:>8} {:>6} {:>5}",
        "product",
        "n",
        "k",
        "results",
        "passes",
        "units",
        "pad %",
        "MB",
        "TXN",
        "us bound",
        "us model",
        "ratio",
        "core"
    );
    let (mut bound, mut streaming, mut total) = (0.0, 0.0, 0.0);
    for &(name, n, k, times) in products {
        let shape = Shape { n, k, group: k, results: Results::of_fifteen_bits(k) };
        let call = design.call(&shape)?;
        let Tiling { passes, units, .. } = call.tiling;
        let padding = padding_percent(&call.tiling);
        let Cost { memory_bound, core, .. } = call.cost;
        println!(
            "{name:>9} {n:>7} {k:>6} {:>9} {passes:>6} {units:>6} {padding:>6.2} {:>6.2} {:>7} {:>8.1} {:>8.1} {:>6.3} {:>5.2}",
            format!("{:?}", shape.results).to_lowercase(),
            call.tiling.streamed_bytes() as f64 / 1e6,
            call.txn.len(),
            1e6 * memory_bound,
            1e6 * call.cost.streaming(),
            call.cost.streaming() / memory_bound,
            core / call.cost.streaming(),
        );
        bound += f64::from(times) * memory_bound;
        streaming += f64::from(times) * call.cost.streaming();
        total += f64::from(times) * call.cost.total();
    }
    println!(
        "a step: bound {:.2} ms, streaming {:.2} ms (ratio {:.3}), with a dispatch a product {:.2} ms",
        1e3 * bound,
        1e3 * streaming,
        streaming / bound,
        1e3 * total
    );
    Ok(())
}

fn print_groups(design: &Design) -> Result<(), GemmError> {
    println!("\nn = k = 4096 by the size of a group: bytes of the machine's memory");
    println!(
        "{:>6} {:>9} {:>12} {:>9} {:>9} {:>9} {:>9}",
        "group", "results", "activations", "weights", "results", "us bound", "us model"
    );
    for group in GROUPS {
        let shape = Shape { n: 4096, k: 4096, group, results: Results::of_fifteen_bits(group) };
        let call = design.call(&shape)?;
        println!(
            "{group:>6} {:>9} {:>12} {:>9} {:>9} {:>9.1} {:>9.1}",
            format!("{:?}", shape.results).to_lowercase(),
            u64::from(call.tiling.passes) * call.buffers.activations,
            call.buffers.weights,
            call.buffers.results,
            1e6 * call.cost.memory_bound,
            1e6 * call.cost.streaming(),
        );
    }
    Ok(())
}

/// Zeros among the streamed bytes of weights, in percent of the weights.
fn padding_percent(tiling: &Tiling) -> f64 {
    let weights = f64::from(tiling.shape.n) * f64::from(tiling.shape.k);
    let streamed = 8.0 * tiling.weight_bytes() as f64;
    100.0 * (streamed / weights - 1.0)
}
