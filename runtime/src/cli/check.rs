//! `onebit-rt check`.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::process::ExitCode;

use onebit_rt::check::{self, Ask, Check, Outcome, Report, Target, Verdict};
use onebit_rt::driver::vulkan::{Choice, Matrices};

use super::args::{self, Device};
use super::failure::Failure;
use super::trust;

/// The plan runs, slower than it could.
const SLOWER: u8 = 3;
/// The plan cannot run.
const CANNOT: u8 = 4;

/// Prints what the plan needs beside what there is. Exit code 0 runs, 3 runs slower, 4 cannot run.
pub fn run(options: &args::Check) -> Result<ExitCode, Failure> {
    let every = || vec![Target::Cpu, Target::Vulkan, Target::Npu];
    let keys = match options.allow_untrusted {
        true => None,
        false => Some(trust::keys(&options.keys)?),
    };
    let ask = Ask {
        keys,
        targets: options.device.map_or_else(every, |device| vec![target(device)]),
        gpu: options.gpu.as_deref().map_or(Choice::Best, Choice::parse),
        matrices: match options.matrices {
            None | Some(args::Matrices::Auto) => Matrices::Auto,
            Some(args::Matrices::Never) => Matrices::Never,
        },
        context: options.ctx.map(Into::into),
        slots: options.slots.into(),
        threads: options.threads.map(NonZeroUsize::get),
    };
    let report = check::check(&options.plan, &ask)?;
    let mut out = io::stdout().lock();
    if options.json {
        serde_json::to_writer_pretty(&mut out, &report)
            .map_err(|error| Failure::output(error.into()))?;
        writeln!(out).map_err(Failure::output)?;
    } else {
        out.write_all(text(&report).as_bytes()).map_err(Failure::output)?;
    }
    Ok(match report.verdict {
        Verdict::Runs => ExitCode::SUCCESS,
        Verdict::Slower => ExitCode::from(SLOWER),
        Verdict::Cannot => ExitCode::from(CANNOT),
    })
}

fn target(device: Device) -> Target {
    match device {
        Device::Cpu => Target::Cpu,
        Device::Vulkan => Target::Vulkan,
        Device::Npu => Target::Npu,
        Device::NpuEmu => Target::NpuEmu,
    }
}

fn text(report: &Report) -> String {
    let mut text = String::from("plan");
    if !report.model.is_empty() {
        text += &format!(" of {}", report.model);
    }
    text += "\n";
    report.plan.iter().for_each(|check| line(&mut text, check));
    for device in &report.devices {
        let name = device.name.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
        text += &format!("{}{name}: {}\n", device.target.name(), words(device.verdict));
        device.checks.iter().for_each(|check| line(&mut text, check));
    }
    let best = report.devices.iter().min_by_key(|device| device.verdict);
    let place = match (best, report.verdict) {
        (Some(device), Verdict::Runs | Verdict::Slower) => {
            format!(", with --device {}", device.target.name())
        }
        _ => String::new(),
    };
    text + &format!("{}{place}\n", words(report.verdict))
}

fn words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Runs => "runs here",
        Verdict::Slower => "runs slower than it could",
        Verdict::Cannot => "cannot run",
    }
}

fn line(text: &mut String, check: &Check) {
    let Check { what, needed, found, outcome, remedy } = check;
    let status = match outcome {
        Outcome::Met => "ok",
        Outcome::Slower => "slower",
        Outcome::Unmet => "cannot",
    };
    *text += &format!("  {status:<7} {what:<13} needs {needed}; found {found}\n");
    if let Some(remedy) = remedy {
        *text += &format!("          help: {remedy}\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onebit_rt::check::DeviceReport;

    #[test]
    fn every_line_has_both_values_and_the_last_says_where() {
        let met = Check::met("memory", "1 GiB", "2 GiB");
        let slower = Check::slower("kernels", "avx512", "avx2", "another CPU");
        let unmet = Check::unmet("device", "an NPU", "none", "buy one");
        let device = |target, verdict, checks| DeviceReport { target, name: None, checks, verdict };
        let report = Report {
            model: "tiny".into(),
            plan: vec![met.clone()],
            devices: vec![
                device(Target::Npu, Verdict::Cannot, vec![unmet]),
                device(Target::Cpu, Verdict::Slower, vec![met, slower]),
            ],
            verdict: Verdict::Slower,
        };
        let expected = "plan of tiny\n  ok      memory        needs 1 GiB; found 2 GiB\n\
                        npu: cannot run\n  cannot  device        needs an NPU; found none\n          \
                        help: buy one\ncpu: runs slower than it could\n  ok      memory        \
                        needs 1 GiB; found 2 GiB\n  slower  kernels       needs avx512; found avx2\n          \
                        help: another CPU\nruns slower than it could, with --device cpu\n";
        assert_eq!(text(&report), expected);
    }
}
