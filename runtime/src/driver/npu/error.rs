//! What can go wrong between a product and the array that should compute it.

use std::fmt;
use std::path::PathBuf;

use onebit_aie::error::{ParseError, WriteError};
use xrt_sys::ert::{self, HealthReport};

use super::ioctl::Errno;

/// A failure of the NPU back end. [`NpuError::help`] says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum NpuError {
    /// No device of the driver.
    #[error("no NPU: no device of the driver amdxdna in {}", folder.display())]
    Missing { folder: PathBuf },
    /// A device that this user may not open.
    #[error("no permission to open {}", path.display())]
    Permission { path: PathBuf },
    /// A device, or the folder of devices, that is there and cannot be opened.
    #[error("cannot open {}: {}", path.display(), std::io::Error::from(*errno))]
    Open { path: PathBuf, errno: Errno },
    /// This program has no emulator in it.
    #[error("this onebit-rt was built without the NPU emulator")]
    NoEmulator,
    /// The system refuses to keep a buffer in memory.
    #[error("cannot lock {bytes} bytes of memory for the NPU, the limit is {limit}")]
    Locked { bytes: u64, limit: MemoryLimit },
    /// The driver lacks an operation.
    #[error("the driver amdxdna cannot {operation}: {errno}")]
    DriverTooOld { operation: &'static str, errno: Errno },
    /// The firmware does not answer, or not as the driver expects.
    #[error("the NPU's firmware failed to {operation}: {errno}")]
    Firmware { operation: &'static str, errno: Errno },
    /// Another failure of the driver.
    #[error("the driver amdxdna failed to {operation}: {errno}{}", because(detail.as_ref()))]
    Driver { operation: &'static str, errno: Errno, detail: Option<String> },
    /// An array that the design does not fit.
    #[error("the design needs {needs}, this NPU has {has}")]
    OtherArray { needs: String, has: String },
    /// An answer of the driver that makes no sense.
    #[error("the driver amdxdna returned {what} {value:#x}")]
    Answer { what: &'static str, value: u64 },
    /// An xclbin that cannot be read.
    #[error(transparent)]
    Xclbin(#[from] ParseError),
    /// An xclbin's configuration that cannot be written as an image of its own.
    #[error("the configuration of the array: {0}")]
    Image(#[from] WriteError),
    /// Instructions that are not a TXN.
    #[error("instructions for the array: {0}")]
    Instructions(ParseError),
    /// A TXN that does more than run on the context's own array.
    #[error("instructions for the array: expected {expected}, found {found}")]
    Stream { expected: String, found: String },
    /// A buffer of no bytes, or of more than there can be.
    #[error("a buffer of {bytes} bytes")]
    Size { bytes: u64 },
    /// A number that names no buffer of the context.
    #[error("there is no buffer {index} in this context")]
    NoSuchBuffer { index: usize },
    /// A number that names no program of the context.
    #[error("there is no program {index} in this context")]
    NoSuchProgram { index: usize },
    /// More arguments than the kernel takes.
    #[error("{found} arguments, the array's kernel takes at most {}", ert::ARGUMENTS)]
    Arguments { found: usize },
    /// A command that did not end well.
    #[error(
        "the NPU's call {call} ended as {state}{}{}",
        place(health.as_ref()),
        because(detail.as_ref())
    )]
    Command {
        /// Which of the calls.
        call: usize,
        /// How it ended.
        state: CommandState,
        /// Where it stood, if the driver tells.
        health: Option<HealthReport>,
        /// What else the driver tells.
        detail: Option<String>,
    },
    /// A command that did not end at all.
    #[error("the NPU did not answer within {milliseconds} ms")]
    NoAnswer { milliseconds: u32 },
    /// A context whose array is in an unknown state.
    #[error("an earlier call of this NPU context failed, and its state is unknown")]
    Lost,
}

impl NpuError {
    /// What an errno of `operation` means.
    pub(super) fn of_driver(operation: &'static str, errno: Errno, detail: Option<String>) -> Self {
        match errno {
            Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS => {
                Self::DriverTooOld { operation, errno }
            }
            // The driver's answers when its mailbox to the firmware is shut, silent or garbled.
            Errno::NODEV | Errno::TIME | Errno::TIMEDOUT | Errno::IO | Errno::PIPE => {
                Self::Firmware { operation, errno }
            }
            _ => Self::Driver { operation, errno, detail },
        }
    }

    /// What the person at the terminal can do: one sentence without a final full stop.
    pub fn help(&self) -> String {
        match self {
            Self::Missing { .. } => {
                "run `onebit-rt doctor`, or run on the CPU with `--device cpu`".into()
            }
            Self::Permission { path } => format!(
                "add yourself to the group that owns {}, usually with `sudo usermod -aG render \
                 $USER`, and log in again",
                path.display()
            ),
            Self::NoEmulator => "build it with `--features npu-emu`".into(),
            Self::Locked { .. } => LOCKED_HELP.into(),
            Self::DriverTooOld { .. } => {
                "update to Linux 6.14 or newer, or install a newer amdxdna driver".into()
            }
            Self::Firmware { .. } => {
                "look for amdxdna in `dmesg`; update linux-firmware and reload the driver".into()
            }
            Self::Open { .. } | Self::Driver { .. } | Self::Answer { .. } => {
                "look for amdxdna in `dmesg`".into()
            }
            Self::OtherArray { .. } => "run on the CPU with `--device cpu`".into(),
            Self::Xclbin(_) | Self::Image(_) | Self::Instructions(_) | Self::Stream { .. } => {
                "use onebitc and onebit-rt of the same release: compile the GGUF again".into()
            }
            Self::Command { state: CommandState::New, .. } => {
                "look for amdxdna in `dmesg`; the NPU's firmware may be too old for TXN \
                 instructions: update linux-firmware"
                    .into()
            }
            Self::Command { .. } | Self::NoAnswer { .. } | Self::Lost => {
                "look for amdxdna in `dmesg`; start again, or run on the CPU with `--device cpu`"
                    .into()
            }
            Self::Size { .. }
            | Self::NoSuchBuffer { .. }
            | Self::NoSuchProgram { .. }
            | Self::Arguments { .. } => {
                "see the contract of onebit_rt::driver::npu::Context".into()
            }
        }
    }
}

/// The remedy for a limit on locked memory that is too small.
pub const LOCKED_HELP: &str = "raise the limit: `ulimit -l unlimited` for one shell; for good, \
     `* - memlock unlimited` in /etc/security/limits.conf and a new login";

/// How much memory a process may lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLimit {
    /// So many bytes.
    Bytes(u64),
    /// Any.
    Unlimited,
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{bytes} bytes"),
            Self::Unlimited => f.write_str("unlimited"),
        }
    }
}

