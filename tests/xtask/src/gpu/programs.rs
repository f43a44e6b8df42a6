//! The command lines of both sides and how their output is read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::subject::Subject;
use super::{Options, Place};
use crate::bench::median;
use crate::process::{Ended, describe, describe_short, keys_of, run_limited};

/// Tokens that a sequence of the batch test begins with, on both sides.
const SEED_TOKENS: usize = 8;
/// Where a report of onebit-rt holds the copy bandwidth of a GPU, read and write counted, and the
/// read bandwidth of the processor's memory, in bytes per second. The second is told for GPUs, too,
/// and must not be taken for theirs.
const COPY_BANDWIDTH: &str = "copy_bandwidth_bytes_per_second";
const READ_BANDWIDTH: &str = "read_bandwidth_bytes_per_second";

/// How a plan was made.
#[derive(Serialize)]
pub struct Compiled {
    pub bytes: u64,
    pub seconds: f64,
}

/// What one process of ours measured; a figure is `None` where its tokens were wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OurSample {
    pub prefill: Option<f64>,
    pub decode: Option<f64>,
    /// All sequences together.
    pub batch: Option<f64>,
    /// What was wrong with tokens.
    pub wrong: Vec<String>,
    pub device: String,
    /// Weight bytes that a step reads.
    pub step_bytes: u64,
    /// Bytes per second: of a GPU copying, of a processor reading.
    pub bandwidth: Option<f64>,
}

/// What one llama-bench measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerSample {
    pub prefill: f64,
    pub decode: f64,
    /// `Vulkan`
    pub backends: String,
    /// What it says of the device, on standard error too: `matrix cores: NV_coopmat2`
    pub device: String,
    pub commit: String,
}

/// What one llama-batched-bench measured: decoding speed of one sequence, and of all together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerBatch {
    pub one: f64,
    pub all: f64,
}

pub struct Programs<'a> {
    options: &'a Options,
    folder: PathBuf,
    /// SHA-256 of onebitc, as far as plans are named after it.
    compiler: String,
    /// llama.cpp's `-dev`, where one was asked for.
    peer_device: Option<String>,
}

impl<'a> Programs<'a> {
    /// Looks for all programs.
    pub fn find(options: &'a Options) -> Result<Self> {
        let own = std::env::current_exe().context("cannot find the path of xtask itself")?;
        let folder = match &options.our {
            Some(folder) => folder.clone(),
            None => own.parent().map(Path::to_path_buf).unwrap_or_default(),
        };
        for name in ["onebitc", "onebit-rt"] {
            if !folder.join(name).is_file() {
                bail!(
                    "{} has no {name}; make it with `cargo build --release -p onebitc -p onebit-rt` \
                     or name its folder with --our",
                    folder.display()
                );
            }
        }
        for name in ["llama-bench", "llama-batched-bench"] {
            if !options.peer.join(name).is_file() {
                bail!("{} has no {name}", options.peer.display());
            }
        }
        let compiler = short_hash(&folder.join("onebitc"))?;
        let mut programs = Self { options, folder, compiler, peer_device: None };
        if let (Some(name), Place::Vulkan) = (&options.device_name, options.place()) {
            let mut command = Command::new(options.peer.join("llama-bench"));
            let list = programs.output(command.arg("--list-devices"))?;
            let text = list.stdout + &list.stderr;
            let device = device_with(&text, name);
            programs.peer_device =
                Some(device.with_context(|| format!("llama.cpp has no device {name}:\n{text}"))?);
        }
        Ok(programs)
    }

    /// What results must have been measured with to be put together.
    pub fn fingerprint(&self) -> Result<Value> {
        let options = self.options;
        Ok(json!({
            "onebitc": self.compiler,
            "onebit-rt": short_hash(&self.folder.join("onebit-rt"))?,
            "llama-bench": short_hash(&options.peer.join("llama-bench"))?,
            "place": options.place(),
            "layers": options.layers,
            "target": options.target,
            "ctx": options.ctx,
            "prompt": options.prompt,
            "generate": options.generate,
            "sequences": options.sequences,
            "runs": options.runs,
            "device_name": options.device_name,
            "threads": options.threads,
        }))
    }

