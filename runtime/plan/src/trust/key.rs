//! Public keys as minisign writes them: two lines, a comment and base64 of 42 bytes.

use std::fmt;
use std::path::Path;

use ct_codecs::{Base64, Decoder, Encoder};

use super::{SignatureBlock, TrustError};

/// `Ed`, the only algorithm of keys.
const ALGORITHM: [u8; 2] = *b"Ed";
const COMMENT: &str = "untrusted comment: ";

/// The number of a key pair, which its maker drew: for people and for look-up, no proof of anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 8]);

impl KeyId {
    /// Reads 16 hexadecimal digits, as they are displayed.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| digits)?;
        Some(Self(number.to_le_bytes()))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", u64::from_le_bytes(self.0))
    }
}

/// An Ed25519 public key with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    id: KeyId,
    point: [u8; 32],
    comment: String,
}

impl PublicKey {
    /// The key of a new pair.
    pub fn new(id: KeyId, point: [u8; 32]) -> Self {
        Self { id, point, comment: format!("minisign public key {id}") }
    }

    /// Reads a key file's text, or its line of base64 alone. `place` says in errors where it stood.
    ///
    /// # Errors
    /// [`TrustError::NotAKey`].
    pub fn parse(text: &str, place: &str) -> Result<Self, TrustError> {
        let wrong = |reason: &str| TrustError::NotAKey {
            place: place.into(),
            kind: "public",
            reason: reason.into(),
        };
        let lines: Vec<&str> = text.trim_end().lines().map(str::trim_end).collect();
        let (comment, line) = match lines.as_slice() {
            [line] => (None, line),
            [comment, line] => {
                let comment = comment.strip_prefix(COMMENT);
                (Some(comment.ok_or_else(|| wrong("it does not begin with a comment"))?), line)
            }
            _ => return Err(wrong("it has not one or two lines")),
        };
        let bytes = Base64::decode_to_vec(line, None);
        let bytes = bytes.map_err(|_| wrong("the last line is not base64"))?;
        let Ok(bytes) = <[u8; 42]>::try_from(bytes) else {
            return Err(wrong("the last line does not hold 42 bytes"));
        };
        if bytes[..2] != ALGORITHM {
            return Err(wrong("its algorithm is not Ed25519"));
        }
        let id = KeyId(std::array::from_fn(|i| bytes[2 + i]));
        let mut key = Self::new(id, std::array::from_fn(|i| bytes[10 + i]));
        if let Some(comment) = comment {
            key.comment = comment.into();
        }
        Ok(key)
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// What the system refuses; [`TrustError::NotAKey`].
    pub fn read(path: &Path) -> Result<Self, TrustError> {
        Self::parse(&key_file_text(path)?, &path.display().to_string())
    }

    /// The number.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What the key file says of it, for people.
    pub fn comment(&self) -> &str {
        &self.comment
    }

    /// The line that people pass on.
    pub fn to_base64(&self) -> String {
        let bytes = [&ALGORITHM[..], &self.id.0, &self.point].concat();
        Base64::encode_to_string(bytes).expect("42 bytes have an encoding")
    }

    /// The text of a key file.
    pub fn to_text(&self) -> String {
        format!("{COMMENT}{}\n{}\n", self.comment, self.to_base64())
    }

    /// Whether `block` is this key's signature of `message`.
    pub(crate) fn verifies(&self, block: &SignatureBlock, message: &[&[u8]]) -> bool {
        let key = minisign_verify::PublicKey::from_base64(&self.to_base64());
        let signature = minisign_verify::Signature::decode(&block.to_text());
        let (Ok(key), Ok(signature)) = (key, signature) else { return false };
        let Ok(mut verifier) = key.verify_stream(&signature) else { return false };
        message.iter().for_each(|part| verifier.update(part));
        verifier.finalize().is_ok()
    }
}

/// Most bytes of a key file: far more than any has.
const FILE_LIMIT: u64 = 4096;

/// The text of a file that should hold a key, public or secret.
///
/// # Errors
/// [`TrustError::Io`]; a file too long for a key or not UTF-8 is [`std::io::ErrorKind::InvalidData`].
pub fn key_file_text(path: &Path) -> Result<String, TrustError> {
    use std::io::{Error, ErrorKind, Read};
    let failed = |source| TrustError::Io { action: "read the key", path: path.into(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_LIMIT + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(failed(Error::new(ErrorKind::InvalidData, "too long for a key")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of minisign's manual.
    const LINE: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

    #[test]
    fn keys_read_as_they_are_written() {
        let alone = PublicKey::parse(LINE, "test").unwrap();
        assert_eq!(alone.id().to_string(), "E7620F1842B4E81F");
        assert_eq!(KeyId::parse("E7620F1842B4E81F"), Some(alone.id()));
        assert_eq!(KeyId::parse("e7620f1842b4e81f"), Some(alone.id()));
        assert_eq!(alone.to_base64(), LINE);
        let text = format!("untrusted comment: of a friend\n{LINE}\n");
        let key = PublicKey::parse(&text, "test").unwrap();
        assert_eq!((key.comment(), key.to_text()), ("of a friend", text));
    }

    #[test]
    fn what_is_no_key_is_refused_with_its_place() {
        let two = format!("{LINE}\n{LINE}");
        let short = &LINE[..52];
        let other = LINE.replacen("RWQ", "RWX", 1);
        for text in ["", "RWQ", LINE.trim_end_matches('3'), &two, short, &other, "a\nb\nc"] {
            let error = PublicKey::parse(text, "the place").unwrap_err();
            assert!(
                error.to_string().starts_with("the place is no minisign public key"),
                "{error}"
            );
        }
        for text in ["", "E7620F1842B4E81", "+7620F1842B4E81F", "E7620F1842B4E81FF"] {
            assert_eq!(KeyId::parse(text), None);
        }
    }
}
