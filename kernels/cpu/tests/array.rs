//! Array products on the CPU against sums in plain loops, against each other in all instruction
//! sets, and the packed form against the crate that writes for the array.

#[path = "common/context.rs"]
mod context;

use context::context;
use onebit_aie::gemm::{Results, Shape, Tiling, pack};
use onebit_cpu::array::{pack_activations, unpack_results};
use onebit_cpu::{Isa, Kernels};
use onebit_plan::abi::{ARRAY_LEVELS, ARRAY_ROWS, ArrayFn, ArrayProduct, KernelId};

/// A product with its operands.
struct Case {
    product: ArrayProduct,
    tiling: Tiling,
    codes: Vec<i8>,
    /// Packed weights, then scales.
    segment: Vec<u8>,
    x: Vec<f32>,
    m: usize,
}

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn unit(&mut self) -> f32 {
        self.next() as f32 / (1u64 << 30) as f32 - 1.0
    }
}

/// What the operands are made of.
#[derive(Clone, Copy)]
enum Kind {
    Random,
    /// All codes and activations at one end of their range: the largest sums there are.
    Least,
    Most,
    Zero,
    /// Activations too small for a scale, and a row with one that is no number.
    Odd,
}

impl Case {
    fn new(n: u32, k: u32, group: u32, m: usize, kind: Kind) -> Self {
        // What is missing in the last of several groups is zeros.
        let depth = if k > group { k.next_multiple_of(group) } else { k };
        let shape = Shape { n, k: depth, group, results: Results::Combined };
        let tiling = Tiling::new(&shape).unwrap();
        let mut numbers = Numbers(u64::from(n) << 32 | u64::from(k));
        let codes: Vec<i8> = (0..n * depth)
            .map(|at| match kind {
                _ if at % depth >= k => 0,
                Kind::Random | Kind::Odd => (numbers.next() % 255) as i8,
                Kind::Least => -127,
                Kind::Most => 127,
                Kind::Zero => 0,
            })
            .collect();
        let x = (0..m * k as usize)
            .map(|at| match kind {
                Kind::Odd if at == k as usize => f32::NAN,
                Kind::Odd => numbers.unit() * 1e-38,
                Kind::Random => numbers.unit() * 3.0,
                Kind::Least | Kind::Most => -2.5,
                Kind::Zero => 0.0,
            })
            .collect();
        let weights = pack::weights(&tiling, &codes);
        let scales: Vec<f32> = (0..depth / group * n).map(|_| numbers.unit()).collect();
        let product = ArrayProduct {
            weights: 0,
            scales: weights.len() as u64,
            index: 0,
            n,
            k,
            group,
            passes: tiling.passes,
            units: tiling.units,
            bricks: tiling.bricks,
            out_stride: n + 3,
            role: 0,
            reserved: 0,
        };
        let mut segment = weights;
        scales.iter().for_each(|scale| segment.extend(scale.to_le_bytes()));
        Self { product, tiling, codes, segment, x, m }
    }

    fn scale(&self, group: usize, n: usize) -> f32 {
        let at = self.product.scales as usize + (group * self.product.n as usize + n) * 4;
        f32::from_le_bytes(self.segment[at..at + 4].try_into().unwrap())
    }

    /// Codes and scale of one group of one row, as the ABI defines them.
    fn quantised(&self, row: usize, group: usize) -> (Vec<i32>, f32) {
        let (k, size) = (self.product.k as usize, self.product.group as usize);
        let x = &self.x[row * k..][group * size..k.min((group + 1) * size)];
        if x.iter().any(|x| x.is_nan()) {
            return (vec![0; size], f32::NAN);
        }
        let largest = x.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let factor = if largest > 1e-34 { ARRAY_LEVELS / largest } else { 0.0 };
        let codes = x.iter().map(|x| (x * factor).round_ties_even() as i32);
        let zeros = std::iter::repeat_n(0, size - x.len());
        (codes.chain(zeros).collect(), largest / ARRAY_LEVELS)
    }

