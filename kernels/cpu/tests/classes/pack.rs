//! Packing keeps every value, checked through gather, and refuses what a class cannot hold.

use half::f16;
use onebit_cpu::{
    Isa, Kernels, PackError, Row, Scales, pack_tile, packed_bytes, supports, tile_bytes,
};
use onebit_plan::abi::StorageClass;

use crate::support::{Kind, Matrix, Random, code_values};

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
        for k in [32, 96, 128, 256, 384, 768, 33].into_iter().filter(|k| supports(class, *k)) {
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
        (B1D, 1.125),
        (T2D, 2.125),
        (Q2K, 3.125),
        (Q3K, 3.625),
        (M4E, 4.25),
        (N4K, 4.375),
        (N4D, 4.5),
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
    assert_eq!(pack(B1D, 32, &[row]), Err(PackError::Unsupported { class: B1D, k: 32 }));
    assert_eq!(pack(T2D, 64, &[row]), Err(PackError::Unsupported { class: T2D, k: 64 }));
    assert_eq!(pack(N4K, 128, &[row]), Err(PackError::Unsupported { class: N4K, k: 128 }));
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
        (M4E, row, "Scales::Exponent32"),
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
        let values = code_values(class);
        let (least, greatest) = (i32::from(values[0]), i32::from(values[values.len() - 1]));
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

#[test]
fn values_between_the_levels_are_refused() {
    use StorageClass::*;
    let d = [f16::ONE; 8];
    let forms = [
        (B1D, Scales::Span128 { d: &d[..1] }),
        (T2D, Scales::Span128 { d: &d[..1] }),
        (M4E, Scales::Exponent32 { e: &[128; 4] }),
        (N4D, Scales::Block32 { d: &d[..4], m: None }),
    ];
    for (class, scales) in forms {
        let values = code_values(class);
        let (least, greatest) = (i32::from(values[0]), i32::from(values[values.len() - 1]));
        for found in i8::MIN..=i8::MAX {
            let mut codes = [values[0]; 128];
            codes[77] = found;
            let mut out = vec![0; tile_bytes(class, 128)];
            let expected = if values.contains(&found) {
                Ok(())
            } else if (least..=greatest).contains(&i32::from(found)) {
                Err(PackError::Level { row: 0, class, found })
            } else {
                Err(PackError::Code { row: 0, class, least, greatest, found })
            };
            assert_eq!(
                pack_tile(class, 128, &[Row::Codes { codes: &codes, scales }], &mut out),
                expected
            );
        }
    }
}

#[test]
fn scales_of_the_wrong_length_are_refused() {
    use StorageClass::*;
    let d = [f16::ONE; 9];
    let wrong: [(StorageClass, Scales<'_>, &'static str, usize, usize); 7] = [
        (B1D, Scales::Span128 { d: &d[..1] }, "d", 2, 1),
        (T2D, Scales::Span128 { d: &d[..3] }, "d", 2, 3),
        (M4E, Scales::Exponent32 { e: &[] }, "e", 8, 0),
        (M4E, Scales::Exponent32 { e: &[1; 9] }, "e", 8, 9),
        (N4D, Scales::Block32 { d: &d[..7], m: None }, "d", 8, 7),
        (N4K, Scales::Super { d: &d[..1], dmin: &[], sub: &[1; 16], sub_min: &[] }, "sub", 8, 16),
        (N4K, Scales::Super { d: &d[..2], dmin: &[], sub: &[1; 8], sub_min: &[] }, "d", 1, 2),
    ];
    for (class, scales, what, expected, found) in wrong {
        let codes = vec![code_values(class)[0]; 256];
        let mut out = vec![0; tile_bytes(class, 256)];
        let result = pack_tile(class, 256, &[Row::Codes { codes: &codes, scales }], &mut out);
        assert_eq!(result, Err(PackError::Length { row: 0, class, what, expected, found }));
    }
}

/// The bytes that docs/storage-classes.md promises to the kernels of other devices.
#[test]
fn narrow_codes_stand_where_the_contract_says() {
    use StorageClass::*;
    // (class, bytes of a header, of a block, k; the last record is half a record where it may be)
    let cases = [
        (B1D, 64, 64, 384),
        (T2D, 64, 128, 384),
        (Q2K, 64, 192, 512),
        (Q3K, 64, 224, 512),
        (M4E, 128, 256, 384),
        (N4K, 192, 256, 512),
        (N4D, 0, 288, 384),
    ];
    for (class, header, block, k) in cases {
        let matrix = Matrix::random(class, 16, k, Kind::Typical, 5);
        let tile = matrix.pack();
        for lane in 0..16 {
            let Row::Codes { codes, scales } = matrix.row(lane) else { unreachable!() };
            for (e, &value) in codes.iter().enumerate() {
                let b = e / 32;
                let record = b / 8 * (header + 8 * block);
                let at = if header == 0 { b * block } else { record + header + b % 8 * block };
                let found = stored_value(class, &tile[at..], lane * 4 + e % 4, e % 32 / 4);
                assert_eq!(found, value, "{class:?} lane {lane} element {e}");
                let place = Place { header: &tile[record..], block: &tile[at..], lane, b };
                assert!(place.has_scales(class, scales), "{class:?} lane {lane} block {b}");
            }
        }
    }
}

/// The value at `byte` of quad `quad` of a block.
fn stored_value(class: StorageClass, block: &[u8], byte: usize, quad: usize) -> i8 {
    let line = |line: usize| block[64 * line + byte];
    let pair = || line(quad / 4) >> (2 * (quad % 4)) & 3;
    let nibble = || usize::from(line(quad % 4) >> (4 * (quad / 4)) & 15);
    match class {
        StorageClass::B1D => [-1, 1][usize::from(line(0) >> quad & 1)],
        StorageClass::T2D => pair() as i8 - 1,
        StorageClass::Q2K => pair() as i8,
        StorageClass::Q3K => (pair() | (line(2) >> quad & 1) << 2) as i8 - 4,
        StorageClass::M4E => [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12][nibble()],
        _ => code_values(StorageClass::N4D)[nibble()],
    }
}

/// Where the scales of one row's block stand.
struct Place<'a> {
    header: &'a [u8],
    block: &'a [u8],
    lane: usize,
    b: usize,
}

