//! Gates on the CPU: near what real numbers give, the same bits in all instruction sets and at any number
//! of threads, and the packed form that of the crate that writes for the array.

#[path = "common/context.rs"]
mod context;

use context::context;
use onebit_aie::gemm::gated::{self, Factor, Row};
use onebit_aie::gemm::{Gated, Tiling, pack};
use onebit_cpu::array::{GateRow, pack_gate, unpack_scales, weights_of};
use onebit_cpu::{Isa, Kernels};
use onebit_plan::abi::{ARRAY_COLUMNS, ARRAY_ROWS, ArrayFn, ArrayProduct, ArrayRole, KernelId};

/// A gate with its operands; scales of weights are `codes * 2^exponent`.
struct Case {
    gated: Gated,
    tiling: Tiling,
    product: ArrayProduct,
    weights: Vec<i8>,
    scales: Vec<i32>,
    words: [u32; 4],
    segment: Vec<u8>,
    x: Vec<f32>,
}

const EXPONENTS: [i32; 2] = [-24, -22];

/// SplitMix64 as a number from -1 to 1.
fn unit(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ mixed >> 31) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

impl Case {
    /// Rows of very different sizes; the third is zeros, the fourth too small for a scale, the fifth has
    /// one that is no number.
    fn new(gated: Gated, m: usize) -> Self {
        let tiling = gated.tiling().unwrap();
        let (n, k) = (2 * gated.outputs as usize, gated.k as usize);
        let mut state = u64::from(gated.outputs + gated.k);
        let weights: Vec<i8> = (0..n * k).map(|_| (unit(&mut state) * 127.0) as i8).collect();
        let scales: Vec<i32> = (0..n)
            .map(|at| [65535.0, 32767.0][at / 8 % 2] * unit(&mut state).abs())
            .map(|scale| scale as i32)
            .collect();
        let mut squares = [0u32; 2];
        for (at, row) in weights.chunks_exact(k).enumerate() {
            let sum = row.iter().map(|w| u32::from(w.unsigned_abs()).pow(2)).sum();
            squares[at / 8 % 2] = squares[at / 8 % 2].max(sum);
        }
        let [gate, up] = EXPONENTS.map(i32::cast_unsigned);
        let words = [gate, up, squares[0], squares[1]];
        let mut segment: Vec<u8> = (0..8)
            .flat_map(|column| pack::gated_weights(&tiling, &weights, &scales, column))
            .collect();
        let place = segment.len() as u64;
        segment.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        let x = (0..m * k)
            .map(|at| match at / k {
                2 => 0.0,
                3 => unit(&mut state) * 1e-38,
                4 if at % k == 7 => f32::NAN,
                row => unit(&mut state) * 0.7 * ((row % 7) as f32 - 4.0).exp(),
            })
            .collect();
        let role = match gated.factor {
            Factor::Sigmoid => ArrayRole::Silu,
            Factor::Normal => ArrayRole::GeluTanh,
        };
        let product = ArrayProduct {
            weights: 0,
            scales: place,
            index: 0,
            n: n as u32,
            k: gated.k,
            group: gated.k,
            passes: tiling.passes,
            units: tiling.units,
            bricks: tiling.bricks,
            out_stride: gated.outputs + ARRAY_COLUMNS as u32 + 3,
            role: role as u32,
            reserved: 0,
        };
        Self { gated, tiling, product, weights, scales, words, segment, x }
    }

    /// Codes of a row with their power of two, as the ABI defines them.
    fn quantised(&self, row: usize) -> (Vec<i16>, i32) {
        let x = &self.x[row * self.gated.k as usize..][..self.gated.k as usize];
        let largest =
            x.iter().fold(0.0f32, |most, x| if x.is_nan() { *x } else { most.max(x.abs()) });
        if x.iter().any(|x| x.is_nan()) || largest < 2f32.powi(-100) {
            return (vec![0; x.len()], 0);
        }
        let exponent = largest.log2().floor() as i32 - 13;
        let code = |x: &f32| (f64::from(*x) * f64::from(-exponent).exp2()).round_ties_even();
        (x.iter().map(|x| code(x).clamp(-16383.0, 16383.0) as i16).collect(), exponent)
    }

