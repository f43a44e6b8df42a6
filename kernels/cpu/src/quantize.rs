//! Reference for [`Activation::Q8`](onebit_plan::abi::Activation::Q8): what compiled code must
//! write, bit for bit.

use onebit_plan::abi::{
    BLOCK, RECORD_ROW_BYTES, REFINEMENT_BLOCK_AT, REFINEMENT_BYTES, panel_bytes, panel_rows,
    q8_bytes, refinement_bytes, refinement_limit,
};

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
    for (row, values) in x.chunks_exact(k.max(1)).enumerate() {
        let out = &mut out[row / panel * panel_bytes(panel, k)..][..panel_bytes(panel, k)];
        let (records, refinements) = out.split_at_mut(k / BLOCK * record_bytes);
        let blocks = values.chunks_exact(BLOCK);
        for (record, block) in records.chunks_exact_mut(record_bytes).zip(blocks) {
            quantize_block(block, record, panel, row % panel);
        }
        let refinements = &mut refinements[row % panel * refinement_bytes(k)..];
        refine(values, &mut refinements[..refinement_bytes(k)]);
    }
}

/// Writes the refinements of one row.
fn refine(values: &[f32], out: &mut [u8]) {
    let limit = sum_of_squares(values) * refinement_limit(values.len());
    let (header, entries) = out.split_at_mut(REFINEMENT_BYTES);
    let mut entries = entries.chunks_exact_mut(REFINEMENT_BYTES);
    let mut count = 0u32;
    for (index, block) in (0u32..).zip(values.chunks_exact(BLOCK)) {
        let (d, inverse) = scales(block);
        if d * d <= limit {
            continue;
        }
        let entry = entries.next().expect("a row has an entry for each of its blocks");
        let rest: Vec<f32> =
            block.iter().map(|&x| (-f32::from(code(x, inverse))).mul_add(d, x)).collect();
        quantize_block(&rest, &mut entry[..RECORD_ROW_BYTES], 1, 0);
        entry[REFINEMENT_BLOCK_AT..][..4].copy_from_slice(&index.to_le_bytes());
        count += 1;
    }
    header[..4].copy_from_slice(&count.to_le_bytes());
}

/// In the order that [`refinement_limit`] states.
fn sum_of_squares(values: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    for eight in values.chunks_exact(8) {
        for (sum, x) in sums.iter_mut().zip(eight) {
            *sum = x.mul_add(*x, *sum);
        }
    }
    let four: [f32; 4] = std::array::from_fn(|l| sums[l] + sums[l + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// `max|x| / 127` and `127 / max|x|`, the latter 0 when all are 0.
fn scales(block: &[f32]) -> (f32, f32) {
    let largest = block.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    (largest / 127.0, if largest > 0.0 { 127.0 / largest } else { 0.0 })
}

fn code(x: f32, inverse: f32) -> i8 {
    (x * inverse).round_ties_even().clamp(-127.0, 127.0) as i8
}

fn quantize_block(block: &[f32], record: &mut [u8], panel: usize, row: usize) {
    let (d, inverse) = scales(block);
    let mut sums = [0i32; 2];
    for (i, x) in block.iter().enumerate() {
        let q = code(*x, inverse);
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
