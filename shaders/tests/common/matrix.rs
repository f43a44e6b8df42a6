//! Random weights of every storage class with their exact values, and activations.

use half::f16;
use onebit_cpu::{Row, Scales, pack_tile, tile_bytes};
use onebit_plan::abi::{BLOCK, StorageClass, TILE_ROWS};
use onebit_plan::gpu::record;
use onebit_plan::layout::{Layout, ScaleForm};

/// xorshift64*
pub struct Random(pub u64);

impl Random {
    pub fn word(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    pub fn below(&mut self, limit: u32) -> u32 {
        ((u64::from(self.word()) * u64::from(limit)) >> 32) as u32
    }

    /// Between -1 and 1.
    pub fn float(&mut self) -> f32 {
        self.word() as i32 as f32 / 2f32.powi(31)
    }
}

/// What weights and scales are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ordinary,
    /// Every code the least one.
    Least,
    /// Every code the greatest one.
    Greatest,
    /// Scales near the largest that the form has.
    Huge,
    /// Scales near the smallest, subnormal in f16.
    Tiny,
}

pub const KINDS: [Kind; 5] = [Kind::Ordinary, Kind::Least, Kind::Greatest, Kind::Huge, Kind::Tiny];

/// A packed matrix and what it stands for.
pub struct Matrix {
    pub n: usize,
    pub k: usize,
    pub bytes: Vec<u8>,
    /// `[n][k]`
    pub values: Vec<f64>,
    /// `[n][k]`: the largest magnitude that arithmetic meets on the way to the value: the stored
    /// code's, which the offset is taken from, and the minimum's.
    pub magnitudes: Vec<f64>,
}

struct Drawn {
    codes: Vec<i8>,
    d: Vec<f16>,
    m: Vec<f16>,
    sub: Vec<i8>,
    sub_min: Vec<u8>,
    scale: Vec<f32>,
    min: Vec<f32>,
}

impl Matrix {
    pub fn random(class: StorageClass, n: usize, k: usize, kind: Kind, r: &mut Random) -> Self {
        match Layout::of(class) {
            Some(layout) => Self::integer(class, layout, n, k, kind, r),
            None => Self::float(class, n, k, r),
        }
    }

    fn integer(
        class: StorageClass,
        layout: Layout,
        n: usize,
        k: usize,
        kind: Kind,
        r: &mut Random,
    ) -> Self {
        let rows: Vec<Drawn> = (0..n).map(|_| Drawn::new(layout, k, kind, r)).collect();
        let packed: Vec<Row<'_>> = rows.iter().map(|row| row.source(layout)).collect();
        let bytes = pack(class, k, &packed);
        let mut matrix = Self { n, k, bytes, values: Vec::new(), magnitudes: Vec::new() };
        let bias = layout.bias.map_or(0.0, |shift| f64::from(1u32 << shift));
        for row in &rows {
            for i in 0..k {
                let (scale, min) = row.scale(layout, i);
                let code = f64::from(row.codes[i]);
                matrix.values.push(scale * code + min);
                matrix.magnitudes.push(scale.abs() * (code.abs() + bias) + min.abs());
            }
        }
        matrix
    }

    fn float(class: StorageClass, n: usize, k: usize, r: &mut Random) -> Self {
        let round = |x: f32| match class {
            StorageClass::F16 => f16::from_f32(x).to_f32(),
            StorageClass::BF16 => half::bf16::from_f32(x).to_f32(),
            _ => x,
        };
        let rows: Vec<Vec<f32>> =
            (0..n).map(|_| (0..k).map(|_| round(r.float())).collect()).collect();
        let packed: Vec<Row<'_>> = rows.iter().map(|row| Row::Float(row)).collect();
        let bytes = pack(class, k, &packed);
        let values: Vec<f64> = rows.iter().flatten().map(|&x| f64::from(x)).collect();
        let magnitudes = values.iter().map(|x| x.abs()).collect();
        Self { n, k, bytes, values, magnitudes }
    }
}

