//! `onebitc diff` and `onebitc verify-build`.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use onebit_ir::quant::Format;
use onebit_plan::PlanFile;
use onebit_plan::manifest::SegmentKind;
use onebit_test_support::TinyOptions;
use onebitc::inspect::diff::{self, Section};
use onebitc::schedule::repack::Placement;
use onebitc::{Options, Vulkan};
use serde_json::Value;
use tempfile::TempDir;

use common::{damaged, model, onebitc, plan, printed, rewritten, small};

/// A plan of a tiny model, with its model file.
fn base() -> (TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let gguf = model(folder.path(), "m", "llama", &TinyOptions::default());
    let plan = plan(folder.path(), "base", &gguf, &small());
    (folder, gguf, plan)
}

fn sections(a: &Path, b: &Path) -> BTreeSet<&'static str> {
    sections_without(a, b, &[])
}

fn sections_without(a: &Path, b: &Path, ignored: &[Section]) -> BTreeSet<&'static str> {
    let (a, b) = (PlanFile::open(a).unwrap(), PlanFile::open(b).unwrap());
    let found = diff::differences(&a, &b, &ignored.iter().copied().collect());
    found.iter().map(|difference| difference.section.name()).collect()
}

/// What each option changes shows in the section that people would look for it in.
#[test]
fn differences_stand_in_their_sections() {
    let (folder, gguf, base) = base();
    let changes: [(&str, Options, &[&str], &[&str]); 4] = [
        (
            "context",
            Options { context: Some(128), ..small() },
            &["model", "memory", "provenance", "segments"],
            &["weights", "classes", "placements", "regions"],
        ),
        (
            "batch",
            Options { batch: 8, ..small() },
            &["entries", "memory", "waits", "dispatches", "predicted"],
            &["weights", "regions", "placements"],
        ),
        (
            "gpu",
            Options { vulkan: Vulkan::Without, ..small() },
            &["dispatches", "kernels", "predicted", "segments"],
            &["regions", "weights", "entries", "waits", "memory"],
        ),
        (
            "npu",
            Options { placement: Placement::Array, ..small() },
            &["placements", "array", "weights", "classes", "regions"],
            &["model"],
        ),
    ];
    for (name, options, some, none) in changes {
        let other = plan(folder.path(), name, &gguf, &options);
        let found = sections(&base, &other);
        assert!(some.iter().all(|section| found.contains(section)), "{name}: {found:?}");
        assert!(none.iter().all(|section| !found.contains(section)), "{name}: {found:?}");
    }
}

#[test]
fn another_format_is_another_storage_class() {
    let (folder, _, base) = base();
    let options = TinyOptions { formats: vec![Format::Q4_1], ..TinyOptions::default() };
    let gguf = model(folder.path(), "other", "llama", &options);
    let other = plan(folder.path(), "other", &gguf, &small());
    let output = onebitc(&[&"diff", &base, &other, &"--json"]);
    assert_eq!(output.status.code(), Some(1));
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&value["schema"], &value["same"]), (&diff::SCHEMA.into(), &false.into()));
    let differences = value["differences"].as_array().unwrap();
    let classes = differences.iter().filter(|it| it["section"] == "weights");
    let classes: Vec<_> = classes.filter(|it| it["field"] == "class").collect();
    assert!(classes.iter().all(|it| (&it["a"], &it["b"]) == (&"Q4D".into(), &"Q4DM".into())));
    assert!(!classes.is_empty());
    let text = onebitc(&[&"diff", &base, &other, &"--most", &"1"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("weights: ") && text.contains("more; --json has all"), "{text}");
}

#[test]
fn exit_codes_tell_what_was_found() {
    let (folder, gguf, base) = base();
    let again = plan(folder.path(), "again", &gguf, &small());
    let same = onebitc(&[&"diff", &base, &again]);
    assert_eq!(same.status.code(), Some(0));
    assert!(printed(&same).ends_with("no differences\n"));
    let missing = folder.path().join("missing.plan");
    let error = onebitc(&[&"diff", &base, &missing]);
    assert_eq!(error.status.code(), Some(2), "{}", String::from_utf8_lossy(&error.stderr));
    assert_eq!(onebitc(&[&"diff", &base, &base, &"--ignore", &"colour"]).status.code(), Some(2));
    let renamed = folder.path().join("renamed.plan");
    rewritten(&base, &renamed, |manifest| manifest.provenance.source = "n.gguf".into());
    assert_eq!(onebitc(&[&"diff", &base, &renamed]).status.code(), Some(1));
    let ignored = onebitc(&[&"diff", &base, &renamed, &"--ignore", &"provenance"]);
    assert_eq!(ignored.status.code(), Some(0));
}

