//! How commands fail: `error:` and, where there is one, `help:` on standard error, exit code 1.

use std::process::ExitCode;
use std::{fmt, io};

use onebit_plan::PlanError;
use onebit_plan::trust::TrustError;
use onebitc::CompileError;

/// Why a command ended early.
#[derive(Debug)]
pub enum Failure {
    /// Whoever read our output has gone; nothing is wrong.
    ClosedPipe,
    Error {
        message: String,
        help: Option<String>,
    },
}

impl Failure {
    /// A message that says its own remedy.
    pub fn new(message: impl ToString) -> Self {
        Self::Error { message: message.to_string(), help: None }
    }

    /// For `map_err` on writes to standard output.
    pub fn output(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::new(format!("cannot write to standard output: {error}")),
        }
    }

    /// Tells the person at the terminal, and gives the exit code. A closed pipe is no error:
    /// whoever closed it has what they wanted.
    pub fn report(&self) -> ExitCode {
        let Self::Error { message, help } = self else { return ExitCode::SUCCESS };
        eprintln!("error: {message}");
        if let Some(help) = help {
            eprintln!("help: {help}");
        }
        ExitCode::FAILURE
    }
}

impl From<CompileError> for Failure {
    fn from(error: CompileError) -> Self {
        match error {
            CompileError::Plan(error) => error.into(),
            CompileError::Box { ref source, .. } => {
                Self::Error { help: Some(source.help()), message: error.to_string() }
            }
            error => Self::new(error),
        }
    }
}

impl From<TrustError> for Failure {
    fn from(error: TrustError) -> Self {
        Self::Error { message: error.to_string(), help: Some(error.help()) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClosedPipe => f.write_str("the output was closed"),
            Self::Error { message, .. } => f.write_str(message),
        }
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        Self::Error { message: error.to_string(), help: Some(error.help()) }
    }
}
