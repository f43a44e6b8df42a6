//! `onebitc inspect`.

use onebit_plan::PlanFile;

use super::args::Inspect;
use super::failure::Failure;
use super::print;

/// Prints what a plan holds.
pub fn run(args: &Inspect) -> Result<(), Failure> {
    print(&PlanFile::open(&args.plan)?.dump())
}
