//! What can be wrong with a plan, said with the place, the expectation and the remedy.

use std::io;
use std::path::PathBuf;

use crate::FORMAT_VERSION;
use crate::manifest::SegmentKind;

/// Why a plan could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The operating system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// The path names a folder, a pipe or a device.
    #[error("{} is not a regular file", path.display())]
    NotAFile { path: PathBuf },
    /// The file does not begin with the magic bytes.
    #[error("{} is not a plan: it does not begin with \"1BITPLAN\"", path.display())]
    NotAPlan { path: PathBuf },
    /// The file was written by a release with another format.
    #[error(
        "{} has plan format version {found}, this release ({}) reads version {FORMAT_VERSION} only",
        path.display(),
        env!("CARGO_PKG_VERSION")
    )]
    Version { path: PathBuf, found: u32 },
    /// A field does not hold what the format demands.
    #[error("{place}: expected {expected}, found {found}")]
    Malformed { place: String, expected: String, found: String },
    /// A segment's bytes are not those that were written.
    #[error("the {segment:?} segment is damaged: expected BLAKE3 {expected}, found {found}")]
    Hash { segment: SegmentKind, expected: String, found: String },
}

impl PlanError {
    pub(crate) fn malformed(
        place: impl Into<String>,
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        Self::Malformed {
            place: place.into(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    /// What the person at the terminal can do about it: one sentence, no final full stop.
    pub fn help(&self) -> String {
        match self {
            Self::Io { .. } => "check the path, its permissions and the free space".into(),
            Self::NotAFile { .. } => "name a .plan file".into(),
            Self::NotAPlan { .. } => {
                "make one with `onebitc compile MODEL.gguf -o MODEL.plan`".into()
            }
            Self::Version { found, .. } if *found > FORMAT_VERSION => {
                "use the onebit-rt release that came with the onebitc that wrote it, \
                 or compile the GGUF again with this release's onebitc"
                    .into()
            }
            Self::Version { .. } => {
                "compile the GGUF again with the onebitc of this release".to_owned()
            }
            Self::Malformed { .. } | Self::Hash { .. } => {
                "the file is damaged or was cut short: copy it again or compile it again".into()
            }
        }
    }
}