    /// Outputs by the definition, in plain loops.
    fn expected(&self) -> Vec<u32> {
        let (n, size) = (self.product.n as usize, self.product.group as usize);
        let k = self.tiling.shape.k as usize;
        let mut outputs = Vec::new();
        for row in 0..self.m {
            for output in 0..n {
                let mut sum = 0.0f32;
                for group in 0..k / size {
                    let (codes, d) = self.quantised(row, group);
                    let weights = &self.codes[output * k + group * size..][..size];
                    let terms = codes.iter().zip(weights).map(|(x, &w)| x * i32::from(w));
                    let dot: i32 = terms.sum();
                    sum = (dot as f32 * d).mul_add(self.scale(group, output), sum);
                }
                outputs.push(bits(sum));
            }
        }
        outputs
    }

    /// Outputs of `kernels`, `threads` threads one after another.
    fn computed(&self, kernels: &Kernels, threads: u32) -> Vec<u32> {
        let stride = self.product.out_stride as usize;
        let mut out = vec![f32::NAN; self.m * stride];
        // SAFETY: the kernel of this id has this signature.
        let run: ArrayFn = unsafe { std::mem::transmute(kernels.function(KernelId::Array)) };
        for thread in 0..threads {
            let context = context(&self.segment, self.m, (thread, threads));
            // SAFETY: weights, activations and output are of the product's sizes.
            unsafe {
                run(&context, &self.product, 1, self.x.as_ptr(), out.as_mut_ptr(), self.m as u32);
            }
        }
        self.rows(&out)
    }

    /// The way over the array, which `pack::product` stands in for.
    fn offloaded(&self) -> Vec<u32> {
        let groups = self.product.groups();
        let mut packed = vec![0xaa; self.product.activation_bytes()];
        let mut d = vec![0.0; self.m * groups];
        pack_activations(&self.product, &self.x, &mut packed, &mut d);
        let (high, low) = self.planes();
        let mut expected = vec![0x55; self.tiling.activation_bytes() as usize];
        pack::activations(&self.tiling, &high, &low, &mut expected);
        assert_eq!(packed, expected, "packed activations");
        let sums = pack::product(&self.tiling, &high, &low, &self.codes);
        let results = self.packed_results(&sums);
        let scales: Vec<f32> = (0..groups)
            .flat_map(|group| (0..self.product.n as usize).map(move |n| (group, n)))
            .map(|(group, n)| self.scale(group, n))
            .collect();
        let mut out = vec![f32::NAN; self.m * self.product.out_stride as usize];
        unpack_results(&self.product, &results, &d, &scales, &mut out);
        self.rows(&out)
    }

    fn planes(&self) -> (Vec<i8>, Vec<i8>) {
        let groups = self.product.groups();
        let codes = (0..self.m)
            .flat_map(|row| (0..groups).flat_map(move |group| self.quantised(row, group).0));
        codes.map(|code| pack::planes(i16::try_from(code).unwrap())).unzip()
    }

    /// `[group][row][n]` in the order of the array, found by unpacking numbered words.
    fn packed_results(&self, sums: &[i32]) -> Vec<u8> {
        assert_eq!(self.product.result_bytes() as u64, 8 * self.tiling.result_bytes());
        let words = self.product.result_bytes() / 4;
        let numbers: Vec<u8> = (0..words as i32).flat_map(i32::to_le_bytes).collect();
        let mut places = vec![0; sums.len()];
        pack::results(&self.tiling, self.m as u32, &numbers, &mut places);
        let mut results = vec![0x77; words * 4];
        for (&place, sum) in places.iter().zip(sums) {
            results[place as usize * 4..][..4].copy_from_slice(&sum.to_le_bytes());
        }
        results
    }

    fn rows(&self, out: &[f32]) -> Vec<u32> {
        let n = self.product.n as usize;
        let rows = out.chunks(self.product.out_stride as usize);
        rows.flat_map(|row| row[..n].iter().map(|&x| bits(x))).collect()
    }
}

