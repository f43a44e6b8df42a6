//! Gates on the array: whether they pay, and how their weights are rounded.

use onebit_aie::gemm::gated::{Factor, SCALE_BITS, scale_code, scale_exponent};
use onebit_aie::gemm::{Cost, Design, Gated, Tiling, pack};
use onebit_ir::Function;
use onebit_ir::quant::Format;
use onebit_plan::abi::ARRAY_BLOCK;
use rayon::prelude::*;

use super::{ArrayLimits, ArrayMatrix, Rounding, Squares, by_columns, group_of, shape};
use crate::error::CompileError;

/// Whether gate and up of `outputs` rows of `columns` weights, and the product of `rows` that reads
/// them, are one submission; why not, where they are not.
pub fn choose(
    function: Function,
    [rows, outputs, columns]: [usize; 3],
    limits: &ArrayLimits,
    design: &Design,
) -> Result<Gated, String> {
    let factor = match function {
        Function::Silu => Factor::Sigmoid,
        Function::GeluTanh => Factor::Normal,
        Function::ReluSquared => return Err("there is no table of its function".into()),
    };
    let small = |size: usize| u32::try_from(size).map_err(|error| error.to_string());
    let gated = Gated { outputs: small(outputs)?, k: small(columns)?, factor };
    let seconds = |tiling: &Tiling| Cost::new(tiling, design.kernel());
    let gate = seconds(&gated.tiling().map_err(|error| error.to_string())?);
    let reader = Tiling::new(&gated.reader(small(rows)?)).map_err(|error| error.to_string())?;
    let together = gate.total() + seconds(&reader).streaming();
    if 2 * outputs > limits.outputs || rows > limits.outputs || together > limits.group_seconds {
        return Err("that would be more than one submission may do".into());
    }
    let plain = |rows: usize, columns: usize| {
        let shape = shape(rows, columns, group_of(columns)?)?;
        Some(seconds(&Tiling::new(&shape).ok()?).total())
    };
    let apart = plain(2 * outputs, columns).zip(plain(rows, outputs));
    let apart = apart.map_or(f64::INFINITY, |(gate, reader)| gate + reader);
    if together > apart {
        let [together, apart] = [together, apart].map(|seconds| seconds * 1e6);
        return Err(format!("modelled with {together:.0} us, apart with {apart:.0}"));
    }
    Ok(gated)
}

/// A row's largest |weight| by 127.
fn scale_of((format, row): &(Format, &[u8]), floats: &mut [f32]) -> Result<f32, String> {
    format.decode(row, floats).map_err(|error| error.to_string())?;
    if !floats.iter().all(|w| w.is_finite()) {
        return Err("a weight is not a finite number; download the file again".into());
    }
    Ok(floats.iter().fold(0.0f32, |most, w| most.max(w.abs())) / 127.0)
}

/// Rounds a row with the scale `scale`; what that changed, and the sum of the squares of its codes.
fn round(row: &[f32], scale: f64, codes: &mut [i8]) -> (Squares, u32) {
    let (mut squares, mut of_codes) = (Squares::default(), 0);
    let factor = if scale > 0.0 { scale.recip() } else { 0.0 };
    for (code, &w) in codes.iter_mut().zip(row) {
        let w = f64::from(w);
        *code = (w * factor).round_ties_even().clamp(-127.0, 127.0) as i8;
        let change = w - f64::from(*code) * scale;
        squares.changed += change * change;
        squares.all += w * w;
        of_codes += u32::from(code.unsigned_abs()).pow(2);
    }
    (squares, of_codes)
}

