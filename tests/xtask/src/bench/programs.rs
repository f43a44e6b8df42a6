//! The command lines of both sides and how their output is read.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::sample::{self, Watch};
use super::{PROMPT, Subject};
use crate::process::{capture, describe_short, keys_of};

/// Prompt tokens of the prefill figure.
const PROMPT_TOKENS: &str = "512";
/// Generated tokens of the decode figure.
const GENERATED_TOKENS: &str = "128";
/// Sequences of the batched figure.
const SEQUENCES: &str = "32";
/// Generated tokens while another process spins: few, since one side may be very slow then.
const BUSY_TOKENS: &str = "32";

/// Tokens per second of one sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Speeds {
    pub prefill: f64,
    pub decode: f64,
    /// All sequences together.
    pub batch: f64,
    /// DRAM read bandwidth measured in the same run, GB/s; only onebit-rt gives it.
    pub bandwidth: Option<f64>,
    /// Share of that bandwidth that decoding reached.
    pub bandwidth_share: Option<f64>,
}

/// onebit-rt on a plan.
pub struct Ours {
    program: PathBuf,
    plan: PathBuf,
    threads: String,
}

impl Ours {
    pub fn new(programs: &Path, subject: &Subject, threads: usize) -> Self {
        let program = programs.join("onebit-rt");
        Self { program, plan: subject.plan.clone(), threads: threads.to_string() }
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    fn command(&self, verb: &str, threads: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(verb).arg(&self.plan).args(["-t", threads]);
        command.arg("--keys").arg(keys_of(&self.plan));
        command
    }

    fn bench(&self) -> Command {
        let mut command = self.command("bench", &self.threads);
        command.args(["-p", PROMPT_TOKENS, "-n", GENERATED_TOKENS, "-b", SEQUENCES]);
        command.args(["-r", "1", "--json"]);
        command
    }

    fn one_token(&self) -> Command {
        let mut command = self.command("run", &self.threads);
        command.args(["-p", PROMPT, "-n", "1", "--temp", "0"]);
        command
    }

    /// The command lines, for the report.
    pub fn lines(&self) -> Vec<String> {
        vec![describe_short(&self.bench()), describe_short(&self.one_token())]
    }

    pub fn speeds(&self, watch: &Watch) -> Result<Speeds> {
        let finished = watch.run(|| self.bench())?;
        our_speeds(&finished.stdout)
    }

    pub fn first_token(&self, watch: &Watch) -> Result<Duration> {
        let finished = watch.run(|| self.one_token())?;
        finished.first_output.context("onebit-rt run printed no token")
    }

    pub fn greedy_text(&self, threads: usize) -> Result<String> {
        let mut command = self.command("run", &threads.to_string());
        capture(command.args(["-p", PROMPT, "-n", "64", "--temp", "0"]))
    }

    pub fn busy_decode(&self) -> Result<f64> {
        let mut command = self.command("bench", &self.threads);
        command.args(["-p", "0", "-n", BUSY_TOKENS, "-b", "0", "-r", "1", "--json"]);
        Ok(our_speeds(&sample::run_once(command)?.stdout)?.decode)
    }
}

/// llama.cpp on a GGUF.
pub struct Peer {
    folder: PathBuf,
    gguf: PathBuf,
    threads: String,
}

impl Peer {
    pub fn new(folder: &Path, subject: &Subject, threads: usize) -> Self {
        let (folder, gguf) = (folder.to_path_buf(), subject.gguf.clone());
        Self { folder, gguf, threads: threads.to_string() }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.folder.join(program));
        command.arg("-m").arg(&self.gguf).args(["-t", &self.threads]);
        command
    }

    fn bench(&self, prompt: &str, generated: &str) -> Command {
        let mut command = self.command("llama-bench");
        command.args(["-p", prompt, "-n", generated, "-r", "1", "-o", "json"]);
        command
    }

    fn batched(&self) -> Command {
        let mut command = self.command("llama-batched-bench");
        // 32 sequences of 8 + 128 tokens, as onebit-rt's own batch test.
        command.args(["-c", "4352", "-npp", "8", "-ntg", GENERATED_TOKENS, "-npl", SEQUENCES]);
        command.args(["--output-format", "jsonl"]);
        command
    }

    fn one_token(&self) -> Command {
        let mut command = self.command("llama-completion");
        command.args(["-p", PROMPT, "-n", "1", "--temp", "0", "-no-cnv", "--no-display-prompt"]);
        command
    }

