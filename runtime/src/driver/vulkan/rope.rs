//! Rotation tables, as [`onebit_plan::gpu::GpuRopeTable`] describes them.

use onebit_plan::gpu::GpuRopeTable;
use rayon::prelude::*;

/// `f32[context][2][half]`: cosines, then sines, with the CPU kernel's arithmetic.
pub(super) fn fill(table: &GpuRopeTable, context: u32) -> Vec<f32> {
    let half = table.frequencies.len();
    let magnitude = f64::from(table.magnitude);
    let mut values = vec![0.0; 2 * half * context as usize];
    values.par_chunks_exact_mut(2 * half).zip(0_u32..context).for_each(|(row, position)| {
        let (cosines, sines) = row.split_at_mut(half);
        for ((cosine, sine), &frequency) in cosines.iter_mut().zip(sines).zip(&table.frequencies) {
            let (s, c) = (f64::from(position) * f64::from(frequency)).sin_cos();
            *cosine = (c * magnitude) as f32;
            *sine = (s * magnitude) as f32;
        }
    });
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cosines_then_sines() {
        let table = GpuRopeTable { frequencies: vec![1.0, 0.25, 0.0], magnitude: 2.0 };
        let values = fill(&table, 5);
        assert_eq!(values.len(), 5 * 6);
        assert_eq!(values[..6], [2.0, 2.0, 2.0, 0.0, 0.0, 0.0]);
        let row = &values[3 * 6..4 * 6];
        assert_eq!(row[0], (3.0_f64.cos() * 2.0) as f32);
        assert_eq!(row[4], (0.75_f64.sin() * 2.0) as f32);
        assert_eq!((row[2], row[5]), (2.0, 0.0));
    }
}
