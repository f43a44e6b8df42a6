//! A tile's data memory, which knows of every byte whether anybody wrote it.

/// Bytes with a flag each that says whether they were written.
#[derive(Clone, Debug)]
pub struct Memory {
    bytes: Vec<u8>,
    /// One bit a byte, lowest first.
    written: Vec<u64>,
}

/// Why an access cannot be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It ends behind the memory.
    Outside,
    /// Nobody wrote the byte at this address.
    Unwritten(u32),
}

impl Memory {
    /// A memory of `bytes` bytes that nobody wrote.
    pub fn new(bytes: usize) -> Self {
        Memory { bytes: vec![0; bytes], written: vec![0; bytes.div_ceil(64)] }
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The `length` bytes at `address`.
    ///
    /// # Errors
    /// When they end behind the memory, or one of them was never written.
    pub fn read(&self, address: u32, length: usize) -> Result<&[u8], Refusal> {
        let start = address as usize;
        let bytes = self.bytes.get(start..start + length).ok_or(Refusal::Outside)?;
        for (word, mask) in masks(start, length) {
            let missing = mask & !self.written[word];
            if missing != 0 {
                let byte = word * 64 + missing.trailing_zeros() as usize;
                return Err(Refusal::Unwritten(u32::try_from(byte).unwrap_or(u32::MAX)));
            }
        }
        Ok(bytes)
    }

    /// The `length` bytes at `address`, zero where nobody wrote; None when they end behind the
    /// memory.
    pub fn raw(&self, address: u32, length: usize) -> Option<&[u8]> {
        let start = address as usize;
        self.bytes.get(start..start + length)
    }

    /// Writes `bytes` at `address`.
    ///
    /// # Errors
    /// When they end behind the memory.
    pub fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), Refusal> {
        let start = address as usize;
        let place = self.bytes.get_mut(start..start + bytes.len()).ok_or(Refusal::Outside)?;
        place.copy_from_slice(bytes);
        for (word, mask) in masks(start, bytes.len()) {
            self.written[word] |= mask;
        }
        Ok(())
    }

    /// The 32-bit word at `address`, written or not: what the controller reads.
    pub fn peek(&self, address: u32) -> u32 {
        let start = address as usize;
        let word = self.bytes.get(start..start + 4).and_then(|word| word.try_into().ok());
        word.map_or(0, u32::from_le_bytes)
    }
}

/// The words of flags that `length` bytes from `start` touch, and which of their bits.
fn masks(start: usize, length: usize) -> impl Iterator<Item = (usize, u64)> {
    let end = start + length;
    (start / 64..end.div_ceil(64)).filter(move |_| length > 0).map(move |word| {
        let low = start.saturating_sub(word * 64);
        let high = (end - word * 64).min(64);
        (word, (u64::MAX >> (64 - (high - low))) << low)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_written_bytes_can_be_read() {
        let mut memory = Memory::new(256);
        memory.write(60, &[7; 70]).unwrap();
        assert_eq!(memory.read(60, 70).unwrap(), &[7; 70]);
        assert_eq!(memory.read(59, 2), Err(Refusal::Unwritten(59)));
        assert_eq!(memory.read(64, 67), Err(Refusal::Unwritten(130)));
        assert_eq!(memory.read(64, 0).unwrap(), &[] as &[u8]);
        assert_eq!(memory.read(250, 7), Err(Refusal::Outside));
        assert_eq!(memory.write(250, &[0; 7]), Err(Refusal::Outside));
    }
}
