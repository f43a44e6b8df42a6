//! Whether a plan runs on this machine, told from its header and manifest alone.
//!
//! For each device there is a list of [`Check`]s: what the plan needs, what there is, and what can
//! be done about the difference. A load refuses a plan by the same checks, made by the same
//! functions, so that what is said beforehand and what happens cannot differ. What a header cannot
//! tell is not told: whether segments are undamaged, and whether memory that is free now is free
//! then.

mod report;

use serde::Serialize;

pub use report::{Ask, DeviceReport, Report, Target, check};

use crate::Error;

/// How a need is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As well as the plan can use it.
    Met,
    /// The plan runs, slower than on a machine that has what is needed.
    Slower,
    /// The plan does not run.
    Unmet,
}

/// What a plan comes to on a device, or on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Runs,
    Slower,
    Cannot,
}

/// One thing that a plan needs, beside what there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// `memory`
    pub what: &'static str,
    pub needed: String,
    pub found: String,
    pub outcome: Outcome,
    /// What the person at the terminal can do: a sentence without a final full stop. None where
    /// the need is met.
    pub remedy: Option<String>,
}

impl Check {
    /// A need that is met.
    pub fn met(what: &'static str, needed: impl Into<String>, found: impl Into<String>) -> Self {
        let (needed, found) = (needed.into(), found.into());
        Self { what, needed, found, outcome: Outcome::Met, remedy: None }
    }

    /// A need without which the plan runs slower.
    pub fn slower(
        what: &'static str,
        needed: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (outcome, remedy) = (Outcome::Slower, Some(remedy.into()));
        Self { what, needed: needed.into(), found: found.into(), outcome, remedy }
    }

    /// A need without which the plan does not run.
    pub fn unmet(
        what: &'static str,
        needed: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (outcome, remedy) = (Outcome::Unmet, Some(remedy.into()));
        Self { what, needed: needed.into(), found: found.into(), outcome, remedy }
    }
}

/// The worst of all checks.
pub fn verdict(checks: &[Check]) -> Verdict {
    match checks.iter().map(|check| check.outcome).max() {
        None | Some(Outcome::Met) => Verdict::Runs,
        Some(Outcome::Slower) => Verdict::Slower,
        Some(Outcome::Unmet) => Verdict::Cannot,
    }
}

/// Refuses what does not run: for loads.
///
/// # Errors
/// [`Error::Requirement`] for the first check that is not met.
pub fn refuse(checks: &[Check]) -> Result<(), Error> {
    let Some(check) = checks.iter().find(|check| check.outcome == Outcome::Unmet) else {
        return Ok(());
    };
    Err(Error::Requirement {
        needs: check.needed.clone(),
        has: check.found.clone(),
        remedy: check.remedy.clone().unwrap_or_default(),
    })
}

/// Bytes for people: `1.5 GiB`
pub fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} bytes"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_check_decides() {
        let met = Check::met("a", "1", "2");
        let slower = Check::slower("b", "2", "1", "more");
        let unmet = Check::unmet("c", "3", "0", "another");
        assert_eq!(verdict(&[]), Verdict::Runs);
        assert_eq!(verdict(std::slice::from_ref(&met)), Verdict::Runs);
        assert_eq!(verdict(&[met.clone(), slower.clone()]), Verdict::Slower);
        assert_eq!(verdict(&[unmet.clone(), slower.clone()]), Verdict::Cannot);
        assert!(refuse(&[met, slower.clone()]).is_ok());
        let error = refuse(&[slower, unmet]).unwrap_err();
        assert_eq!(error.to_string(), "the plan needs 3, this machine has 0");
        assert_eq!(error.help(), "another");
    }

    #[test]
    fn bytes_have_units() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1536, "1.5 KiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(bytes_text(bytes), text);
        }
    }
}
