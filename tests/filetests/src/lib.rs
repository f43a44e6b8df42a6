//! Tests that are files: `cases/**/*.oir`, one idea each. The first line, `; test <stage> <argument>`,
//! names an entry of [`STAGES`]; a new stage is one file and one line here.
//!
//! A stage either judges a case by itself or gives lines, which must be the case's `; check:` lines.
#![forbid(unsafe_code)]

mod case;
mod stage;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use libtest_mimic::{Failed, Trial};

pub use case::Case;
pub use stage::run::{RunCase, TestWeights};

/// A kind of test.
pub struct Stage {
    /// As in `; test <name>`.
    pub name: &'static str,
    /// Runs a case; the error is for people.
    pub run: fn(&Case) -> Result<Outcome, String>,
    /// Numbers in lines may differ by so much times the larger of 1 and the expected magnitude.
    pub tolerance: f64,
}

/// What came of a case that could be run.
pub enum Outcome {
    /// The case is as it says.
    Passed,
    /// Lines to compare with the case's `; check:` lines.
    Lines(Vec<String>),
}

/// Every stage.
pub const STAGES: &[Stage] = &[
    Stage { name: "verify", run: stage::verify::run, tolerance: 0.0 },
    Stage { name: "roundtrip", run: stage::roundtrip::run, tolerance: 0.0 },
    // Sums of a few f32 products whose order is the driver's; exp and tanh of the platform.
    Stage { name: "pass", run: stage::pass::run, tolerance: 0.0 },
    Stage { name: "schedule", run: stage::schedule::run, tolerance: 0.0 },
    Stage { name: "run", run: stage::run::run, tolerance: 1e-5 },
];

/// What to do about lines that differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bless {
    /// Fail.
    Compare,
    /// Write the new ones into the case.
    Rewrite,
}

/// A test for every case under `folder`, and one that every op has a run case.
///
/// # Errors
/// If the folder cannot be read.
pub fn trials(folder: &Path, bless: Bless) -> io::Result<Vec<Trial>> {
    let mut paths = Vec::new();
    collect(folder, &mut paths)?;
    paths.sort();
    let trial = |path: &PathBuf| {
        let name = path.strip_prefix(folder).unwrap_or(path).with_extension("");
        let path = path.clone();
        Trial::test(name.display().to_string(), move || Ok(run_file(&path, bless)?))
    };
    let mut trials: Vec<Trial> = paths.iter().map(trial).collect();
    trials.push(Trial::test("every_op_has_a_run_case", move || every_op_runs(&paths)));
    Ok(trials)
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "oir") {
            paths.push(path);
        }
    }
    Ok(())
}

fn run_file(path: &Path, bless: Bless) -> Result<(), String> {
    let text = fs::read_to_string(path).map_err(|e| e.to_string())?;
    let case = Case::new(text)?;
    let Some(stage) = STAGES.iter().find(|stage| stage.name == case.stage()) else {
        let names: Vec<&str> = STAGES.iter().map(|stage| stage.name).collect();
        return Err(format!("no stage `{}`; there are {}", case.stage(), names.join(", ")));
    };
    let Outcome::Lines(found) = (stage.run)(&case)? else { return Ok(()) };
    let expected = case.checks();
    let same = expected.len() == found.len()
        && expected.iter().zip(&found).all(|(e, f)| matches(e, f, stage.tolerance));
    match bless {
        _ if same => Ok(()),
        Bless::Rewrite => fs::write(path, case.blessed(&found)).map_err(|e| e.to_string()),
        Bless::Compare => Err(format!(
            "expected:\n{}\nfound:\n{}\nBLESS=1 writes what was found into the case",
            expected.join("\n"),
            found.join("\n")
        )),
    }
}

/// Whether two lines agree word for word; words that are numbers, within `tolerance`.
fn matches(expected: &str, found: &str, tolerance: f64) -> bool {
    let mut found = found.split_whitespace();
    let same = expected.split_whitespace().all(|expected| {
        found.next().is_some_and(|found| {
            let close = match (expected.parse::<f64>(), found.parse::<f64>()) {
                (Ok(e), Ok(f)) => (e - f).abs() <= tolerance * e.abs().max(1.0),
                _ => false,
            };
            close || expected == found
        })
    });
    same && found.next().is_none()
}

fn every_op_runs(paths: &[PathBuf]) -> Result<(), Failed> {
    let mut missing: BTreeSet<&str> = onebit_ir::text::op_names().collect();
    for path in paths {
        let case = Case::new(fs::read_to_string(path)?)?;
        if case.stage() == "run" {
            let (graph, _) = case.graph()?;
            for value in graph.values() {
                missing.remove(graph.op(value).name());
            }
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(format!("no run case for {missing:?}").into()) }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn lines_agree_within_the_tolerance_of_their_numbers() {
        let cases = [
            ("step 0: 1 2 | 3", "step 0: 1.000001 2 | 3", true),
            ("step 0: 1 2 | 3", "step 0: 1.1 2 | 3", false),
            ("1000", "1000.005", true),
            ("0", "0.005", false),
            ("1 2", "1 2 3", false),
            ("1 2 3", "1 2", false),
            ("inf", "inf", true),
            ("NaN", "1", false),
        ];
        for (expected, found, same) in cases {
            assert_eq!(matches(expected, found, 1e-5), same, "{expected} / {found}");
        }
    }
}
