//! Reference for [`Activation::Q8`](onebit_plan::abi::Activation::Q8): what compiled code must
//! write, bit for bit.

use onebit_plan::abi::{BLOCK, RECORD_ROW_BYTES, panel_rows, q8_bytes};

/// Quantises `m` rows of `k` elements into panels.
///
/// `x` is `f32[m][k]`, k is a multiple of 32 and `out` holds at least
/// [`q8_bytes`]`(m, k)` bytes. Rows of the last panel beyond m are not written.
///
/// # Panics
/// If the shapes disagree: the caller sized both buffers.
pub fn quantize_rows(x: &[f32], m: usize, k: usize, out: &mut [u8]) {
    assert!(k.is_multiple_of(BLOCK) && x.len() == m * k && out.len() >= q8_bytes(m, k));
    let panel = panel_rows(m);
    let record_bytes = panel * RECORD_ROW_BYTES;
    let panel_bytes = k / BLOCK * record_bytes;
    for (row, values) in x.chunks_exact(k.max(1)).enumerate() {
        let start = row / panel * panel_bytes;
        let records = out[start..start + panel_bytes].chunks_exact_mut(record_bytes);
        for (record, block) in records.zip(values.chunks_exact(BLOCK)) {
            quantize_block(block, record, panel, row % panel);
        }
    }
}

fn quantize_block(block: &[f32], record: &mut [u8], panel: usize, row: usize) {
    let largest = block.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let d = largest / 127.0;
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    let mut sums = [0i32; 2];
    for (i, x) in block.iter().enumerate() {
        let q = (x * inverse).round_ties_even().clamp(-127.0, 127.0) as i8;
        record[row * BLOCK + i] = q.cast_unsigned();
        sums[i / 16] += i32::from(q);
    }
    let sum = sums[0] + sums[1];
    let fields = [
        d.to_le_bytes(),
        (d * sum as f32).to_le_bytes(),
        (-sum).to_le_bytes(),
        (-sums[0]).to_le_bytes(),
    ];
    for (field, bytes) in fields.iter().enumerate() {
        let at = panel * (BLOCK + 4 * field) + 4 * row;
        record[at..at + 4].copy_from_slice(bytes);
    }
}
