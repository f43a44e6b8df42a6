use onebit_cpu::array::pack_activations;
use onebit_test_support::Random;

use super::*;

#[test]
fn what_the_array_has_no_way_to_do_stays_off_it() {
    assert!(fits(49152, 576) && fits(1, 8) && fits(151_936, 4096));
    assert!(fits(64, 1100), "a short last group");
    assert!(fits(2 << 20, 64), "several calls");
    assert!(!fits(0, 64) && !fits(64, 0));
    assert!(!fits(64, (1 << 20) + 1), "loops beyond counting");
}

#[test]
fn weights_that_are_no_numbers_or_nearly_zero() {
    let (mut codes, mut scales) = ([1i8; 4], [0.0f32; 2]);
    let sums = round_row(&[1e-38, -1e-38, 2.0, -4.0], 2, &mut codes, &mut scales);
    assert_eq!(codes, [0, 0, 64, -127]);
    assert!(sums.changed.is_finite() && sums.all == 20.0);
}

#[test]
fn groups_are_those_that_move_the_fewest_bytes() {
    let cases = [
        (64, Some(64)),
        (576, Some(576)),
        (900, Some(900)),
        (1024, Some(1024)),
        (1536, Some(768)),
        (3072, Some(1024)),
        // 19 x 256 fits exactly, and moves 7296 bytes an output; 5 x 1024 moves 5760.
        (4864, Some(1024)),
        (8960, Some(896)),
        (12288, Some(1024)),
        // Only groups of 64 fit exactly.
        (1216, Some(640)),
        (1100, Some(576)),
        (0, None),
    ];
    for (columns, group) in cases {
        assert_eq!(group_of(columns), group, "{columns}");
    }
}

/// Results stay below a third of the weights, and zeros below a sixth of them.
#[test]
fn no_width_doubles_the_bytes() {
    for columns in ARRAY_GROUP + 1..20_000 {
        let group = group_of(columns).unwrap();
        assert!((384..=ARRAY_GROUP).contains(&group), "{columns}: {group}");
        let depth = columns.next_multiple_of(group);
        let moved = depth + columns.div_ceil(group) * 128;
        assert!(moved as f64 <= 1.4 * columns as f64, "{columns}: {moved} with groups of {group}");
    }
}

fn matrix(rows: usize, columns: usize) -> ArrayMatrix {
    ArrayMatrix::new((vec!["w".into()], vec![rows], vec![Format::F32]), columns, 5)
}

#[test]
fn calls_are_as_few_as_the_limits_allow_and_cover_all_rows() {
    let design = Design::new().unwrap();
    let tiling = |rows| matrix(rows, 576).tiling(rows).unwrap();
    let total = |rows| Cost::new(&tiling(rows), design.kernel()).total();
    for (rows, outputs, group_seconds, expected) in [
        (49152, OUTPUTS_AT_MOST, 0.25, vec![49152]),
        (2_200_000, OUTPUTS_AT_MOST, 0.25, vec![733_376, 733_376, 733_248]),
        (300, 64, 0.25, vec![64, 64, 64, 64, 44]),
        (300, 128, 0.25, vec![128, 128, 44]),
        // One call would take longer than is allowed.
        (49152, OUTPUTS_AT_MOST, total(49152) * 0.99, vec![24576, 24576]),
        // Nothing is short enough.
        (100, OUTPUTS_AT_MOST, 1e-9, vec![64, 36]),
    ] {
        let limits = ArrayLimits { outputs, group_seconds };
        limits.check().unwrap();
        let mut matrix = matrix(rows, 576).cut(&limits, &design).unwrap();
        let sizes: Vec<usize> = matrix.blocks.iter().map(|block| block.rows).collect();
        assert_eq!(sizes, expected, "{rows} rows, {limits:?}");
        matrix.place_at(4096);
        let mut at = (0, 4096);
        for (product, block) in matrix.products(rows).unwrap().iter().zip(&matrix.blocks) {
            assert_eq!((block.first_row, block.offset), at);
            assert!(block.offset.is_multiple_of(64), "aligned");
            assert_eq!(block.scales, block.offset + (8 * product.column_bytes()) as u64);
            at = (at.0 + block.rows, block.scales + 4 * block.rows as u64);
        }
        assert_eq!(at, (rows, 4096 + matrix.packed_bytes()));
        let last = matrix.products(rows).unwrap().last().unwrap().index as usize;
        assert_eq!(last, 5 + matrix.blocks.len() - 1);
    }
}

