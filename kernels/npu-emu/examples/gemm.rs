//! Runs products on the emulated array and compares them with sums of products.
//!
//! `cargo run --release -p onebit-aie-emu --example gemm -- N,K[,GROUP] …`: for each shape the time
//! that the emulated array takes with and without a limit of the machine's memory, beside that of
//! the cost model of `onebit_aie::gemm::cost`. Both are
//! models; nothing is measured.

use std::process::ExitCode;

use onebit_aie::gemm::{Design, Results, Shape, pack};
use onebit_aie_emu::Array;
use onebit_aie_emu::array::Options;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.peek().is_none() {
        eprintln!("usage: gemm N,K[,GROUP] …");
        return ExitCode::FAILURE;
    }
    println!(
        "{:>7} {:>6} {:>6} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8}",
        "n", "k", "group", "results", "bytes", "us alone", "us array", "us model", "ratio"
    );
    for argument in arguments {
        let Some(shape) = parse(&argument) else {
            eprintln!("{argument}: not N,K[,GROUP]");
            return ExitCode::FAILURE;
        };
        if let Err(problem) = run(&shape) {
            eprintln!("{argument}: {problem}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
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

fn run(shape: &Shape) -> Result<(), Box<dyn std::error::Error>> {
    let design = Design::new()?;
    let call = design.call(shape)?;
    let mut array = Array::configure(&design.xclbin()?.to_bytes()?, Options::default())?;
    let (n, k) = (shape.n as usize, shape.k as usize);
    let byte = |index: usize, salt: usize| ((index ^ salt).wrapping_mul(0x9e37_79b1) >> 13) as i8;
    let plane = |salt| (0..32 * k).map(|index| byte(index, salt)).collect::<Vec<i8>>();
    let (high, low) = (plane(1), plane(2));
    let weights: Vec<i8> = (0..n * k).map(|index| byte(index, 3)).collect();
    let mut buffers = vec![
        vec![0; usize::try_from(call.buffers.activations)?],
        pack::weights(&call.tiling, &weights),
        vec![0; usize::try_from(call.buffers.results)?],
    ];
    pack::activations(&call.tiling, &high, &low, &mut buffers[0]);
    let report = array.run(&call.txn, &mut buffers)?;
    let mut found = vec![0; pack::result_count(&call.tiling, 32)];
    pack::results(&call.tiling, 32, &buffers[2], &mut found);
    if found != pack::product(&call.tiling, &high, &low, &weights) {
        return Err("a wrong product".into());
    }
    // Had the machine's memory no limit.
    let memory = report.memory_cycles as f64 / report.cycles as f64;
    let alone = report.microseconds() * (1.0 - memory);
    let modelled = 1e6 * call.cost.streaming();
    println!(
        "{:>7} {:>6} {:>6} {:>9} {:>9} {:>9.1} {:>9.1} {modelled:>9.1} {:>8.3}",
        shape.n,
        shape.k,
        shape.group,
        format!("{:?}", shape.results).to_lowercase(),
        report.bytes_read + report.bytes_written,
        alone,
        report.microseconds(),
        report.microseconds() / modelled,
    );
    Ok(())
}
