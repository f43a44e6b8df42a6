//! Operands of products for tests: any bytes, the same for the same seed.

use onebit_aie::gemm::{Shape, Tiling, pack};

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
