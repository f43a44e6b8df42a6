//! `onebitc inspect`.

use onebit_plan::PlanFile;
use onebit_plan::trust::{Trust, TrustedKeys};
use onebitc::inspect::{dot, html, json, listing};

use super::args::{Inspect, Keys};
use super::failure::Failure;
use super::{keys, print};

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
    let signature = signature(&plan, &args.keys);
    print(&format!("{}{signature}\n", plan.dump()))
}

/// A line about the signature. Showing a plan runs nothing of it, so nothing is refused here.
fn signature(plan: &PlanFile, keys: &Keys) -> String {
    let trusted = keys::store(keys).and_then(|store| Ok(store.keys()?));
    let (keys, unread) = match trusted {
        Ok(keys) => (keys, String::new()),
        Err(failure) => (TrustedKeys::default(), format!(" ({failure})")),
    };
    match plan.trust(&keys) {
        Trust::Unsigned => "signature: none".into(),
        Trust::UnknownKey(id) => format!("signature: by key {id}, not trusted here{unread}"),
        Trust::Invalid(id) => format!("signature: by key {id}, INVALID: not of this plan"),
        Trust::Trusted(id) => format!("signature: by key {id}, valid and trusted here"),
    }
}
