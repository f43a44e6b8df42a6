//! `onebit-rt bench`.

mod measure;
mod report;
mod ties;

use std::process::ExitCode;

use onebit_rt::bandwidth::read_bandwidth;
use onebit_rt::session::Session;

use self::measure::{Sizes, Test};
use self::report::Report;
use super::args::Bench;
use super::failure::Failure;
use super::load::{self, MemoryOf};

/// Measures, checks and reports. A test whose tokens are wrong has no figure and fails the command.
pub fn run(options: &Bench) -> Result<ExitCode, Failure> {
    let plan = load::open(&options.machine)?;
    let slots = options.batch.max(1);
    let mut loaded = load::load(&plan, &options.machine, slots)?;
    let tests = measure_all(&mut loaded.session, options)?;
    let report = Report {
        plan: &plan,
        device: loaded.device,
        threads: loaded.threads,
        read_bandwidth: match loaded.memory {
            MemoryOf::Processor => Some(read_bandwidth(loaded.threads)),
            MemoryOf::Graphics => None,
        },
        tests,
    };
    let printed = if options.json { report.print_json() } else { report.print_table() };
    let wrong: Vec<&str> = report.wrong().collect();
    // Wrong tokens fail the command even where nobody read the figures to their end.
    if wrong.is_empty() {
        return printed.map(|()| ExitCode::SUCCESS);
    }
    let message = format!("no figure for {}: the tokens are wrong", wrong.join(", "));
    Err(Failure::other(message, "report it with the plan's `onebitc inspect` output"))
}

fn measure_all(session: &mut Session, options: &Bench) -> Result<Vec<Test>, Failure> {
    let sizes = Sizes { repetitions: options.repetitions.get(), generate: options.n_gen };
    let mut tests = Vec::new();
    if options.n_prompt > 0 {
        tests.push(measure::prompt(session, sizes, options.n_prompt)?);
    }
    if options.n_gen > 0 {
        let (test, alone) = measure::decode(session, sizes, 1, None)?;
        tests.push(test);
        // Every sequence has a slot and a row of each step.
        let limits = session.limits();
        let batch = (options.batch.min(limits.slots) as usize).min(limits.max_rows);
        if batch > 1 {
            let first = alone.first().map(Vec::as_slice);
            tests.push(measure::decode(session, sizes, batch, first)?.0);
        }
    }
    Ok(tests)
}
