//! `onebit-rt doctor`.

use std::process::ExitCode;

use onebit_rt::doctor::{self, Finding, Status};
use onebit_rt::machine::Roots;

use super::failure::Failure;
use super::{args, screen};

/// Prints the findings. Exit code 0 means that plans can run on the CPU; all else is optional.
pub fn run(options: &args::Doctor) -> Result<ExitCode, Failure> {
    let report = doctor::examine(&Roots::system());
    if options.json {
        let text = serde_json::to_string_pretty(&report);
        screen::found(&(text.map_err(|error| Failure::output(error.into()))? + "\n"))?;
    } else {
        let sections = report.sections();
        let text: String = sections
            .iter()
            .map(|(title, findings)| format!("{title}\n{}", section(findings)))
            .collect();
        screen::found(&text)?;
    }
    Ok(if report.runs() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn section(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { what, status, found, remedy } in findings {
        let status = match status {
            Status::Ok => "ok",
            Status::Advice => "advice",
            Status::Missing => "missing",
            Status::Unknown => "unknown",
        };
        text += &format!("  {status:<8} {what:<12} {found}\n");
        if let Some(remedy) = remedy {
            text += &format!("           {:<12} help: {remedy}\n", "");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_columns_with_remedies_below() {
        let finding = |what, status, found: &str, remedy: Option<&str>| Finding {
            what,
            status,
            found: found.into(),
            remedy: remedy.map(str::to_owned),
        };
        let findings = [
            finding("memory", Status::Ok, "24 GiB", None),
            finding("device", Status::Missing, "none", Some("buy one")),
            finding("firmware", Status::Unknown, "no device", None),
        ];
        let expected = "  ok       memory       24 GiB\n  missing  device       none\n                        \
                        help: buy one\n  unknown  firmware     no device\n";
        assert_eq!(section(&findings), expected);
    }
}
