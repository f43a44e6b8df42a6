//! `onebit-rt doctor`.

use std::io::{self, Write};
use std::process::ExitCode;

use onebit_rt::doctor::{self, Finding, Status};
use onebit_rt::machine::Roots;

use super::args;
use super::failure::Failure;

/// Prints the findings. Exit code 0 means that plans can run on the CPU; all else is optional.
pub fn run(options: &args::Doctor) -> Result<ExitCode, Failure> {
    let report = doctor::examine(&Roots::system());
    let mut out = io::stdout().lock();
    if options.json {
        serde_json::to_writer_pretty(&mut out, &report)
            .map_err(|error| Failure::output(error.into()))?;
        writeln!(out).map_err(Failure::output)?;
    } else {
        let sections = report.sections();
        let text: String = sections
            .iter()
            .map(|(title, findings)| format!("{title}\n{}", section(findings)))
            .collect();
        out.write_all(text.as_bytes()).map_err(Failure::output)?;
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
