//! One file a command.

pub mod args;
mod bench;
mod chat;
mod check;
pub mod clock;
mod doctor;
mod failure;
mod generate;
mod interrupt;
mod load;
mod logits;
mod npy;
mod perplexity;
mod probe;
mod profile;
mod screen;
mod tokenize;
mod trust;
mod verify;

use std::process::ExitCode;

use self::args::{Arguments, Command};
use self::clock::Clock;
use self::failure::Failure;

/// Runs the command that was asked for.
pub fn run(arguments: Arguments, clock: &Clock) -> Result<ExitCode, Failure> {
    match arguments.command {
        Command::Run(options) => generate::run(&options, clock),
        Command::Bench(options) => bench::run(&options),
        Command::Perplexity(options) => perplexity::run(&options),
        Command::Logits(options) => logits::run(&options),
        Command::Profile(options) => profile::run(&options),
        Command::Tokenize(options) => tokenize::run(&options),
        Command::Verify(options) => verify::run(&options),
        Command::Trust(options) => trust::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Probe(options) => probe::run(&options),
        Command::Doctor(options) => doctor::run(&options),
    }
}
