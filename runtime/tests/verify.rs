//! `onebit-rt verify` as people see it: exit codes, and what is said of a plan that differs.
#![cfg(target_arch = "x86_64")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use onebit_models::Model;
use onebit_models::gguf::GgufFile;
use onebit_plan::manifest::SegmentKind;
use onebit_plan::{PlanFile, PlanWriter};
use onebit_test_support::{TinyOptions, tiny_model};
use onebitc::Options;

fn plan(folder: &Path) -> PathBuf {
    let bytes = tiny_model("llama", &TinyOptions::default());
    let model = Model::from_file(GgufFile::parse(bytes).unwrap()).unwrap();
    let options = Options { context: Some(64), ..Options::default() };
    let path = folder.join("tiny.plan");
    onebitc::compile(&model, Path::new("tiny.gguf"), &path, &options, &mut |_, _| {}).unwrap();
    path
}

fn command(plan: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onebit-rt"));
    command.arg("verify").arg(plan).args(options).args(["--allow-untrusted", "-t", "2"]);
    command
}

fn verify(plan: &Path, options: &[&str]) -> Output {
    command(plan, options).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The plan with an edit of its weights; whether their hash is made anew is the writer's choice.
fn with_weights(source: &Path, target: &Path, edit: impl FnOnce(&mut [u8])) {
    let plan = PlanFile::open(source).unwrap();
    let mut writer = PlanWriter::create(target).unwrap();
    let mut edit = Some(edit);
    for segment in &plan.manifest().segments {
        let mut bytes = plan.segment(segment.kind).to_vec();
        if segment.kind == SegmentKind::Weights {
            edit.take().unwrap()(&mut bytes);
        }
        writer.begin_segment(segment.kind).unwrap();
        writer.write(&bytes).unwrap();
        writer.end_segment().unwrap();
    }
    writer.finish(plan.manifest().clone()).unwrap();
}

#[test]
fn a_plan_that_agrees_exits_with_0() {
    let folder = tempfile::tempdir().unwrap();
    let output = verify(&plan(folder.path()), &["--device", "cpu"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("right") && text.contains("exact"), "{text}");
    assert!(text.ends_with("verified\n") && !text.contains("DIFFERS"), "{text}");
}

#[test]
fn a_plan_that_differs_exits_with_3_and_names_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let source = plan(folder.path());
    let target = folder.path().join("other.plan");
    let plan = PlanFile::open(&source).unwrap();
    let find = |name: &str| plan.manifest().weights.iter().find(|it| it.tensors == [name]).unwrap();
    let up = find("blk.1.ffn_up.weight");
    let range = up.offset as usize..(up.offset + up.bytes / 2) as usize;
    with_weights(&source, &target, |weights| weights[range].iter_mut().for_each(|it| *it ^= 0x0f));
    let output = verify(&target, &["--device", "cpu"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    let line = text.lines().find(|line| line.starts_with("DIFFERS")).unwrap();
    assert!(line.contains("linear blk.1.ffn_up.weight in @blk.1.ffn"), "{line}");
    assert!(text.contains("MB: right"), "the hash is of the edited bytes: {text}");
}

#[test]
fn damaged_weights_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = plan(folder.path());
    let segments = PlanFile::open(&path).unwrap().manifest().segments.clone();
    let weights = segments.iter().find(|it| it.kind == SegmentKind::Weights).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[(weights.offset + weights.length / 2) as usize] ^= 1;
    fs::write(&path, bytes).unwrap();
    let output = verify(&path, &["--device", "cpu"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("MB: WRONG") && text.contains("Weights segment is damaged"), "{text}");
    // Nor does it take a reader.
    let mut child = command(&path, &["--device", "cpu"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

#[test]
fn a_device_that_was_asked_for_and_is_not_there_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = plan(folder.path());
    let output = verify(&path, &["--device", "npu-emu"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let output = verify(&path, &["--device", "cpu", "--gpu", "0"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
}