    fn sum(&self, codes: &[i16], at: usize) -> i32 {
        let weights = &self.weights[at * codes.len()..][..codes.len()];
        codes.iter().zip(weights).map(|(&x, &w)| i32::from(x) * i32::from(w)).sum()
    }

    fn rows(&self) -> usize {
        self.x.len() / self.gated.k as usize
    }

    /// Codes and scales, `outputs + 8` a row, by `kernels` and `threads` threads.
    fn computed(&self, kernels: &Kernels, threads: u32) -> Vec<f32> {
        let (stride, width) =
            (self.product.out_stride as usize, self.gated.outputs as usize + ARRAY_COLUMNS);
        let m = self.rows();
        let mut out = vec![f32::NAN; m * stride];
        // SAFETY: the kernel of this id has this signature.
        let run: ArrayFn = unsafe { std::mem::transmute(kernels.function(KernelId::Array)) };
        for thread in 0..threads {
            let context = context(&self.segment, m, (thread, threads));
            // SAFETY: weights, activations and output are of the product's sizes.
            unsafe { run(&context, &self.product, 1, self.x.as_ptr(), out.as_mut_ptr(), m as u32) };
        }
        out.chunks(stride).flat_map(|row| row[..width].to_vec()).collect()
    }
}

fn real(factor: Factor, g: f64) -> f64 {
    match factor {
        Factor::Sigmoid => g / (1.0 + (-g).exp()),
        Factor::Normal => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (g + 0.044_715 * g * g * g);
            0.5 * g * (1.0 + inner.tanh())
        }
    }
}

const CASES: [(Gated, usize); 4] = [
    (Gated { outputs: 512, k: 72, factor: Factor::Normal }, 1),
    (Gated { outputs: 1024, k: 576, factor: Factor::Sigmoid }, 7),
    (Gated { outputs: 3072, k: 64, factor: Factor::Sigmoid }, 32),
    (Gated { outputs: 512, k: 1024, factor: Factor::Normal }, 9),
];

/// Against f64 on the same codes and weights: what integers change is below a thousandth of the largest
/// output of a row.
#[test]
fn outputs_are_near_those_of_real_numbers() {
    for (gated, m) in CASES {
        let case = Case::new(gated, m);
        let found = case.computed(&Kernels::for_isa(Isa::Portable).unwrap(), 1);
        let (outputs, width) = (gated.outputs as usize, gated.outputs as usize / 8);
        for (row, found) in found.chunks(outputs + 8).enumerate() {
            let (codes, exponent) = case.quantised(row);
            let (found, scales) = found.split_at(outputs);
            if row == 4 {
                assert!(scales.iter().all(|scale| scale.is_nan()), "no number");
                continue;
            }
            let value = |at: usize, which: usize| {
                let unit = f64::from(exponent + EXPONENTS[which]).exp2();
                f64::from(case.sum(&codes, at)) * f64::from(case.scales[at]) * unit
            };
            let expected: Vec<f64> = (0..outputs)
                .map(|at| at / 8 * 16 + at % 8)
                .map(|at| real(gated.factor, value(at, 0)) * value(at + 8, 1))
                .collect();
            let largest = expected.iter().fold(0.0f64, |most, y| most.max(y.abs()));
            let errors: Vec<f64> = found
                .iter()
                .zip(&expected)
                .enumerate()
                .map(|(at, (code, y))| f64::from(*code) * f64::from(scales[at / width]) - y)
                .collect();
            let most = errors.iter().fold(0.0f64, |most, error| most.max(error.abs()));
            let norm = |all: &[f64]| all.iter().map(|x| x * x).sum::<f64>().sqrt();
            let (peak, rms) =
                (most / largest.max(1e-300), norm(&errors) / norm(&expected).max(1e-300));
            println!("{gated:?}: row {row}: peak {peak:.1e}, rms {rms:.1e}");
            assert!(peak <= 3e-3 && rms <= 1e-2, "{gated:?}: row {row}: {peak} {rms}");
        }
    }
}

