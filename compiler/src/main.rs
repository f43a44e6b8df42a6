//! The `onebitc` program: arguments, screen and exit codes. The work is in the library.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::run(cli::args::Arguments::parse()) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
