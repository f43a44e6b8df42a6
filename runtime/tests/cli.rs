//! The program as people use it: output, errors, exit codes.
#![cfg(target_arch = "x86_64")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{END, VOCABULARY, counting_plan};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

fn plan() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let plan = counting_plan(folder.path(), 64, Some(END));
    (folder, plan)
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onebit-rt"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A command on a plan, with the keys that lie beside it. `tokenize` runs no code and asks for none.
fn on_plan(command: &str, plan: &Path, options: &[&str]) -> Command {
    let mut program = program();
    program.arg(command).arg(plan).args(options);
    if command != "tokenize" {
        program.arg("--keys").arg(plan.with_file_name("keys"));
    }
    program
}

fn run(command: &str, plan: &Path, options: &[&str]) -> Output {
    on_plan(command, plan, options).output().unwrap()
}

fn run_with_input(command: &str, plan: &Path, options: &[&str], input: &str) -> Output {
    let mut program = on_plan(command, plan, options);
    let mut child = program.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn stdout(output: &Output) -> &str {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::str::from_utf8(&output.stdout).unwrap()
}

/// Checks exit code 1 and the two lines of an error.
#[track_caller]
fn assert_fails(output: &Output, error: &str, help: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let error_line = text.lines().find(|line| line.starts_with("error: ")).unwrap();
    let help_line = text.lines().find(|line| line.starts_with("help: ")).unwrap();
    assert!(error_line.contains(error), "{text}");
    assert!(help_line.contains(help), "{text}");
}

#[test]
fn a_prompt_is_continued_to_the_limit_or_the_end() {
    let (_folder, plan) = plan();
    let output = run("run", &plan, &["-p", "a", "-n", "5", "--temp", "0"]);
    assert_eq!(stdout(&output), "bcdef\n");
    let statistics = String::from_utf8_lossy(&output.stderr);
    for part in ["prompt", "decode", "first token", "tok/s", "thread"] {
        assert!(statistics.contains(part), "{statistics}");
    }
    let output = run_with_input("run", &plan, &["--temp", "0", "--no-stats"], "xy");
    assert_eq!(stdout(&output), "z{|}~ \n~~\n");
    assert!(output.stderr.is_empty());
}

#[test]
fn many_prompts_are_answered_in_order() {
    let (folder, plan) = plan();
    let expected = "==> prompt 1 <==\nbc\n\n==> prompt 2 <==\nno\n\n==> prompt 3 <==\n56\n";
    let greedy = ["-n", "2", "--temp", "0", "--no-stats"];
    for parallel in ["1", "2", "8", "32"] {
        let prompts = ["-p", "a", "-p", "m", "-p", "34", "--parallel", parallel];
        let output = run("run", &plan, &[&prompts[..], &greedy].concat());
        assert_eq!(stdout(&output), expected);
    }
    let file = folder.path().join("prompts");
    fs::write(&file, "a\n\nm\n34\n").unwrap();
    let output = run("run", &plan, &[&["--prompts", file.to_str().unwrap()], &greedy[..]].concat());
    assert_eq!(stdout(&output), expected);
}

#[test]
fn one_prompt_is_answered_many_times_with_successive_seeds() {
    let (_folder, plan) = plan();
    let hot = ["-p", "a", "-n", "4", "--temp", "9", "--top-k", "0", "--no-stats"];
    let several = run("run", &plan, &[&hot[..], &["--parallel", "3", "--seed", "5"]].concat());
    let alone: String = ["5", "6", "7"]
        .iter()
        .zip(1..)
        .map(|(seed, index)| {
            let output = run("run", &plan, &[&hot[..], &["--seed", seed]].concat());
            let gap = if index == 1 { "" } else { "\n" };
            format!("{gap}==> prompt {index} <==\n{}", stdout(&output))
        })
        .collect();
    assert_eq!(stdout(&several), alone);
}

#[test]
fn chat_wraps_the_prompt_in_the_template() {
    let (_folder, plan) = plan();
    let chat = ["-p", "hello", "--chat", "--temp", "0", "-n", "3"];
    let output = run("run", &plan, &[&chat[..], &["--system", "be brief"]].concat());
    assert_eq!(stdout(&output), "bcd\n");
    // "system:be brief", "user:hello", two end markers and the "a" of the template.
    let statistics = String::from_utf8_lossy(&output.stderr);
    assert!(statistics.contains("prompt           28 tokens"), "{statistics}");
    assert_eq!(run("run", &plan, &["-p", "x", "--system", "s"]).status.code(), Some(2));
}

#[test]
fn text_becomes_ids() {
    let (_folder, plan) = plan();
    let ids = |options: &[&str]| {
        let output = run_with_input("tokenize", &plan, options, "!a b~~<|end|>");
        stdout(&output).to_owned()
    };
    assert_eq!(ids(&[]), "0 64 94 65 96 97\n");
    assert!(ids(&["--no-special"]).starts_with("0 64 94 65 96 27 91 68"));
    assert_eq!(ids(&["--no-bos"]), ids(&[]));
}

#[test]
fn logits_become_an_array_file() {
    let (folder, plan) = plan();
    let file = folder.path().join("f.npy");
    let options = ["--tokens", "1,2,3,4,5,6,7,8,9,10", "-o", file.to_str().unwrap()];
    stdout(&run("logits", &plan, &options));
    let bytes = fs::read(&file).unwrap();
    let header = String::from_utf8_lossy(&bytes[10..128]).into_owned();
    assert!(header.contains("'shape': (10, 98)"), "{header}");
    let values: Vec<f32> =
        bytes[128..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(values.len(), 10 * VOCABULARY as usize);
    assert_eq!((values[2], values[98 * 9 + 11], values[0]), (10.0, 10.0, 0.0));
}

#[test]
fn perplexity_needs_two_chunks() {
    let (folder, plan) = plan();
    let file = folder.path().join("text");
    fs::write(&file, "abcdefghijklmnopqrstuvwxyz\n").unwrap();
    let file = file.to_str().unwrap();
    let output = run("perplexity", &plan, &[file, "--ctx", "8"]);
    // exp(10) against 97 others of exp(0): the next letter is nearly certain.
    assert!(stdout(&output).starts_with("Final estimate: PPL = 1.0044 +/- "));
    assert_fails(&run("perplexity", &plan, &[file, "--ctx", "14"]), "26 tokens", "--ctx");
}

#[test]
fn benchmarks_print_what_they_checked() {
    let (_folder, plan) = plan();
    let options = ["-p", "16", "-n", "4", "-b", "3", "-r", "2", "-t", "1"];
    let output = run("bench", &plan, &[&options[..], &["--json"]].concat());
    let records: serde_json::Value = serde_json::from_str(stdout(&output)).unwrap();
    let records = records.as_array().unwrap();
    let sizes = [(16, 0, 1), (0, 4, 1), (0, 4, 3)];
    assert_eq!(records.len(), sizes.len());
    for (record, (prompt, generated, sequences)) in records.iter().zip(sizes) {
        assert_eq!(record["n_prompt"], prompt);
        assert_eq!(record["n_gen"], generated);
        assert_eq!(record["n_sequences"], sequences);
        assert_eq!(record["n_threads"], 1);
        assert_eq!(record["samples_ts"].as_array().unwrap().len(), 2);
        assert!(record["avg_ts"].as_f64().unwrap() > 0.0);
        assert!(record["stddev_ts"].is_f64());
        assert!(record["checked"].as_str().unwrap().contains("equal"));
        assert!(record["wrong"].is_null());
    }
    let table = run("bench", &plan, &options);
    assert!(stdout(&table).contains("tg4 x 3"));
}

#[test]
fn ctrl_c_ends_the_line_and_reports() {
    let folder = tempfile::tempdir().unwrap();
    let plan = counting_plan(folder.path(), 1 << 24, None);
    let mut child = on_plan("run", &plan, &["-p", "a", "--temp", "0"]).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut first = [0; 8];
    out.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"bcdefghi");
    let reader = std::thread::spawn(move || {
        let mut rest = Vec::new();
        out.read_to_end(&mut rest).map(|_| rest)
    });
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut statistics = String::new();
    child.stderr.take().unwrap().read_to_string(&mut statistics).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{statistics}");
    assert_eq!(reader.join().unwrap().unwrap().last(), Some(&b'\n'));
    assert!(statistics.contains("decode"), "{statistics}");
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let plan = counting_plan(folder.path(), 1 << 24, None);
    let mut child = on_plan("run", &plan, &["-p", "a"]).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn errors_say_what_to_do() {
    let (folder, plan) = plan();
    let missing = folder.path().join("missing.plan");
    assert_fails(&run("run", &missing, &["-p", "a"]), "missing.plan", "check the path");
    let other = folder.path().join("model.gguf");
    fs::write(&other, b"GGUF").unwrap();
    assert_fails(&run("bench", &other, &[]), "is not a plan", "onebitc compile");
    let mut bytes = fs::read(&plan).unwrap();
    bytes[4096] ^= 1;
    let damaged = folder.path().join("damaged.plan");
    fs::write(&damaged, bytes).unwrap();
    assert_fails(
        &run("run", &damaged, &["-p", "a"]),
        "CpuCode segment is damaged",
        "copy it again",
    );
    assert_fails(&run("run", &plan, &["-p", ""]), "prompt 0 is empty", "-p");
    assert_fails(&run("run", &plan, &["-p", "a", "--temp", "-1"]), "--temp is -1", "--help");
    let long = "a".repeat(65);
    assert_fails(&run("run", &plan, &["-p", &long]), "context full: 0 + 65", "--ctx");
    let tokens = ["--tokens", "98", "-o", "/nonexistent/f.npy"];
    assert_fails(&run("logits", &plan, &tokens), "/nonexistent/f.npy", "check the path");
    let file = folder.path().join("f.npy");
    let tokens = ["--tokens", "98", "-o", file.to_str().unwrap()];
    assert_fails(&run("logits", &plan, &tokens), "token 98 is outside", "");
    assert!(!file.exists(), "nothing is left of a failed run");
}

#[test]
fn wrong_use_exits_with_2() {
    let (_folder, plan) = plan();
    for options in [&["--nonsense"][..], &["-n", "x"], &["-p", "a", "--prompts", "f"], &["-t", "0"]]
    {
        assert_eq!(run("run", &plan, options).status.code(), Some(2));
    }
    let help = program().args(["run", "--help"]).output().unwrap();
    assert!(stdout(&help).contains("--repeat-penalty"));
}

#[test]
fn graphics_processors_are_chosen_and_left_only_by_name() {
    let (_folder, plan) = plan();
    let prompt = ["-p", "a", "-n", "5", "--temp", "0"];
    let with = |options: &[&str]| run("run", &plan, &[&prompt, options].concat());
    let vulkan = with(&["--device", "vulkan"]);
    assert_fails(&vulkan, "the plan has nothing for a Vulkan device", "--target");
    assert_fails(&with(&["--gpu", "0"]), "--gpu", "--device vulkan");
    assert_fails(&with(&["--fallback", "cpu"]), "--fallback", "--device vulkan");
    let fallback = with(&["--device", "vulkan", "--fallback", "cpu"]);
    assert_eq!(stdout(&fallback), "bcdef\n");
    let notes = String::from_utf8_lossy(&fallback.stderr);
    assert!(notes.contains("nothing for a Vulkan device; running on the processor"), "{notes}");
    let profile = run("profile", &plan, &[]);
    assert_fails(&profile, "the plan has no traced entries", "compile the model again");
}

#[test]
fn doctor_tells_of_every_part_and_succeeds_where_plans_run() {
    let output = program().arg("doctor").output().unwrap();
    let text = stdout(&output);
    assert!(text.starts_with("CPU\n") && text.contains("\nNPU (optional)\n"), "{text}");
    assert!(text.contains("\nVulkan (optional)\n"), "{text}");
    for what in [
        "loader", "drivers", "machine", "features", "memory", "device", "firmware", "iommu",
        "memlock",
    ] {
        let line = text.lines().find(|line| line.split_whitespace().nth(1) == Some(what));
        let status = line.and_then(|line| line.split_whitespace().next());
        assert!(matches!(status, Some("ok" | "missing" | "unknown")), "{what}: {text}");
    }
}
