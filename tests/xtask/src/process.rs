//! Running other programs: each command line is shown, a failure names it.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

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

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Ended {
    pub stdout: String,
    pub stderr: String,
    pub status: ExitStatus,
}

/// Runs `command` and gives what it printed, however it ended; one that takes longer than `limit`
/// is killed, which is an error.
pub fn run_limited(command: &mut Command, limit: Duration) -> Result<Ended> {
    let line = describe(command);
    eprintln!("$ {line}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start `{line}`"))?;
    let stdout = child.stdout.take().expect("standard output is piped");
    let stderr = child.stderr.take().expect("standard error is piped");
    let start = Instant::now();
    let (stdout, stderr, status) = thread::scope(|scope| {
        let stdout = scope.spawn(|| read_text(stdout));
        let stderr = scope.spawn(|| read_text(stderr));
        let status = wait(&mut child, start + limit);
        let join = |text: thread::ScopedJoinHandle<'_, String>| text.join().unwrap_or_default();
        (join(stdout), join(stderr), status)
    });
    let status = status?.with_context(|| format!("`{line}` took more than {limit:?}"))?;
    Ok(Ended { stdout, stderr, status })
}

/// Waits for a program to end; kills it at `deadline` and gives `None` then.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

fn read_text(mut pipe: impl Read) -> String {
    let mut bytes = Vec::new();
    // A pipe that breaks ends the text; the exit status tells why.
    let _ = pipe.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
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

/// The folder of keys for a plan that chores make: beside it, so that the user's own keys are left
/// alone.
pub fn keys_of(plan: &Path) -> PathBuf {
    plan.with_file_name("keys")
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
    fn ends_what_takes_too_long() {
        let shell = |script: &str, limit| {
            run_limited(Command::new("sh").args(["-c", script]), Duration::from_millis(limit))
        };
        let ended = shell("echo a; echo b >&2; exit 3", 60_000).unwrap();
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("a\n", "b\n"));
        assert_eq!(ended.status.code(), Some(3));
        let error = shell("exec sleep 60", 50).unwrap_err().to_string();
        assert!(error.ends_with("took more than 50ms"), "{error}");
    }

    #[test]
    fn describes_a_command_line_that_a_shell_reads_back() {
        let mut command = Command::new("onebit-rt");
        command.args(["run", "b/a.plan", "-p", "what's new?", ""]);
        assert_eq!(describe(&command), r"onebit-rt run b/a.plan -p 'what'\''s new?' ''");
        assert_eq!(describe_short(&command), r"onebit-rt run a.plan -p 'what'\''s new?' ''");
    }
}
