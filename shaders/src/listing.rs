//! SPIR-V as text.

use rspirv::binary::Disassemble;

/// The assembly of a module, one instruction a line.
///
/// # Errors
/// The place where `bytes` is no SPIR-V, in words.
pub fn disassemble(bytes: &[u8]) -> Result<String, String> {
    let (words, []) = bytes.as_chunks::<4>() else {
        return Err(format!("{} bytes are no whole number of words", bytes.len()));
    };
    let words: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
    let module = rspirv::dr::load_words(&words).map_err(|error| error.to_string())?;
    Ok(module.disassemble())
}
