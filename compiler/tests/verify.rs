//! How `onebitc compile` ends: what it does with what `onebit-rt verify` says, by programs of that
//! name that say it.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use onebit_test_support::{TinyOptions, tiny_model};
use tempfile::TempDir;

/// A folder with onebitc, a model, and an `onebit-rt` that is this script.
fn folder(script: Option<&str>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(env!("CARGO_BIN_EXE_onebitc"), folder.path().join("onebitc")).unwrap();
    fs::write(folder.path().join("tiny.gguf"), tiny_model("llama", &TinyOptions::smallest()))
        .unwrap();
    if let Some(script) = script {
        let program = folder.path().join("onebit-rt");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder
}

fn compile(folder: &Path, options: &[&str]) -> (Output, PathBuf) {
    let plan = folder.join("plans").join("tiny.plan");
    fs::create_dir_all(folder.join("plans")).unwrap();
    let mut command = Command::new(folder.join("onebitc"));
    command.arg("compile").arg(folder.join("tiny.gguf")).arg("-o").arg(&plan);
    command.arg("--no-sign").arg("--no-gpu").args(options);
    // Nothing in PATH either.
    let output = command.env("PATH", folder.join("nothing")).output().unwrap();
    (output, plan)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_plan_that_differs_is_not_kept() {
    let script = "echo 'DIFFERS: on cpu: first node %9 = linear blk.0.attn_q.weight'; exit 3";
    let folder = folder(Some(script));
    let (output, plan) = compile(folder.path(), &[]);
    assert!(!output.status.success());
    let message = text(&output.stderr);
    assert!(message.contains("%9 = linear blk.0.attn_q.weight"), "{message}");
    assert!(message.contains("help: "), "{message}");
    assert_eq!(fs::read_dir(plan.parent().unwrap()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn a_plan_that_kills_its_process_is_not_kept() {
    let folder = folder(Some("kill -SEGV $$"));
    let (output, plan) = compile(folder.path(), &[]);
    assert!(!output.status.success() && !plan.exists());
    assert!(text(&output.stderr).contains("signal"), "{}", text(&output.stderr));
}

#[test]
fn a_plan_that_agrees_is_kept_and_what_was_tried_is_said() {
    // The plan is there, under another name.
    let script = "for plan; do :; done; test -s \"$plan\" && echo \"$1 verified\"";
    let folder = folder(Some(script));
    let (output, plan) = compile(folder.path(), &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(plan.is_file());
    let said = text(&output.stdout);
    assert!(said.contains("verify verified"), "{said}");
}

#[test]
fn a_plan_that_was_not_tried_is_kept_and_that_is_said() {
    let cases: [(Option<&str>, &[&str], &str); 3] = [
        (None, &[], "NOT VERIFIED: onebit-rt was found neither"),
        (Some("echo 'error: no such feature' >&2; exit 1"), &[], "NOT VERIFIED: no such feature"),
        (Some("exit 3"), &["--no-verify"], "not verified, as --no-verify says"),
    ];
    for (script, options, expected) in cases {
        let folder = folder(script);
        let (output, plan) = compile(folder.path(), options);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(plan.is_file());
        let said = text(&output.stdout);
        assert!(said.contains(expected), "{said}");
    }
}
