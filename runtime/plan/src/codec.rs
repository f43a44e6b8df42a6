//! The manifest's encoding. The only file that names bincode.
//!
//! Fixed-width little-endian integers, u64 lengths, u32 enum variants: the encoding of a value is
//! unique, so equal manifests have equal bytes.

use bincode::config::{Config, standard};

use crate::PlanError;
use crate::manifest::Manifest;

/// Most bytes a manifest may have, encoded or claimed by its length fields.
pub(crate) const MANIFEST_LIMIT: usize = 8 << 20;

fn config() -> impl Config {
    standard().with_little_endian().with_fixed_int_encoding().with_limit::<MANIFEST_LIMIT>()
}

impl Manifest {
    /// The manifest as it stands in a file.
    ///
    /// # Errors
    /// [`PlanError::Malformed`] when it has more than 8 MiB.
    pub fn to_bytes(&self) -> Result<Vec<u8>, PlanError> {
        encode(self)
    }
}

/// The manifest's bytes.
pub(crate) fn encode(manifest: &Manifest) -> Result<Vec<u8>, PlanError> {
    let bytes = bincode::serde::encode_to_vec(manifest, config())
        .map_err(|error| PlanError::malformed("manifest", "an encodable manifest", error))?;
    if bytes.len() > MANIFEST_LIMIT {
        let limit = format!("at most {MANIFEST_LIMIT} bytes");
        return Err(PlanError::malformed("manifest", limit, bytes.len()));
    }
    Ok(bytes)
}

/// Decodes a manifest that fills `bytes` exactly.
pub(crate) fn decode(bytes: &[u8]) -> Result<Manifest, PlanError> {
    let (manifest, used) = bincode::serde::decode_from_slice(bytes, config())
        .map_err(|error| PlanError::malformed("manifest", "a bincode manifest", error))?;
    if used != bytes.len() {
        let expected = format!("{} bytes", bytes.len());
        return Err(PlanError::malformed("manifest length", expected, used));
    }
    Ok(manifest)
}
