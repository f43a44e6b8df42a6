//! The two programs, as users get them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Builds onebitc and onebit-rt in the profile of the test that asks, and gives their folder.
///
/// # Panics
/// When cargo fails.
pub fn programs() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        // <target>/<profile>/deps/<test>
        let test = env::current_exe().expect("a test knows its own path");
        let folder = test.ancestors().nth(2).expect("tests lie in deps").to_path_buf();
        let profile = match folder.file_name().and_then(|name| name.to_str()) {
            Some("debug") => "dev",
            Some(name) => name,
            None => panic!("{} names no profile", folder.display()),
        };
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        command.args(["build", "--offline", "-p", "onebitc", "-p", "onebit-rt"]);
        command.args(["--profile", profile, "--target-dir"]);
        command.arg(folder.parent().expect("profiles lie in a target folder"));
        succeed(&mut command);
        folder
    })
}

/// Runs a command that must end well.
///
/// # Panics
/// When it does not, with what it said.
#[track_caller]
pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().expect("the program starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    output
}
