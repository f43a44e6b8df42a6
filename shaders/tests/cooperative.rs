//! Products by cooperative matrices against sums in f64, on devices that have them.

#[path = "common/catalogue.rs"]
#[allow(dead_code, reason = "only some of its programs are run here")]
mod catalogue;
#[path = "common/device.rs"]
#[allow(dead_code, reason = "each test binary uses a part")]
mod device;
#[path = "common/halves.rs"]
mod halves;
#[path = "common/matrix.rs"]
#[allow(dead_code, reason = "each test binary uses a part")]
mod matrix;

use device::{Gpu, step_bytes};
use matrix::{Activations, Kind, Matrix, Random};
use onebit_ir::Function;
use onebit_plan::abi::StorageClass;
use onebit_plan::gpu::{GpuFeature, binding};
use onebit_plan::layout::supports;
use onebit_shaders::cooperative::{Cooperative, SUBGROUP, Turn, Work};
use onebit_shaders::product::{Output, PART_BINDINGS};
use onebit_shaders::rows::RowsKind;
use onebit_shaders::{Immediate, compile};

const UNTOUCHED: u32 = 0x7fc0_dead;
const WEIGHTS_AT: usize = 4;
/// In words of 4 bytes, a multiple of 4.
const INPUT_AT: usize = 16;
/// Relative to the sum of all magnitudes: a weight is rounded to 11 bits, as its scale and its minimum
/// are before.
const TOLERANCE: f64 = 1.5e-3;
/// Relative to a value that was rounded to f16.
const HALF_STEP: f64 = 1.0 / 2048.0;

fn gpu() -> Option<Gpu> {
    Gpu::find(
        |info| info.lacks.is_empty() && info.features.contains(&GpuFeature::CooperativeF16),
        "a device with cooperative matrices of 16x16x16 in f16",
    )
}

/// Outputs `[rows][n]`, from activations that are numbers of f16.
fn run(
    gpu: &Gpu,
    cooperative: &Cooperative<'_>,
    matrices: &[&Matrix],
    x: &Activations,
    rows: usize,
) -> Vec<f32> {
    let kernel = cooperative.kernel();
    // Words of a row of results, and those of them that are written.
    let (n, stride, written) = match cooperative.work {
        Work::Product {
            n, output: Output::Arena { stride } | Output::Logits { stride }, ..
        } => (n, stride, n),
        Work::Gated { n, .. } => (n, n / 2, n / 2),
    };
    let mut arena = vec![UNTOUCHED; INPUT_AT];
    arena.extend(halves::pack(&x.floats));
    let out = arena.len();
    arena.extend(vec![UNTOUCHED; (rows + 1) * stride]);
    let bytes: Vec<u8> = arena.iter().flat_map(|word| word.to_le_bytes()).collect();
    let arena = gpu.buffer(&bytes);
    let weights: Vec<_> = matrices
        .iter()
        .map(|matrix| {
            let mut bytes = vec![0xa5; 16 * WEIGHTS_AT];
            bytes.extend(&matrix.bytes);
            gpu.buffer(&bytes)
        })
        .collect();
    let steps = gpu.buffer(&step_bytes(rows, rows, &[]));
    let mut buffers = vec![(binding::ARENA, &arena), (binding::STEP, &steps)];
    buffers.extend(PART_BINDINGS.into_iter().zip(&weights));
    let immediate = |it| match it {
        Immediate::Weights { .. } => WEIGHTS_AT as u32,
        Immediate::Records => INPUT_AT as u32 / 4,
        Immediate::Out { index: 0 } => match cooperative.work {
            Work::Product { .. } => out as u32,
            Work::Gated { .. } => out as u32 / 4,
        },
        other => panic!("{other:?}"),
    };
    let module = compile(&kernel).unwrap_or_else(|e| panic!("{e}"));
    assert!(module.features.contains(&GpuFeature::CooperativeF16));
    let subgroup = Some(SUBGROUP as u32);
    let pipeline = gpu.pipeline_of(&kernel, &module, subgroup);
    gpu.run(&kernel, &pipeline, &buffers, immediate, cooperative.groups(rows));
    let found = gpu.words(&arena);
    assert!(found[out + rows * stride..][..stride].iter().all(|&word| word == UNTOUCHED));
    let mut result = Vec::new();
    for row in found[out..].chunks_exact(stride).take(rows) {
        assert!(row[written..].iter().all(|&word| word == UNTOUCHED), "{}", kernel.name);
        match cooperative.work {
            Work::Product { .. } => {
                result.extend(row[..n].iter().map(|&bits| f32::from_bits(bits)))
            }
            Work::Gated { .. } => result.extend(halves::unpack(row)),
        }
    }
    result
}

/// Activations that f16 has, without records, which these kernels do not read.
fn in_halves(x: Activations) -> Activations {
    only_floats(x.floats.into_iter().map(|x| half::f16::from_f32(x).to_f32()).collect())
}

fn only_floats(floats: Vec<f32>) -> Activations {
    Activations { floats, records: Vec::new(), values: Vec::new() }
}

/// The product and the sum of the magnitudes of what it is made from.
fn exact(matrix: &Matrix, x: &[f32], column: usize) -> (f64, f64) {
    let row = column * matrix.k..(column + 1) * matrix.k;
    let weights = matrix.values[row.clone()].iter().zip(&matrix.magnitudes[row]);
    weights.zip(x).fold((0.0, 0.0), |(sum, most), ((w, magnitude), x)| {
        let x = f64::from(*x);
        (sum + w * x, most + magnitude * x.abs())
    })
}

