//! What a reader needs to know of the machine and the programs to judge a figure.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{capture, workspace};

/// A markdown list: processor, memory, kernel, compiler and versions of both sides.
pub fn describe(peer: &Path) -> Result<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
    let memory = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let model = field(&cpu, "model name").unwrap_or("unknown processor");
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let memory = field(&memory, "MemTotal").unwrap_or("unknown");
    let commit = capture(Command::new("git").current_dir(workspace()).args([
        "rev-parse",
        "--short=10",
        "HEAD",
    ]));
    let rustc = capture(Command::new("rustc").arg("--version")).unwrap_or_default();
    let lines = [
        format!("* {model}, {cores} logical cores, {memory} of memory, {}", vector_sets(&cpu)),
        format!("* Linux {}, {}", kernel.trim(), rustc.trim()),
        format!("* onebit at commit {}", commit.as_deref().unwrap_or("unknown").trim()),
        format!("* llama.cpp {}", peer_version(peer)),
    ];
    Ok(lines.join("\n") + "\n")
}

/// The value of `name : value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line =
        text.lines().find(|line| line.split(':').next().is_some_and(|n| n.trim() == name))?;
    Some(line.split_once(':')?.1.trim())
}

/// The vector instruction sets that decide which kernels run.
fn vector_sets(cpuinfo: &str) -> String {
    let flags: Vec<&str> = field(cpuinfo, "flags").unwrap_or("").split_whitespace().collect();
    let known = ["avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16"];
    let present: Vec<&str> = known.into_iter().filter(|name| flags.contains(name)).collect();
    if present.is_empty() { "no AVX2".into() } else { present.join(" ") }
}

fn peer_version(peer: &Path) -> String {
    let output = Command::new(peer.join("llama-bench")).arg("--version").output();
    let Ok(output) = output else { return "unknown".into() };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    text.lines().find(|line| line.contains("version")).unwrap_or("unknown").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_vector_sets_of_a_processor() {
        let cpuinfo = "model name\t: X 1\nflags\t\t: fpu avx2 fma avx512f avx512_vnni\n";
        assert_eq!(field(cpuinfo, "model name"), Some("X 1"));
        assert_eq!(vector_sets(cpuinfo), "avx2 fma avx512f avx512_vnni");
        assert_eq!(vector_sets("flags : fpu"), "no AVX2");
    }
}
