//! Rotation tables.

/// [`onebit_plan::abi::RopeTableFn`]: cosines and sines of position times frequency.
///
/// # Safety
/// `positions` holds `r1` entries, `frequencies` holds `half`, and `out` holds `r1` rows of
/// `2 * half` floats, of which no other thread touches rows `r0..r1`.
pub unsafe extern "C" fn rope_table(
    positions: *const i32,
    frequencies: *const f32,
    out: *mut f32,
    half: u32,
    r0: u32,
    r1: u32,
    scale: f32,
) {
    let (half, r0, r1) = (half as usize, r0 as usize, r1.max(r0) as usize);
    // SAFETY: row r0 lies inside the positions.
    let positions = unsafe { positions.add(r0) };
    // SAFETY: rows r0..r1 lie inside the positions.
    let positions = unsafe { std::slice::from_raw_parts(positions, r1 - r0) };
    // SAFETY: `half` frequencies.
    let frequencies = unsafe { std::slice::from_raw_parts(frequencies, half) };
    // SAFETY: row r0 lies inside the output.
    let out = unsafe { out.add(r0 * 2 * half) };
    // SAFETY: rows r0..r1 lie inside the output and are this thread's.
    let out = unsafe { std::slice::from_raw_parts_mut(out, (r1 - r0) * 2 * half) };
    fill(positions, frequencies, out, f64::from(scale));
}

fn fill(positions: &[i32], frequencies: &[f32], out: &mut [f32], scale: f64) {
    if frequencies.is_empty() {
        return;
    }
    for (position, row) in positions.iter().zip(out.chunks_exact_mut(2 * frequencies.len())) {
        let (cosines, sines) = row.split_at_mut(frequencies.len());
        for ((frequency, cosine), sine) in frequencies.iter().zip(cosines).zip(sines) {
            let (s, c) = (f64::from(*position) * f64::from(*frequency)).sin_cos();
            *cosine = (c * scale) as f32;
            *sine = (s * scale) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::rope_table;

    #[test]
    fn fills_only_its_rows() {
        let positions = [0, 7, 100_000];
        let frequencies = [1.0_f32, 0.25, 1e-4];
        let mut out = [f32::NAN; 18];
        // SAFETY: three rows of six floats.
        unsafe {
            rope_table(positions.as_ptr(), frequencies.as_ptr(), out.as_mut_ptr(), 3, 1, 3, 0.5);
        }
        assert!(out[..6].iter().all(|x| x.is_nan()));
        for row in 1..3 {
            for i in 0..3 {
                let angle = f64::from(positions[row]) * f64::from(frequencies[i]);
                assert_eq!(out[row * 6 + i], (angle.cos() * 0.5) as f32);
                assert_eq!(out[row * 6 + 3 + i], (angle.sin() * 0.5) as f32);
            }
        }
    }
}
