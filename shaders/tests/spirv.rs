//! Every kernel compiles, asks for features that the runtime knows, and passes `spirv-val`.

#[path = "common/catalogue.rs"]
mod catalogue;

use std::io::ErrorKind;
use std::process::Command;

use onebit_shaders::{Kernel, Module, compile};

#[test]
fn kernels_compile_and_are_valid() {
    let kernels = catalogue::kernels();
    let folder = tempfile::tempdir().expect("a folder");
    let mut findings = Vec::new();
    for kernel in &kernels {
        let module = match compile(kernel) {
            Ok(module) => module,
            Err(e) => {
                findings.push(format!("{e}\n{}", numbered(&kernel.wgsl)));
                continue;
            }
        };
        match validate(folder.path(), kernel, &module) {
            Verdict::Valid => {}
            Verdict::Invalid(text) => findings.push(format!("{}: {text}", kernel.name)),
            Verdict::Skipped => {
                println!("skipped: there is no spirv-val in the path");
                break;
            }
        }
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

#[test]
fn names_tell_kernels_apart() {
    let kernels = catalogue::kernels();
    for (i, kernel) in kernels.iter().enumerate() {
        for other in &kernels[i + 1..] {
            assert_ne!(kernel.name, other.name);
        }
    }
}

enum Verdict {
    Valid,
    Invalid(String),
    Skipped,
}

fn validate(folder: &std::path::Path, kernel: &Kernel, module: &Module) -> Verdict {
    let path = folder.join(format!("{}.spv", kernel.name));
    let bytes: Vec<u8> = module.words.iter().flat_map(|word| word.to_le_bytes()).collect();
    std::fs::write(&path, bytes).expect("a file");
    match Command::new("spirv-val").args(["--target-env", "vulkan1.3"]).arg(&path).output() {
        Ok(output) if output.status.success() => Verdict::Valid,
        Ok(output) => Verdict::Invalid(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(e) if e.kind() == ErrorKind::NotFound => Verdict::Skipped,
        Err(e) => Verdict::Invalid(e.to_string()),
    }
}

fn numbered(text: &str) -> String {
    text.lines().enumerate().map(|(i, line)| format!("{:4} {line}\n", i + 1)).collect()
}