impl Place<'_> {
    /// The lane's f16 of the array at `at`.
    fn half(&self, bytes: &[u8], at: usize) -> f16 {
        let at = at + 2 * self.lane;
        f16::from_le_bytes([bytes[at], bytes[at + 1]])
    }

    fn has_scales(&self, class: StorageClass, scales: Scales<'_>) -> bool {
        let Self { header, block, lane, b } = *self;
        match scales {
            Scales::Span128 { d } => self.half(header, 32 * (b % 8 / 4)) == d[b / 4],
            Scales::Exponent32 { e } => header[16 * (b % 8) + lane] == e[b],
            Scales::Super { d, dmin, sub, sub_min } => {
                let same_d = self.half(header, 0) == d[b / 8];
                let signed = |bytes: &[u8], at: usize| bytes[at + lane] as i8;
                let pair = |at: usize| [signed(block, at), signed(block, at + 16)];
                same_d
                    && match class {
                        StorageClass::N4K => signed(header, 64 + 16 * (b % 8)) == sub[b],
                        StorageClass::Q3K => pair(192) == sub[2 * b..2 * b + 2],
                        _ => {
                            let mins = [block[160 + lane], block[176 + lane]];
                            self.half(header, 32) == dmin[b / 8]
                                && pair(128) == sub[2 * b..2 * b + 2]
                                && mins == sub_min[2 * b..2 * b + 2]
                        }
                    }
            }
            Scales::Block32 { d, .. } => self.half(block, 256) == d[b],
            Scales::Group16 { .. } => false,
        }
    }
}
