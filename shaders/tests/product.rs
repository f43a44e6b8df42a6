//! Products on lavapipe against sums in f64.

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
use matrix::{Activations, KINDS, Kind, Matrix, Random};
use onebit_plan::abi::StorageClass;
use onebit_plan::gpu::binding;
use onebit_plan::layout::{Layout, supports};
use onebit_shaders::Immediate;
use onebit_shaders::product::{Input, Output, PART_BINDINGS, Part, Product};
use onebit_shaders::rows::RowsKind;

/// 16-byte words before the weights, before the activations, and words before the results.
const WEIGHTS_AT: usize = 16;
const INPUT_AT: usize = 32;
const OUT_GAP: usize = 8;
/// What an output that nobody wrote holds.
const UNTOUCHED: u32 = 0x7fc0_dead;
/// Relative to the sum of all magnitudes; a sum of up to a hundred terms, each rounded to f32.
const TOLERANCE: f64 = 4e-6;

fn is_float(class: StorageClass) -> bool {
    Layout::of(class).is_none()
}

fn product(class: StorageClass, n: usize, k: usize, m: usize) -> Product<'static> {
    Product {
        k,
        parts: vec![Part { class, n, output: Output::Arena { stride: n + 3 } }],
        input: if is_float(class) { Input::Floats { stride: k } } else { Input::Records },
        rows: RowsKind::All,
        m,
        tiles: 1,
    }
}

/// Outputs `[part][rows][n]` of a product, as bits; everything around them has to be untouched.
fn run(
    gpu: &Gpu,
    product: &Product<'_>,
    matrices: &[&Matrix],
    x: &Activations,
    rows: usize,
) -> Vec<Vec<u32>> {
    let kernel = product.kernel();
    let input: Vec<u32> = match product.input {
        Input::Records => x.records.clone(),
        _ => x.floats.iter().map(|x| x.to_bits()).collect(),
    };
    // Room for the most rows of a workgroup behind those that are there.
    let stride = |part: &Part| match part.output {
        Output::Arena { stride } | Output::Logits { stride } => stride,
    };
    let mut arena = vec![UNTOUCHED; 4 * INPUT_AT];
    arena.extend(&input);
    let mut logits = Vec::new();
    let mut starts = Vec::new();
    for part in &product.parts {
        let target = match part.output {
            Output::Arena { .. } => &mut arena,
            Output::Logits { .. } => &mut logits,
        };
        target.extend([UNTOUCHED; OUT_GAP]);
        starts.push(target.len());
        target.extend(vec![UNTOUCHED; (rows + product.m) * stride(part)]);
    }
    logits.push(UNTOUCHED);
    let bytes = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    let arena = gpu.buffer(&bytes(&arena));
    let logits = gpu.buffer(&bytes(&logits));
    let weights: Vec<_> = matrices
        .iter()
        .map(|matrix| {
            let mut bytes = vec![0xa5; 16 * WEIGHTS_AT];
            bytes.extend(&matrix.bytes);
            gpu.buffer(&bytes)
        })
        .collect();
    let steps = match product.rows {
        RowsKind::All => step_bytes(rows, 0, &[]),
        RowsKind::Outputs => step_bytes(32, rows, &[]),
    };
    let steps = gpu.buffer(&steps);
    let mut buffers =
        vec![(binding::ARENA, &arena), (binding::STEP, &steps), (binding::LOGITS, &logits)];
    buffers.extend(PART_BINDINGS.into_iter().zip(&weights));
    let immediate = |it| match it {
        Immediate::Weights { .. } => WEIGHTS_AT as u32,
        Immediate::Records => INPUT_AT as u32,
        Immediate::Floats | Immediate::Arg { program: 0, arg: 0 } => 4 * INPUT_AT as u32,
        Immediate::Out { index } => starts[index] as u32,
        other => panic!("{other:?}"),
    };
    gpu.run(&kernel, &gpu.pipeline(&kernel), &buffers, immediate, product.groups(rows));
    let found = [gpu.words(&arena), gpu.words(&logits)];
    let mut results = Vec::new();
    for (part, &start) in product.parts.iter().zip(&starts) {
        let words = &found[usize::from(matches!(part.output, Output::Logits { .. }))];
        let mut result = Vec::new();
        for (r, row) in words[start..].chunks_exact(stride(part)).take(rows + product.m).enumerate()
        {
            let written = if r < rows { part.n } else { 0 };
            result.extend(&row[..written]);
            let rest = row[written..].iter();
            assert!(rest.into_iter().all(|&w| w == UNTOUCHED), "{}: row {r}", kernel.name);
        }
        assert!(words[start - OUT_GAP..start].iter().all(|&w| w == UNTOUCHED), "{}", kernel.name);
        results.push(result);
    }
    results
}

