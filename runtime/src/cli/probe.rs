//! `onebit-rt probe`.

use std::io::{self, Write};
use std::process::ExitCode;

use onebit_rt::machine::Roots;
use onebit_rt::probe::{Speed, probe};

use super::args;
use super::failure::Failure;

/// Prints the description of this machine.
pub fn run(options: &args::Probe) -> Result<ExitCode, Failure> {
    let speed = if options.no_measure { Speed::Unknown } else { Speed::Measure };
    let description = probe(&Roots::system(), speed)?;
    let text = description.to_text().map_err(|error| {
        Failure::other(error.to_string(), "report it with the output of `onebit-rt doctor --json`")
    })?;
    io::stdout().write_all(text.as_bytes()).map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}
