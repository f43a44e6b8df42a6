//! Packing keeps every value, checked through gather, and refuses what a class cannot hold.

use half::f16;
use onebit_cpu::{
    Isa, Kernels, PackError, Row, Scales, pack_tile, packed_bytes, supports, tile_bytes,
};
use onebit_plan::abi::StorageClass;

use crate::support::{Kind, Matrix, Random, code_range};

/// Rows `range` of `ids`, each `k + 3` floats apart; the others keep `-77.0`.
fn gather(
    kernels: &Kernels,
    class: StorageClass,
    packed: &[u8],
    ids: &[i32],
    k: usize,
    range: std::ops::Range<usize>,
) -> Vec<f32> {
    let stride = k + 3;
    let mut out = vec![-77.0; ids.len() * stride];
    let function = kernels.gather(class);
    let (start, end) = (range.start as u32, range.end as u32);
    // SAFETY: ids are rows of the matrix and the output holds a row for each.
    unsafe {
        function(
            packed.as_ptr(),
            ids.as_ptr(),
            out.as_mut_ptr(),
            k as u32,
            start,
            end,
            stride as u32,
        );
    }
    out
}

#[test]
fn gathered_rows_are_the_values_bit_for_bit() {
    let n = 37;
    for class in StorageClass::ALL {
        for k in [32, 96, 256, 768, 33].into_iter().filter(|k| supports(class, *k)) {
            for kind in [Kind::Typical, Kind::Extreme] {
                let matrix = Matrix::random(class, n, k, kind, k as u64);
                let packed = matrix.pack();
                let random = &mut Random::new(11);
                let ids: Vec<i32> =
                    (0..n as i32).chain((0..9).map(|_| random.int(0, n as i32 - 1))).collect();
                for kernels in Isa::ALL.into_iter().filter_map(Kernels::for_isa) {
                    let out = gather(&kernels, class, &packed, &ids, k, 2..ids.len());
                    for (r, row) in out.chunks(k + 3).enumerate() {
                        for (i, found) in row.iter().enumerate() {
                            let expected = match r >= 2 && i < k {
                                true => matrix.value(ids[r] as usize, i),
                                false => -77.0,
                            };
                            let same = expected.to_bits() == found.to_bits();
                            assert!(same, "{class:?} k={k}: row {r} element {i}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn sizes_are_those_of_the_contract() {
    use StorageClass::*;
    let bits = [
        (Q4D, 4.5),
        (Q4DM, 5.0),
        (Q5D, 5.5),
        (Q5DM, 6.0),
        (Q8D, 8.5),
        (Q4K, 4.625),
        (Q5K, 5.625),
        (Q6K, 6.625),
        (I8G16, 10.0),
        (I8G16M, 12.0),
        (F16, 16.0),
        (BF16, 16.0),
        (F32, 32.0),
    ];
    for (class, bits) in bits {
        let bytes = (bits * (48 * 512) as f64 / 8.0) as usize;
        assert_eq!(packed_bytes(class, 48, 512), bytes, "{class:?}");
        assert_eq!(packed_bytes(class, 33, 512), bytes, "{class:?}: rows are padded to 16");
        assert_eq!(packed_bytes(class, 0, 512), 0, "{class:?}");
        for k in 1..600 {
            assert!(tile_bytes(class, k).is_multiple_of(64), "{class:?} k={k}");
        }
    }
}

#[test]
fn rows_that_do_not_fit_are_refused() {
    use StorageClass::*;
    let d = [f16::ONE];
    let codes = [3i8; 32];
    let scales = Scales::Block32 { d: &d, m: None };
    let row = Row::Codes { codes: &codes, scales };
    let pack = |class, k, rows: &[Row<'_>]| {
        let mut out = vec![0; tile_bytes(class, k)];
        pack_tile(class, k, rows, &mut out)
    };
    assert_eq!(pack(Q4D, 32, &[row]), Ok(()));
    assert_eq!(pack(Q4D, 33, &[row]), Err(PackError::Unsupported { class: Q4D, k: 33 }));
    assert_eq!(pack(Q4K, 32, &[row]), Err(PackError::Unsupported { class: Q4K, k: 32 }));
    assert_eq!(pack(Q4D, 32, &[row; 17]), Err(PackError::Rows { found: 17 }));
    assert_eq!(
        pack(Q4D, 64, &[row]),
        Err(PackError::Length { row: 0, class: Q4D, what: "codes", expected: 64, found: 32 })
    );
    assert_eq!(
        pack_tile(Q4D, 32, &[row], &mut [0; 7]),
        Err(PackError::Output { class: Q4D, expected: 320, found: 7 })
    );
    let forms = [
        (Q4DM, row, "Scales::Block32 with m"),
        (I8G16, row, "Scales::Group16 without min"),
        (Q8D, Row::Float(&[0.0; 32]), "Row::Codes"),
        (F32, row, "Row::Float"),
    ];
    for (class, row, expected) in forms {
        assert_eq!(pack(class, 32, &[row]), Err(PackError::Form { row: 0, class, expected }));
    }
}

#[test]
fn codes_out_of_range_are_refused() {
    use StorageClass::*;
    let d = [f16::ONE];
    for (class, m) in [(Q4D, None), (Q4DM, Some(&d[..])), (Q5D, None), (Q5DM, Some(&d[..]))] {
        let (least, greatest) = code_range(class);
        for (value, fits) in
            [(least, true), (greatest, true), (least - 1, false), (greatest + 1, false)]
        {
            let found = value as i8;
            let mut codes = [0i8; 32];
            codes[17] = found;
            let row = Row::Codes { codes: &codes, scales: Scales::Block32 { d: &d, m } };
            let fine = Row::Codes { codes: &[0; 32], scales: Scales::Block32 { d: &d, m } };
            let mut out = vec![0; tile_bytes(class, 32)];
            let expected = match fits {
                true => Ok(()),
                false => Err(PackError::Code { row: 1, class, least, greatest, found }),
            };
            assert_eq!(pack_tile(class, 32, &[fine, row], &mut out), expected);
        }
    }
}
