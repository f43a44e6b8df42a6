//! `onebitc diff`.

use std::collections::BTreeSet;
use std::process::ExitCode;

use onebit_plan::PlanFile;
use onebitc::inspect::diff;

use super::args::Diff;
use super::failure::Failure;
use super::{compared, print_found};

/// Prints what two plans differ in.
pub fn run(args: &Diff) -> ExitCode {
    compared(compare(args))
}

fn compare(args: &Diff) -> Result<ExitCode, Failure> {
    let (a, b) = (PlanFile::open(&args.a)?, PlanFile::open(&args.b)?);
    let ignored: BTreeSet<diff::Section> = args.ignore.iter().copied().collect();
    let found = diff::differences(&a, &b, &ignored);
    if args.json {
        print_found(&format!("{:#}\n", diff::json(&found, &ignored)))?;
    } else {
        print_found(&diff::text(&a, &b, &found, args.most))?;
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
