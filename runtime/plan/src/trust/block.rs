//! The signature behind the manifest: minisign's four lines, of which two are the same in all plans.

use ct_codecs::{Base64, Decoder, Encoder};

use super::KeyId;
use crate::PlanError;

/// Most bytes of a block, as the header's field for its length has it.
pub(crate) const BLOCK_LIMIT: usize = 1024;

/// The first and third line. Nothing signs the first, and a signer may write what he likes to the
/// third, so both are fixed: a plan and a key give one block, and no bit of it can change unnoticed.
const UNTRUSTED_COMMENT: &str = "untrusted comment: signature of a onebit plan";
const TRUSTED_COMMENT: &str = "trusted comment: onebit plan";
/// `ED`: what is signed is the BLAKE2b-512 of the message.
const ALGORITHM: [u8; 2] = *b"ED";

/// A signature of a plan's header and manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureBlock {
    /// The key that made it, by its own word.
    pub key_id: KeyId,
    /// Ed25519 of the BLAKE2b-512 of the message.
    pub signature: [u8; 64],
    /// Ed25519 of `signature` and [`SignatureBlock::signed_comment`].
    pub global_signature: [u8; 64],
}

/// Whoever holds a secret key.
pub trait Signer {
    /// Signs the parts of a message as if they were one. Equal messages give equal blocks.
    fn sign(&self, message: &[&[u8]]) -> SignatureBlock;
}

impl SignatureBlock {
    /// The comment that the second signature covers.
    pub const fn signed_comment() -> &'static [u8] {
        b"onebit plan"
    }

    /// The block as it stands in a plan; also a `.minisig` file of the message.
    pub fn to_text(&self) -> String {
        let first = [&ALGORITHM[..], &self.key_id.0, &self.signature].concat();
        let line = |bytes: &[u8]| Base64::encode_to_string(bytes).expect("few bytes encode");
        format!(
            "{UNTRUSTED_COMMENT}\n{}\n{TRUSTED_COMMENT}\n{}\n",
            line(&first),
            line(&self.global_signature)
        )
    }

    /// Reads a block. There is one text for each block.
    ///
    /// # Errors
    /// Any other text. Whether the signature is right is another question.
    pub fn parse(bytes: &[u8]) -> Result<Self, PlanError> {
        let wrong = |found: &str| {
            PlanError::malformed("signature", "minisign's four lines, prehashed", found)
        };
        let text = std::str::from_utf8(bytes).map_err(|_| wrong("bytes that are no text"))?;
        let lines: Vec<&str> = text.split('\n').collect();
        let [UNTRUSTED_COMMENT, first, TRUSTED_COMMENT, second, ""] = lines.as_slice() else {
            return Err(wrong("other lines"));
        };
        let decode = |line: &str| {
            Base64::decode_to_vec(line, None).map_err(|_| wrong("a line that is not base64"))
        };
        let (first, second) = (decode(first)?, decode(second)?);
        let (Ok(first), Ok(global_signature)) =
            (<[u8; 74]>::try_from(first), <[u8; 64]>::try_from(second))
        else {
            return Err(wrong("lines of other lengths"));
        };
        if first[..2] != ALGORITHM {
            return Err(wrong("another algorithm"));
        }
        let block = Self {
            key_id: KeyId(std::array::from_fn(|i| first[2 + i])),
            signature: std::array::from_fn(|i| first[10 + i]),
            global_signature,
        };
        // Base64 leaves bits of its last digit unused.
        if block.to_text() != text {
            return Err(wrong("another spelling of them"));
        }
        Ok(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> SignatureBlock {
        SignatureBlock { key_id: KeyId([7; 8]), signature: [8; 64], global_signature: [9; 64] }
    }

    #[test]
    fn there_is_one_text_for_each_block() {
        let text = block().to_text().into_bytes();
        assert!(text.len() <= BLOCK_LIMIT);
        assert_eq!(SignatureBlock::parse(&text).unwrap(), block());
        let comment = TRUSTED_COMMENT.as_bytes();
        assert!(comment.ends_with(SignatureBlock::signed_comment()));
        for bit in 0..text.len() * 8 {
            let mut changed = text.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            // What parses is another block, which no key made.
            if let Ok(other) = SignatureBlock::parse(&changed) {
                assert_ne!(other, block(), "bit {bit}");
            }
        }
        for length in 0..text.len() {
            assert!(SignatureBlock::parse(&text[..length]).is_err());
        }
    }
}
