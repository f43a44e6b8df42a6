//! The program: files in, files out, text that names what is wrong.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::*;

const WORDS: u32 = 64;

/// Writes a loopback's files into `folder`.
fn files(folder: &Path, lock: i32) {
    let plain = Bd { base: OWN, length: WORDS, ..Bd::default() };
    let mut design = Design::new(1);
    design.loopback(0, plain, Bd { dims: [(8, 8), (1, 0), (0, 0), (0, 0)], ..plain }, 1);
    if lock > 1 {
        design.lock(0, 0, 0);
    }
    let mut stream = Stream::default();
    stream.send(0, WORDS).take(0, WORDS);
    for (name, content) in [
        ("design.xclbin", design.xclbin()),
        ("stream.bin", stream.bytes()),
        ("in.bin", bytes(&counting(WORDS))),
    ] {
        std::fs::write(folder.join(name), content).unwrap();
    }
}

fn program(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onebit-aie-emu"));
    command.current_dir(folder).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const RUN: [&str; 9] = [
    "run",
    "--xclbin",
    "design.xclbin",
    "--txn",
    "stream.bin",
    "--arg",
    "in.bin",
    "--arg-out",
    "out.bin:256",
];

#[test]
fn a_run_writes_its_output_and_its_trace() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path(), 1);
    let more = ["--trace", "trace.json", "--seed", "7", "--latency", "checked", "--strict"];
    let output = program(folder.path(), &[&RUN[..], &more].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("modelled cycles"));
    let result = words(&std::fs::read(folder.path().join("out.bin")).unwrap());
    let transposed: Vec<u32> = (0..WORDS).map(|i| i % 8 * 8 + i / 8 + 1).collect();
    assert_eq!(result, transposed);
    let trace = std::fs::read(folder.path().join("trace.json")).unwrap();
    let trace: serde_json::Value = serde_json::from_slice(&trace).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    // Two shim channels and two of the memory tile, a descriptor each.
    assert_eq!(events.len(), 4);
    assert!(events.iter().all(|event| event["dur"].as_u64() >= Some(u64::from(WORDS))));
}

#[test]
fn a_fault_is_an_error_that_names_the_place() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path(), 2);
    let output = program(folder.path(), &RUN);
    assert!(!output.status.success());
    let message = text(&output.stderr);
    assert!(message.contains("deadlock") && message.contains("tile (0,1) S2MM 0"), "{message}");
    assert!(message.lines().last().unwrap().starts_with("help: follow who waits"), "{message}");
    assert!(!folder.path().join("out.bin").exists());
    for arguments in [&["dump", "none.bin"][..], &["dump", "in.bin"], &["disasm", "in.bin"]] {
        let message = text(&program(folder.path(), arguments).stderr);
        let lines: Vec<&str> = message.lines().collect();
        assert!(lines[0].starts_with(&format!("error: {}: ", arguments[1])), "{message}");
        assert!(lines.last().unwrap().starts_with("help: give "), "{message}");
    }
    let output = program(folder.path(), &["dump", "in.bin"]);
    assert!(!output.status.success() && text(&output.stderr).starts_with("error: in.bin: xclbin"));
    let bad = ["run", "--xclbin", "in.bin", "--txn", "stream.bin"];
    let output = program(folder.path(), &bad);
    assert!(!output.status.success() && text(&output.stderr).starts_with("error: in.bin: xclbin"));
}

#[test]
fn a_design_and_a_stream_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path(), 1);
    let output = text(&program(folder.path(), &["dump", "design.xclbin"]).stdout);
    for line in [
        "  tile (0,1) MM2S 0 -> tile (0,0) S2MM 0",
        "  lock 0: 1",
        "  descriptor 1: 64 words at byte 0x80000, 8 by 8, acquires 65 (-1), releases 64 (+1)",
        "  S2MM 0: descriptor 0 x 1",
    ] {
        assert!(output.lines().any(|found| found == line), "{line}\n{output}");
    }
    let output = text(&program(folder.path(), &["disasm", "stream.bin"]).stdout);
    assert!(output.contains("AddressPatch") && output.lines().count() == 10, "{output}");
}

#[test]
fn outputs_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path(), 1);
    for (output, message) in [
        (":256", "no file name"),
        ("out.bin:1099511627777", "at most 1099511627776 bytes"),
        ("out.bin:18446744073709551615", "at most 1099511627776 bytes"),
        ("out.bin:many", "bytes"),
        ("out.bin", "FILE:BYTES"),
    ] {
        let found = program(folder.path(), &[&RUN[..8], &[output]].concat());
        let text = text(&found.stderr);
        assert_eq!(found.status.code(), Some(2), "{output}: {text}");
        assert!(text.contains(message), "{output}: {text}");
    }
}

/// A file is whole or as it was, and nothing else is left beside it.
#[test]
fn outputs_are_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path(), 1);
    std::fs::write(folder.path().join("old.bin"), b"old").unwrap();
    std::fs::hard_link(folder.path().join("old.bin"), folder.path().join("out.bin")).unwrap();
    assert!(program(folder.path(), &RUN).status.success());
    assert_eq!(std::fs::read(folder.path().join("out.bin")).unwrap().len(), 256);
    // Written in place, the other name of the old file would show it.
    assert_eq!(std::fs::read(folder.path().join("old.bin")).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 5);
    std::fs::create_dir(folder.path().join("taken")).unwrap();
    let found = program(folder.path(), &[&RUN[..8], &["taken:256"]].concat());
    assert!(!found.status.success() && text(&found.stderr).starts_with("error: taken: "));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 6);
}
