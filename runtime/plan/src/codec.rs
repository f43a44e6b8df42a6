//! The encoding of the manifest and of golden vectors. The only file that names bincode.
//!
//! Fixed-width little-endian integers, u64 lengths, u32 enum variants: the encoding of a value is
//! unique, so equal values have equal bytes.

use bincode::config::{Config, standard};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::PlanError;
use crate::golden::Golden;
use crate::manifest::Manifest;

/// Most bytes a manifest may have, encoded or claimed by its length fields.
pub(crate) const MANIFEST_LIMIT: usize = 8 << 20;

/// The same for golden vectors.
pub(crate) const GOLDEN_LIMIT: usize = 64 << 20;

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
    to_bytes::<_, MANIFEST_LIMIT>("manifest", manifest)
}

/// Decodes a manifest that fills `bytes` exactly.
pub(crate) fn decode(bytes: &[u8]) -> Result<Manifest, PlanError> {
    from_bytes::<_, MANIFEST_LIMIT>("manifest", bytes)
}

/// The bytes of golden vectors.
pub(crate) fn encode_golden(golden: &Golden) -> Result<Vec<u8>, PlanError> {
    to_bytes::<_, GOLDEN_LIMIT>("golden vectors", golden)
}

/// Decodes golden vectors that fill `bytes` exactly.
pub(crate) fn decode_golden(bytes: &[u8]) -> Result<Golden, PlanError> {
    from_bytes::<_, GOLDEN_LIMIT>("golden vectors", bytes)
}

fn config<const LIMIT: usize>() -> impl Config {
    standard().with_little_endian().with_fixed_int_encoding().with_limit::<LIMIT>()
}

fn to_bytes<T: Serialize, const LIMIT: usize>(what: &str, value: &T) -> Result<Vec<u8>, PlanError> {
    let bytes = bincode::serde::encode_to_vec(value, config::<LIMIT>())
        .map_err(|error| PlanError::malformed(what, "what can be encoded", error))?;
    if bytes.len() > LIMIT {
        return Err(PlanError::malformed(what, format!("at most {LIMIT} bytes"), bytes.len()));
    }
    Ok(bytes)
}

fn from_bytes<T: DeserializeOwned, const LIMIT: usize>(
    what: &str,
    bytes: &[u8],
) -> Result<T, PlanError> {
    let (value, used) = bincode::serde::decode_from_slice(bytes, config::<LIMIT>())
        .map_err(|error| PlanError::malformed(what, "a bincode record", error))?;
    if used != bytes.len() {
        let expected = format!("{} bytes", bytes.len());
        return Err(PlanError::malformed(format!("{what} length"), expected, used));
    }
    Ok(value)
}
