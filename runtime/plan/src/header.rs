//! The first 64 bytes of a plan. All integers are little-endian.
//!
//! | bytes | field |
//! |---|---|
//! | 0..8 | magic `1BITPLAN` |
//! | 8..12 | format version, u32 |
//! | 12..16 | header bytes, u32, 64 |
//! | 16..24 | manifest offset, u64 |
//! | 24..32 | manifest length, u64 |
//! | 32..40 | file length, u64 |
//! | 40..60 | digest: first 20 bytes of BLAKE3(bytes 0..40, then the manifest) |
//! | 60..64 | flags, u32, zero |

/// First bytes of every plan.
pub const MAGIC: [u8; 8] = *b"1BITPLAN";
/// Bytes of the header.
pub const HEADER_BYTES: usize = 64;
/// Bytes of the digest field.
pub const DIGEST_BYTES: usize = 20;

/// The header's fields that vary; magic, header size and flags are constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub version: u32,
    pub manifest_offset: u64,
    pub manifest_length: u64,
    pub file_length: u64,
    pub digest: [u8; DIGEST_BYTES],
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
        bytes[32..40].copy_from_slice(&self.file_length.to_le_bytes());
        bytes[40..60].copy_from_slice(&self.digest);
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
