//! How far logits may be apart that differ by the rounding of half precision.
//!
//! Matrix units round weights and activations to 11 bits: a product's result gets an error of about
//! 2^-12 of its size from each, root mean square. The six products on the way through a layer and
//! some thirty layers add up, as independent errors do, to 2^-12 * sqrt(2 * 6 * 32), half a per
//! cent of the logits' standard deviation. That is an estimate and no measurement.

/// Root mean square of the difference that is expected, in standard deviations of the logits.
const EXPECTED: f64 = 0.005;
/// What is still taken for rounding, in standard deviations of the logits.
const TOLERANCE: f64 = 6.0 * EXPECTED;
/// Tokens that may be near ties, of a hundred.
const MOST_TIES: usize = 3;

/// Whether `token` could have had the largest of the logits but for rounding.
pub fn is_near_tie(logits: &[f32], token: u32) -> bool {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let below = f64::from(largest) - f64::from(logits[token as usize]);
    below <= TOLERANCE * deviation(logits)
}

/// Whether so many near ties among so many tokens are too many to be rounding.
pub fn are_too_many(ties: usize, tokens: usize) -> bool {
    100 * ties > MOST_TIES * tokens
}

/// Whether two rows of logits differ by no more than rounding, root mean square.
pub fn are_near(a: &[f32], b: &[f32]) -> bool {
    let differences = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    let root = (differences.sum::<f64>() / a.len() as f64).sqrt();
    root <= TOLERANCE * deviation(a)
}

fn deviation(logits: &[f32]) -> f64 {
    let count = logits.len() as f64;
    let mean = logits.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let squares = logits.iter().map(|&x| (f64::from(x) - mean).powi(2));
    (squares.sum::<f64>() / count).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_tie_is_within_the_tolerance_of_the_largest() {
        // Mean 0 and standard deviation 1.
        let mut logits = [1.0, -1.0].repeat(50);
        assert!(is_near_tie(&logits, 0));
        assert!(!is_near_tie(&logits, 1));
        logits[2] += 0.02;
        assert!(is_near_tie(&logits, 0));
        logits[2] += 0.02;
        assert!(!is_near_tie(&logits, 0));
    }

    #[test]
    fn what_is_no_number_is_near_nothing() {
        let logits = [1.0, -1.0];
        assert!(!is_near_tie(&[1.0, f32::NAN], 1));
        assert!(!are_near(&logits, &[1.0, f32::NAN]));
        assert!(!are_near(&[f32::NAN; 2], &logits));
        assert!(!is_near_tie(&[f32::INFINITY, 1.0], 1));
    }

    #[test]
    fn rows_are_near_by_their_root_mean_square() {
        let logits = [1.0, -1.0].repeat(50);
        let moved = |by: f32| -> Vec<f32> { logits.iter().map(|x| x + by).collect() };
        assert!(are_near(&logits, &moved(0.029)));
        assert!(!are_near(&logits, &moved(0.031)));
    }

    #[test]
    fn three_of_a_hundred_tokens_may_be_ties() {
        assert!(!are_too_many(3, 100));
        assert!(are_too_many(4, 100));
        assert!(are_too_many(1, 33));
    }
}
