//! Runs products on the emulated array and compares them with sums of products.
//!
//! `cargo run --release -p onebit-aie-emu --example gemm -- [--latency=NAME,…] [--seeds=N,…] [--conservative] N,K[,GROUP] …`:
//! for each shape the time that the emulated array takes with and without a limit of the machine's
//! memory, beside that of the cost model of `onebit_aie::gemm::cost`, and the cycles that a core
//! works for a brick of weights, loops included. Both are models; nothing is measured. Each shape
//! runs with each of the latencies (`documented` alone if none is named; `shortest`, `longest`,
//! `checked`) and each order of events (the fixed one if there is no seed). `--conservative` takes
//! the program that leaves eight cycles between products on an accumulator too.

use std::process::ExitCode;

use onebit_aie::gemm::block::Spacing;
use onebit_aie::gemm::{Call, Design, Results, Shape, pack};
use onebit_aie_emu::array::{Latency, Options};
use onebit_aie_emu::report::Report;
use onebit_aie_emu::{Array, Fault};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// What each shape is run with.
struct Runs {
    design: Design,
    latencies: Vec<Latency>,
    seeds: Vec<Option<u64>>,
}

fn run() -> Result<(), Failure> {
    let mut spacing = Spacing::PIPELINED;
    let (mut latencies, mut seeds, mut shapes) = (Vec::new(), Vec::new(), Vec::new());
    for argument in std::env::args().skip(1) {
        if argument == "--conservative" {
            spacing = Spacing::CONSERVATIVE;
        } else if let Some(names) = argument.strip_prefix("--latency=") {
            latencies = names.split(',').map(latency).collect::<Result<_, _>>()?;
        } else if let Some(numbers) = argument.strip_prefix("--seeds=") {
            let seed = |number: &str| number.parse().map(Some);
            seeds = numbers.split(',').map(seed).collect::<Result<_, _>>()?;
        } else {
            shapes.push(parse(&argument).ok_or(format!("{argument}: not N,K[,GROUP]"))?);
        }
    }
    if shapes.is_empty() {
        return Err(
            "usage: gemm [--latency=NAME,…] [--seeds=N,…] [--conservative] N,K[,GROUP] …".into()
        );
    }
    if latencies.is_empty() {
        latencies.push(Latency::Documented);
    }
    if seeds.is_empty() {
        seeds.push(None);
    }
    let runs = Runs { design: Design::spaced(&spacing)?, latencies, seeds };
    println!(
        "{:>7} {:>6} {:>6} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8}  latencies, seed",
        "n",
        "k",
        "group",
        "results",
        "bytes",
        "us alone",
        "us array",
        "us model",
        "ratio",
        "a brick"
    );
    shapes.iter().try_for_each(|shape| runs.product(shape))
}

fn latency(name: &str) -> Result<Latency, Failure> {
    match name {
        "documented" => Ok(Latency::Documented),
        "shortest" => Ok(Latency::Shortest),
        "longest" => Ok(Latency::Longest),
        "checked" => Ok(Latency::Checked),
        _ => Err(format!("{name}: no latencies").into()),
    }
}

fn parse(text: &str) -> Option<Shape> {
    let numbers: Result<Vec<u32>, _> = text.split(',').map(str::parse).collect();
    let (n, k, group) = match numbers.ok()?[..] {
        [n, k] => (n, k, k),
        [n, k, group] => (n, k, group),
        _ => return None,
    };
    Some(Shape { n, k, group, results: Results::of_fifteen_bits(group) })
}

impl Runs {
    fn product(&self, shape: &Shape) -> Result<(), Failure> {
        let call = self.design.call(shape)?;
        let (n, k) = (shape.n as usize, shape.k as usize);
        let byte =
            |index: usize, salt: usize| ((index ^ salt).wrapping_mul(0x9e37_79b1) >> 13) as i8;
        let plane = |salt| (0..32 * k).map(|index| byte(index, salt)).collect::<Vec<i8>>();
        let (high, low) = (plane(1), plane(2));
        let weights: Vec<i8> = (0..n * k).map(|index| byte(index, 3)).collect();
        let mut buffers = [
            vec![0; usize::try_from(call.buffers.activations)?],
            pack::weights(&call.tiling, &weights),
            vec![0; usize::try_from(call.buffers.results)?],
        ];
        pack::activations(&call.tiling, &high, &low, &mut buffers[0]);
        let expected = pack::product(&call.tiling, &high, &low, &weights);
        for &latency in &self.latencies {
            for &seed in &self.seeds {
                let options = Options { latency, seed, ..Options::default() };
                buffers[2].fill(0xa5);
                let report = self.call(&call, options, &mut buffers)?;
                let mut found = vec![0; pack::result_count(&call.tiling, 32)];
                pack::results(&call.tiling, 32, &buffers[2], &mut found);
                if found != expected {
                    return Err(format!("{shape:?}, {latency:?}, {seed:?}: a wrong product").into());
                }
                print(&call, &report, &options);
            }
        }
        Ok(())
    }

    fn call(
        &self,
        call: &Call,
        options: Options,
        buffers: &mut [Vec<u8>],
    ) -> Result<Report, Failure> {
        let mut array = Array::configure(&self.design.xclbin()?.to_bytes()?, options)?;
        Ok(array.run(&call.txn, buffers).map_err(|fault: Fault| Box::new(fault))?)
    }
}

fn print(call: &Call, report: &Report, options: &Options) {
    let shape = call.tiling.shape;
    // Had the machine's memory no limit.
    let memory = report.memory_cycles as f64 / report.cycles as f64;
    let alone = report.microseconds() * (1.0 - memory);
    let modelled = 1e6 * call.cost.streaming();
    let bricks = 32 * call.tiling.brick_count();
    println!(
        "{:>7} {:>6} {:>6} {:>9} {:>9} {alone:>9.1} {:>9.1} {modelled:>9.1} {:>8.3} {:>8.2}  {:?}, {:?}",
        shape.n,
        shape.k,
        shape.group,
        format!("{:?}", shape.results).to_lowercase(),
        report.bytes_read + report.bytes_written,
        report.microseconds(),
        report.microseconds() / modelled,
        report.core_words as f64 / bricks as f64,
        options.latency,
        options.seed,
    );
}
