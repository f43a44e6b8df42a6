//! Random matrices of every storage class, and calls of the kernels on them.

use half::{bf16, f16};
use onebit_cpu::{Kernels, Row, Scales, pack_tile, packed_bytes, quantize_rows, tile_bytes};
use onebit_plan::abi::{Activation, StorageClass, TILE_ROWS, q8_bytes};

/// A small deterministic generator (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Uniform in `low..=high`.
    pub fn int(&mut self, low: i32, high: i32) -> i32 {
        low + (self.bits() >> 33) as i32 % (high - low + 1)
    }

    /// Uniform in -1..1.
    pub fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// What the codes and scales of a matrix look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Uniform codes, scales of either sign near 2^-6.
    Typical,
    /// Rows in turn: all least codes, all greatest codes, zero scales, tiny scales, huge scales.
    Extreme,
}

/// Minimum of classes without one: adding it keeps the sign of a zero product.
const NO_MIN: f32 = -0.0;

/// A matrix `[n, k]` before packing.
pub struct Matrix {
    pub class: StorageClass,
    pub n: usize,
    pub k: usize,
    codes: Vec<i8>,
    /// Scale and minimum of each 16 elements, as `scale * code + min` reads them.
    groups: Vec<(f32, f32)>,
    halves: [Vec<f16>; 2],
    singles: [Vec<f32>; 2],
    sub: Vec<i8>,
    sub_min: Vec<u8>,
    exponents: Vec<u8>,
    floats: Vec<f32>,
}

/// Values of a code, ascending, from the contract of `StorageClass`.
pub fn code_values(class: StorageClass) -> Vec<i8> {
    use StorageClass::*;
    let range = match class {
        B1D => return vec![-1, 1],
        N4D | N4K => {
            let mut levels = vec![-127, -104, -83, -65, -49, -35, -22, -10];
            levels.extend([1, 13, 25, 38, 53, 69, 89, 113]);
            return levels;
        }
        M4E => return vec![-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12],
        T2D => -1..=2,
        Q2K => 0..=3,
        Q3K => -4..=3,
        Q4D => -8..=7,
        Q4DM | Q4K => 0..=15,
        Q5D => -16..=15,
        Q5DM | Q5K => 0..=31,
        Q6K => -32..=31,
        Q8D | I8G16 | I8G16M | F16 | BF16 | F32 => -128..=127,
    };
    range.collect()
}

impl Matrix {
    pub fn random(class: StorageClass, n: usize, k: usize, kind: Kind, seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let mut matrix = Self {
            class,
            n,
            k,
            codes: Vec::new(),
            groups: Vec::new(),
            halves: Default::default(),
            singles: Default::default(),
            sub: Vec::new(),
            sub_min: Vec::new(),
            exponents: Vec::new(),
            floats: Vec::new(),
        };
        for row in 0..n {
            let scale = match (kind, row % 5) {
                (Kind::Extreme, 2) => 0.0,
                (Kind::Extreme, 3) => 6e-8,
                (Kind::Extreme, 4) => 60000.0,
                _ => 1.0 / 64.0,
            };
            if class.activation() == Activation::F32 {
                matrix.floats.extend((0..k).map(|_| round(class, random.float() * scale)));
                continue;
            }
            let values = code_values(class);
            let last = values.len() - 1;
            matrix.codes.extend((0..k).map(|_| match (kind, row % 5) {
                (Kind::Extreme, 0) => values[0],
                (Kind::Extreme, 1) => values[last],
                _ => values[random.int(0, last as i32) as usize],
            }));
            matrix.random_scales(scale, random);
        }
        matrix
    }

    fn random_scales(&mut self, scale: f32, random: &mut Random) {
        use StorageClass::*;
        match self.class {
            N4D | Q4D | Q4DM | Q5D | Q5DM | Q8D => {
                for _ in 0..self.k / 32 {
                    let d = f16::from_f32(random.float() * scale);
                    let m = f16::from_f32(random.float() * scale);
                    let has_min = matches!(self.class, Q4DM | Q5DM);
                    let min = if has_min { f32::from(m) } else { NO_MIN };
                    self.halves[0].push(d);
                    self.halves[1].push(m);
                    self.groups.extend([(f32::from(d), min); 2]);
                }
            }
            Q2K | Q3K | Q4K | Q5K | Q6K | N4K => {
                for _ in 0..self.k / 256 {
                    let d = f16::from_f32(random.float() * scale / 32.0);
                    let dmin = f16::from_f32(random.float() * scale / 32.0);
                    self.halves[0].push(d);
                    self.halves[1].push(dmin);
                    self.random_sub_scales(f32::from(d), f32::from(dmin), random);
                }
            }
            B1D | T2D => {
                for _ in 0..self.k / 128 {
                    let d = f16::from_f32(random.float() * scale);
                    self.halves[0].push(d);
                    self.groups.extend([(f32::from(d), NO_MIN); 8]);
                }
            }
            M4E => {
                for _ in 0..self.k / 32 {
                    // The lowest two exponents are subnormal; all powers are below 2^16.
                    let e = match scale {
                        0.0 => random.int(0, 2),
                        6e-8 => random.int(90, 110),
                        60000.0 => random.int(135, 143),
                        _ => random.int(115, 125),
                    };
                    self.exponents.push(e as u8);
                    self.groups.extend([(2.0f64.powi(e - 128) as f32, NO_MIN); 2]);
                }
            }
            I8G16 | I8G16M => {
                for _ in 0..self.k / 16 {
                    let pair = [random.float() * scale, random.float() * scale];
                    let min = if self.class == I8G16M { pair[1] } else { NO_MIN };
                    self.singles[0].push(pair[0]);
                    self.singles[1].push(pair[1]);
                    self.groups.push((pair[0], min));
                }
            }
            F16 | BF16 | F32 => {}
        }
    }

