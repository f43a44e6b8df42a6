//! Products by cooperative matrices against sums in f64, on devices that have them.

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
use onebit_plan::gpu::{GpuFeature, binding};
use onebit_plan::layout::supports;
use onebit_shaders::cooperative::{Cooperative, MatrixShape, Work};
use onebit_shaders::product::{Output, PART_BINDINGS};
use onebit_shaders::rows::RowsKind;
use onebit_shaders::{Immediate, compile};

const UNTOUCHED: u32 = 0x7fc0_dead;
const WEIGHTS_AT: usize = 4;
/// In words of 4 bytes, a multiple of 4.
const INPUT_AT: usize = 16;
/// Relative to the sum of all magnitudes: weights and activations are rounded to 11 bits each.
const TOLERANCE: f64 = 1e-3;

fn gpu() -> Option<Gpu> {
    Gpu::find(
        |info| info.lacks.is_empty() && info.features.contains(&GpuFeature::CooperativeF16),
        "a device with cooperative matrices of 16x16x16 in f16",
    )
}

/// Outputs `[rows][n]`.
fn run(
    gpu: &Gpu,
    cooperative: &Cooperative<'_>,
    matrices: &[&Matrix],
    x: &Activations,
    rows: usize,
) -> Vec<f32> {
    let kernel = cooperative.kernel();
    let (n, stride) = match cooperative.work {
        Work::Product {
            n, output: Output::Arena { stride } | Output::Logits { stride }, ..
        }
        | Work::Gated { n, stride, .. } => (n, stride),
    };
    let mut arena = vec![UNTOUCHED; INPUT_AT];
    arena.extend(x.floats.iter().map(|x| x.to_bits()));
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
        Immediate::Out { index: 0 } => out as u32,
        other => panic!("{other:?}"),
    };
    let module = compile(&kernel).unwrap_or_else(|e| panic!("{e}"));
    assert!(module.features.contains(&GpuFeature::CooperativeF16));
    let subgroup = Some(cooperative.matrix.subgroup as u32);
    let pipeline = gpu.pipeline_of(&kernel, &module, subgroup);
    gpu.run(&kernel, &pipeline, &buffers, immediate, cooperative.groups(rows));
    let found = gpu.words(&arena);
    assert!(found[out + rows * stride..][..stride].iter().all(|&word| word == UNTOUCHED));
    let mut result = Vec::new();
    for row in found[out..].chunks_exact(stride).take(rows) {
        assert!(row[n..].iter().all(|&word| word == UNTOUCHED), "{}", kernel.name);
        result.extend(row[..n].iter().map(|&bits| f32::from_bits(bits)));
    }
    result
}

/// Activations without records, which these kernels do not read.
fn only_floats(floats: Vec<f32>) -> Activations {
    Activations { floats, records: Vec::new(), values: Vec::new() }
}

/// The product and the sum of its magnitudes.
fn exact(matrix: &Matrix, x: &[f32], column: usize) -> (f64, f64) {
    let weights = &matrix.values[column * matrix.k..][..matrix.k];
    let terms = weights.iter().zip(x).map(|(w, x)| w * f64::from(*x));
    terms.fold((0.0, 0.0), |(sum, most), term| (sum + term, most + term.abs()))
}

