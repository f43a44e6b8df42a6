//! Portable reading of packed records: the definition that the SIMD kernels equal.

use half::{bf16, f16};
use onebit_plan::abi::{BLOCK, StorageClass, TILE_ROWS};

use crate::layout::{Codes, FloatClass, IntegerClass, Layout, ScaleForm};

/// One block of a tile: stored codes as `[quad][lane * 4 + i]`, and per 16 elements the scale
/// and minimum of each lane. Classes with one scale a block have it in both places.
pub(crate) struct TileBlock {
    pub codes: [[u8; 64]; 8],
    pub scale: [[f32; TILE_ROWS]; 2],
    pub min: [[f32; TILE_ROWS]; 2],
}

/// Reads block `index` of a record.
pub(crate) fn tile_block<C: IntegerClass>(record: &[u8], index: usize) -> TileBlock {
    let layout = C::LAYOUT;
    let (codes, scales) = record.split_at(layout.scales_at());
    let codes = &codes[index * layout.block_bytes()..][..layout.block_bytes()];
    let mut block = TileBlock {
        codes: tile_codes(&layout, codes),
        scale: Default::default(),
        min: Default::default(),
    };
    for lane in 0..TILE_ROWS {
        let [(scale_0, min_0), (scale_1, min_1)] = lane_scales(&layout, scales, index, lane);
        block.scale[0][lane] = scale_0;
        block.scale[1][lane] = scale_1;
        block.min[0][lane] = min_0;
        block.min[1][lane] = min_1;
    }
    block
}

fn tile_codes(layout: &Layout, bytes: &[u8]) -> [[u8; 64]; 8] {
    let mut quads = [[0; 64]; 8];
    if layout.codes == Codes::Bytes {
        for (quad, line) in quads.iter_mut().zip(bytes.chunks_exact(64)) {
            quad.copy_from_slice(line);
        }
        return quads;
    }
    let (low, high) = quads.split_at_mut(4);
    for (j, line) in bytes[..256].chunks_exact(64).enumerate() {
        for ((low, high), byte) in low[j].iter_mut().zip(&mut high[j]).zip(line) {
            *low = byte & 15;
            *high = byte >> 4;
        }
    }
    let width = layout.bits() - 4;
    if width == 0 {
        return quads;
    }
    let per_line = 8 / width as usize;
    for (group, line) in quads.chunks_exact_mut(per_line).zip(bytes[256..].chunks_exact(64)) {
        for (c, quad) in (0u32..).zip(group) {
            for (code, byte) in quad.iter_mut().zip(line) {
                *code |= (byte >> (width * c) & ((1 << width) - 1)) << 4;
            }
        }
    }
    quads
}

/// Writes the f32 values `scale * code + min` of one lane's block: product first, both roundings
/// kept.
pub(crate) fn lane_values<C: IntegerClass>(
    record: &[u8],
    index: usize,
    lane: usize,
    out: &mut [f32],
) {
    let layout = C::LAYOUT;
    let (codes, scales) = record.split_at(layout.scales_at());
    let codes = &codes[index * layout.block_bytes()..][..layout.block_bytes()];
    let groups = lane_scales(&layout, scales, index, lane);
    let bias = layout.bias.map_or(0, |shift| 1 << shift);
    for (quad, values) in out.chunks_exact_mut(4).enumerate().take(BLOCK / 4) {
        let (scale, min) = groups[quad / 4];
        for (i, value) in values.iter_mut().enumerate() {
            let code = lane_code(&layout, codes, quad, lane * 4 + i) - bias;
            *value = scale * code as f32 + min;
        }
    }
}

/// The stored code at `byte` of quad `quad`.
fn lane_code(layout: &Layout, codes: &[u8], quad: usize, byte: usize) -> i32 {
    if layout.codes == Codes::Bytes {
        return i32::from(codes[64 * quad + byte]);
    }
    let nibble = codes[64 * (quad % 4) + byte] >> (4 * (quad / 4)) & 15;
    let width = layout.bits() as usize - 4;
    if width == 0 {
        return i32::from(nibble);
    }
    let per_line = 8 / width;
    let line = codes[256 + 64 * (quad / per_line) + byte];
    let top = line >> (width * (quad % per_line)) & ((1 << width) - 1);
    i32::from(nibble | top << 4)
}

/// The minimum of a class without one: adding it keeps the sign of a zero product.
const NO_MIN: f32 = -0.0;

/// (scale, minimum) of each 16 elements of block `index` of a lane.
fn lane_scales(layout: &Layout, scales: &[u8], index: usize, lane: usize) -> [(f32, f32); 2] {
    let half = |array: usize| f32::from(f16::from_le_bytes(array_of(scales, 2 * array + 2 * lane)));
    let single = |array: usize| f32::from_le_bytes(array_of(scales, array + 4 * lane));
    let byte = |array: usize| scales[array + lane];
    match layout.scales {
        ScaleForm::Block => [(half(16 * index), NO_MIN); 2],
        ScaleForm::BlockMin => [(half(16 * index), half(16 * (layout.blocks + index))); 2],
        ScaleForm::SuperMin => {
            let scale = half(128) * f32::from(byte(16 * index).cast_signed());
            [(scale, -half(144) * f32::from(byte(128 + 16 * index))); 2]
        }
        ScaleForm::Super => [0, 16]
            .map(|group| (half(128) * f32::from(byte(32 * index + group).cast_signed()), NO_MIN)),
        ScaleForm::Group => [(single(0), NO_MIN), (single(64), NO_MIN)],
        ScaleForm::GroupMin => [(single(0), single(128)), (single(64), single(192))],
    }
}

/// Element `i` of each row of a float tile.
pub(crate) fn float_line<C: FloatClass>(tile: &[u8], i: usize) -> [f32; TILE_ROWS] {
    let mut line = [0.0; TILE_ROWS];
    for (lane, value) in line.iter_mut().enumerate() {
        *value = float_value::<C>(tile, i, lane);
    }
    line
}

/// Element `i` of row `lane` of a float tile.
pub(crate) fn float_value<C: FloatClass>(tile: &[u8], i: usize, lane: usize) -> f32 {
    let element = i * TILE_ROWS + lane;
    match C::CLASS {
        StorageClass::F16 => f32::from(f16::from_le_bytes(array_of(tile, 2 * element))),
        StorageClass::BF16 => f32::from(bf16::from_le_bytes(array_of(tile, 2 * element))),
        _ => f32::from_le_bytes(array_of(tile, 4 * element)),
    }
}

fn array_of<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}
