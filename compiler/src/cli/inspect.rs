//! `onebitc inspect`.

use onebit_plan::PlanFile;
use onebit_plan::trust::{Trust, TrustedKeys};

use super::args::{Inspect, Keys};
use super::failure::Failure;
use super::{keys, print};

/// Prints what a plan holds.
pub fn run(args: &Inspect) -> Result<(), Failure> {
    let plan = PlanFile::open(&args.plan)?;
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