#[track_caller]
fn assert_close(found: &[u32], matrix: &Matrix, x: &[f64], what: &str) {
    let (n, k) = (matrix.n, matrix.k);
    assert_eq!(found.len() / n, x.len() / k);
    for (i, bits) in found.iter().enumerate() {
        let (row, column) = (i / n, i % n);
        let x = &x[row * k..][..k];
        let range = column * k..(column + 1) * k;
        let exact: f64 = x.iter().zip(&matrix.values[range.clone()]).map(|(x, w)| x * w).sum();
        let most: f64 = x.iter().zip(&matrix.magnitudes[range]).map(|(x, w)| (x * w).abs()).sum();
        let found = f64::from(f32::from_bits(*bits));
        let error = (found - exact).abs();
        assert!(
            error <= TOLERANCE * most,
            "{what}: row {row}, output {column}: {found}, expected {exact}; off by {:e} of {most}",
            error / most
        );
    }
}

/// One block or less, and a row that fills neither the last step nor its partitions.
fn lengths(class: StorageClass) -> [usize; 2] {
    if is_float(class) {
        return [7, 1030];
    }
    let first = |lengths: [usize; 3]| {
        let found = lengths.into_iter().find(|&k| supports(class, k));
        found.expect("256 is a length of every integer class")
    };
    [first([32, 128, 256]), first([2080, 2432, 2304])]
}

/// Classes that run with eight rows, too: one of each form of scales.
const EIGHT_ROWS: [StorageClass; 8] = [
    StorageClass::T2D,
    StorageClass::M4E,
    StorageClass::Q4D,
    StorageClass::Q5DM,
    StorageClass::Q4K,
    StorageClass::Q6K,
    StorageClass::I8G16M,
    StorageClass::F16,
];

#[test]
fn every_class_is_its_values_times_the_activations() {
    let Some(gpu) = Gpu::open() else { return };
    let mut random = Random(1);
    let (n, rows) = (40, 5);
    for class in StorageClass::ALL {
        for k in lengths(class) {
            let matrix = Matrix::random(class, n, k, Kind::Ordinary, &mut random);
            let x = Activations::random(rows, k, &mut random);
            let exact: Vec<f64> = if is_float(class) {
                x.floats.iter().map(|&x| f64::from(x)).collect()
            } else {
                x.values.clone()
            };
            let single = run(&gpu, &product(class, n, k, 1), &[&matrix], &x, rows);
            assert_close(&single[0], &matrix, &exact, &format!("{class:?} {k}"));
            // Drivers made of software take seconds to compile each.
            let [_, long] = lengths(class);
            let several: &[usize] = if k != long {
                &[]
            } else if EIGHT_ROWS.contains(&class) {
                &[4, 8]
            } else {
                &[4]
            };
            for &m in several {
                let several = run(&gpu, &product(class, n, k, m), &[&matrix], &x, rows);
                assert_eq!(single, several, "{class:?}, k {k}: bits with {m} rows");
            }
        }
    }
    gpu.assert_valid();
}

#[test]
fn extreme_codes_and_scales_stay_exact() {
    let Some(gpu) = Gpu::open() else { return };
    let mut random = Random(2);
    let (n, rows) = (40, 2);
    for class in StorageClass::ALL.into_iter().filter(|&class| !is_float(class)) {
        let [_, k] = lengths(class);
        let product = product(class, n, k, 1);
        for kind in KINDS {
            let matrix = Matrix::random(class, n, k, kind, &mut random);
            let x = Activations::random(rows, k, &mut random);
            let found = run(&gpu, &product, &[&matrix], &x, rows);
            assert_close(&found[0], &matrix, &x.values, &format!("{class:?} {kind:?}"));
        }
    }
    gpu.assert_valid();
}

