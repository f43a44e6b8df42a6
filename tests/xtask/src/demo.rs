//! `cargo xtask demo`: from a fresh clone to an answer on screen.

use std::fs;
use std::process::Command;

use anyhow::Result;

use crate::models::{self, SMOLLM2};
use crate::process::{build_release, run, workspace};

/// Builds both programs, fetches and compiles the sample model and asks it `prompt`.
pub fn demo(prompt: &str) -> Result<()> {
    let programs = build_release()?;
    let model = models::fetch(SMOLLM2)?;
    let folder = workspace().join("target/demo");
    fs::create_dir_all(&folder)?;
    let plan = folder.join("smollm2.plan");
    run(Command::new(programs.join("onebitc")).arg("compile").arg(&model).arg("-o").arg(&plan))?;
    run(Command::new(programs.join("onebit-rt"))
        .arg("run")
        .arg(&plan)
        .args(["--chat", "--temp", "0", "-n", "128", "-p", prompt]))
}
