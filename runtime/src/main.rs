//! The `onebit-rt` program: arguments, screen and exit codes. The work is in the library.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let clock = cli::clock::Clock::start();
    let arguments = cli::args::Arguments::parse();
    match cli::run(arguments, &clock) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