/// What the driver says of a command (`enum ert_cmd_state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandState {
    /// Not begun. At the end this means that the driver refused what the command holds.
    New,
    /// Waits.
    Queued,
    /// Runs.
    Running,
    /// Ended well.
    Completed,
    /// The firmware found it wrong.
    Error,
    /// Given up.
    Abort,
    /// Handed over.
    Submitted,
    /// Stopped, because it made no progress.
    Timeout,
    /// The firmware said nothing.
    NoResponse,
    /// A number that no driver is known to use.
    Unknown(u32),
}

impl CommandState {
    pub(super) fn of(word: u32) -> Self {
        match word {
            ert::state::NEW => Self::New,
            ert::state::QUEUED => Self::Queued,
            ert::state::RUNNING => Self::Running,
            ert::state::COMPLETED => Self::Completed,
            ert::state::ERROR => Self::Error,
            ert::state::ABORT => Self::Abort,
            ert::state::SUBMITTED => Self::Submitted,
            ert::state::TIMEOUT => Self::Timeout,
            ert::state::NO_RESPONSE => Self::NoResponse,
            other => Self::Unknown(other),
        }
    }
}

impl fmt::Display for CommandState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::New => "refused by the driver",
            Self::Queued => "still queued",
            Self::Running => "still running",
            Self::Completed => "completed",
            Self::Error => "an error of the firmware",
            Self::Abort => "aborted",
            Self::Submitted => "still submitted",
            Self::Timeout => "a timeout",
            Self::NoResponse => "without a response",
            Self::Unknown(state) => return write!(f, "the unknown state {state}"),
        };
        f.write_str(name)
    }
}

/// Where a command stood, as the end of a sentence.
fn place(health: Option<&HealthReport>) -> String {
    let Some(health) = health else { return String::new() };
    let mut text = match health.txn_op_idx {
        u32::MAX => String::from(" at an unknown operation (txn_op_idx)"),
        index => format!(" at operation {index} (txn_op_idx)"),
    };
    text += &format!(", controller at {:#x} (ctx_pc)", health.ctx_pc);
    if health.fatal_error_type != 0 {
        text += &format!(
            ", fatal error {} of module {:#x}, exception {} at {:#x}",
            health.fatal_error_type, health.app_module, health.exception_type, health.exception_pc
        );
    }
    text
}

fn because(detail: Option<&String>) -> String {
    detail.map_or_else(String::new, |detail| format!(": {detail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_failure_has_its_name_and_its_remedy() {
        for (errno, name, remedy) in [
            (Errno::NOTTY, "cannot create a context", "6.14"),
            (Errno::OPNOTSUPP, "cannot create a context", "6.14"),
            (Errno::NODEV, "firmware failed to create a context", "linux-firmware"),
            (Errno::TIME, "firmware failed to create a context", "linux-firmware"),
            (Errno::INVAL, "amdxdna failed to create a context", "dmesg"),
        ] {
            let error = NpuError::of_driver("create a context", errno, None);
            assert!(error.to_string().contains(name), "{error}");
            assert!(error.help().contains(remedy), "{}", error.help());
        }
        let format = onebit_aie::error::Format::Pdi;
        let image = WriteError { format, field: "length", most: 7, found: 8 };
        let text = NpuError::from(image).to_string();
        assert!(text.contains("PDI: length is 8") && text.contains("at most 7"), "{text}");
        let limit = MemoryLimit::Bytes(65536);
        let error = NpuError::Locked { bytes: 1 << 26, limit };
        assert!(error.to_string().contains("the limit is 65536 bytes"), "{error}");
        assert!(error.help().contains("ulimit -l") && error.help().contains("limits.conf"));
    }

    #[test]
    fn a_timeout_says_where() {
        let health = HealthReport { txn_op_idx: 17, ctx_pc: 0x1234, ..HealthReport::default() };
        let state = CommandState::of(8);
        let error = NpuError::Command { call: 2, state, health: Some(health), detail: None };
        let text = "the NPU's call 2 ended as a timeout at operation 17 (txn_op_idx), controller \
                    at 0x1234 (ctx_pc)";
        assert_eq!(error.to_string(), text);
        let states: Vec<_> = (0..=10).map(|word| CommandState::of(word).to_string()).collect();
        assert_eq!(states[0], "the unknown state 0");
        assert_eq!(states[1], "refused by the driver");
        assert_eq!(states[10], "the unknown state 10");
    }
}
