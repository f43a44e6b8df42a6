//! The printable alphabet of byte-level BPE: every byte has one character.
//!
//! GPT-2's vocabulary spells bytes as characters so that no token holds a space or a control code: printable Latin-1
//! bytes stand for themselves, the 68 others for U+0100 onwards in byte order (`bytes_to_unicode` of GPT-2's encoder).

/// Bytes that stand for the character of the same number.
fn is_printable(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The character that spells `byte`.
pub(crate) fn char_of(byte: u8) -> char {
    let hidden = match byte {
        _ if is_printable(byte) => return char::from(byte),
        0x00..=0x20 => byte,
        0xAD => 67,
        _ => byte - 0x7F + 33,
    };
    char::from_u32(0x100 + u32::from(hidden)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte that `spelling` stands for, if it is one of the 256 characters.
fn byte_of(spelling: char) -> Option<u8> {
    let code = u32::from(spelling);
    match u8::try_from(code) {
        Ok(byte) => is_printable(byte).then_some(byte),
        Err(_) => match u8::try_from(code - 0x100).ok()? {
            hidden @ 0..=32 => Some(hidden),
            hidden @ 33..=66 => Some(hidden - 33 + 0x7F),
            67 => Some(0xAD),
            _ => None,
        },
    }
}

/// The bytes a token's spelling stands for; `None` if it is not UTF-8 or uses a character outside the alphabet.
pub(crate) fn decode(spelling: &[u8]) -> Option<Vec<u8>> {
    std::str::from_utf8(spelling).ok()?.chars().map(byte_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character() {
        let mut spellings: Vec<char> = (0..=u8::MAX).map(char_of).collect();
        for (byte, &spelling) in (0..=u8::MAX).zip(&spellings) {
            assert_eq!(byte_of(spelling), Some(byte));
        }
        spellings.sort_unstable();
        spellings.dedup();
        assert_eq!(spellings.len(), 256);
    }

    #[test]
    fn spellings_agree_with_gpt2() {
        for (byte, spelling) in
            [(b' ', 'Ġ'), (b'\n', 'Ċ'), (b'\t', 'ĉ'), (0x7F, 'ġ'), (0xA0, 'ł'), (0xAD, 'Ń')]
        {
            assert_eq!(char_of(byte), spelling);
        }
        assert_eq!(decode("ĠÃ©".as_bytes()), Some(" é".as_bytes().to_vec()));
        assert_eq!(decode("日".as_bytes()), None);
        assert_eq!(decode(&[0xFF]), None);
    }
}
