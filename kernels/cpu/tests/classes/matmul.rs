//! Every class on every instruction set: the same bits, whatever m and the range, and close to
//! the product in f64.

use onebit_cpu::{Isa, Kernels, supports};
use onebit_plan::abi::{Activation, BLOCK, StorageClass, refinement_limit};

use crate::support::{Kind, Matrix, Random, activations, matmul};

const ROWS: [usize; 9] = [1, 2, 3, 4, 5, 8, 9, 31, 32];
const WIDTHS: [usize; 9] = [32, 96, 128, 256, 384, 576, 768, 1536, 37];

fn all_kernels() -> impl Iterator<Item = Kernels> {
    Isa::ALL.into_iter().filter_map(Kernels::for_isa)
}

fn random_rows(m: usize, k: usize, kind: Kind, seed: u64) -> Vec<f32> {
    let random = &mut Random::new(seed);
    let mut x: Vec<f32> = (0..m * k).map(|_| random.float() * 3.0).collect();
    if kind == Kind::Extreme {
        for (b, block) in x.chunks_mut(BLOCK).enumerate() {
            match b % 4 {
                0 => block.fill(0.0),
                1 => block.iter_mut().for_each(|x| *x = x.signum() * 1e6),
                2 => block.iter_mut().for_each(|x| *x *= 1e-12),
                _ => block[0] = 1e4,
            }
        }
    }
    x
}

/// What a kernel sees of an activation row: the quantised values, in f64.
fn seen(class: StorageClass, x: &[f32]) -> Vec<f64> {
    if class.activation() == Activation::F32 {
        return x.iter().map(|x| f64::from(*x)).collect();
    }
    let limit = sum_of_squares(x) * refinement_limit(x.len());
    let mut seen = Vec::new();
    for block in x.chunks(BLOCK) {
        let (d, codes) = codes(block);
        // Blocks with an element far above the row are refined by what their codes leave.
        let rest: Vec<f32> = block.iter().zip(&codes).map(|(x, q)| (-q).mul_add(d, *x)).collect();
        let (e, fine) = if d * d > limit { self::codes(&rest) } else { (0.0, vec![0.0; BLOCK]) };
        let value =
            |(q, p): (&f32, &f32)| f64::from(d) * f64::from(*q) + f64::from(e) * f64::from(*p);
        seen.extend(codes.iter().zip(&fine).map(value));
    }
    seen
}

/// Scale and codes of a block.
fn codes(block: &[f32]) -> (f32, Vec<f32>) {
    let largest = block.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    (largest / 127.0, block.iter().map(|x| (x * inverse).round_ties_even()).collect())
}

/// In the order that `refinement_limit` states.
fn sum_of_squares(x: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    for (i, x) in x.iter().enumerate() {
        sums[i % 8] = x.mul_add(*x, sums[i % 8]);
    }
    let [a, b, c, d] = [0, 1, 2, 3].map(|l| sums[l] + sums[l + 4]);
    (a + c) + (b + d)
}

fn assert_close(matrix: &Matrix, row: &[f32], out: &[f32], case: &str) {
    let x = seen(matrix.class, row);
    for (n, got) in out.iter().enumerate() {
        let terms = x.iter().enumerate().map(|(i, x)| x * f64::from(matrix.value(n, i)));
        let (sum, size) =
            terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
        // Each step of the sum rounds by at most 2^-24 of what is summed; K minima and scales of
        // opposite sign make partial sums larger than the terms, hence the factor.
        let bound = size * 2e-5 + 1e-30;
        let error = (f64::from(*got) - sum).abs();
        assert!(error <= bound, "{case}: output {n} is {got}, expected {sum} within {bound}");
    }
}

fn check(class: StorageClass, n: usize, k: usize, kind: Kind) {
    let matrix = Matrix::random(class, n, k, kind, (n * k) as u64);
    let packed = matrix.pack();
    let most = ROWS[ROWS.len() - 1];
    let x = random_rows(most, k, kind, k as u64);
    let mut reference: Option<Vec<f32>> = None;
    for kernels in all_kernels() {
        for m in ROWS {
            let case = format!("{class:?} {kind:?} {:?} m={m} n={n} k={k}", kernels.isa());
            let input = activations(class, &x[..m * k], m, k);
            let out = matmul(&kernels, class, &packed, &input, (m, n, k), 0..n);
            if let Some(reference) = &reference {
                assert_same(&reference[..out.len().min(reference.len())], &out, &case);
            } else {
                let input = activations(class, &x, most, k);
                let out = matmul(&kernels, class, &packed, &input, (most, n, k), 0..n);
                for (row, out) in x.chunks(k).zip(out.chunks(n)) {
                    assert_close(&matrix, row, out, &case);
                }
                reference = Some(out);
            }
        }
    }
}

fn assert_same(expected: &[f32], found: &[f32], case: &str) {
    assert_eq!(expected.len(), found.len(), "{case}");
    for (i, (expected, found)) in expected.iter().zip(found).enumerate() {
        assert!(
            expected.to_bits() == found.to_bits(),
            "{case}: output {i} is {found:e}, portable m=32 has {expected:e}"
        );
    }
}

fn check_class(class: StorageClass) {
    for k in WIDTHS.into_iter().filter(|k| supports(class, *k)) {
        check(class, 37, k, Kind::Typical);
        check(class, 16, k, Kind::Extreme);
    }
    check(class, 1, 256, Kind::Typical);
}

macro_rules! class_tests {
    ($($test:ident: $class:ident)*) => { $(
        #[test]
        fn $test() {
            check_class(StorageClass::$class);
        }
    )* };
}

class_tests! {
    b1d: B1D t2d: T2D q2k: Q2K q3k: Q3K m4e: M4E n4k: N4K n4d: N4D
    q4d: Q4D q4dm: Q4DM q5d: Q5D q5dm: Q5DM q8d: Q8D q4k: Q4K q5k: Q5K q6k: Q6K
    i8g16: I8G16 i8g16m: I8G16M f16: F16 bf16: BF16 f32: F32
}

#[test]
fn a_range_writes_its_outputs_and_no_others() {
    let (n, k) = (101, 256);
    for class in StorageClass::ALL {
        let matrix = Matrix::random(class, n, k, Kind::Typical, 7);
        let packed = matrix.pack();
        for kernels in all_kernels() {
            for m in [1, 3, 9] {
                let x = activations(class, &random_rows(m, k, Kind::Typical, 5), m, k);
                let whole = matmul(&kernels, class, &packed, &x, (m, n, k), 0..n);
                for range in [0..16, 16..80, 96..101, 32..101, 48..48] {
                    let part = matmul(&kernels, class, &packed, &x, (m, n, k), range.clone());
                    let expected: Vec<f32> = whole
                        .iter()
                        .enumerate()
                        .map(|(i, x)| if range.contains(&(i % n)) { *x } else { -77.0 })
                        .collect();
                    assert_same(&expected, &part, &format!("{class:?} {range:?} m={m}"));
                }
            }
        }
    }
}