    /// The command lines, for the report.
    pub fn lines(&self) -> Vec<String> {
        let speed = self.bench(PROMPT_TOKENS, GENERATED_TOKENS);
        [speed, self.batched(), self.one_token()].iter().map(describe_short).collect()
    }

    pub fn speeds(&self, watch: &Watch) -> Result<Speeds> {
        let single = watch.run(|| self.bench(PROMPT_TOKENS, GENERATED_TOKENS))?;
        let batched = watch.run(|| self.batched())?;
        let (prefill, decode) = peer_speeds(&single.stdout)?;
        let batch = peer_batch_speed(&(batched.stdout + &batched.stderr))?;
        Ok(Speeds { prefill, decode, batch, ..Speeds::default() })
    }

    pub fn first_token(&self, watch: &Watch) -> Result<Duration> {
        let finished = watch.run(|| self.one_token())?;
        finished.first_output.context("llama-completion printed no token")
    }

    pub fn busy_decode(&self) -> Result<f64> {
        let finished = sample::run_once(self.bench("0", BUSY_TOKENS))?;
        Ok(peer_speeds(&finished.stdout)?.1)
    }
}

/// Rows of `onebit-rt bench --json`: prompt alone is prefill, generation alone decoding, with
/// several sequences batched decoding.
fn our_speeds(json: &str) -> Result<Speeds> {
    let rows = rows(json, "onebit-rt bench")?;
    let mut speeds = Speeds::default();
    for row in &rows {
        let speed = number(row, "avg_ts")?;
        let sequences = row["n_sequences"].as_u64().unwrap_or(1);
        match (row["n_gen"].as_u64().unwrap_or(0), sequences) {
            (0, _) => speeds.prefill = speed,
            (_, 1) => {
                speeds.decode = speed;
                let bandwidth = row["read_bandwidth_bytes_per_second"].as_f64();
                speeds.bandwidth = bandwidth.map(|bytes| bytes / 1e9);
                speeds.bandwidth_share = row["bandwidth_fraction"].as_f64();
            }
            _ => speeds.batch = speed,
        }
    }
    Ok(speeds)
}

/// Prefill and decode speed of `llama-bench -o json`; 0 for what was not measured.
fn peer_speeds(json: &str) -> Result<(f64, f64)> {
    let mut speeds = (0.0, 0.0);
    for row in rows(json, "llama-bench")? {
        let speed = number(&row, "avg_ts")?;
        if row["n_gen"].as_u64() == Some(0) {
            speeds.0 = speed;
        } else {
            speeds.1 = speed;
        }
    }
    Ok(speeds)
}

/// Aggregate decode speed of `llama-batched-bench --output-format jsonl`, whose lines stand
/// between log lines.
fn peer_batch_speed(output: &str) -> Result<f64> {
    let line = output.lines().find(|line| line.starts_with('{') && line.contains("speed_tg"));
    let line = line.context("llama-batched-bench printed no result")?;
    number(&serde_json::from_str(line)?, "speed_tg")
}

fn rows(json: &str, program: &str) -> Result<Vec<Value>> {
    serde_json::from_str(json).with_context(|| format!("{program} printed no list of results"))
}

fn number(row: &Value, field: &str) -> Result<f64> {
    row[field].as_f64().with_context(|| format!("a result has no {field}: {row}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_our_results() {
        let json = r#"[{"n_prompt": 512, "n_gen": 0, "n_sequences": 1, "avg_ts": 900.5},
            {"n_prompt": 0, "n_gen": 128, "n_sequences": 1, "avg_ts": 200.0,
             "read_bandwidth_bytes_per_second": 2.2e10, "bandwidth_fraction": 0.9},
            {"n_prompt": 0, "n_gen": 128, "n_sequences": 32, "avg_ts": 1000.0}]"#;
        let expected = Speeds {
            prefill: 900.5,
            decode: 200.0,
            batch: 1000.0,
            bandwidth: Some(22.0),
            bandwidth_share: Some(0.9),
        };
        assert_eq!(our_speeds(json).unwrap(), expected);
    }

    #[test]
    fn reads_the_peers_results() {
        let json = r#"[{"n_prompt": 512, "n_gen": 0, "avg_ts": 272.4},
                       {"n_prompt": 0, "n_gen": 128, "avg_ts": 98.9}]"#;
        assert_eq!(peer_speeds(json).unwrap(), (272.4, 98.9));
        let log = "load: fine\n{\"pl\": 32, \"t_tg\": 1.0, \"speed_tg\": 226.0}\ndone\n";
        assert_eq!(peer_batch_speed(log).unwrap(), 226.0);
        assert!(peer_batch_speed("failed").is_err());
    }
}
