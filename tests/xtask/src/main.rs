//! `cargo xtask`: the project's chores, one command each, set-up included.
//!
//! Every command is idempotent and prints the programs it runs. Nothing here is part of the
//! product: onebitc and onebit-rt never call it, and it knows them only by their command lines.
#![forbid(unsafe_code)]

mod bench;
mod checks;
mod demo;
mod gpu;
mod make_model;
mod models;
mod perplexity;
mod process;
mod tools;
mod trust;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set-up, demo, tests and benchmarks of onebit")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds both programs, gets the sample model, compiles it and answers a prompt
    Demo {
        /// What to ask the model
        #[arg(long, default_value = "Explain in two sentences what a compiler does.")]
        prompt: String,
    },
    /// Gets the sample model into target/models/
    Models {
        /// Also the two larger models that benchmarks use (about 750 MB)
        #[arg(long)]
        all: bool,
    },
    /// Lints, then every test; installs what they need
    Test {
        /// Do not fetch the sample model; tests that need it print `skipped`
        #[arg(long)]
        without_models: bool,
    },
    /// Measures onebit-rt and llama.cpp in turn on the same files and prints a report
    Bench(bench::Options),
    /// Makes a GGUF with a published model's shape and random weights
    MakeModel(make_model::Options),
    /// Measures onebit-rt and llama.cpp on a GPU over Vulkan, on files that it makes itself
    BenchGpu(gpu::Options),
    /// Compares the perplexity of onebit-rt and llama.cpp on one text
    Perplexity(perplexity::Options),
    /// Flips single bits of a plan; fails unless every flip is noticed
    FlipBits(trust::FlipBits),
    /// Kills compiles at random moments; fails unless they leave the old plan or the new one
    KillCompiles(trust::KillCompiles),
    /// Keeps one core busy until it is killed (the foreign process of `bench --busy`)
    #[command(hide = true)]
    Spin,
}

/// What the two commands that compare with llama.cpp take.
#[derive(Args)]
struct Comparison {
    /// Folder that holds llama.cpp's programs
    #[arg(long, value_name = "FOLDER")]
    peer: PathBuf,
    /// smollm2, smollm2-q4_0, gemma, qwen, or the path of a GGUF; may be repeated
    #[arg(long = "model", value_name = "MODEL", default_value = "smollm2")]
    models: Vec<String>,
    /// Threads that both programs use
    #[arg(short, long, default_value_t = 2)]
    threads: usize,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Demo { prompt } => demo::demo(&prompt),
        Command::Models { all } => models::fetch_all(all),
        Command::Test { without_models } => checks::test(without_models),
        Command::Bench(options) => bench::bench(&options),
        Command::MakeModel(options) => make_model::make_model(&options),
        Command::BenchGpu(options) => gpu::bench(&options),
        Command::Perplexity(options) => perplexity::compare(&options),
        Command::FlipBits(options) => trust::flip_bits(&options),
        Command::KillCompiles(options) => trust::kill_compiles(&options),
        Command::Spin => bench::spin(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
