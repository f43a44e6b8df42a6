//! A plan on another machine: one namespace compiles it, and another, with another user, no network
//! and a root folder that holds the runtime, the plan and a public key, runs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use onebit_e2e::programs::{programs, succeed};
use onebit_test_support::{TinyOptions, tiny_model};

const PROMPT: &[&str] = &["-p", "ab", "-n", "24", "--temp", "0", "--no-stats"];

#[test]
fn a_plan_gives_the_same_text_on_a_machine_that_knows_only_its_key() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    if let Err(reason) = separate(&["--root", "/"], Path::new("true")).output_of_success() {
        println!("skipped: no namespaces here: {reason}");
        return;
    }
    let first = folder.path().join("first");
    fs::create_dir(&first).expect("a folder");
    let model = tiny_model("llama", &TinyOptions::default());
    fs::write(first.join("a.gguf"), model).expect("space");
    let keys = first.join("keys");
    let mut compile = separate(&[], &programs().join("onebitc"));
    compile.current_dir(&first).args(["compile", "a.gguf", "-o", "a.plan", "--ctx", "64"]);
    succeed(compile.arg("--keys").arg(&keys));
    let mut run = separate(&[], &programs().join("onebit-rt"));
    run.current_dir(&first).args(["run", "a.plan"]).args(PROMPT).arg("--keys").arg(&keys);
    let text = succeed(&mut run).stdout;
    assert!(!text.is_empty());

    let second = folder.path().join("second");
    fs::create_dir(&second).expect("a folder");
    install(&programs().join("onebit-rt"), &second);
    fs::copy(first.join("a.plan"), second.join("a.plan")).expect("the plan can be copied");
    fs::copy(keys.join("onebit.pub"), second.join("friend.pub")).expect("so can the key");
    let root = format!("--root={}", second.display());
    let there = |arguments: &[&str]| {
        let mut command = separate(&[&root, "--wd=/"], Path::new("/onebit-rt"));
        command.args(arguments).args(["--keys", "/keys"]);
        command
    };
    let run: Vec<&str> = ["run", "/a.plan"].iter().chain(PROMPT).copied().collect();
    let refused = there(&run).output().expect("the program starts");
    let reason = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && reason.contains("onebit-rt trust add"), "{reason}");
    succeed(&mut there(&["trust", "add", "/friend.pub"]));
    assert_eq!(succeed(&mut there(&run)).stdout, text);
    assert_eq!(succeed(&mut there(&[&run[..], &["--check-weights"]].concat())).stdout, text);
}

/// A program as another user in namespaces of its own, without a network.
fn separate(options: &[&str], program: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-user=4321", "--map-group=4321", "--net", "--ipc", "--uts"]);
    command.args(options).arg("--").arg(program).stdin(Stdio::null()).env_clear();
    command
}

trait OutputOfSuccess {
    fn output_of_success(&mut self) -> Result<(), String>;
}

impl OutputOfSuccess for Command {
    /// Why the command cannot be run, if so.
    fn output_of_success(&mut self) -> Result<(), String> {
        let output = self.output().map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

/// Copies a program to a root folder, with the libraries of the system that it links.
fn install(program: &Path, root: &Path) {
    let name = program.file_name().expect("a program has a name");
    fs::copy(program, root.join(name)).expect("the program can be copied");
    let listed = succeed(Command::new("ldd").arg(program)).stdout;
    let listed = String::from_utf8(listed).expect("paths in UTF-8");
    for path in listed.split_whitespace().filter(|word| word.starts_with('/')) {
        let place: PathBuf = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(place.parent().expect("libraries lie in folders")).expect("a folder");
        fs::copy(path, place).expect("a library can be copied");
    }
}