/// Whoever reads only the first lines is not told that plans are the same.
#[test]
fn a_closed_pipe_changes_no_verdict() {
    let (folder, gguf, base) = base();
    let other = plan(folder.path(), "other", &gguf, &Options { batch: 8, ..small() });
    let mut command = Command::new(env!("CARGO_BIN_EXE_onebitc"));
    let mut child =
        command.arg("diff").args([&base, &other]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

/// What no section speaks of is compared all the same.
#[test]
fn nothing_is_left_out() {
    let (folder, _, base) = base();
    let moved = folder.path().join("moved.plan");
    rewritten(&base, &moved, |manifest| manifest.entries[0].buffers[0].name.push('x'));
    assert_eq!(sections(&base, &moved), BTreeSet::from([Section::Layout.name()]));
    // Nor where the plans differ in something that is ignored.
    rewritten(&base, &moved, |manifest| {
        manifest.entries[0].buffers[0].name.push('x');
        manifest.provenance.source = "n.gguf".into();
    });
    let layout = BTreeSet::from([Section::Layout.name()]);
    let ignoring = |ignored: &[Section]| sections_without(&base, &moved, ignored);
    assert_eq!(ignoring(&[Section::Provenance]), layout);
    assert_eq!(ignoring(&[Section::Provenance, Section::Segments]), layout);
    assert_eq!(ignoring(&[Section::Provenance, Section::Layout]), BTreeSet::new());
    assert_eq!(ignoring(&[Section::Provenance, Section::Entries]), BTreeSet::new());
}

#[test]
fn builds_are_repeated_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let gguf = model(folder.path(), "m", "llama", &TinyOptions::default());
    let renamed = folder.path().join("elsewhere.gguf");
    std::fs::copy(&gguf, &renamed).unwrap();
    for (name, options) in [
        ("plain", small()),
        ("arm", Options { architecture: "aarch64".into(), vulkan: Vulkan::Without, ..small() }),
        ("array", Options { placement: Placement::Array, context: Some(50), ..small() }),
    ] {
        let plan = plan(folder.path(), name, &gguf, &options);
        let scratch = tempfile::tempdir().unwrap();
        // The model's name then is the plan's; its name now does not matter.
        let output = onebitc(&[&"verify-build", &plan, &renamed, &"--scratch", &scratch.path()]);
        let text = printed(&output);
        assert!(text.starts_with("the same: "), "{name}: {text}");
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "something is left");
    }
}

#[test]
fn the_first_difference_is_named() {
    let (folder, gguf, base) = base();
    let plan = PlanFile::open(&base).unwrap();
    let manifest = plan.manifest();
    let entry = &manifest.entries[0];
    let range = entry.ranges.iter().find(|range| range.region == 2).unwrap();
    let code = entry.offset as usize + range.start as usize;
    let weight = &manifest.weights[1];
    let region = format!("region {}", manifest.regions[2].name);
    let cases = [
        (SegmentKind::CpuCode, code, region.as_str()),
        (SegmentKind::Weights, weight.offset as usize, weight.tensors[0].as_str()),
        (SegmentKind::Tokenizer, plan.segment(SegmentKind::Tokenizer).len() - 1, "Tokenizer"),
    ];
    for (kind, at, place) in cases {
        let bad = folder.path().join("bad.plan");
        damaged(&base, &bad, kind, at);
        let output = onebitc(&[&"verify-build", &bad, &gguf]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(&format!("byte {at} of the segment {kind:?}")), "{text}");
        assert!(text.contains(place), "{place}: {text}");
    }
    let bad = folder.path().join("bad.plan");
    rewritten(&base, &bad, |manifest| manifest.regions[0].macs += 1);
    let output = onebitc(&[&"verify-build", &bad, &gguf]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("the manifest: `@token_embd"), "{text}");
}

#[test]
fn what_cannot_be_verified_is_an_error() {
    let (folder, gguf, base) = base();
    let other = TinyOptions { seed: 2, ..TinyOptions::default() };
    let other = model(folder.path(), "other", "llama", &other);
    let old = folder.path().join("old.plan");
    rewritten(&base, &old, |manifest| manifest.provenance.tool = "0.0.9".into());
    for (plan, gguf, word) in
        [(&base, &other, "another model"), (&old, &gguf, "onebitc 0.0.9"), (&base, &base, "GGUF")]
    {
        let output = onebitc(&[&"verify-build", plan, gguf]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(word), "{word}: {error}");
    }
}
