//! NumPy's array file, version 1.0, for matrices of f32.
//!
//! Source: numpy/lib/format.py: magic, version, u16 header length, a Python dictionary padded with
//! spaces so that the data begins at a multiple of 64, then the values row by row.

use std::io::{self, Write};

/// Writes the header of a `rows` x `columns` matrix of little-endian f32.
pub fn write_header(out: &mut impl Write, rows: usize, columns: usize) -> io::Result<()> {
    const PREFIX: usize = 10;
    let mut header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let total = (PREFIX + header.len() + 1).next_multiple_of(64);
    header.extend(std::iter::repeat_n(' ', total - PREFIX - header.len() - 1));
    header.push('\n');
    out.write_all(b"\x93NUMPY\x01\x00")?;
    // Two numbers of at most 20 digits keep the header far below 64 KiB.
    out.write_all(&(header.len() as u16).to_le_bytes())?;
    out.write_all(header.as_bytes())
}

/// Writes values in the file's byte order.
pub fn write_values(out: &mut impl Write, values: &[f32]) -> io::Result<()> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    out.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_has_its_bytes() {
        let mut file = Vec::new();
        write_header(&mut file, 2, 3).unwrap();
        write_values(&mut file, &[1.0, -2.0, 0.5, 0.0, 1e9, f32::MIN]).unwrap();
        assert_eq!(&file[..10], b"\x93NUMPY\x01\x00\x76\x00");
        let header = std::str::from_utf8(&file[10..128]).unwrap();
        let dictionary = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
        assert_eq!(header.trim_end(), dictionary);
        assert!(header.ends_with(" \n"));
        assert_eq!(file.len(), 128 + 6 * 4);
        assert_eq!(file[128..136], [0, 0, 128, 63, 0, 0, 0, 192]);
    }
}