#[test]
fn two_products_of_one_input_share_a_kernel() {
    let Some(gpu) = Gpu::open() else { return };
    let mut random = Random(3);
    let (k, rows) = (576, 3);
    let shapes = [(StorageClass::Q5D, 200), (StorageClass::Q8D, 72)];
    let matrices =
        shapes.map(|(class, n)| Matrix::random(class, n, k, Kind::Ordinary, &mut random));
    let x = Activations::random(rows, k, &mut random);
    let alone: Vec<Vec<u32>> = shapes
        .iter()
        .zip(&matrices)
        .map(|(&(class, n), matrix)| {
            run(&gpu, &product(class, n, k, 1), &[matrix], &x, rows).remove(0)
        })
        .collect();
    for tiles in [1, 3] {
        let part = |(class, n)| Part { class, n, output: Output::Arena { stride: n } };
        let both = Product {
            k,
            parts: shapes.map(part).to_vec(),
            input: Input::Records,
            rows: RowsKind::All,
            m: 4,
            tiles,
        };
        let found = run(&gpu, &both, &[&matrices[0], &matrices[1]], &x, rows);
        assert_eq!(found, alone, "{tiles} tiles");
    }
    gpu.assert_valid();
}

/// Tiles of one row side by side, one after another, and both; with and without a short last one.
#[test]
fn tiles_side_by_side_have_the_bits_of_tiles_alone() {
    let Some(gpu) = Gpu::open() else { return };
    let mut random = Random(6);
    let (n, rows) = (200, 2);
    for class in [StorageClass::Q4D, StorageClass::Q6K, StorageClass::F16] {
        for k in [512, 2304] {
            let matrix = Matrix::random(class, n, k, Kind::Ordinary, &mut random);
            let x = Activations::random(rows, k, &mut random);
            let alone = run(&gpu, &product(class, n, k, 1), &[&matrix], &x, rows);
            for tiles in [2, 3, 6] {
                let together = Product { tiles, ..product(class, n, k, 1) };
                let found = run(&gpu, &together, &[&matrix], &x, rows);
                assert_eq!(found, alone, "{class:?}, k {k}: bits with {tiles} tiles");
            }
        }
    }
    gpu.assert_valid();
}

/// Long rows pass the weights' slots in a loop.
#[test]
fn long_rows_have_the_same_bits_for_one_row_and_four() {
    let Some(gpu) = Gpu::open() else { return };
    let mut random = Random(7);
    let (n, rows) = (72, 2);
    for class in [StorageClass::Q4K, StorageClass::Q6K, StorageClass::Q8D] {
        for k in [6144, 8960] {
            let matrix = Matrix::random(class, n, k, Kind::Ordinary, &mut random);
            let x = Activations::random(rows, k, &mut random);
            let four = run(&gpu, &product(class, n, k, 4), &[&matrix], &x, rows);
            for tiles in [1, 4] {
                let one = Product { tiles, ..product(class, n, k, 1) };
                let found = run(&gpu, &one, &[&matrix], &x, rows);
                assert_eq!(found, four, "{class:?}, k {k}: bits with {tiles} tiles");
            }
        }
    }
    gpu.assert_valid();
}

#[test]
fn the_head_writes_logits_of_output_rows() {
    let Some(gpu) = Gpu::open() else { return };
    let mut random = Random(4);
    let (n, k, rows) = (1000, 256, 9);
    let matrix = Matrix::random(StorageClass::Q6K, n, k, Kind::Ordinary, &mut random);
    let x = Activations::random(rows, k, &mut random);
    for m in [1, 8] {
        let mut head = product(StorageClass::Q6K, n, k, m);
        head.parts[0].output = Output::Logits { stride: n };
        head.rows = RowsKind::Outputs;
        head.tiles = 4;
        let found = run(&gpu, &head, &[&matrix], &x, rows);
        assert_close(&found[0], &matrix, &x.values, "head");
    }
    gpu.assert_valid();
}

#[test]
fn a_prologue_quantises_what_the_product_reads() {
    let Some(gpu) = Gpu::open() else { return };
    let mut random = Random(5);
    // Without blocks that have one large element: a code that rounds the other way is small then.
    let (n, k, rows) = (40, 160, 3);
    let program = catalogue::quantise_program(k);
    let matrix = Matrix::random(StorageClass::Q4D, n, k, Kind::Ordinary, &mut random);
    let x = Activations::random(rows, k, &mut random);
    let mut product = product(StorageClass::Q4D, n, k, 4);
    product.input = Input::Prologue(&program);
    let found = run(&gpu, &product, &[&matrix], &x, rows);
    assert_close(&found[0], &matrix, &x.values, "with a prologue");
    for tiles in [1, 3] {
        let one = Product { m: 1, tiles, ..product.clone() };
        let single = run(&gpu, &one, &[&matrix], &x, 1);
        assert_eq!(single[0], found[0][..n], "bits with a prologue for one row");
    }
    gpu.assert_valid();
}