    /// Where a subject's plan lies: another compiler or target makes another plan.
    pub fn plan_of(&self, subject: &Subject, options: &Options) -> PathBuf {
        let stem = subject.gguf.file_stem().unwrap_or_default().to_string_lossy();
        let target = options.target.as_deref().unwrap_or("host");
        let (compiler, ctx) = (&self.compiler, options.ctx);
        options.work.join(format!("{stem}-{target}-{ctx}-{compiler}.plan"))
    }

    pub fn compile(&self, subject: &Subject, plan: &Path) -> Result<Compiled> {
        let options = self.options;
        // A plan under its own name is whole, whenever this ends.
        let unfinished = plan.with_added_extension("tmp");
        let mut command = Command::new(self.folder.join("onebitc"));
        command.arg("compile").arg(&subject.gguf).arg("-o").arg(&unfinished);
        command.arg("--keys").arg(keys_of(plan));
        command.args(["--ctx", &options.ctx.to_string()]);
        command.args(["--batch", &options.sequences.to_string()]);
        if let Some(target) = &options.target {
            command.args(["--target", target]);
        }
        let start = Instant::now();
        self.output(&mut command)?;
        let seconds = start.elapsed().as_secs_f64();
        fs::rename(&unfinished, plan)?;
        Ok(Compiled { bytes: fs::metadata(plan)?.len(), seconds })
    }

    /// onebit-rt with a verb, on a device.
    pub fn our_command(&self, verb: &str, plan: &Path, place: Place) -> Command {
        let mut command = Command::new(self.folder.join("onebit-rt"));
        command.arg(verb).arg(plan);
        command.arg("--keys").arg(keys_of(plan));
        command.args(["--device", if place == Place::Cpu { "cpu" } else { "vulkan" }]);
        if let Some(threads) = self.options.threads {
            command.args(["-t", &threads.to_string()]);
        }
        command
    }

    fn our_bench(&self, plan: &Path) -> Command {
        let options = self.options;
        let mut command = self.our_command("bench", plan, options.place());
        command.args(["-p", &options.prompt.to_string(), "-n", &options.generate.to_string()]);
        command.args(["-b", &options.sequences.to_string(), "-r", &options.runs.to_string()]);
        command.arg("--json");
        command
    }

    pub fn ours(&self, plan: &Path) -> Result<OurSample> {
        let mut command = self.our_bench(plan);
        let ended = run_limited(&mut command, self.limit())?;
        // It fails when tokens are wrong, after it has said which.
        let sample = our_sample(&ended.stdout, self.options.place())
            .with_context(|| format!("`{}`: {}", describe(&command), last_lines(&ended.stderr)))?;
        match &self.options.device_name {
            Some(name)
                if self.options.place() == Place::Vulkan && !sample.device.contains(name) =>
            {
                bail!("onebit-rt ran on {}, not on {name}", sample.device)
            }
            _ => Ok(sample),
        }
    }

    /// A program of llama.cpp on a file, on the same kind of device.
    pub fn peer_command(&self, program: &str, subject: &Subject) -> Command {
        let options = self.options;
        let mut command = Command::new(options.peer.join(program));
        command.arg("-m").arg(&subject.gguf);
        command.args(["-ngl", if options.place() == Place::Cpu { "0" } else { "99" }]);
        if let Some(device) = &self.peer_device {
            command.args(["-dev", device]);
        }
        if let Some(threads) = options.threads {
            command.args(["-t", &threads.to_string()]);
        }
        command
    }

    fn peer_bench(&self, subject: &Subject) -> Command {
        let options = self.options;
        let mut command = self.peer_command("llama-bench", subject);
        command.args(["-p", &options.prompt.to_string(), "-n", &options.generate.to_string()]);
        command.args(["-r", &options.runs.to_string(), "-o", "json"]);
        command
    }

    pub fn peer(&self, subject: &Subject) -> Result<PeerSample> {
        let mut command = self.peer_bench(subject);
        let ended = self.output(&mut command)?;
        let sample = peer_sample(&ended.stdout, &ended.stderr)
            .with_context(|| format!("`{}`", describe(&command)))?;
        if self.options.place() == Place::Vulkan && !sample.backends.contains("Vulkan") {
            bail!("llama-bench ran on {}, not on Vulkan", sample.backends);
        }
        Ok(sample)
    }