impl ArrayMatrix {
    /// Packs gate and up, whose `rows` follow each other: by turns of eight, with scales that share a
    /// power of two, and behind them the numbers that the arithmetic needs.
    pub(super) fn pack_gate(
        &self,
        gated: Gated,
        rows: &[(Format, &[u8])],
        roundings: &mut Vec<Rounding>,
        sink: &mut impl FnMut(&[u8]) -> Result<(), CompileError>,
    ) -> Result<(), CompileError> {
        let tiling = gated.tiling().map_err(super::failed)?;
        let (outputs, k) = (gated.outputs as usize, self.columns);
        let failed = |reason| CompileError::Tensor { name: self.tensors.join(" + "), reason };
        let scales: Result<Vec<f32>, String> = rows
            .par_iter()
            .map_init(|| vec![0.0; k], |floats, row| scale_of(row, floats))
            .collect();
        let scales = scales.map_err(failed)?;
        let (of_gate, of_up) = scales.split_at(outputs);
        let [gate_bits, up_bits] = SCALE_BITS;
        let exponents = [scale_exponent(of_gate, gate_bits), scale_exponent(of_up, up_bits)];
        // The place of a row among those of the stack, by turns.
        let source = |at: usize| {
            let (turn, lane) = (at / ARRAY_BLOCK, at % ARRAY_BLOCK);
            turn % 2 * outputs + turn / 2 * ARRAY_BLOCK + lane
        };
        let which = |at: usize| at / ARRAY_BLOCK % 2;
        let scale_codes: Vec<i32> = (0..2 * outputs)
            .map(|at| (scales[source(at)], which(at)))
            .map(|(scale, which)| scale_code(scale, exponents[which], SCALE_BITS[which]))
            .collect();
        let mut codes = vec![0i8; 2 * outputs * k];
        let rounded: Result<Vec<(Squares, u32)>, String> = codes
            .par_chunks_exact_mut(k)
            .enumerate()
            .map_init(
                || vec![0.0; k],
                |floats, (at, codes)| {
                    let (format, row) = rows[source(at)];
                    format.decode(row, floats).map_err(|error| error.to_string())?;
                    let unit = f64::from(exponents[which(at)]).exp2();
                    Ok(round(floats, f64::from(scale_codes[at]) * unit, codes))
                },
            )
            .collect();
        let rounded = rounded.map_err(failed)?;
        let mut squares = [0u32; 2];
        for (at, (_, of_codes)) in rounded.iter().enumerate() {
            squares[which(at)] = squares[which(at)].max(*of_codes);
        }
        by_columns(sink, |column| pack::gated_weights(&tiling, &codes, &scale_codes, column))?;
        let [gate, up] = exponents.map(i32::cast_unsigned);
        sink(bytemuck::cast_slice(&[gate, up, squares[0], squares[1]]))?;
        let changes: Vec<Squares> = rounded.iter().map(|(squares, _)| *squares).collect();
        roundings.push(Rounding::of(&changes, self.group));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use onebit_test_support::Random;

    use super::super::Link;
    use super::*;

    #[test]
    fn gates_that_fit_and_pay_are_chosen_and_others_say_why() {
        let design = Design::new().unwrap();
        let chosen = |function, sizes, limits: &ArrayLimits| {
            choose(function, sizes, limits, &design).map(|gated| gated.factor)
        };
        let with = |function, sizes| chosen(function, sizes, &ArrayLimits::default());
        let (silu, gelu) = (Function::Silu, Function::GeluTanh);
        // SmolLM2-135M, Qwen3-0.6B, Gemma-3-270m.
        assert_eq!(with(silu, [576, 1536, 576]), Ok(Factor::Sigmoid));
        assert_eq!(with(silu, [1024, 3072, 1024]), Ok(Factor::Sigmoid));
        assert_eq!(with(gelu, [640, 2048, 640]), Ok(Factor::Normal));
        for (function, sizes, limits, reason) in [
            (silu, [4096, 12288, 4096], ArrayLimits::default(), "1024 of one sum"),
            (silu, [896, 4864, 896], ArrayLimits::default(), "no multiple of 512"),
            (
                silu,
                [576, 1536, 576],
                ArrayLimits { outputs: 64, ..Default::default() },
                "more than one",
            ),
            (
                silu,
                [576, 1536, 576],
                ArrayLimits { group_seconds: 1e-4, ..Default::default() },
                "more than one",
            ),
            (Function::ReluSquared, [576, 1536, 576], ArrayLimits::default(), "no table"),
            // Many gates of few weights: the tiles take longer for them than a submission does.
            (silu, [64, 7168, 64], ArrayLimits::default(), "modelled with"),
        ] {
            let error = chosen(function, sizes, &limits).expect_err(reason);
            assert!(error.contains(reason), "{error}");
        }
    }

    /// Packed weights times their scales are the weights, and the numbers behind them are true.
    #[test]
    fn packed_gates_are_the_weights_within_their_rounding() {
        let (outputs, k) = (512usize, 72usize);
        let gated = Gated { outputs: 512, k: 72, factor: Factor::Sigmoid };
        let mut random = Random::new(7);
        // Rows of very different sizes, one of zeros.
        let weights: Vec<f32> = (0..2 * outputs * k)
            .map(|at| match at / k {
                3 => 0.0,
                row => random.normal() * 0.02 * 4f32.powi(row as i32 % 7 - 3),
            })
            .collect();
        let bytes: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
        let rows: Vec<_> = bytes.chunks_exact(4 * k).map(|row| (Format::F32, row)).collect();
        let names = ["gate", "up"].map(String::from).to_vec();
        let stack = (names, vec![outputs; 2], vec![Format::F32; 2]);
        let matrix = ArrayMatrix::new(stack, k, 0).linked(Link::Gate(gated));
        let matrix = matrix.cut(&ArrayLimits::default(), &Design::new().unwrap()).unwrap();
        let (mut packed, mut roundings) = (Vec::new(), Vec::new());
        let mut sink = |bytes: &[u8]| {
            packed.extend_from_slice(bytes);
            Ok(())
        };
        matrix.pack(&rows, &mut roundings, &mut sink).unwrap();
        assert_eq!(packed.len() as u64, matrix.packed_bytes());
        assert!(roundings.len() == 1 && roundings[0].relative < 0.01, "{roundings:?}");

        let tiling = gated.tiling().unwrap();
        let column_bytes = tiling.weight_bytes() as usize;
        let words = packed[8 * column_bytes..].as_chunks::<4>().0;
        let words: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        assert_eq!((words.len(), tiling.passes, tiling.units), (4, 1, 16));
        let mut squares = [0u32; 2];
        for at in 0..2 * outputs {
            let (column, unit, lane) = (at / 128, at % 128 / 8, at % 8);
            let column = &packed[column * column_bytes..][..column_bytes];
            let place = column_bytes - 2048 + 4 * (8 * unit + lane);
            let scale = i32::from_le_bytes(column[place..place + 4].try_into().unwrap());
            let which = unit % 2;
            assert!((0..1 << SCALE_BITS[which]).contains(&scale));
            let unit_of_scale = f64::from(words[which].cast_signed()).exp2();
            // One segment of two bricks of 64 k: zeros behind the 72.
            let code = |k: usize| {
                let brick = (unit * 2 + k / 64) * 512;
                column[brick + k % 64 * 8 + lane].cast_signed()
            };
            let row = which * outputs + at / 16 * 8 + lane;
            let step = f64::from(scale) * unit_of_scale;
            for (k, &w) in weights[row * k..][..k].iter().enumerate() {
                let found = f64::from(code(k)) * step;
                assert!((found - f64::from(w)).abs() <= 0.51 * step, "row {row}, {k}: {found} {w}");
            }
            let sum = (0..k).map(|k| u32::from(code(k).unsigned_abs()).pow(2)).sum();
            squares[which] = squares[which].max(sum);
        }
        assert_eq!(words[2..], squares);
    }
}
