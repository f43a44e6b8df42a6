//! `cargo xtask flip-bits` and `kill-compiles`: two tests of tests/e2e, as long as one likes.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::process::{build_release, cargo, run};

#[derive(Args)]
pub struct FlipBits {
    /// A plan; a copy is signed and flipped [default: two tiny ones with all kinds of segments]
    #[arg(long)]
    plan: Option<PathBuf>,
    /// How many bits, shared by the parts of the file
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    flips: u64,
}

#[derive(Args)]
pub struct KillCompiles {
    /// How many compiles
    #[arg(long, default_value_t = 200, value_name = "N")]
    times: u32,
}

/// Flips bits of a plan and tells what notices.
pub fn flip_bits(options: &FlipBits) -> Result<()> {
    let mut command = long_test();
    command.args(["flip-bits", "--flips", &options.flips.to_string()]);
    if let Some(plan) = &options.plan {
        command.arg("--plan").arg(std::path::absolute(plan)?);
    }
    run(&mut command)
}

/// Kills the release onebitc over and over.
pub fn kill_compiles(options: &KillCompiles) -> Result<()> {
    let onebitc = build_release()?.join("onebitc");
    let mut command = long_test();
    command.args(["kill-compiles", "--times", &options.times.to_string(), "--onebitc"]);
    run(command.arg(onebitc))
}

fn long_test() -> std::process::Command {
    let mut command = cargo();
    command.args(["run", "--release", "--quiet", "-p", "onebit-e2e", "--"]);
    command
}