    fn peer_batched(&self, subject: &Subject) -> Command {
        let options = self.options;
        let mut command = self.peer_command("llama-batched-bench", subject);
        let positions = options.sequences * (SEED_TOKENS + options.generate);
        command.args(["-c", &positions.to_string(), "-npp", &SEED_TOKENS.to_string()]);
        command.args(["-ntg", &options.generate.to_string()]);
        command.args(["-npl", &format!("1,{}", options.sequences), "--output-format", "jsonl"]);
        command
    }

    pub fn peer_batch(&self, subject: &Subject) -> Result<PeerBatch> {
        let mut command = self.peer_batched(subject);
        let ended = self.output(&mut command)?;
        peer_batch(&(ended.stdout + &ended.stderr), self.options.sequences)
            .with_context(|| format!("`{}`", describe(&command)))
    }

    /// The command lines of a model's figures, for the report.
    pub fn lines(&self, subject: &Subject) -> [String; 3] {
        let plan = self.plan_of(subject, self.options);
        [self.our_bench(&plan), self.peer_bench(subject), self.peer_batched(subject)]
            .map(|command| describe_short(&command))
    }

    /// Runs a program that must end well.
    pub fn output(&self, command: &mut Command) -> Result<Ended> {
        let ended = run_limited(command, self.limit())?;
        if !ended.status.success() {
            let program = Path::new(command.get_program()).file_name().unwrap_or_default();
            let verb = command.get_args().next().unwrap_or_default();
            let (program, verb) = (program.to_string_lossy(), verb.to_string_lossy());
            bail!("{program} {verb} failed: {}: {}", ended.status, last_lines(&ended.stderr));
        }
        Ok(ended)
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(self.options.limit)
    }
}

/// The first twelve digits of a file's SHA-256.
fn short_hash(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let digest = Sha256::digest(&bytes);
    Ok(digest[..6].iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The end of a log, where programs say why they failed.
fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(4)..].join("; ")
}

/// llama.cpp's name of the device whose line has `name`: `Vulkan0` of `  Vulkan0: NVIDIA H200 (...)`.
fn device_with(list: &str, name: &str) -> Option<String> {
    let line = list.lines().find(|line| line.starts_with(' ') && line.contains(name))?;
    Some(line.trim().split_once(':')?.0.to_owned())
}

/// Rows of `onebit-rt bench --json`: prompt alone is prefill, generation alone decoding, with
/// several sequences batched decoding.
fn our_sample(json: &str, place: Place) -> Result<OurSample> {
    let rows: Vec<Value> = serde_json::from_str(json).context("no list of results")?;
    let mut sample = OurSample::default();
    for row in &rows {
        let speed = row["median_ts"].as_f64().filter(|speed| *speed > 0.0);
        if let Some(wrong) = row["wrong"].as_str() {
            sample.wrong.push(wrong.to_owned());
        }
        match (row["n_gen"].as_u64().unwrap_or(0), row["n_sequences"].as_u64().unwrap_or(1)) {
            (0, _) => sample.prefill = speed,
            (_, 1) => sample.decode = speed,
            _ => sample.batch = speed,
        }
        sample.device = row["device"].as_str().unwrap_or_default().to_owned();
        sample.step_bytes = row["weight_bytes_per_step"].as_u64().unwrap_or(0);
        let field = if place == Place::Cpu { READ_BANDWIDTH } else { COPY_BANDWIDTH };
        sample.bandwidth = row[field].as_f64();
    }
    Ok(sample)
}

fn peer_sample(json: &str, log: &str) -> Result<PeerSample> {
    let rows: Vec<Value> = serde_json::from_str(json).context("no list of results")?;
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    let mut sample = PeerSample::default();
    for row in &rows {
        let samples = row["samples_ts"].as_array().map(Vec::as_slice).unwrap_or_default();
        let samples: Vec<f64> = samples.iter().filter_map(Value::as_f64).collect();
        if samples.is_empty() {
            bail!("a result has no samples_ts: {row}");
        }
        match row["n_gen"].as_u64() {
            Some(0) => sample.prefill = median(&samples),
            _ => sample.decode = median(&samples),
        }
        sample.backends = text(row, "backends");
        sample.commit = text(row, "build_commit");
        sample.device = text(row, "gpu_info");
    }
    if sample.prefill == 0.0 || sample.decode == 0.0 {
        bail!("not both figures are there");
    }
    // `ggml_vulkan: 0 = NVIDIA H200 (NVIDIA) | uma: 0 | ... | matrix cores: NV_coopmat2`
    if let Some(line) = log.lines().find(|line| line.contains("matrix cores")) {
        line.trim().clone_into(&mut sample.device);
    }
    Ok(sample)
}