#[test]
fn limits_that_nothing_can_keep_are_refused() {
    for (outputs, group_seconds) in
        [(0, 1.0), (65, 1.0), (OUTPUTS_AT_MOST + 64, 1.0), (64, 0.0), (64, f64::NAN)]
    {
        let limits = ArrayLimits { outputs, group_seconds };
        assert!(limits.check().is_err(), "{limits:?}");
    }
    ArrayLimits::default().check().unwrap();
}

/// Mean |error| of the array's product over random activations of mean square 1, measured against
/// sums of the weights as they were; and what was expected of it.
fn measured_error(rows: usize, columns: usize, weights: &[f32]) -> (f64, f64) {
    let mut matrix = matrix(rows, columns);
    let design = Design::new().unwrap();
    matrix = matrix.cut(&ArrayLimits::default(), &design).unwrap();
    let bytes: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
    let source: Vec<_> = bytes.chunks_exact(4 * columns).map(|row| (Format::F32, row)).collect();
    let Rounded { codes, scales, rounding } = matrix.round(&source).unwrap();
    let product = matrix.products(rows).unwrap()[0];
    let tiling = matrix.tiling(rows).unwrap();

    let mut random = Random::new(3);
    let x: Vec<f32> = (0..ARRAY_ROWS * columns).map(|_| random.normal()).collect();
    let mut packed = vec![0; product.activation_bytes()];
    let mut d = vec![0.0; ARRAY_ROWS * product.groups()];
    pack_activations(&product, &x, &mut packed, &mut d);
    let (high, low) = planes(&packed, tiling.depth() as usize, tiling.shape.k as usize);
    let sums = pack::product(&tiling, &high, &low, &codes);

    let mut error = 0.0;
    for row in 0..ARRAY_ROWS {
        for n in 0..rows {
            let mut found = 0.0f32;
            for group in 0..product.groups() {
                let sum = sums[(group * ARRAY_ROWS + row) * rows + n] as f32;
                let d = d[row * product.groups() + group];
                found = (sum * d).mul_add(scales[group * rows + n], found);
            }
            let pairs = x[row * columns..][..columns].iter().zip(&weights[n * columns..]);
            let exact: f64 = pairs.map(|(&x, &w)| f64::from(x) * f64::from(w)).sum();
            error += (f64::from(found) - exact).abs();
        }
    }
    (error / (ARRAY_ROWS * rows) as f64, rounding.expected_error.into())
}

/// The planes of packed activations, `[row][k]`: the order is that of docs/npu-gemm.md.
fn planes(packed: &[u8], depth: usize, k: usize) -> (Vec<i8>, Vec<i8>) {
    let place = |row: usize, k: usize, plane: usize| {
        let brick = (k / 16 * 4 + row / 8) * 2 + k % 16 / 8;
        ((brick * 2 + plane) * 8 + row % 8) * 8 + k % 8
    };
    assert_eq!(packed.len(), 2 * ARRAY_ROWS * depth);
    let plane = |plane: usize| {
        let all = (0..ARRAY_ROWS).flat_map(move |row| (0..k).map(move |k| (row, k)));
        all.map(|(row, k)| packed[place(row, k, plane)].cast_signed()).collect()
    };
    (plane(0), plane(1))
}

#[test]
fn expected_errors_are_what_random_products_have() {
    for (rows, columns) in [(64, 64), (40, 576), (16, 1100), (16, 2048), (8, 4864)] {
        let mut random = Random::new(columns as u64);
        let count = rows * columns;
        let normal: Vec<f32> = (0..count).map(|_| 0.02 * random.normal()).collect();
        // Int8 holds these exactly: what is left is the activations' rounding.
        let exact: Vec<f32> = (0..count)
            .map(|at| if at % 64 == 0 { 127.0 } else { random.below(255) as f32 - 127.0 })
            .collect();
        for (name, weights) in [("normal", normal), ("exact", exact)] {
            let (measured, expected) = measured_error(rows, columns, &weights);
            let ratio = measured / expected;
            println!("{name} [{rows}, {columns}]: measured {measured:.3e}, ratio {ratio:.3}");
            assert!(
                (0.8..=1.1).contains(&ratio),
                "{name} [{rows}, {columns}]: measured {measured:.3e}, expected {expected:.3e}"
            );
        }
    }
}
