//! The walls of docs/ARCHITECTURE.md: which crate may import which.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Our crates and what of ours each may import. Tests may import more, see [`TEST_IMPORTS`].
const IMPORTS: &[(&str, &[&str])] = &[
    ("onebit-aie", &[]),
    ("onebit-plan", &[]),
    ("xrt-sys", &[]),
    ("onebit-ir", &[]),
    ("onebit-tokenizer", &[]),
    ("onebit-cpu", &["onebit-aie", "onebit-plan"]),
    ("onebit-aie-emu", &["onebit-aie"]),
    ("onebit-shaders", &["onebit-ir", "onebit-plan"]),
    ("onebit-vulkan", &["onebit-plan"]),
    ("onebit-models", &["onebit-ir", "onebit-tokenizer"]),
    (
        "onebitc",
        &[
            "onebit-aie",
            "onebit-cpu",
            "onebit-ir",
            "onebit-models",
            "onebit-plan",
            "onebit-shaders",
            "onebit-tokenizer",
        ],
    ),
    // onebit-aie reads xclbins, and the emulator is what tests of the NPU's back end run on.
    (
        "onebit-rt",
        &[
            "onebit-aie",
            "onebit-aie-emu",
            "onebit-cpu",
            "onebit-plan",
            "onebit-tokenizer",
            "onebit-vulkan",
            "xrt-sys",
        ],
    ),
];

/// Crates under tests/. They may import everything; only tests may import them.
const TEST_CRATES: &[&str] =
    &["onebit-e2e", "onebit-filetests", "onebit-test-support", "onebit-tidy", "xtask"];

/// What tests may import beyond [`IMPORTS`]: the oracles they compare with.
const TEST_IMPORTS: &[(&str, &[&str])] = &[
    ("onebit-cpu", &["onebit-ir"]),
    ("onebit-shaders", &["onebit-cpu", "onebit-vulkan"]),
    ("onebitc", &["onebit-rt"]),
    // Its tests turn its own features on.
    ("onebit-rt", &["onebit-rt", "onebitc", "onebit-ir", "onebit-models"]),
];

/// What must not be linked into the runtime, by the start of its name.
const NOT_IN_RUNTIME: &[&str] = &[
    "cranelift",
    "naga",
    "petgraph",
    "rspirv",
    "onebit-ir",
    "onebit-models",
    "onebit-shaders",
    "onebitc",
    "indicatif",
];

/// Everything that breaks a wall, from what `cargo metadata` says.
pub fn breaches(metadata: &Value) -> Vec<String> {
    let packages = Packages::read(metadata);
    let mut findings = packages.undeclared_imports();
    findings.extend(packages.compiler_in_runtime());
    findings
}

/// `cargo metadata` of this workspace, for the machine's own platform.
///
/// # Panics
/// When cargo fails.
pub fn metadata() -> Value {
    let version = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc -vV");
    let output = Command::new(env!("CARGO"))
        .current_dir(crate::tree::workspace())
        .args(["metadata", "--format-version", "1", "--filter-platform", host])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

/// One dependency edge.
struct Import<'a> {
    to: &'a str,
    /// Only tests need it.
    for_tests: bool,
}

struct Packages<'a> {
    /// Name by package id.
    names: BTreeMap<&'a str, &'a str>,
    /// Resolved dependencies by package id.
    imports: BTreeMap<&'a str, Vec<Import<'a>>>,
    ours: BTreeSet<&'a str>,
}

impl<'a> Packages<'a> {
    fn read(metadata: &'a Value) -> Self {
        let strings = |value: &'a Value| list(value).filter_map(Value::as_str);
        let names = list(&metadata["packages"])
            .filter_map(|package| Some((package["id"].as_str()?, package["name"].as_str()?)))
            .collect();
        let imports = list(&metadata["resolve"]["nodes"])
            .filter_map(|node| {
                Some((node["id"].as_str()?, list(&node["deps"]).filter_map(import).collect()))
            })
            .collect();
        Self { names, imports, ours: strings(&metadata["workspace_members"]).collect() }
    }

    fn undeclared_imports(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for id in &self.ours {
            let name = self.names[id];
            if TEST_CRATES.contains(&name) {
                continue;
            }
            let Some(allowed) = row(IMPORTS, name) else {
                findings.push(format!("{name}: not in the table of imports in tests/tidy"));
                continue;
            };
            for import in self.imports.get(id).into_iter().flatten() {
                let to = self.names[import.to];
                let oracle = row(TEST_IMPORTS, name).is_some_and(|row| row.contains(&to));
                let by_test = import.for_tests && (oracle || TEST_CRATES.contains(&to));
                if self.ours.contains(import.to) && !allowed.contains(&to) && !by_test {
                    findings.push(format!("{name} must not import {to}"));
                }
            }
        }
        findings
    }

    fn compiler_in_runtime(&self) -> Vec<String> {
        let Some(runtime) = self.ours.iter().find(|id| self.names[*id] == "onebit-rt") else {
            return vec!["onebit-rt: not in the workspace".into()];
        };
        let mut reached = BTreeSet::new();
        let mut waiting = vec![*runtime];
        while let Some(id) = waiting.pop() {
            if reached.insert(id) {
                let imports = self.imports.get(id).into_iter().flatten();
                waiting.extend(imports.filter(|import| !import.for_tests).map(|import| import.to));
            }
        }
        let names = reached.into_iter().map(|id| self.names[id]);
        let forbidden =
            names.filter(|name| NOT_IN_RUNTIME.iter().any(|start| name.starts_with(start)));
        forbidden.map(|name| format!("onebit-rt links {name}")).collect()
    }
}

fn row(table: &[(&str, &'static [&'static str])], name: &str) -> Option<&'static [&'static str]> {
    table.iter().find(|(crate_name, _)| *crate_name == name).map(|(_, imports)| *imports)
}

/// An edge of cargo's graph; its kind is null for normal, else `dev` or `build`.
fn import(dependency: &Value) -> Option<Import<'_>> {
    let for_tests = list(&dependency["dep_kinds"]).all(|kind| kind["kind"] == "dev");
    Some(Import { to: dependency["pkg"].as_str()?, for_tests })
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn finds_forbidden_imports_direct_and_through_others() {
        let edge = |to: &str, kind: Value| json!({"pkg": to, "dep_kinds": [{"kind": kind}]});
        let metadata = json!({
            "packages": [
                {"id": "r", "name": "onebit-rt"}, {"id": "c", "name": "onebitc"},
                {"id": "p", "name": "onebit-plan"}, {"id": "g", "name": "petgraph"},
                {"id": "n", "name": "new"},
            ],
            "workspace_members": ["r", "c", "p", "n"],
            "resolve": {"nodes": [
                {"id": "r", "deps": [edge("c", json!("dev")), edge("p", Value::Null)]},
                {"id": "p", "deps": [edge("g", Value::Null), edge("c", json!("dev"))]},
            ]},
        });
        let expected = [
            "new: not in the table of imports in tests/tidy",
            "onebit-plan must not import onebitc",
            "onebit-rt links petgraph",
        ];
        assert_eq!(breaches(&metadata), expected);
    }
}