/// To the bit what the arithmetic of the array gives.
#[test]
fn all_ways_give_the_bits_of_the_definition() {
    for (gated, m) in CASES {
        let case = Case::new(gated, m);
        let weights = weights_of(case.words);
        let (outputs, width) = (gated.outputs as usize, gated.outputs as usize / 8);
        let table = gated.factor.table();
        let mut expected = Vec::new();
        for row in 0..m {
            let (codes, exponent) = case.quantised(row);
            let constants = Row::new(&weights, &codes, exponent);
            let y: Vec<i32> = (0..outputs)
                .map(|at| at / 8 * 16 + at % 8)
                .map(|at| {
                    let sums = [at, at + 8].map(|at| case.sum(&codes, at));
                    constants.output(&table, sums, [case.scales[at], case.scales[at + 8]])
                })
                .collect();
            let shifts: Vec<u32> =
                y.chunks(width).map(|y| gated::shift(y.iter().copied())).collect();
            expected.extend(y.iter().enumerate().map(|(at, y)| (y >> shifts[at / width]) as f32));
            let is_number = row != 4;
            let scale = |shift: &u32| f64::from(constants.exponent(*shift)).exp2() as f32;
            expected.extend(shifts.iter().map(|s| if is_number { scale(s) } else { f32::NAN }));
        }
        let bits = |all: &[f32]| -> Vec<u32> {
            all.iter().map(|x| if x.is_nan() { 1 } else { x.to_bits() }).collect()
        };
        for isa in Isa::ALL {
            let Some(kernels) = Kernels::for_isa(isa) else {
                println!("skipped: {isa:?} is not of this CPU");
                continue;
            };
            for threads in [1, 3, 9] {
                let found = case.computed(&kernels, threads);
                assert!(bits(&found) == bits(&expected), "{isa:?}, {threads} threads: {gated:?}");
            }
        }
    }
}

/// What is packed for the array is what its own crate packs, and scales come back from its shifts.
#[test]
fn packed_gates_are_those_of_the_array() {
    for (gated, m) in CASES {
        let case = Case::new(gated, m);
        let (tiling, weights) = (&case.tiling, weights_of(case.words));
        assert_eq!(case.product.gate_bytes() as u64, tiling.result_bytes());
        assert_eq!(case.product.gate_column_bytes() as u64, tiling.weight_bytes());
        let mut packed = vec![0x55; tiling.activation_bytes() as usize];
        let mut rows = [GateRow::default(); ARRAY_ROWS];
        pack_gate(&case.product, &weights, &case.x, &mut packed, &mut rows);

        let (codes, exponents): (Vec<Vec<i16>>, Vec<i32>) =
            (0..m).map(|row| case.quantised(row)).unzip();
        let (high, low): (Vec<i8>, Vec<i8>) =
            codes.iter().flatten().copied().map(pack::planes).unzip();
        let mut expected = vec![0xaa; packed.len()];
        pack::activations(tiling, &high, &low, &mut expected);
        for row in 0..ARRAY_ROWS {
            let none = Vec::new();
            let codes = codes.get(row).unwrap_or(&none);
            let exponent = exponents.get(row).copied().unwrap_or(0);
            gated::pack_row(tiling, row, &Row::new(&weights, codes, exponent), &mut expected);
        }
        assert!(packed == expected, "{gated:?}");

        let mut results = vec![0; 8 * tiling.result_bytes() as usize];
        let column = tiling.result_bytes() as usize;
        let at = |c: usize, r: usize| {
            c * column + tiling.code_bytes() as usize + r / 8 * 256 + r % 8 * 4
        };
        for (c, r) in (0..8).flat_map(|c| (0..m).map(move |r| (c, r))) {
            results[at(c, r)] = (3 * c + r % 3) as u8;
        }
        let mut d = vec![0.0; 8 * m];
        unpack_scales(&results, &rows, &mut d);
        for (c, r) in (0..8).flat_map(|c| (0..m).map(move |r| (c, r))) {
            let scale = rows[r].scale((3 * c + r % 3) as u32);
            assert!(d[r * 8 + c].to_bits() == scale.to_bits());
            assert_eq!(scale.is_nan(), r == 4);
        }
    }
}
