//! How long a check takes, and that it does not depend on the plan's size.
//!
//! `check_speed model.plan folder 5` writes into the folder a plan with the manifest of `model.plan`
//! and a hole of 5 GiB for weights, and times reading both plans' headers, whole checks by the
//! library, and the program beside it: medians, in one run. The program's exit code is held to the
//! library's verdict every time, and both plans to the same verdict.

#[path = "../tests/common/rewrite.rs"]
mod rewrite;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use onebit_plan::PlanHead;
use onebit_rt::check::{Ask, Target, Verdict, check};
use rewrite::hollow;

const RUNS: usize = 21;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, plan, folder, gibibytes] = arguments.as_slice() else {
        return Err("check_speed PLAN FOLDER GIBIBYTES".into());
    };
    let (small, large) = (PathBuf::from(plan), Path::new(folder).join("hollow.plan"));
    hollow(&small, &large, gibibytes.parse::<u64>()? << 30);
    let program = std::env::current_exe()?.with_file_name("../onebit-rt");
    let verdict = check(&small, &Ask::default())?.verdict;
    let code = match verdict {
        Verdict::Runs => 0,
        Verdict::Slower => 3,
        Verdict::Cannot => 4,
    };
    println!("verdict of both: {verdict:?}");
    println!(
        "{:>12} {:>10} {:>10} {:>10} {:>12}  plan",
        "bytes", "head ms", "cpu ms", "all ms", "program ms"
    );
    for path in [&small, &large] {
        let bytes = PlanHead::open(path)?.file_length();
        if check(path, &Ask::default())?.verdict != verdict {
            return Err("the plans have different verdicts".into());
        }
        let head = median(|| PlanHead::open(path).map(drop).map_err(Into::into))?;
        let cpu = Ask { targets: vec![Target::Cpu], ..Ask::default() };
        let cpu = median(|| check(path, &cpu).map(drop).map_err(Into::into))?;
        let all = median(|| check(path, &Ask::default()).map(drop).map_err(Into::into))?;
        let whole = median(|| {
            let mut command = Command::new(&program);
            let output = command.arg("check").arg(path).arg("--allow-untrusted").output()?;
            match output.status.code() {
                Some(found) if found == code => Ok(()),
                found => Err(format!("exit code {found:?} instead of {code}").into()),
            }
        })?;
        println!(
            "{bytes:>12} {head:>10.2} {cpu:>10.2} {all:>10.2} {whole:>12.2}  {}",
            path.display()
        );
    }
    std::fs::remove_file(large)?;
    Ok(())
}

/// Milliseconds.
fn median(run: impl Fn() -> Result<(), Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[RUNS / 2])
}
