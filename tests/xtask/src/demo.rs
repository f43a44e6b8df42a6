//! `cargo xtask demo`: from a fresh clone to an answer on screen.

use std::fs;
use std::process::Command;

use anyhow::Result;

use crate::models::{self, SMOLLM2};
use crate::process::{build_release, keys_of, run, workspace};

/// Builds both programs, fetches and compiles the sample model and asks it `prompt`.
pub fn demo(prompt: &str) -> Result<()> {
    let programs = build_release()?;
    let model = models::fetch(SMOLLM2)?;
    let folder = workspace().join("target/demo");
    fs::create_dir_all(&folder)?;
    let plan = folder.join("smollm2.plan");
    let keys = keys_of(&plan);
    run(Command::new(programs.join("onebitc"))
        .arg("compile")
        .arg(&model)
        .arg("-o")
        .arg(&plan)
        .arg("--keys")
        .arg(&keys))?;
    run(Command::new(programs.join("onebit-rt"))
        .arg("run")
        .arg(&plan)
        .arg("--keys")
        .arg(&keys)
        .args(["--chat", "--temp", "0", "-n", "128", "-p", prompt]))
}
