//! The ops that need neither cache nor weight source, over row-major slices.

use super::Row;
use crate::op::{Function, RopeSpec, RopeStyle};

/// `f(x)`, in f64.
pub(super) fn apply(function: Function, x: f32) -> f32 {
    let x = f64::from(x);
    let y = match function {
        Function::Silu => x / (1.0 + (-x).exp()),
        Function::GeluTanh => {
            let root = (2.0 / std::f64::consts::PI).sqrt();
            0.5 * x * (1.0 + (root * (x + 0.044715 * x * x * x)).tanh())
        }
        Function::ReluSquared => x.max(0.0) * x.max(0.0),
    };
    y as f32
}

/// `cap * tanh(x / cap)`, in f64.
pub(super) fn softcap(x: f32, cap: f32) -> f32 {
    (f64::from(cap) * (f64::from(x) / f64::from(cap)).tanh()) as f32
}

pub(super) fn zip(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> Vec<f32> {
    x.iter().zip(y).map(|(&x, &y)| f(x, y)).collect()
}

/// `x + b` of every row of `b`'s length.
pub(super) fn add_bias(x: &[f32], b: &[f32]) -> Vec<f32> {
    x.chunks_exact(b.len()).flat_map(|row| row.iter().zip(b)).map(|(x, b)| x + b).collect()
}

/// `x / sqrt(mean(x^2) + eps) * w` of every row of `w`'s length.
pub(super) fn rms_norm(x: &[f32], w: &[f32], eps: f32) -> Vec<f32> {
    let mut result = Vec::with_capacity(x.len());
    for row in x.chunks_exact(w.len()) {
        let squares: f64 = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        let factor = 1.0 / (squares / w.len() as f64 + f64::from(eps)).sqrt();
        result.extend(row.iter().zip(w).map(|(&x, &w)| (f64::from(x) * factor) as f32 * w));
    }
    result
}

/// Rotates the first `spec.dims` elements of each head of `dim`; angles are taken in f64.
pub(super) fn rope(
    x: &[f32],
    heads: usize,
    dim: usize,
    spec: &RopeSpec,
    factors: Option<&[f32]>,
    rows: &[Row],
) -> Vec<f32> {
    let (frequencies, magnitude) = spec.frequencies(factors);
    let mut result = x.to_vec();
    for (row, heads) in rows.iter().zip(result.chunks_exact_mut(heads * dim)) {
        for (pair, &frequency) in frequencies.iter().enumerate() {
            let angle = f64::from(row.position) * f64::from(frequency);
            let (sin, cos) = angle.sin_cos();
            let (sin, cos) = (sin * f64::from(magnitude), cos * f64::from(magnitude));
            let (first, second) = match spec.style {
                RopeStyle::Norm => (2 * pair, 2 * pair + 1),
                RopeStyle::Neox => (pair, pair + spec.dims / 2),
            };
            for head in heads.chunks_exact_mut(dim) {
                let (a, b) = (f64::from(head[first]), f64::from(head[second]));
                head[first] = (a * cos - b * sin) as f32;
                head[second] = (a * sin + b * cos) as f32;
            }
        }
    }
    result
}

/// Columns `first..` of `y` (rows of `width`) become `w x`, for rows of `x` and `w` of `inner`.
/// Rows of `x` are the inner loop: one pass over `w` serves them all.
pub(super) fn matmul(
    x: &[f32],
    w: &[f32],
    inner: usize,
    y: &mut [f32],
    width: usize,
    first: usize,
) {
    for (column, w) in w.chunks_exact(inner).enumerate() {
        for (row, x) in x.chunks_exact(inner).enumerate() {
            y[row * width + first + column] = dot(w, x);
        }
    }
}

/// `x . y` in 16 partial f32 sums, which the compiler keeps in vector registers, added in f64.
pub(super) fn dot(x: &[f32], y: &[f32]) -> f32 {
    let (x, x_rest) = x.as_chunks::<16>();
    let (y, y_rest) = y.as_chunks::<16>();
    let mut sums = [0.0f32; 16];
    for (x, y) in x.iter().zip(y) {
        for lane in 0..16 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let rest = x_rest.iter().zip(y_rest).map(|(&x, &y)| f64::from(x) * f64::from(y));
    (sums.iter().map(|&sum| f64::from(sum)).sum::<f64>() + rest.sum::<f64>()) as f32
}
