//! Secret keys as `minisign -G -W` writes them: two lines, a comment and base64 of 158 bytes.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use blake2b_simd::Params;
use ct_codecs::{Base64, Decoder, Encoder};
use ed25519_compact::{KeyPair, Seed};
use onebit_plan::trust::{
    KeyId, PublicKey, SignatureBlock, Signer, TrustError, create_folder, key_file_text,
};

/// What minisign writes here, with and without a password.
const COMMENT: &str = "untrusted comment: minisign encrypted secret key";

/// Offsets in the 158 bytes: algorithm of signatures, of the password (none), of the checksum, what
/// only passwords need, and the rest.
const ALGORITHM: [u8; 2] = *b"Ed";
const NO_PASSWORD: [u8; 2] = [0, 0];
const CHECKSUM: [u8; 2] = *b"B2";
const BYTES: usize = 158;
const ID: usize = 54;
const SEED: usize = 62;
const POINT: usize = 94;
const SUM: usize = 126;

/// An Ed25519 key pair with its number.
pub struct SecretKey {
    id: KeyId,
    pair: KeyPair,
}

/// Shows the number only.
impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey({})", self.id)
    }
}

impl SecretKey {
    /// A new key from the system's random numbers.
    ///
    /// # Errors
    /// [`TrustError::Random`].
    pub fn generate() -> Result<Self, TrustError> {
        let mut random = [0; 40];
        getrandom::fill(&mut random)
            .map_err(|error| TrustError::Random { reason: error.to_string() })?;
        let (id, seed) = random.split_at(8);
        let (id, seed) = (std::array::from_fn(|i| id[i]), std::array::from_fn(|i| seed[i]));
        Self::from_seed(KeyId(id), seed)
            .ok_or(TrustError::Random { reason: "the system gave only zeros".into() })
    }

    /// The key of a seed, which is all that is secret of it; `None` of zeros.
    pub fn from_seed(id: KeyId, seed: [u8; 32]) -> Option<Self> {
        Some(Self { id, pair: KeyPair::try_from_seed(Seed::new(seed)).ok()? })
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// One that others may read; one with a password; what is no key; what the system refuses.
    pub fn read(path: &Path) -> Result<Self, TrustError> {
        let text = key_file_text(path)?;
        refuse_open_file(path)?;
        let wrong = |reason: &str| TrustError::NotAKey {
            place: path.display().to_string(),
            kind: "secret",
            reason: reason.into(),
        };
        let lines: Vec<&str> = text.trim_end().lines().map(str::trim_end).collect();
        let [_, line] = lines.as_slice() else { return Err(wrong("it has not two lines")) };
        let bytes = Base64::decode_to_vec(line, None);
        let bytes = bytes.map_err(|_| wrong("the second line is not base64"))?;
        let Ok(bytes) = <[u8; BYTES]>::try_from(bytes) else {
            return Err(wrong("the second line does not hold 158 bytes"));
        };
        if bytes[..2] != ALGORITHM {
            return Err(wrong("its algorithm is not Ed25519"));
        }
        if bytes[2..4] != NO_PASSWORD {
            return Err(TrustError::Encrypted { path: path.into() });
        }
        // minisign 0.11 leaves the checksum of keys without a password out.
        if bytes[SUM..] != checksum(&bytes) && bytes[SUM..] != [0; BYTES - SUM] {
            return Err(wrong("its checksum is wrong"));
        }
        let id = KeyId(std::array::from_fn(|i| bytes[ID + i]));
        let key = Self::from_seed(id, std::array::from_fn(|i| bytes[SEED + i]));
        // Signing with another point than the seed's would give the secret away.
        key.filter(|key| key.pair.pk[..] == bytes[POINT..SUM])
            .ok_or_else(|| wrong("its two halves do not belong together"))
    }

    /// Writes a key file that only its owner may read, and makes its folder. The file appears when
    /// it is complete.
    ///
    /// # Errors
    /// [`TrustError::Exists`]; what the system refuses.
    pub fn write(&self, path: &Path) -> Result<(), TrustError> {
        let file = written(path, &self.to_text(), 0o600)?;
        match file.persist_noclobber(path) {
            Ok(_) => Ok(()),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                Err(TrustError::Exists { path: path.into() })
            }
            Err(error) => Err(write_failed(path)(error.error)),
        }
    }

    /// Writes the key and its public half, neither of which may exist.
    ///
    /// # Errors
    /// As of [`SecretKey::write`].
    pub fn write_pair(&self, secret: &Path, public: &Path) -> Result<(), TrustError> {
        if public.exists() {
            return Err(TrustError::Exists { path: public.into() });
        }
        self.write(secret)?;
        replace(public, &self.public_key().to_text())
    }

    /// What others need to check signatures.
    pub fn public_key(&self) -> PublicKey {
        PublicKey::new(self.id, *self.pair.pk)
    }

    fn to_text(&self) -> String {
        let mut bytes = [0; BYTES];
        bytes[..6].copy_from_slice(&[ALGORITHM, NO_PASSWORD, CHECKSUM].concat());
        bytes[ID..SEED].copy_from_slice(&self.id.0);
        bytes[SEED..SUM].copy_from_slice(&self.pair.sk[..]);
        let sum = checksum(&bytes);
        bytes[SUM..].copy_from_slice(&sum);
        let line = Base64::encode_to_string(bytes).expect("158 bytes have an encoding");
        format!("{COMMENT}\n{line}\n")
    }
}

