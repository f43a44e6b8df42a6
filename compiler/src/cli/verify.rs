//! How a compile ends: `onebit-rt verify` on the new plan, in a process of its own.
//!
//! The program that will run the plan is the one that tries it, so that drivers stay out of the
//! compiler, and code that crashes takes no compiler with it.

use std::env;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::failure::Failure;

const PROGRAM: &str = "onebit-rt";
/// Exit code of `onebit-rt verify` where something differs.
const DIFFERS: i32 = 3;
/// Begins the lines of its output that say what.
const DIFFERENCE: &str = "DIFFERS: ";

/// Runs the plan at `path` on the devices of this machine; what there is to say of it, in lines.
///
/// # Errors
/// A plan that computes something else than the model says, or crashes.
pub fn run(path: &Path, architecture: &str) -> Result<String, Failure> {
    if architecture != env::consts::ARCH {
        return Ok(format!("NOT VERIFIED: this machine cannot run code for {architecture}\n"));
    }
    // What was compiled just now is ours, whoever's key signs it.
    let started = Command::new(program())
        .args(["verify", "--hardware", "--allow-untrusted"])
        .arg(path)
        .output();
    let Output { status, stdout, stderr } = match started {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(
                "NOT VERIFIED: onebit-rt was found neither beside onebitc nor in PATH\n".into()
            );
        }
        Err(error) => return Ok(format!("NOT VERIFIED: onebit-rt does not start: {error}\n")),
    };
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    match status.code() {
        Some(0) => Ok(stdout.into_owned()),
        Some(DIFFERS) => {
            let differences: Vec<&str> =
                stdout.lines().filter_map(|line| line.strip_prefix(DIFFERENCE)).collect();
            Err(failure(&format!("differs: {}", differences.join("; "))))
        }
        Some(_) => {
            let reason = stderr.lines().find_map(|line| line.strip_prefix("error: "));
            let reason = reason.unwrap_or("onebit-rt verify failed");
            Ok(format!("NOT VERIFIED: {reason}\n"))
        }
        None => Err(failure(&format!("ends the process that runs it ({status})"))),
    }
}

fn failure(what: &str) -> Failure {
    Failure::Error {
        message: format!("the plan was not kept: on this machine it {what}"),
        help: Some(
            "this is a mistake in onebitc or in a driver, please report it; `--no-verify` keeps the \
             plan"
                .into(),
        ),
    }
}

/// `onebit-rt` beside this program, else by its name alone, which the system looks up in PATH.
fn program() -> PathBuf {
    let name = format!("{PROGRAM}{}", env::consts::EXE_SUFFIX);
    let beside = env::current_exe().ok().map(|program| program.with_file_name(&name));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| name.into())
}
