//! The first 64 bytes of a plan. All integers are little-endian.
//!
//! | bytes | field |
//! |---|---|
//! | 0..8 | magic `1BITPLAN` |
//! | 8..12 | format version, u32 |
//! | 12..16 | header bytes, u32, 64 |
//! | 16..24 | manifest offset, u64 |
//! | 24..32 | manifest length, u64 |
//! | 32..40 | length, u64: bytes of the file before the signature |
//! | 40..60 | digest: first 20 bytes of BLAKE3(bytes 0..40, then the manifest) |
//! | 60..64 | signature length, u32; 0 in a plan without one |
//!
//! A signature covers bytes 0..60 and the manifest, so that signing changes only the last field
//! and what stands behind the manifest.

/// First bytes of every plan.
pub const MAGIC: [u8; 8] = *b"1BITPLAN";
/// Bytes of the header.
pub const HEADER_BYTES: usize = 64;
/// Bytes of the digest field.
pub const DIGEST_BYTES: usize = 20;
/// Bytes of the header that a signature covers.
pub const SIGNED_BYTES: usize = 60;

/// The header's fields that vary; magic and header size are constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub version: u32,
    pub manifest_offset: u64,
    pub manifest_length: u64,
    /// Bytes of the file before the signature.
    pub length: u64,
    pub digest: [u8; DIGEST_BYTES],
    pub signature_length: u32,
}

impl Header {
    /// The header as it stands in the file.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[12..16].copy_from_slice(&(HEADER_BYTES as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.manifest_offset.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.manifest_length.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.length.to_le_bytes());
        bytes[40..60].copy_from_slice(&self.digest);
        bytes[60..64].copy_from_slice(&self.signature_length.to_le_bytes());
        bytes
    }

    /// The digest that belongs to this header and `manifest`.
    pub fn digest_of(&self, manifest: &[u8]) -> [u8; DIGEST_BYTES] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.encode()[..40]);
        hasher.update(manifest);
        let mut digest = [0; DIGEST_BYTES];
        digest.copy_from_slice(&hasher.finalize().as_bytes()[..DIGEST_BYTES]);
        digest
    }
}
