//! Whose plans may run: a plan holds machine code, so opening one for a device is running it.
//!
//! * [`SignatureBlock`]: what stands behind a signed plan's manifest, in minisign's form.
//! * [`PublicKey`], [`KeyId`]: minisign's public keys.
//! * [`TrustStore`]: the folder with the keys that this machine trusts.
//! * [`Trust`]: what [`PlanFile::trust`](crate::PlanFile::trust) finds.
//! * [`AllowedPlan`]: what drivers take.
//!
//! Secret keys are no matter of this crate: [`Signer`] is what the compiler gives it. Nothing here
//! decides where the folder lies; that is for the programs.

use std::path::Path;

mod allowed;
pub(crate) mod block;
mod error;
mod key;
mod store;

pub use allowed::AllowedPlan;
pub use block::{SignatureBlock, Signer};
pub use error::TrustError;
pub use key::{KeyId, PublicKey, key_file_text};
pub use store::{Origin, TrustStore, TrustedKey, TrustedKeys, create_folder};

/// How a plan stands with a set of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// There is no signature.
    Unsigned,
    /// There is one, of a key that is not among them.
    UnknownKey(KeyId),
    /// It names one of the keys, which did not make it, or not for these bytes.
    Invalid(KeyId),
    /// One of the keys signed header and manifest.
    Trusted(KeyId),
}

impl Trust {
    /// The key that signed the plan at `plan`.
    ///
    /// # Errors
    /// [`TrustError::Unsigned`], [`TrustError::Untrusted`], [`TrustError::Invalid`].
    pub fn require(self, plan: &Path) -> Result<KeyId, TrustError> {
        let plan = plan.to_owned();
        match self {
            Self::Trusted(id) => Ok(id),
            Self::Unsigned => Err(TrustError::Unsigned { plan }),
            Self::UnknownKey(id) => Err(TrustError::Untrusted { plan, id }),
            Self::Invalid(id) => Err(TrustError::Invalid { plan, id }),
        }
    }
}