impl Signer for SecretKey {
    fn sign(&self, message: &[&[u8]]) -> SignatureBlock {
        let mut hash = Params::new().hash_length(64).to_state();
        for part in message {
            hash.update(part);
        }
        // Without noise: a signature is a function of key and message.
        let signature = *self.pair.sk.sign(hash.finalize().as_bytes(), None);
        let global = [&signature, SignatureBlock::signed_comment()].concat();
        SignatureBlock {
            key_id: self.id,
            signature,
            global_signature: *self.pair.sk.sign(global, None),
        }
    }
}

/// Of algorithm, number and key.
fn checksum(bytes: &[u8; BYTES]) -> [u8; 32] {
    let mut hash = Params::new().hash_length(32).to_state();
    hash.update(&bytes[..2]).update(&bytes[ID..SUM]);
    let mut sum = [0; 32];
    sum.copy_from_slice(hash.finalize().as_bytes());
    sum
}

/// Writes `text` to `path`, in place of what is there.
///
/// # Errors
/// What the system refuses.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), TrustError> {
    let file = written(path, text, 0o644)?;
    file.persist(path).map_err(|error| write_failed(path)(error.error))?;
    Ok(())
}

/// A complete file beside `path`, with this mode below the umask.
fn written(path: &Path, text: &str, mode: u32) -> Result<tempfile::NamedTempFile, TrustError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    create_folder(folder)?;
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(mode));
    }
    let _ = mode;
    let mut file = builder.tempfile_in(folder).map_err(write_failed(path))?;
    file.write_all(text.as_bytes()).map_err(write_failed(path))?;
    file.as_file().sync_all().map_err(write_failed(path))?;
    Ok(file)
}

fn write_failed(path: &Path) -> impl FnOnce(io::Error) -> TrustError {
    let path = path.to_owned();
    move |source| TrustError::Io { action: "write the key", path, source }
}

/// Whoever may read a secret key can sign as its owner.
fn refuse_open_file(path: &Path) -> Result<(), TrustError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let failed = |source| TrustError::Io { action: "read the key", path: path.into(), source };
        let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let (what, path) = ("read", path.into());
            return Err(TrustError::Permissions { what, path, mode, remedy: "chmod 600" });
        }
    }
    let _ = path;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SecretKey {
        SecretKey::from_seed(KeyId([1, 2, 3, 4, 5, 6, 7, 8]), [7; 32]).unwrap()
    }

    /// As `minisign -G -W` of version 0.11 wrote it: without a checksum.
    const OF_MINISIGN: &str = "untrusted comment: minisign encrypted secret key
RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAH6SQKtjJua5k+uZKcATfEGoba3jsLGkt8ICphuizZYFrty+5GP627G0wpA0qfxslw5GUDH1zB1Gs/b7+EDrHm4DvGi11pRvvAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
";
    const PUBLIC: &str = "RWQfpJAq2Mm5rm0wpA0qfxslw5GUDH1zB1Gs/b7+EDrHm4DvGi11pRvv";

    fn private(folder: &Path, text: &str) -> std::path::PathBuf {
        let path = folder.join("test.key");
        fs::remove_file(&path)
            .or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })
            .unwrap();
        let file = written(&path, text, 0o600).unwrap();
        file.persist(&path).unwrap();
        path
    }

    #[test]
    fn keys_read_as_they_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/deep.key");
        key().write(&path).unwrap();
        assert_eq!(SecretKey::read(&path).unwrap().public_key(), key().public_key());
        assert!(matches!(key().write(&path), Err(TrustError::Exists { .. })));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            for mode in [0o640, 0o604, 0o644] {
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
                let error = SecretKey::read(&path).unwrap_err();
                assert!(matches!(error, TrustError::Permissions { .. }), "{error}");
                assert!(error.help().contains("chmod 600"), "{}", error.help());
            }
        }
        let minisign = SecretKey::read(&private(folder.path(), OF_MINISIGN)).unwrap();
        assert_eq!(minisign.public_key().to_base64(), PUBLIC);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let missing = SecretKey::read(&folder.path().join("missing.key"));
        assert!(matches!(missing, Err(TrustError::Io { .. })));
        let encrypted = OF_MINISIGN.replace("RWQAAEIy", "RWRTY0Iy");
        let error = SecretKey::read(&private(folder.path(), &encrypted)).unwrap_err();
        assert!(matches!(error, TrustError::Encrypted { .. }), "{error}");
        for (from, to, reason) in [
            ("RWQAAEIy", "RWUAAEIy", "Ed25519"),
            ("1pRvvAA", "1pRvvAB", "checksum"),
            ("5pRv", "5pRw", "two lines"),
            ("ua5k+uZ", "ua5l+uZ", "halves"),
            ("AAAA=\n", "AAA\n", "base64"),
            ("AAAA=\n", "=\n", "158 bytes"),
        ] {
            let text = match reason {
                "two lines" => OF_MINISIGN.lines().next().unwrap().to_owned(),
                _ => OF_MINISIGN.replacen(from, to, 1),
            };
            let error = SecretKey::read(&private(folder.path(), &text)).unwrap_err().to_string();
            assert!(error.contains(reason), "{reason}: {error}");
        }
    }

    #[test]
    fn a_signature_is_a_function_of_key_and_message() {
        let block = key().sign(&[b"head", b"tail"]);
        assert_eq!(block, key().sign(&[b"headtail"]));
        assert_ne!(block.signature, key().sign(&[b"headtailor"]).signature);
        assert_eq!(block.key_id, KeyId([1, 2, 3, 4, 5, 6, 7, 8]));
    }
}
