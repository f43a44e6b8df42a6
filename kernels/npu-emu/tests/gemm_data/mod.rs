//! Operands of products for tests: any bytes, the same for the same seed.

use onebit_aie::gemm::gated::{self, Row, Weights};
use onebit_aie::gemm::{Gated, Shape, Tiling, pack};

/// Two planes of activations and weights.
pub struct Operands {
    pub high: Vec<i8>,
    pub low: Vec<i8>,
    pub weights: Vec<i8>,
}

impl Operands {
    /// `rows` rows of random activations and the weights of `shape`.
    pub fn random(shape: &Shape, rows: usize, seed: u64) -> Self {
        let (n, k) = (shape.n as usize, shape.k as usize);
        let mut state = seed;
        let mut bytes = |count: usize| (0..count).map(|_| next(&mut state)).collect();
        Operands { high: bytes(rows * k), low: bytes(rows * k), weights: bytes(n * k) }
    }
}

impl Operands {
    /// The activations as a call takes them.
    pub fn activations(&self, tiling: &Tiling) -> Vec<u8> {
        let mut packed = vec![0xff; usize::try_from(tiling.activation_bytes()).unwrap()];
        pack::activations(tiling, &self.high, &self.low, &mut packed);
        packed
    }
}

/// All 32 rows of a call's results.
pub fn results(tiling: &Tiling, packed: &[u8]) -> Vec<i32> {
    let mut results = vec![-1; pack::result_count(tiling, 32)];
    pack::results(tiling, 32, packed, &mut results);
    results
}

/// SplitMix64, a byte of it.
fn next(state: &mut u64) -> i8 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ mixed >> 31) as i8
}

/// A gated product's operands: codes of activations with a power of two for each row, weights of
/// gate and up by turns of eight rows, and the codes of their scales.
pub struct GatedOperands {
    gated: Gated,
    codes: Vec<i16>,
    exponents: Vec<i32>,
    weights: Vec<i8>,
    scales: Vec<i32>,
    constants: Weights,
}

#[allow(dead_code)]
impl GatedOperands {
    /// `rows` rows of all sizes, some of zeros.
    pub fn random(gated: &Gated, rows: usize, seed: u64) -> Self {
        let (n, k) = (2 * gated.outputs as usize, gated.k as usize);
        let mut state = seed;
        let mut byte = || i16::from(next(&mut state));
        let exponents = (0..rows).map(|row| i32::from(byte()) / 16 - row as i32 % 3 - 7).collect();
        let codes = (0..rows * k)
            .map(|at| {
                let most = if at / k % 11 == 5 { 0 } else { 16383 >> (at / k % 5) };
                ((i32::from(byte()) * 128 + i32::from(byte())) % (most + 1)) as i16
            })
            .collect();
        let weights: Vec<i8> = (0..n * k).map(|_| byte().max(-127) as i8).collect();
        let scale = |at: usize, high: i16, low: i16| {
            let most = [511, 255][at / 8 % 2];
            (i32::from(high) * most + i32::from(low)).abs().min(128 * most + 127)
        };
        let scales = (0..n).map(|at| scale(at, byte(), byte())).collect();
        let mut squares = [0; 2];
        for (row, weights) in weights.chunks_exact(k).enumerate() {
            let sum: u64 = weights.iter().map(|&w| u64::from(w.unsigned_abs()).pow(2)).sum();
            let most = &mut squares[row / 8 % 2];
            *most = sum.max(*most);
        }
        let constants = Weights { exponents: [-23, -26], squares };
        GatedOperands { gated: *gated, codes, exponents, weights, scales, constants }
    }

    fn rows(&self) -> Vec<Row> {
        let rows = self.codes.chunks_exact(self.gated.k as usize).zip(&self.exponents);
        rows.map(|(codes, &exponent)| Row::new(&self.constants, codes, exponent)).collect()
    }

    /// What a call takes of the activations.
    pub fn activations(&self, tiling: &Tiling) -> Vec<u8> {
        let (high, low): (Vec<i8>, Vec<i8>) = self.codes.iter().copied().map(pack::planes).unzip();
        let mut packed = vec![0xff; usize::try_from(tiling.activation_bytes()).unwrap()];
        pack::activations(tiling, &high, &low, &mut packed);
        for (row, constants) in self.rows().iter().enumerate() {
            gated::pack_row(tiling, row, constants, &mut packed);
        }
        packed
    }

    /// What a call takes of the weights.
    pub fn packed_weights(&self, tiling: &Tiling) -> Vec<u8> {
        let column = |column| pack::gated_weights(tiling, &self.weights, &self.scales, column);
        (0..8).flat_map(column).collect()
    }

    /// Codes `[row][output]`, and shifts `[column][row]`.
    pub fn expected(&self, tiling: &Tiling) -> (Vec<i16>, Vec<Vec<u32>>) {
        let (outputs, k) = (self.gated.outputs as usize, self.gated.k as usize);
        let width = tiling.gated_width() as usize;
        let table = self.gated.factor.table();
        let mut codes = Vec::new();
        let mut shifts = vec![Vec::new(); 8];
        for (x, row) in self.codes.chunks_exact(k).zip(self.rows()) {
            let sum = |n: usize| -> i32 {
                let weights = &self.weights[n * k..][..k];
                x.iter().zip(weights).map(|(&x, &w)| i32::from(x) * i32::from(w)).sum()
            };
            let y: Vec<i32> = (0..outputs)
                .map(|at| {
                    let gate = at / 8 * 16 + at % 8;
                    let scales = [self.scales[gate], self.scales[gate + 8]];
                    row.output(&table, [sum(gate), sum(gate + 8)], scales)
                })
                .collect();
            for (y, shifts) in y.chunks_exact(width).zip(&mut shifts) {
                let shift = gated::shift(y.iter().copied());
                shifts.push(shift);
                codes.extend(y.iter().map(|y| i16::try_from(y >> shift).unwrap()));
            }
        }
        (codes, shifts)
    }
}
