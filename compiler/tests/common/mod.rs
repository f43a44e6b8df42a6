//! Plans of tiny models, and the program that looks at them.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use onebit_models::Model;
use onebit_models::gguf::GgufFile;
use onebit_plan::manifest::{Manifest, SegmentKind};
use onebit_plan::{PlanFile, PlanWriter};
use onebit_test_support::{TinyOptions, tiny_model};
use onebitc::Options;

/// A model whose file is `folder/name.gguf`.
pub fn model(folder: &Path, name: &str, arch: &str, options: &TinyOptions) -> PathBuf {
    let path = folder.join(name).with_extension("gguf");
    std::fs::write(&path, tiny_model(arch, options)).unwrap();
    path
}

/// The plan of a model file, `folder/name.plan`.
pub fn plan(folder: &Path, name: &str, model: &Path, options: &Options) -> PathBuf {
    let path = folder.join(name).with_extension("plan");
    let file = Model::from_file(GgufFile::open(model).unwrap()).unwrap();
    onebitc::compile(&file, model, &path, options, &mut |_, _| {}).unwrap();
    path
}

/// Options that keep tests quick.
pub fn small() -> Options {
    Options { batch: 4, context: Some(64), ..Options::default() }
}

/// A copy of a plan with another manifest.
pub fn rewritten(plan: &Path, to: &Path, change: impl FnOnce(&mut Manifest)) {
    let file = PlanFile::open(plan).unwrap();
    let mut manifest = file.manifest().clone();
    let mut writer = PlanWriter::create(to).unwrap();
    for segment in &manifest.segments {
        writer.begin_segment(segment.kind).unwrap();
        writer.write(file.segment(segment.kind)).unwrap();
        writer.end_segment().unwrap();
    }
    change(&mut manifest);
    manifest.segments.clear();
    writer.finish(manifest).unwrap();
}

/// A copy of a plan with one byte of a segment changed, and hashes that agree.
pub fn damaged(plan: &Path, to: &Path, kind: SegmentKind, at: usize) {
    let file = PlanFile::open(plan).unwrap();
    let mut manifest = file.manifest().clone();
    let mut writer = PlanWriter::create(to).unwrap();
    for segment in &manifest.segments {
        let mut bytes = file.segment(segment.kind).to_vec();
        if segment.kind == kind {
            bytes[at] ^= 1;
        }
        writer.begin_segment(segment.kind).unwrap();
        writer.write(&bytes).unwrap();
        writer.end_segment().unwrap();
    }
    manifest.segments.clear();
    writer.finish(manifest).unwrap();
}

/// Runs the program with keys that lie in `folder`.
pub fn onebitc(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onebitc"));
    command.args(arguments.iter().map(|argument| argument.as_ref())).output().unwrap()
}

/// What it printed, when it ended well.
#[track_caller]
pub fn printed(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout.clone()).unwrap()
}
