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

/// Where block `b` of a tile is read.
struct Source<'a> {
    codes: &'a [u8],
    scales: &'a [u8],
    header: &'a [u8],
}

fn source<'a>(layout: &Layout, tile: &'a [u8], b: usize) -> Source<'a> {
    let (header, block) = layout.block_at(b);
    let (codes, scales) = tile[block..block + layout.block_bytes()].split_at(layout.code_bytes());
    Source { codes, scales, header: &tile[header..header + layout.header_bytes()] }
}

/// Reads block `b` of a tile.
pub(crate) fn tile_block<C: IntegerClass>(tile: &[u8], b: usize) -> TileBlock {
    let source = source(&C::LAYOUT, tile, b);
    let codes = tile_codes(&C::LAYOUT, source.codes);
    let mut block = TileBlock { codes, scale: Default::default(), min: Default::default() };
    for lane in 0..TILE_ROWS {
        for (g, (scale, min)) in lane_scales(&C::LAYOUT, &source, lane).into_iter().enumerate() {
            block.scale[g][lane] = scale;
            block.min[g][lane] = min;
        }
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

/// Writes the f32 values `scale * code + min` of one lane of block `b`: product first, both
/// roundings kept.
pub(crate) fn lane_values<C: IntegerClass>(tile: &[u8], b: usize, lane: usize, out: &mut [f32]) {
    let layout = C::LAYOUT;
    let source = source(&layout, tile, b);
    let groups = lane_scales(&layout, &source, lane);
    let bias = layout.bias.map_or(0, |shift| 1 << shift);
    for (quad, values) in out.chunks_exact_mut(4).enumerate().take(BLOCK / 4) {
        let (scale, min) = groups[quad / 4];
        for (i, value) in values.iter_mut().enumerate() {
            let code = lane_code(&layout, source.codes, quad, lane * 4 + i) - bias;
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

/// (scale, minimum) of each 16 elements of a lane's block.
fn lane_scales(layout: &Layout, source: &Source<'_>, lane: usize) -> [(f32, f32); 2] {
    let half = |bytes: &[u8], array: usize| {
        f32::from(f16::from_le_bytes(array_of(bytes, 32 * array + 2 * lane)))
    };
    let single = |array: usize| f32::from_le_bytes(array_of(source.scales, 64 * array + 4 * lane));
    let byte = |array: usize| source.scales[16 * array + lane];
    match layout.scales {
        ScaleForm::Block => [(half(source.scales, 0), NO_MIN); 2],
        ScaleForm::BlockMin => [(half(source.scales, 0), half(source.scales, 1)); 2],
        ScaleForm::SuperMin => {
            let scale = half(source.header, 0) * f32::from(byte(0).cast_signed());
            [(scale, -half(source.header, 1) * f32::from(byte(1))); 2]
        }
        ScaleForm::Super => {
            let d = half(source.header, 0);
            [0, 1].map(|group| (d * f32::from(byte(group).cast_signed()), NO_MIN))
        }
        ScaleForm::Group => [(single(0), NO_MIN), (single(1), NO_MIN)],
        ScaleForm::GroupMin => [(single(0), single(2)), (single(1), single(3))],
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
