//! `cargo xtask test`: what a change must pass. Lints come first so that the test runner's own
//! summary is the last thing on screen.

use std::process::Command;

use anyhow::{Context, Result};

use crate::models::{self, SMOLLM2};
use crate::process::{cargo, run, succeeds};
use crate::tools;

/// Runs formatting, lints, documentation and every test of the workspace.
pub fn test(without_models: bool) -> Result<()> {
    ensure_components()?;
    run(cargo().args(["fmt", "--all", "--check"]))?;
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    if !without_models {
        models::fetch(SMOLLM2).context(
            "cannot get the sample model; `cargo xtask test --without-models` runs the rest",
        )?;
    }
    let path = tools::install()?;
    let cargo = || {
        let mut command = cargo();
        command.env("PATH", &path);
        command
    };
    if succeeds(cargo().args(["nextest", "--version"])) {
        run(cargo().args(["test", "--workspace", "--doc", "--quiet"]))?;
        run(cargo().args(["nextest", "run", "--workspace", "--no-fail-fast"]))
    } else {
        run(cargo().args(["test", "--workspace", "--no-fail-fast"]))
    }
}

/// rustfmt and clippy, which a minimal toolchain leaves out.
fn ensure_components() -> Result<()> {
    for component in ["fmt", "clippy"] {
        if succeeds(cargo().args([component, "--version"])) {
            continue;
        }
        let name = if component == "fmt" { "rustfmt" } else { component };
        run(Command::new("rustup").args(["component", "add", name]))?;
    }
    Ok(())
}
