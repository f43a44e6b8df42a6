//! One file a command, and what they share: opening models and printing.

pub mod args;
mod compile;
mod diff;
mod dump;
mod failure;
mod inspect;
mod keys;
mod tokenize;
mod verify;
mod verify_build;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use onebit_models::gguf::GgufError;
use onebit_models::{Model, ModelError};

use self::args::{Arguments, Command};
use self::failure::Failure;

/// Runs the command that was asked for.
pub fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let done = |()| ExitCode::SUCCESS;
    match arguments.command {
        Command::Compile(options) => compile::run(&options).map(done),
        Command::Keygen(options) => keys::keygen(&options).map(done),
        Command::Sign(options) => keys::sign(&options).map(done),
        Command::Dump(options) => dump::run(&options).map(done),
        Command::Inspect(options) => inspect::run(&options).map(done),
        Command::Diff(options) => Ok(diff::run(&options)),
        Command::VerifyBuild(options) => Ok(verify_build::run(&options)),
        Command::Tokenize(options) => tokenize::run(&options).map(done),
    }
}

/// Opens a model; what is wrong inside the file is said with the file's name.
fn open_model(path: &Path) -> Result<Model, Failure> {
    Model::open(path).map_err(|error| match error {
        ModelError::Gguf(GgufError::Open { .. }) => Failure::new(error),
        error => Failure::new(format!("{}: {error}", path.display())),
    })
}

/// Exit code of comparing commands when there was nothing to compare.
const TROUBLE: u8 = 2;

/// The exit code of a command that compares: 0 for the same, 1 for differences, and another for
/// errors, so that a script can tell them apart.
fn compared(result: Result<ExitCode, Failure>) -> ExitCode {
    result.unwrap_or_else(|failure| {
        failure.report();
        ExitCode::from(TROUBLE)
    })
}

/// Prints what a comparison found. Its exit code tells the same, and does so too when whoever read
/// the text has gone before its end.
fn print_found(text: &str) -> Result<(), Failure> {
    match print(text) {
        Err(Failure::ClosedPipe) => Ok(()),
        result => result,
    }
}

/// Writes to standard output.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::output)
}