    fn random_sub_scales(&mut self, d: f32, dmin: f32, random: &mut Random) {
        if matches!(self.class, StorageClass::Q3K | StorageClass::Q6K) {
            for _ in 0..16 {
                let sub = random.int(-128, 127) as i8;
                self.sub.push(sub);
                self.groups.push((d * f32::from(sub), NO_MIN));
            }
            return;
        }
        if self.class == StorageClass::Q2K {
            for _ in 0..16 {
                let (sub, sub_min) = (random.int(0, 127) as i8, random.int(0, 255) as u8);
                self.sub.push(sub);
                self.sub_min.push(sub_min);
                self.groups.push((d * f32::from(sub), -(dmin * f32::from(sub_min))));
            }
            return;
        }
        if self.class == StorageClass::N4K {
            for _ in 0..8 {
                let sub = random.int(-128, 127) as i8;
                self.sub.push(sub);
                self.groups.extend([(d * f32::from(sub), NO_MIN); 2]);
            }
            return;
        }
        for _ in 0..8 {
            let sub = random.int(0, 63) as i8;
            let sub_min = random.int(0, 63) as u8;
            self.sub.push(sub);
            self.sub_min.push(sub_min);
            self.groups.extend([(d * f32::from(sub), -(dmin * f32::from(sub_min))); 2]);
        }
    }

    /// Element `i` of row `row` as f32: product first, both roundings kept.
    pub fn value(&self, row: usize, i: usize) -> f32 {
        let at = row * self.k + i;
        if self.class.activation() == Activation::F32 {
            return self.floats[at];
        }
        let (scale, min) = self.groups[at / 16];
        scale * f32::from(self.codes[at]) + min
    }

    pub fn row(&self, row: usize) -> Row<'_> {
        use StorageClass::*;
        let part = |per: usize| row * self.k / per..(row + 1) * self.k / per;
        let scales = match self.class {
            F16 | BF16 | F32 => return Row::Float(&self.floats[part(1)]),
            N4D | Q4D | Q5D | Q8D => Scales::Block32 { d: &self.halves[0][part(32)], m: None },
            Q4DM | Q5DM => {
                Scales::Block32 { d: &self.halves[0][part(32)], m: Some(&self.halves[1][part(32)]) }
            }
            Q4K | Q5K => Scales::Super {
                d: &self.halves[0][part(256)],
                dmin: &self.halves[1][part(256)],
                sub: &self.sub[part(32)],
                sub_min: &self.sub_min[part(32)],
            },
            B1D | T2D => Scales::Span128 { d: &self.halves[0][part(128)] },
            M4E => Scales::Exponent32 { e: &self.exponents[part(32)] },
            N4K => Scales::Super {
                d: &self.halves[0][part(256)],
                dmin: &[],
                sub: &self.sub[part(32)],
                sub_min: &[],
            },
            Q2K => Scales::Super {
                d: &self.halves[0][part(256)],
                dmin: &self.halves[1][part(256)],
                sub: &self.sub[part(16)],
                sub_min: &self.sub_min[part(16)],
            },
            Q3K | Q6K => Scales::Super {
                d: &self.halves[0][part(256)],
                dmin: &[],
                sub: &self.sub[part(16)],
                sub_min: &[],
            },
            I8G16 => Scales::Group16 { scale: &self.singles[0][part(16)], min: None },
            I8G16M => Scales::Group16 {
                scale: &self.singles[0][part(16)],
                min: Some(&self.singles[1][part(16)]),
            },
        };
        Row::Codes { codes: &self.codes[part(1)], scales }
    }

    pub fn pack(&self) -> Vec<u8> {
        let mut packed = vec![0xA5; packed_bytes(self.class, self.n, self.k)];
        let tiles = packed.chunks_exact_mut(tile_bytes(self.class, self.k));
        for (tile, out) in tiles.enumerate() {
            let first = tile * TILE_ROWS;
            let rows: Vec<_> =
                (first..self.n.min(first + TILE_ROWS)).map(|row| self.row(row)).collect();
            pack_tile(self.class, self.k, &rows, out).expect("a well-formed tile");
        }
        packed
    }
}

fn round(class: StorageClass, x: f32) -> f32 {
    match class {
        StorageClass::F16 => f16::from_f32(x).into(),
        StorageClass::BF16 => bf16::from_f32(x).into(),
        _ => x,
    }
}

/// Activations of `m` rows in the form that `class` reads.
pub fn activations(class: StorageClass, x: &[f32], m: usize, k: usize) -> Vec<u8> {
    match class.activation() {
        Activation::F32 => x.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Activation::Q8 => {
            // Rows of the last panel beyond m hold something else than zero.
            let mut out = vec![0x77; q8_bytes(m, k)];
            quantize_rows(x, m, k, &mut out);
            out
        }
    }
}

/// Output rows `range` of the product, as `[m][n]`; the others keep `-77.0`.
pub fn matmul(
    kernels: &Kernels,
    class: StorageClass,
    packed: &[u8],
    activations: &[u8],
    (m, n, k): (usize, usize, usize),
    range: std::ops::Range<usize>,
) -> Vec<f32> {
    let mut out = vec![-77.0; m * n];
    let function = kernels.matmul(class);
    // SAFETY: the buffers have the sizes that the shape asks for.
    unsafe {
        function(
            packed.as_ptr(),
            activations.as_ptr(),
            out.as_mut_ptr(),
            k as u32,
            range.start as u32,
            range.end as u32,
            m as u32,
            n as u32,
        );
    }
    out
}