/// Bits, the same for all that is no number: which of those an operation gives is the CPU's choice.
fn bits(x: f32) -> u32 {
    if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }
}

#[test]
fn all_ways_give_the_bits_of_the_definition() {
    let shapes = [
        (8, 64, 64),
        (1, 8, 8),
        (65, 40, 40),
        (130, 128, 64),
        (576, 576, 576),
        (100, 384, 192),
        (77, 2048, 1024),
        (600, 256, 256),
        // The last group is shorter.
        (70, 1100, 576),
        (24, 130, 64),
    ];
    for (n, k, group) in shapes {
        for (m, kind) in [
            (1, Kind::Random),
            (3, Kind::Most),
            (9, Kind::Least),
            (32, Kind::Random),
            (2, Kind::Zero),
            (3, Kind::Odd),
        ] {
            let case = Case::new(n, k, group, m, kind);
            let expected = case.expected();
            assert_eq!(case.offloaded(), expected, "by the array: [{n}, {k}] / {group}, m {m}");
            for isa in Isa::ALL {
                let Some(kernels) = Kernels::for_isa(isa) else {
                    println!("skipped: {isa:?} is not of this CPU");
                    continue;
                };
                for threads in [1, 3] {
                    let computed = case.computed(&kernels, threads);
                    assert_eq!(computed, expected, "{isa:?}: [{n}, {k}] / {group}, m {m}");
                }
            }
        }
    }
}

/// The outputs of several products stand side by side.
#[test]
fn products_of_one_call_give_what_each_gives_alone() {
    let mut cases =
        [(64, 3), (128, 3), (5, 3)].map(|(n, m)| Case::new(n, 200, 128, m, Kind::Random));
    let x = cases[0].x.clone();
    let (mut segment, stride) = (Vec::new(), 64 + 128 + 5 + 2);
    let mut products = Vec::new();
    for case in &mut cases {
        case.x.clone_from(&x);
        let offset = segment.len() as u64;
        segment.extend_from_slice(&case.segment);
        let (weights, scales) = (offset, offset + case.product.scales);
        products.push(ArrayProduct { weights, scales, out_stride: stride, ..case.product });
    }
    let alone = cases.each_ref().map(Case::expected);
    for isa in Isa::ALL {
        let Some(kernels) = Kernels::for_isa(isa) else { continue };
        // SAFETY: the kernel of this id has this signature.
        let run: ArrayFn = unsafe { std::mem::transmute(kernels.function(KernelId::Array)) };
        let mut out = vec![f32::NAN; 3 * stride as usize];
        for thread in 0..2 {
            let context = context(&segment, 3, (thread, 2));
            // SAFETY: weights, activations and output are of the products' sizes.
            unsafe { run(&context, products.as_ptr(), 3, x.as_ptr(), out.as_mut_ptr(), 3) };
        }
        for (row, out) in out.chunks(stride as usize).enumerate() {
            let n = [64, 128, 5];
            let expected = alone.iter().zip(n).flat_map(|(all, n)| &all[row * n..][..n]);
            let found = out.iter().take(197).map(|&x| bits(x));
            assert!(found.eq(expected.copied()), "{isa:?}, row {row}");
            assert!(out[197..].iter().all(|x| x.is_nan()), "{isa:?}: beyond the outputs");
        }
    }
}

#[test]
fn sizes_are_those_of_the_array() {
    for (n, k, group) in [(960, 576, 576), (3072, 576, 576), (576, 1536, 768), (192, 64, 64)] {
        let Case { product, tiling, .. } = Case::new(n, k, group, ARRAY_ROWS, Kind::Zero);
        assert_eq!(product.activation_bytes() as u64, tiling.activation_bytes());
        assert_eq!(product.column_bytes() as u64, tiling.weight_bytes());
        assert_eq!(product.result_bytes() as u64, 8 * tiling.result_bytes());
    }
}