fn pack(class: StorageClass, k: usize, rows: &[Row<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for tile in rows.chunks(TILE_ROWS) {
        let mut packed = vec![0; tile_bytes(class, k)];
        pack_tile(class, k, tile, &mut packed).expect("a tile");
        bytes.extend(packed);
    }
    bytes
}

impl Drawn {
    fn new(layout: Layout, k: usize, kind: Kind, r: &mut Random) -> Self {
        let (least, greatest) = layout.value_range();
        let code = |r: &mut Random| match kind {
            Kind::Least => least,
            Kind::Greatest => greatest,
            _ => loop {
                let code = least + r.below((greatest - least + 1) as u32) as i32;
                if layout.has_value(code as i8) {
                    break code;
                }
            },
        };
        let size = |r: &mut Random| match kind {
            Kind::Huge => 65504.0 * (0.75 + 0.25 * r.float().abs()),
            Kind::Tiny => 6e-8 * (1.0 + 20.0 * r.float().abs()),
            _ => 0.02 * r.float(),
        };
        let half = |r: &mut Random| f16::from_f32(size(r));
        let codes: Vec<i8> = (0..k).map(|_| code(r) as i8).collect();
        let supers = match layout.blocks() {
            1 => k / BLOCK,
            _ if layout.scales == ScaleForm::Span => k / 128,
            _ => k.div_ceil(256),
        };
        let subs = if layout.has_groups() { k / 16 } else { k / BLOCK };
        Self {
            codes,
            d: (0..supers).map(|_| half(r)).collect(),
            m: (0..supers).map(|_| half(r)).collect(),
            sub: (0..subs).map(|_| r.word() as i8).collect(),
            sub_min: (0..subs)
                .map(|_| match (layout.scales, kind) {
                    (ScaleForm::Exponent, Kind::Tiny) => 2 + r.below(60) as u8,
                    (ScaleForm::Exponent, Kind::Huge) => 210 + r.below(4) as u8,
                    (ScaleForm::Exponent, _) => 112 + r.below(16) as u8,
                    _ => r.word() as u8,
                })
                .collect(),
            scale: (0..k / 16).map(|_| size(r)).collect(),
            min: (0..k / 16).map(|_| size(r)).collect(),
        }
    }

    fn source(&self, layout: Layout) -> Row<'_> {
        let scales = match layout.scales {
            ScaleForm::Block => Scales::Block32 { d: &self.d, m: None },
            ScaleForm::BlockMin => Scales::Block32 { d: &self.d, m: Some(&self.m) },
            ScaleForm::Span => Scales::Span128 { d: &self.d },
            ScaleForm::Exponent => Scales::Exponent32 { e: &self.sub_min },
            ScaleForm::SuperMin | ScaleForm::Super | ScaleForm::PairMin | ScaleForm::SuperSub => {
                Scales::Super { d: &self.d, dmin: &self.m, sub: &self.sub, sub_min: &self.sub_min }
            }
            ScaleForm::Group => Scales::Group16 { scale: &self.scale, min: None },
            ScaleForm::GroupMin => Scales::Group16 { scale: &self.scale, min: Some(&self.min) },
        };
        Row::Codes { codes: &self.codes, scales }
    }

    /// Scale and minimum of element `i`, as docs/storage-classes.md says.
    fn scale(&self, layout: Layout, i: usize) -> (f64, f64) {
        let d = |at: usize| f64::from(self.d[at]);
        let m = |at: usize| f64::from(self.m[at]);
        match layout.scales {
            ScaleForm::Block => (d(i / 32), 0.0),
            ScaleForm::BlockMin => (d(i / 32), m(i / 32)),
            ScaleForm::SuperMin => (
                d(i / 256) * f64::from(self.sub[i / 32]),
                -m(i / 256) * f64::from(self.sub_min[i / 32]),
            ),
            ScaleForm::Span => (d(i / 128), 0.0),
            ScaleForm::Exponent => (2f64.powi(i32::from(self.sub_min[i / 32]) - 128), 0.0),
            ScaleForm::SuperSub => (d(i / 256) * f64::from(self.sub[i / 32]), 0.0),
            ScaleForm::PairMin => (
                d(i / 256) * f64::from(self.sub[i / 16]),
                -m(i / 256) * f64::from(self.sub_min[i / 16]),
            ),
            ScaleForm::Super => (d(i / 256) * f64::from(self.sub[i / 16]), 0.0),
            ScaleForm::Group => (f64::from(self.scale[i / 16]), 0.0),
            ScaleForm::GroupMin => (f64::from(self.scale[i / 16]), f64::from(self.min[i / 16])),
        }
    }
}

/// Rows of activations `[rows][k]`, as floats and as records.
pub struct Activations {
    pub floats: Vec<f32>,
    pub records: Vec<u32>,
    /// What the records stand for.
    pub values: Vec<f64>,
}

impl Activations {
    pub fn random(rows: usize, k: usize, r: &mut Random) -> Self {
        let floats: Vec<f32> = (0..rows * k)
            .map(|i| match i / BLOCK % 7 {
                // A block of nothing, one with an outlier, and ordinary ones.
                3 => 0.0,
                5 if i % BLOCK == 11 => 300.0 * r.float(),
                _ => r.float(),
            })
            .collect();
        let (mut records, mut values) = (Vec::new(), Vec::new());
        if k.is_multiple_of(BLOCK) {
            for block in floats.chunks_exact(BLOCK) {
                let (words, decoded) = quantise(block);
                records.extend(words);
                values.extend(decoded);
            }
        }
        Self { floats, records, values }
    }
}

/// The record of 32 elements, as [`onebit_plan::gpu::record`] says, and the values it stands for.
pub fn quantise(block: &[f32]) -> (Vec<u32>, Vec<f64>) {
    let top = block.iter().fold(0f32, |top, x| top.max(x.abs()));
    let quotient = record::LEVELS / top;
    let (d, codes): (f32, Vec<i32>) = if quotient.is_finite() {
        let code = |x: &f32| (x * quotient).round_ties_even() as i32;
        (top / record::LEVELS, block.iter().map(code).collect())
    } else {
        (0.0, vec![0; block.len()])
    };
    let quad = |q: usize, of: fn(i32) -> i32| {
        let bytes: Vec<u8> = codes[4 * q..4 * q + 4].iter().map(|&code| of(code) as u8).collect();
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    };
    let mut words = Vec::new();
    for w in 0..4 {
        words.extend([w, w + 4].map(|q| quad(q, |code| code >> 7)));
        words.extend([w, w + 4].map(|q| quad(q, |code| code & 127)));
    }
    let sum = |half: &[i32]| (d * half.iter().sum::<i32>() as f32).to_bits();
    words.extend([d.to_bits(), sum(&codes[..16]), sum(&codes[16..]), 0]);
    let values = codes.iter().map(|&code| f64::from(d) * f64::from(code)).collect();
    (words, values)
}
