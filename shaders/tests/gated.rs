//! Gated products, embeddings and prologues on lavapipe against f64.

#[path = "common/catalogue.rs"]
#[allow(dead_code, reason = "only some of its programs are run here")]
mod catalogue;
#[path = "common/device.rs"]
#[allow(dead_code, reason = "each test binary uses a part")]
mod device;
#[path = "common/matrix.rs"]
#[allow(dead_code, reason = "each test binary uses a part")]
mod matrix;

use device::{Gpu, step_bytes};
use matrix::{Activations, Kind, Matrix, Random};
use onebit_ir::Function;
use onebit_plan::abi::StorageClass;
use onebit_plan::gpu::{binding, record};
use onebit_shaders::Immediate;
use onebit_shaders::gated::Gated;
use onebit_shaders::gather::Gather;
use onebit_shaders::product::{Input, PART_BINDINGS};

const UNTOUCHED: u32 = 0x7fc0_dead;
const WEIGHTS_AT: usize = 4;
const RECORDS_AT: usize = 8;

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The values of records `[count]`.
fn decode(words: &[u32]) -> Vec<f64> {
    let mut values = Vec::new();
    for record in words.chunks_exact(4 * record::WORDS) {
        let d = f64::from(f32::from_bits(record[16]));
        let byte = |word: u32, i: usize| word.to_le_bytes()[i] as i8;
        let code = |e: usize| {
            let (quad, i) = (e / 4, e % 4);
            let word = &record[4 * (quad % 4)..];
            let (high, low) = (byte(word[quad / 4], i), byte(word[2 + quad / 4], i));
            assert!(low >= 0, "low halves are not negative");
            128 * i32::from(high) + i32::from(low)
        };
        let codes: Vec<i32> = (0..32).map(code).collect();
        for (half, sum) in codes.chunks_exact(16).zip(&record[17..19]) {
            let exact = d * f64::from(half.iter().sum::<i32>());
            let found = f64::from(f32::from_bits(*sum));
            assert!((found - exact).abs() <= 1e-6 * exact.abs(), "{found}, expected {exact}");
        }
        assert_eq!(record[19], 0);
        values.extend(codes.iter().map(|&code| d * f64::from(code)));
    }
    values
}

/// Words of the records that a gated product leaves, row by row.
fn run(
    gpu: &Gpu,
    gated: &Gated<'_>,
    matrices: [&Matrix; 2],
    x: &Activations,
    rows: usize,
) -> Vec<u32> {
    let kernel = gated.kernel();
    let mut arena = vec![UNTOUCHED; 4 * RECORDS_AT];
    arena.extend(&x.records);
    let floats_at = arena.len();
    arena.extend(x.floats.iter().map(|x| x.to_bits()));
    let out = arena.len() + 4;
    let row = gated.n / 32 * 4 * record::WORDS;
    arena.extend(vec![UNTOUCHED; 4 + (rows + gated.m) * row]);
    let arena = gpu.buffer(&bytes(&arena));
    let weights = matrices.map(|matrix| {
        let mut bytes = vec![0xa5; 16 * WEIGHTS_AT];
        bytes.extend(&matrix.bytes);
        gpu.buffer(&bytes)
    });
    let steps = gpu.buffer(&step_bytes(rows, 0, &[]));
    let mut buffers = vec![(binding::ARENA, &arena), (binding::STEP, &steps)];
    buffers.extend(PART_BINDINGS.into_iter().zip(&weights));
    let immediate = |it| match it {
        Immediate::Weights { .. } => WEIGHTS_AT as u32,
        Immediate::Records => RECORDS_AT as u32,
        Immediate::Arg { program: 0, arg: 0 } => floats_at as u32,
        Immediate::Out { index: 0 } => out as u32 / 4,
        other => panic!("{other:?}"),
    };
    gpu.run(&kernel, &gpu.pipeline(&kernel), &buffers, immediate, gated.groups(rows));
    let found = gpu.words(&arena);
    let (written, rest) = found[out..].split_at(rows * row);
    assert!(rest[..gated.m * row].iter().all(|&word| word == UNTOUCHED), "{}", kernel.name);
    written.to_vec()
}

fn apply(function: Function, x: f64) -> f64 {
    match function {
        Function::Silu => x / (1.0 + (-x).exp()),
        Function::GeluTanh => {
            0.5 * x * (1.0 + (0.797_884_560_802_865_4 * (x + 0.044715 * x * x * x)).tanh())
        }
        Function::ReluSquared => x.max(0.0).powi(2),
    }
}