#[test]
fn every_class_is_its_values_times_the_activations() {
    let Some(gpu) = gpu() else { return };
    let mut random = Random(21);
    let [c32, c64, c96, c128, deep] = Turn::ALL;
    // Outputs, elements along k, rows, rows of a workgroup: whole turns, an odd number of them, ragged
    // ones; whole workgroups, and single outputs of the last.
    let cases = [
        (80, 512, 21, 16, c64),
        (129, 768, 32, 32, c64),
        (64, 2048, 5, 16, c64),
        (97, 1280, 32, 32, c32),
        (32, 4096, 17, 32, c32),
        (100, 512, 32, 32, c96),
        (193, 1792, 9, 16, c96),
        (300, 1024, 32, 32, c128),
        (130, 1536, 9, 16, c128),
        (300, 1280, 32, 32, deep),
        (129, 768, 7, 16, deep),
    ];
    for class in catalogue::integers() {
        // Some classes have no rows of half a step.
        let short = supports(class, 96).then_some([
            (70, 96, 18, 32, c64),
            (45, 96, 30, 32, c32),
            (100, 96, 30, 16, c96),
            (130, 96, 30, 32, c128),
            (130, 96, 30, 32, deep),
        ]);
        for (n, k, rows, m, turn) in cases.into_iter().chain(short.into_iter().flatten()) {
            let weights = Matrix::random(class, n, k, Kind::Ordinary, &mut random);
            let x = in_halves(Activations::random(rows, k, &mut random));
            let work = Work::Product { class, n, output: Output::Arena { stride: n + 3 } };
            let rows_kind = RowsKind::All;
            let cooperative = Cooperative { k, work, rows: rows_kind, m, turn, parts: 1 };
            let found = run(&gpu, &cooperative, &[&weights], &x, rows);
            for (i, found) in found.iter().enumerate() {
                let (row, column) = (i / n, i % n);
                let (sum, most) = exact(&weights, &x.floats[row * k..][..k], column);
                let error = (f64::from(*found) - sum).abs();
                assert!(
                    error <= TOLERANCE * most,
                    "{class:?} {n}x{k}, {turn:?}, row {row}, output {column}: {found}, expected {sum}"
                );
            }
        }
    }
    gpu.assert_valid();
}

#[test]
fn gate_and_up_are_joined() {
    let Some(gpu) = gpu() else { return };
    let mut random = Random(22);
    let (n, k, rows, m) = (96, 1280, 19, 16);
    let program = catalogue::join(Function::ReluSquared, n);
    let pairs = [
        [StorageClass::Q4D; 2],
        [StorageClass::Q4K; 2],
        [StorageClass::Q4K, StorageClass::Q6K],
        [StorageClass::Q8D, StorageClass::T2D],
    ];
    for (classes, turn) in pairs.into_iter().flat_map(|pair| Turn::ALL.map(|turn| (pair, turn))) {
        let matrices =
            classes.map(|class| Matrix::random(class, n, k, Kind::Ordinary, &mut random));
        let x = in_halves(Activations::random(rows, k, &mut random));
        let work = Work::Gated { classes, n, epilogue: &program };
        let rows_kind = RowsKind::All;
        let cooperative = Cooperative { k, work, rows: rows_kind, m, turn, parts: 1 };
        let found = run(&gpu, &cooperative, &[&matrices[0], &matrices[1]], &x, rows);
        for (i, found) in found.iter().enumerate() {
            let (row, column) = (i / n, i % n);
            let x = &x.floats[row * k..][..k];
            let [(gate, gates), (up, ups)] = [0, 1].map(|i| exact(&matrices[i], x, column));
            let sum = (gate.max(0.0).powi(2) * up).clamp(-65504.0, 65504.0);
            let [da, db] = [gates, ups].map(|most| TOLERANCE * most);
            let bound = (gate.abs() + da).powi(2) * (up.abs() + db) - gate.powi(2) * up.abs();
            assert!(
                (f64::from(*found) - sum).abs() <= bound + HALF_STEP * sum.abs() + 1e-6,
                "{classes:?}, {turn:?}, row {row}, column {column}: {found}, expected {sum}"
            );
        }
    }
    gpu.assert_valid();
}

/// A row's bits depend neither on the rows that a workgroup does, nor on the row's place.
#[test]
fn rows_are_the_same_bits_anywhere() {
    let Some(gpu) = gpu() else { return };
    let mut random = Random(23);
    let (class, n, k) = (StorageClass::Q4K, 64, 1024);
    let weights = Matrix::random(class, n, k, Kind::Ordinary, &mut random);
    let x = in_halves(Activations::random(32, k, &mut random));
    let work = Work::Product { class, n, output: Output::Arena { stride: n } };
    for turn in Turn::ALL {
        let product = |m| Cooperative { k, work, rows: RowsKind::All, m, turn, parts: 1 };
        let all = run(&gpu, &product(32), &[&weights], &x, 32);
        assert!(run(&gpu, &product(16), &[&weights], &x, 32) == all);
        let last = only_floats(x.floats[31 * k..].to_vec());
        assert!(run(&gpu, &product(16), &[&weights], &last, 1) == all[31 * n..]);
    }
    gpu.assert_valid();
}
