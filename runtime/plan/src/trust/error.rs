//! What can be wrong with keys and signatures, with the remedy.

use std::io;
use std::path::PathBuf;

use super::KeyId;

/// Why a plan may not run, or keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The plan has no signature.
    #[error("{} is not signed, so nobody answers for the code in it", plan.display())]
    Unsigned { plan: PathBuf },
    /// Nobody said that this key is trusted.
    #[error("{} is signed by key {id}, which this machine does not trust", plan.display())]
    Untrusted { plan: PathBuf, id: KeyId },
    /// The signature is not of these bytes.
    #[error("{}: the signature of key {id} does not belong to this plan", plan.display())]
    Invalid { plan: PathBuf, id: KeyId },
    /// The operating system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// A text that should be a key.
    #[error("{place} is no minisign {kind} key: {reason}")]
    NotAKey { place: String, kind: &'static str, reason: String },
    /// A secret key behind a password.
    #[error("the secret key in {} is encrypted", path.display())]
    Encrypted { path: PathBuf },
    /// A secret key that others may read, or a folder of keys that others may change.
    #[error("others may {what} {} (mode {mode:03o})", path.display())]
    Permissions { what: &'static str, path: PathBuf, mode: u32, remedy: &'static str },
    /// Another key has the same number.
    #[error("another key with the id {id} is trusted already")]
    SameId { id: KeyId },
    /// There is no such key.
    #[error("no trusted key has the id {id}")]
    NoSuchKey { id: String },
    /// The machine's own key, which `remove` leaves alone.
    #[error("key {id} is this machine's own, in {}", path.display())]
    OwnKey { id: KeyId, path: PathBuf },
    /// A file that must not be replaced.
    #[error("{} exists already", path.display())]
    Exists { path: PathBuf },
    /// Nothing says where keys are kept.
    #[error("no folder for keys: neither XDG_CONFIG_HOME nor a home folder is known")]
    NoFolder,
    /// The system gave no random numbers.
    #[error("cannot make a key: {reason}")]
    Random { reason: String },
}

impl TrustError {
    /// What the person at the terminal can do about it: one sentence, no final full stop.
    pub fn help(&self) -> String {
        match self {
            Self::Unsigned { plan } => format!(
                "if you made it, sign it with `onebitc sign {0}`; \
                 `--allow-untrusted` runs it once, whatever it holds",
                plan.display()
            ),
            Self::Untrusted { id, .. } => format!(
                "if you trust whoever holds that key, get the public key from them and \
                 `onebit-rt trust add KEYFILE` (its id must be {id})"
            ),
            Self::Invalid { .. } => {
                "the plan was damaged or changed after it was signed: get it again from its maker"
                    .into()
            }
            Self::Io { .. } => {
                "check the path and its permissions, or name another folder with `--keys DIR`"
                    .into()
            }
            Self::NotAKey { kind: "public", .. } => {
                "give the file that ends in .pub, or the line in it that begins with RW".into()
            }
            Self::NotAKey { .. } => {
                "make one with `onebitc keygen` or with `minisign -G -W`".into()
            }
            Self::Encrypted { path } => format!(
                "onebitc asks for no passwords: make a key with `onebitc keygen`, or take the \
                 password off with `minisign -C -W -s {}`",
                path.display()
            ),
            Self::Permissions { path, remedy, .. } => format!("`{remedy} {}`", path.display()),
            Self::SameId { id } => format!("first `onebit-rt trust remove {id}`"),
            Self::NoSuchKey { .. } => "see `onebit-rt trust list`".into(),
            Self::OwnKey { path, .. } => {
                format!("delete {} and the .key beside it if you mean it", path.display())
            }
            Self::Exists { .. } => "name another file, or move that one away".into(),
            Self::NoFolder => "name one with `--keys DIR`".into(),
            Self::Random { .. } => "make a key on another machine with `minisign -G -W`".into(),
        }
    }
}
