//! `cargo xtask perplexity`: onebit-rt's perplexity against llama.cpp's on the same text.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::Comparison;
use crate::bench::Subject;
use crate::process::{build_release, capture_all, keys_of, workspace};

/// Largest relative difference that still counts as the same model.
const TOLERANCE: f64 = 0.005;

#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    comparison: Comparison,
    /// Text to judge by; by default the essay in tests/data
    #[arg(long)]
    file: Option<PathBuf>,
    /// Positions of one chunk
    #[arg(long, default_value_t = 512)]
    context: usize,
}

/// Prints both perplexities of every model and fails when one differs too much.
pub fn compare(options: &Options) -> Result<()> {
    let programs = build_release()?;
    let essay = || workspace().join("tests/data/measurement.txt");
    let text = options.file.clone().unwrap_or_else(essay);
    let mut worst: f64 = 0.0;
    println!("| model | onebit-rt | llama.cpp | difference |\n|---|---|---|---|");
    for name in &options.comparison.models {
        let subject = Subject::prepare(name, &programs, &options.comparison.peer)?;
        let ours = ours(options, &programs, &subject, &text)?;
        let peer = peer(options, &subject, &text)?;
        let difference = ours / peer - 1.0;
        worst = worst.max(difference.abs());
        println!("| {} | {ours:.4} | {peer:.4} | {:+.3} % |", subject.name, 100.0 * difference);
    }
    if worst > TOLERANCE {
        bail!("a difference is larger than {} %", 100.0 * TOLERANCE);
    }
    Ok(())
}

fn ours(options: &Options, programs: &Path, subject: &Subject, text: &Path) -> Result<f64> {
    let mut command = Command::new(programs.join("onebit-rt"));
    command.arg("perplexity").arg(&subject.plan).arg(text);
    command.arg("--keys").arg(keys_of(&subject.plan));
    command.args(["--ctx", &options.context.to_string()]);
    command.args(["-t", &options.comparison.threads.to_string()]);
    let output = capture_all(&mut command)?;
    last_number_after(&output, "PPL = ").context("onebit-rt perplexity printed no estimate")
}

fn peer(options: &Options, subject: &Subject, text: &Path) -> Result<f64> {
    let mut command = Command::new(options.comparison.peer.join("llama-perplexity"));
    command.arg("-m").arg(&subject.gguf).arg("-f").arg(text);
    command.args(["-c", &options.context.to_string()]);
    command.args(["-t", &options.comparison.threads.to_string()]);
    let output = capture_all(&mut command)?;
    last_number_after(&output, "PPL = ").context("llama-perplexity printed no estimate")
}

/// The number behind the last `mark`.
fn last_number_after(text: &str, mark: &str) -> Option<f64> {
    let (_, rest) = text.rsplit_once(mark)?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_final_estimate() {
        let log = "[1]12.1,[2]13.0\nFinal estimate: PPL = 20.9636 +/- 1.23\n";
        assert_eq!(last_number_after(log, "PPL = "), Some(20.9636));
        assert_eq!(last_number_after("no such", "PPL = "), None);
    }
}
