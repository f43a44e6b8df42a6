//! `onebitc inspect`.

use onebit_plan::PlanFile;
use onebitc::inspect::{dot, html, json, listing};

use super::args::Inspect;
use super::failure::Failure;
use super::print;

/// Prints what a plan holds, in the form that was asked for.
pub fn run(args: &Inspect) -> Result<(), Failure> {
    let plan = PlanFile::open(&args.plan)?;
    if let Some(path) = &args.html {
        return std::fs::write(path, html::page(&plan))
            .map_err(|error| Failure::new(format!("cannot write to {}: {error}", path.display())));
    }
    if args.json {
        let value = json::plan(&plan).map_err(Failure::new)?;
        return print(&format!("{value:#}\n"));
    }
    if args.dot {
        return print(&dot::graph(plan.manifest()));
    }
    if !args.listing.is_empty() {
        let regions = listing::regions(plan.manifest(), &args.listing).map_err(|error| {
            Failure::Error { message: error.to_string(), help: Some(error.help()) }
        })?;
        return print(&listing::listing(&plan, &regions));
    }
    print(&plan.dump())
}
