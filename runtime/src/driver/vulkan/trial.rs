//! Matrix units on trial: a step through them beside the same rows by integer dot products.
//!
//! A plan's kernels were never run on most devices that it meets. Those of matrices depend on
//! parts of drivers that few programs use, so they are believed only where they give what the
//! other kernels give.

use super::{GpuError, VulkanDriver};
use crate::driver::Row;

/// Squared error over squared deviation that matrices may have: f16 rounds products' squares by
/// about 1e-6, and some hundred products of a model add theirs up. Wrong sums are near 1.
const TOLERANCE: f64 = 1e-3;
/// Rows of steps that always go by integer dot products.
const EXACT_ROWS: usize = 8;

impl VulkanDriver {
    /// The error of the last row of a full step by the entries that the driver has taken, against
    /// the same rows a few at a time; `None` where matrices are right.
    pub(super) fn matrix_error(&mut self) -> Result<Option<f64>, GpuError> {
        let limits = self.limits;
        let count = limits.max_rows.min(limits.context as usize);
        let row = |index: usize| Row {
            token: (index * 7919 % limits.vocabulary as usize) as u32,
            position: index as u32,
            slot: 0,
            output: index + 1 == count,
        };
        let rows: Vec<Row> = (0..count).map(row).collect();
        let width = limits.vocabulary as usize;
        let (mut found, mut expected) = (vec![0.0; width], vec![0.0; width]);
        self.step_on_device(&rows, &mut found)?;
        for few in rows.chunks(EXACT_ROWS) {
            self.step_on_device(few, &mut expected)?;
        }
        let error = error(&found, &expected);
        // A comparison with what is no number is false.
        Ok(if error <= TOLERANCE { None } else { Some(error) })
    }
}

/// Squared error over squared deviation from the mean.
fn error(found: &[f32], expected: &[f32]) -> f64 {
    let wide = |x: &f32| f64::from(*x);
    let mean = expected.iter().map(wide).sum::<f64>() / expected.len() as f64;
    let error: f64 = found.iter().zip(expected).map(|(a, b)| (wide(a) - wide(b)).powi(2)).sum();
    error / expected.iter().map(|x| (wide(x) - mean).powi(2)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_sums_are_told_from_rounding() {
        let expected: Vec<f32> = (0..100).map(|i| (i as f32).sin()).collect();
        let rounded: Vec<f32> = expected.iter().map(|x| x + 0.003).collect();
        assert!(error(&rounded, &expected) < TOLERANCE);
        let doubled: Vec<f32> = expected.iter().map(|x| 2.0 * x).collect();
        assert!(error(&doubled, &expected) > 0.5);
        assert!(error(&[f32::NAN; 100], &expected).is_nan());
    }
}