#[test]
fn gated_products_leave_records() {
    let Some(gpu) = Gpu::open() else { return };
    let mut random = Random(11);
    let (n, k, rows) = (96, 512, 6);
    let mixed = [StorageClass::Q4D, StorageClass::Q6K];
    let classes = catalogue::integers().map(|class| [class, class]).chain([mixed]);
    for (i, classes) in classes.enumerate() {
        let function = Function::ALL[i % Function::ALL.len()];
        let program = catalogue::join(function, n);
        let [gate, up] =
            classes.map(|class| Matrix::random(class, n, k, Kind::Ordinary, &mut random));
        let x = Activations::random(rows, k, &mut random);
        let gated = |m, blocks| Gated {
            k,
            n,
            classes,
            input: Input::Records,
            m,
            blocks,
            epilogue: &program,
        };
        let single = run(&gpu, &gated(1, 1), [&gate, &up], &x, rows);
        // Drivers made of software take seconds to compile each.
        let is_mixed = classes == mixed;
        for (m, blocks) in [(4, 2), (8, 1)].into_iter().filter(|_| is_mixed) {
            let several = run(&gpu, &gated(m, blocks), [&gate, &up], &x, rows);
            assert_eq!(single, several, "{classes:?}: bits with {m} rows");
        }
        let found = decode(&single);
        let sum = |matrix: &Matrix, row: usize, column: usize| -> f64 {
            let weights = &matrix.values[column * k..][..k];
            weights.iter().zip(&x.values[row * k..]).map(|(w, x)| w * x).sum()
        };
        for row in 0..rows {
            for block in 0..n / 32 {
                let columns = 32 * block..32 * block + 32;
                let exact: Vec<f64> = columns
                    .map(|c| apply(function, sum(&gate, row, c)) * sum(&up, row, c))
                    .collect();
                let top = exact.iter().fold(0f64, |top, x| top.max(x.abs()));
                let found = &found[row * n + 32 * block..][..32];
                for (found, exact) in found.iter().zip(&exact) {
                    // Half a code, and the products' own roundings.
                    let bound = top * (0.5 / 16383.0 + 2e-5);
                    assert!(
                        (found - exact).abs() <= bound,
                        "{classes:?} {function:?}, row {row}: {found}, expected {exact} of {top}"
                    );
                }
            }
        }
    }
    gpu.assert_valid();
}

#[test]
fn one_row_has_its_bits_with_few_blocks_and_many() {
    let Some(gpu) = Gpu::open() else { return };
    let mut random = Random(13);
    let (classes, k) = ([StorageClass::Q4D; 2], 512);
    for n in [96, 4160] {
        let program = catalogue::join(Function::Silu, n);
        let quantise = catalogue::quantise_program(k);
        let [gate, up] =
            classes.map(|class| Matrix::random(class, n, k, Kind::Ordinary, &mut random));
        let x = Activations::random(1, k, &mut random);
        let gated =
            |input, m, blocks| Gated { k, n, classes, input, m, blocks, epilogue: &program };
        let of = |input, m, blocks| run(&gpu, &gated(input, m, blocks), [&gate, &up], &x, 1);
        let four = of(Input::Records, 4, 1);
        assert_eq!(of(Input::Records, 1, 1), four, "{n}: a block");
        assert_eq!(of(Input::Records, 1, 2), four, "{n}: two blocks");
        let fours = of(Input::Prologue(&quantise), 4, 1);
        assert_eq!(of(Input::Prologue(&quantise), 1, 1), fours, "{n}: with a prologue");
    }
    gpu.assert_valid();
}

#[test]
fn embeddings_are_the_rows_of_the_tokens() {
    let Some(gpu) = Gpu::open() else { return };
    let mut random = Random(12);
    let n = 50;
    // The last one is no token: it is what a pick without a number leaves.
    let tokens = [0, 49, 17, 32, 17, u32::MAX];
    for class in StorageClass::ALL {
        let k = match class {
            StorageClass::F16 | StorageClass::BF16 | StorageClass::F32 => 100,
            _ => 768,
        };
        let matrix = Matrix::random(class, n, k, Kind::Ordinary, &mut random);
        let stride = k + 5;
        let gather = Gather { class, n, k, stride };
        let kernel = gather.kernel();
        let mut weights = vec![0xa5; 16 * WEIGHTS_AT];
        weights.extend(&matrix.bytes);
        let weights = gpu.buffer(&weights);
        let arena = gpu.buffer(&bytes(&vec![UNTOUCHED; 8 + tokens.len() * stride]));
        let steps = gpu.buffer(&step_bytes(tokens.len(), 0, &tokens));
        let buffers =
            [(binding::WEIGHTS, &weights), (binding::ARENA, &arena), (binding::STEP, &steps)];
        let immediate = |it| match it {
            Immediate::Weights { .. } => WEIGHTS_AT as u32,
            Immediate::Out { index: 0 } => 8,
            other => panic!("{other:?}"),
        };
        // One workgroup more than there are rows.
        let groups = [tokens.len() as u32 + 1, 1, 1];
        gpu.run(&kernel, &gpu.pipeline(&kernel), &buffers, immediate, groups);
        let found = gpu.words(&arena);
        for (row, &token) in tokens.iter().enumerate() {
            let token = (token as usize).min(n - 1);
            let row = &found[8 + row * stride..][..stride];
            for (i, bits) in row[..k].iter().enumerate() {
                let exact = matrix.values[token * k + i];
                let magnitude = matrix.magnitudes[token * k + i];
                let found = f64::from(f32::from_bits(*bits));
                let bound = 2e-7 * magnitude;
                assert!((found - exact).abs() <= bound, "{class:?}: {found}, expected {exact}");
            }
            assert!(row[k..].iter().all(|&word| word == UNTOUCHED), "{class:?}");
        }
    }
    gpu.assert_valid();
}
