//! Random rows have the deviation asked for; the quantisers are near what they are given.

use onebit_ir::quant::{FORMATS, Format};
use onebit_test_support::{Random, RandomBlocks, quantize, random_row};

fn decode(format: Format, bytes: &[u8], elements: usize) -> Vec<f32> {
    let mut out = vec![0.0; elements];
    format.decode(bytes, &mut out).expect("a whole number of blocks");
    out
}

#[test]
fn random_rows_have_the_deviation_asked_for() {
    for info in FORMATS {
        let bytes = random_row(info.format, 16_384, 0.05, &mut Random::new(7));
        let values = decode(info.format, &bytes, 16_384);
        assert!(values.iter().all(|x| x.is_finite()), "{}", info.name);
        let mean = values.iter().sum::<f32>() / 16_384.0;
        let deviation = (values.iter().map(|x| x * x).sum::<f32>() / 16_384.0).sqrt();
        assert!(mean.abs() < 0.01, "{}: mean {mean}", info.name);
        assert!((0.03..0.08).contains(&deviation), "{}: deviation {deviation}", info.name);
    }
}

#[test]
fn quantisers_are_near() {
    let mut random = Random::new(3);
    let values: Vec<f32> = (0..4096).map(|_| random.normal()).collect();
    // Largest error in units of the standard deviation: half a step of the widest block, plus the
    // rounding of its f16 scale.
    let bounds = [
        (Format::F32, 0.0),
        (Format::F16, 0.002),
        (Format::BF16, 0.016),
        (Format::Q8_0, 0.02),
        (Format::Q4_1, 0.35),
        (Format::Q4_0, 0.5),
    ];
    for (format, bound) in bounds {
        let decoded = decode(format, &quantize(format, &values), values.len());
        let errors = values.iter().zip(&decoded).map(|(x, y)| (x - y).abs());
        let worst = errors.fold(0.0, f32::max);
        assert!(worst <= bound, "{format}: {worst}");
    }
}

#[test]
fn quantisers_take_blocks_of_zeros() {
    for format in [Format::Q4_0, Format::Q4_1, Format::Q8_0] {
        assert_eq!(decode(format, &quantize(format, &[0.0; 32]), 32), [0.0; 32]);
    }
}

#[test]
fn blocks_in_place_have_the_deviation_asked_for() {
    for info in FORMATS {
        let mut bytes = vec![0; 16_384 / info.block_len * info.block_bytes];
        RandomBlocks::new(info.format, 0.05).fill(&mut bytes, &mut Random::new(7));
        let values = decode(info.format, &bytes, 16_384);
        assert!(values.iter().all(|x| x.is_finite()), "{}", info.name);
        let mean = values.iter().sum::<f32>() / 16_384.0;
        let deviation = (values.iter().map(|x| x * x).sum::<f32>() / 16_384.0).sqrt();
        assert!(mean.abs() < 0.01, "{}: mean {mean}", info.name);
        assert!((0.03..0.08).contains(&deviation), "{}: deviation {deviation}", info.name);
    }
}

#[test]
fn minima_centre_the_codes_of_k_formats() {
    for format in [Format::Q2K, Format::Q4K, Format::Q5K] {
        let group = if format == Format::Q2K { 16 } else { 32 };
        let mut bytes = vec![0; 64 * format.block_bytes()];
        RandomBlocks::new(format, 1.0).fill(&mut bytes, &mut Random::new(7));
        let values = decode(format, &bytes, 64 * 256);
        // Sums of uniform codes: the mean of a group is off by less than its deviation.
        for values in values.chunks_exact(group) {
            let mean = values.iter().sum::<f32>() / group as f32;
            let largest = values.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            assert!(mean.abs() <= 0.8 * largest, "{format}: {mean} beside {largest}");
        }
    }
}
