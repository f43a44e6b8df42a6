//! A model under measurement: its GGUF and the plan made from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::sample;
use crate::models::{self, MODELS, SMOLLM2};
use crate::process::{keys_of, run, workspace};

pub struct Subject {
    pub name: String,
    pub gguf: PathBuf,
    pub plan: PathBuf,
    pub compile_time: Duration,
    /// Peak resident memory of the compile in bytes.
    pub compile_memory: u64,
}

impl Subject {
    /// Finds or fetches the model called `name` and compiles it with the release onebitc.
    pub fn prepare(name: &str, programs: &Path, peer: &Path) -> Result<Self> {
        let gguf = locate(name, peer)?;
        let folder = workspace().join("target/bench");
        fs::create_dir_all(&folder)?;
        let stem = gguf.file_stem().context("the model has no file name")?;
        let plan = folder.join(stem).with_added_extension("plan");
        let mut compile = Command::new(programs.join("onebitc"));
        compile.arg("compile").arg(&gguf).arg("-o").arg(&plan);
        compile.arg("--keys").arg(keys_of(&plan));
        let finished = sample::run_once(compile)?;
        Ok(Self {
            name: stem.to_string_lossy().into_owned(),
            gguf,
            plan,
            compile_time: finished.wall,
            compile_memory: finished.peak_memory,
        })
    }
}

/// The path of a model by its name in the table, its derivation, or as it is.
fn locate(name: &str, peer: &Path) -> Result<PathBuf> {
    if let Some(model) = MODELS.iter().find(|model| model.name == name) {
        return models::fetch(model);
    }
    if name == "smollm2-q4_0" {
        return requantised(peer);
    }
    let path = PathBuf::from(name);
    if !path.is_file() {
        let names: Vec<&str> = MODELS.iter().map(|model| model.name).collect();
        bail!("{name} is neither a file nor one of {}, smollm2-q4_0", names.join(", "));
    }
    Ok(path)
}

/// The sample model in Q4_0, the format for which llama.cpp has its fastest kernels, made with
/// llama.cpp's own tool.
fn requantised(peer: &Path) -> Result<PathBuf> {
    let source = models::fetch(SMOLLM2)?;
    let path = source.with_file_name("SmolLM2-135M-Instruct.Q4_0.gguf");
    if !path.exists() {
        let unfinished = path.with_added_extension("tmp");
        run(Command::new(peer.join("llama-quantize"))
            .arg("--allow-requantize")
            .args([&source, &unfinished])
            .arg("Q4_0"))?;
        fs::rename(unfinished, &path)?;
    }
    Ok(path)
}
