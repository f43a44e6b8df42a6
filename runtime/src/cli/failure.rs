//! How commands fail: `error:` and `help:` on standard error, exit code 1.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use onebit_plan::PlanError;
use onebit_plan::trust::TrustError;
use onebit_rt::Error;

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Runtime(#[from] Error),
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{message}")]
    Other { message: String, help: &'static str },
    /// Whoever read our output has gone.
    #[error("the output was closed")]
    ClosedPipe,
}

impl Failure {
    /// A message with its remedy.
    pub fn other(message: impl Into<String>, help: &'static str) -> Self {
        Self::Other { message: message.into(), help }
    }

    /// For `map_err` on an operation on a file.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// For `map_err` on writes to standard output.
    pub fn output(source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::BrokenPipe {
            return Self::ClosedPipe;
        }
        Self::Io { action: "write to", path: "standard output".into(), source }
    }

    /// Tells the person at the terminal, and gives the exit code. A closed pipe is no error:
    /// whoever closed it has what they wanted.
    pub fn report(&self) -> ExitCode {
        if matches!(self, Self::ClosedPipe) {
            return ExitCode::SUCCESS;
        }
        // When standard error is closed too, there is nobody left to tell.
        let _ = writeln!(io::stderr(), "error: {self}\nhelp: {}", self.help());
        ExitCode::FAILURE
    }

    fn help(&self) -> String {
        match self {
            Self::Runtime(error) => error.help(),
            Self::Io { .. } | Self::ClosedPipe => {
                "check the path, its permissions and the free space".into()
            }
            Self::Other { help, .. } => (*help).into(),
        }
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        Self::Runtime(error.into())
    }
}

impl From<TrustError> for Failure {
    fn from(error: TrustError) -> Self {
        Self::Runtime(error.into())
    }
}
