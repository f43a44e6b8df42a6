//! Running other programs: each command line is shown, a failure names it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The folder of the workspace's Cargo.toml.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("xtask lies two folders below the workspace").to_path_buf()
}

/// The cargo that built this program.
pub fn cargo() -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(workspace());
    command
}

/// Runs `command` with its output on the terminal.
pub fn run(command: &mut Command) -> Result<()> {
    let line = describe(command);
    eprintln!("$ {line}");
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// Runs `command` and gives its standard output; standard error goes into the error message.
pub fn capture(command: &mut Command) -> Result<String> {
    Ok(outputs(command)?.0)
}

/// Like [`capture`], with what went to standard error behind it.
pub fn capture_all(command: &mut Command) -> Result<String> {
    let (stdout, stderr) = outputs(command)?;
    Ok(stdout + &stderr)
}

fn outputs(command: &mut Command) -> Result<(String, String)> {
    let line = describe(command);
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{line}`"))?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        bail!("`{line}` failed: {}\n{}", output.status, stderr.trim_end());
    }
    let stdout = String::from_utf8(output.stdout);
    Ok((stdout.with_context(|| format!("`{line}` printed invalid UTF-8"))?, stderr))
}

/// Whether `command` starts and ends well. Prints nothing.
pub fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Builds onebitc and onebit-rt in release mode and gives the folder they lie in.
pub fn build_release() -> Result<PathBuf> {
    run(cargo().args(["build", "--release", "-p", "onebitc", "-p", "onebit-rt"]))?;
    let metadata = capture(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let target = metadata["target_directory"].as_str();
    let target = target.context("`cargo metadata` names no target_directory")?;
    Ok(Path::new(target).join("release"))
}

/// The command line as a person would type it.
pub fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(quote).collect::<Vec<_>>().join(" ")
}

/// Like [`describe`], with files named without their folders, for reports that travel.
pub fn describe_short(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let short = |word| quote(Path::new(word).file_name().unwrap_or(word));
    words.map(short).collect::<Vec<_>>().join(" ")
}

fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "-_=./,:+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describes_a_command_line_that_a_shell_reads_back() {
        let mut command = Command::new("onebit-rt");
        command.args(["run", "b/a.plan", "-p", "what's new?", ""]);
        assert_eq!(describe(&command), r"onebit-rt run b/a.plan -p 'what'\''s new?' ''");
        assert_eq!(describe_short(&command), r"onebit-rt run a.plan -p 'what'\''s new?' ''");
    }
}
