//! One file a command, and what they share: opening models and printing.

pub mod args;
mod compile;
mod dump;
mod failure;
mod inspect;
mod tokenize;

use std::io::{self, Write};
use std::path::Path;

use onebit_models::gguf::GgufError;
use onebit_models::{Model, ModelError};

use self::args::{Arguments, Command};
use self::failure::Failure;

/// Runs the command that was asked for.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::Compile(options) => compile::run(&options),
        Command::Dump(options) => dump::run(&options),
        Command::Inspect(options) => inspect::run(&options),
        Command::Tokenize(options) => tokenize::run(&options),
    }
}

/// Opens a model; what is wrong inside the file is said with the file's name.
fn open_model(path: &Path) -> Result<Model, Failure> {
    Model::open(path).map_err(|error| match error {
        ModelError::Gguf(GgufError::Open { .. }) => Failure::new(error),
        error => Failure::new(format!("{}: {error}", path.display())),
    })
}

/// Writes to standard output.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::output)
}