#[test]
fn every_class_is_its_values_times_the_activations() {
    let Some(gpu) = gpu() else { return };
    let mut random = Random(21);
    // Outputs, elements along k, rows, rows and columns of a workgroup: whole turns, an odd number
    // of them, ragged ones; whole workgroups, and single outputs of the last.
    let cases = [
        (80, 512, 21, 16, 64),
        (129, 768, 32, 32, 64),
        (64, 2048, 5, 16, 64),
        (97, 1280, 32, 32, 32),
        (32, 4096, 17, 32, 32),
    ];
    for class in catalogue::integers() {
        // Some classes have no rows of half a step.
        let short = supports(class, 96).then_some([(70, 96, 18, 32, 64), (45, 96, 30, 32, 32)]);
        for (n, k, rows, m, columns) in cases.into_iter().chain(short.into_iter().flatten()) {
            let weights = Matrix::random(class, n, k, Kind::Ordinary, &mut random);
            let x = Activations::random(rows, k, &mut random);
            let work = Work::Product { class, n, output: Output::Arena { stride: n + 3 } };
            let matrix = MatrixShape::SIXTEEN;
            let rows_kind = RowsKind::All;
            let cooperative =
                Cooperative { k, work, stride: k, rows: rows_kind, m, columns, matrix };
            let found = run(&gpu, &cooperative, &[&weights], &x, rows);
            for (i, found) in found.iter().enumerate() {
                let (row, column) = (i / n, i % n);
                let (sum, most) = exact(&weights, &x.floats[row * k..][..k], column);
                let error = (f64::from(*found) - sum).abs();
                assert!(
                    error <= TOLERANCE * most,
                    "{class:?} {n}x{k}, row {row}, output {column}: {found}, expected {sum}"
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
    let (n, k, rows, m, columns) = (96, 1280, 19, 16, 64);
    let program = catalogue::join(Function::ReluSquared, n);
    let pairs = [
        [StorageClass::Q4D; 2],
        [StorageClass::Q4K; 2],
        [StorageClass::Q4K, StorageClass::Q6K],
        [StorageClass::Q8D, StorageClass::T2D],
    ];
    for classes in pairs {
        let matrices =
            classes.map(|class| Matrix::random(class, n, k, Kind::Ordinary, &mut random));
        let x = Activations::random(rows, k, &mut random);
        let work = Work::Gated { classes, n, stride: n, epilogue: &program };
        let matrix = MatrixShape::SIXTEEN;
        let rows_kind = RowsKind::All;
        let cooperative = Cooperative { k, work, stride: k, rows: rows_kind, m, columns, matrix };
        let found = run(&gpu, &cooperative, &[&matrices[0], &matrices[1]], &x, rows);
        for (i, found) in found.iter().enumerate() {
            let (row, column) = (i / n, i % n);
            let x = &x.floats[row * k..][..k];
            let [(gate, gates), (up, ups)] = [0, 1].map(|i| exact(&matrices[i], x, column));
            let sum = gate.max(0.0).powi(2) * up;
            let [da, db] = [gates, ups].map(|most| TOLERANCE * most);
            let bound = (gate.abs() + da).powi(2) * (up.abs() + db) - gate.powi(2) * up.abs();
            assert!(
                (f64::from(*found) - sum).abs() <= bound + 1e-6,
                "{classes:?}, row {row}, column {column}: {found}, expected {sum}"
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
    let x = Activations::random(32, k, &mut random);
    let work = Work::Product { class, n, output: Output::Arena { stride: n } };
    for columns in [32, 64] {
        let product = |m| Cooperative {
            k,
            work,
            stride: k,
            rows: RowsKind::All,
            m,
            columns,
            matrix: MatrixShape::SIXTEEN,
        };
        let all = run(&gpu, &product(32), &[&weights], &x, 32);
        assert!(run(&gpu, &product(16), &[&weights], &x, 32) == all);
        let last = only_floats(x.floats[31 * k..].to_vec());
        assert!(run(&gpu, &product(16), &[&weights], &last, 1) == all[31 * n..]);
    }
    gpu.assert_valid();
}

/// What f16 has no number for is the next that it has; what is no number stays none.
#[test]
fn activations_beyond_the_range_are_its_ends() {
    let Some(gpu) = gpu() else { return };
    let mut random = Random(24);
    let (class, n, k) = (StorageClass::Q8D, 64, 512);
    let weights = Matrix::random(class, n, k, Kind::Ordinary, &mut random);
    let work = Work::Product { class, n, output: Output::Arena { stride: n } };
    let product = Cooperative {
        k,
        work,
        stride: k,
        rows: RowsKind::All,
        m: 16,
        columns: 64,
        matrix: MatrixShape::SIXTEEN,
    };
    let ordinary = Activations::random(3, k, &mut random);
    let of = |x: f32| {
        let mut floats = ordinary.floats.clone();
        floats[k + 7] = x;
        run(&gpu, &product, &[&weights], &only_floats(floats), 3)
    };
    let end = of(65504.0);
    assert!(end.iter().all(|y| y.is_finite()));
    assert!(of(1e30) == end);
    let lost = of(f32::NAN);
    assert!(lost[n..2 * n].iter().all(|y| y.is_nan()));
    assert!(lost[..n] == end[..n] && lost[2 * n..] == end[2 * n..]);
    gpu.assert_valid();
}