/// Decoding speeds of `llama-batched-bench --output-format jsonl`, whose lines stand between log
/// lines.
fn peer_batch(output: &str, sequences: usize) -> Result<PeerBatch> {
    let rows = output.lines().filter(|line| line.starts_with('{') && line.contains("speed_tg"));
    let rows: Vec<Value> = rows.filter_map(|line| serde_json::from_str(line).ok()).collect();
    let speed = |count: usize| {
        let row = rows.iter().find(|row| row["pl"].as_u64() == Some(count as u64));
        row.and_then(|row| row["speed_tg"].as_f64())
            .with_context(|| format!("no result of {count} sequences"))
    };
    Ok(PeerBatch { one: speed(1)?, all: speed(sequences)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_our_results() {
        let json = r#"[
            {"n_prompt": 512, "n_gen": 0, "n_sequences": 1, "median_ts": 900.5, "device": "X",
             "weight_bytes_per_step": 7, "read_bandwidth_bytes_per_second": 1e9},
            {"n_prompt": 0, "n_gen": 128, "n_sequences": 1, "median_ts": 200.0, "device": "X",
             "weight_bytes_per_step": 7, "read_bandwidth_bytes_per_second": 1e9},
            {"n_prompt": 0, "n_gen": 128, "n_sequences": 32, "median_ts": null, "device": "X",
             "weight_bytes_per_step": 7, "read_bandwidth_bytes_per_second": 1e9,
             "copy_bandwidth_bytes_per_second": 2e9, "wrong": "sequence 1 differs"}]"#;
        let expected = OurSample {
            prefill: Some(900.5),
            decode: Some(200.0),
            batch: None,
            wrong: vec!["sequence 1 differs".into()],
            device: "X".into(),
            step_bytes: 7,
            bandwidth: Some(2e9),
        };
        assert_eq!(our_sample(json, Place::Vulkan).unwrap(), expected);
        assert_eq!(our_sample(json, Place::Cpu).unwrap().bandwidth, Some(1e9));
        assert!(our_sample("", Place::Cpu).is_err());
    }

    #[test]
    fn reads_the_peers_results() {
        let json = r#"[{"n_prompt": 512, "n_gen": 0, "samples_ts": [1.0, 3.0, 2.0], "backends": "Vulkan",
                        "build_commit": "0c1e570", "gpu_info": "NVIDIA H200"},
                       {"n_prompt": 0, "n_gen": 128, "samples_ts": [98.9], "backends": "Vulkan",
                        "build_commit": "0c1e570", "gpu_info": "NVIDIA H200"}]"#;
        let log = "load\nggml_vulkan: 0 = NVIDIA H200 | matrix cores: NV_coopmat2\n";
        let sample = peer_sample(json, log).unwrap();
        assert_eq!((sample.prefill, sample.decode), (2.0, 98.9));
        assert_eq!(sample.device, "ggml_vulkan: 0 = NVIDIA H200 | matrix cores: NV_coopmat2");
        assert_eq!(peer_sample(json, "").unwrap().device, "NVIDIA H200");
        assert!(peer_sample("[]", "").is_err());

        let log = "load: fine\n{\"pl\": 1, \"speed_tg\": 7.0}\n{\"pl\": 32, \"speed_tg\": 226.0}\n";
        assert_eq!(peer_batch(log, 32).unwrap(), PeerBatch { one: 7.0, all: 226.0 });
        assert!(peer_batch(log, 16).is_err());
    }

    #[test]
    fn finds_a_device_by_its_name() {
        let list =
            "Available devices:\n  Vulkan0: llvmpipe (1 MiB)\n  Vulkan1: NVIDIA H200 (2 MiB)\n";
        assert_eq!(device_with(list, "H200").as_deref(), Some("Vulkan1"));
        assert_eq!(device_with(list, "Radeon"), None);
    }
}
