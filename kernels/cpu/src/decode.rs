//! Portable reading of packed records: the definition that the SIMD kernels equal.

use half::{bf16, f16};
use onebit_plan::abi::{BLOCK, StorageClass, TILE_ROWS};

use crate::layout::{Codes, FloatClass, IntegerClass, Layout, SPAN, ScaleForm};

/// One block of a tile: codes as `[quad][lane * 4 + i]`, and per 16 elements the scale
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
    /// Which block of its record it is.
    within: usize,
}

fn source<'a>(layout: &Layout, tile: &'a [u8], b: usize) -> Source<'a> {
    let (header, block) = layout.block_at(b);
    let (codes, scales) = tile[block..block + layout.block_bytes()].split_at(layout.code_bytes());
    let header = &tile[header..header + layout.header_bytes()];
    Source { codes, scales, header, within: b % layout.blocks() }
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
    match layout.codes {
        Codes::Bits => add_fields(&mut quads, Fields { shift: 1, width: 1 }, bytes),
        Codes::Pairs => add_fields(&mut quads, Fields { shift: 0, width: 2 }, bytes),
        Codes::PairsAndBit => {
            let (low, high) = bytes.split_at(128);
            add_fields(&mut quads, Fields { shift: 0, width: 2 }, low);
            add_fields(&mut quads, Fields { shift: 2, width: 1 }, high);
        }
        Codes::Nibbles => nibbles(&mut quads, bytes),
        Codes::Levels(levels) => {
            nibbles(&mut quads, bytes);
            let table = levels.values().map(|level| (i32::from(level) + layout.offset()) as u8);
            for code in quads.as_flattened_mut() {
                *code = table[usize::from(*code)];
            }
        }
        Codes::NibblesAndBit | Codes::NibblesAndPair => {
            let (low, high) = bytes.split_at(256);
            nibbles(&mut quads, low);
            add_fields(&mut quads, Fields { shift: 4, width: layout.bits() - 4 }, high);
        }
        Codes::Bytes => {
            for (quad, line) in quads.iter_mut().zip(bytes.chunks_exact(64)) {
                quad.copy_from_slice(line);
            }
        }
    }
    quads
}

fn nibbles(quads: &mut [[u8; 64]; 8], bytes: &[u8]) {
    let (low, high) = quads.split_at_mut(4);
    for (j, line) in bytes.chunks_exact(64).enumerate() {
        for ((low, high), byte) in low[j].iter_mut().zip(&mut high[j]).zip(line) {
            *low = byte & 15;
            *high = byte >> 4;
        }
    }
}

/// Bits `shift..shift + width` of codes.
struct Fields {
    shift: u32,
    width: u32,
}

/// Adds a field of the codes, which stands in `lines` quad after quad.
fn add_fields(quads: &mut [[u8; 64]; 8], Fields { shift, width }: Fields, lines: &[u8]) {
    let per_line = 8 / width as usize;
    for (group, line) in quads.chunks_exact_mut(per_line).zip(lines.chunks_exact(64)) {
        for (c, quad) in (0u32..).zip(group) {
            for (code, byte) in quad.iter_mut().zip(line) {
                *code |= (byte >> (width * c) & ((1 << width) - 1)) << shift;
            }
        }
    }
}

/// Writes the f32 values `scale * code + min` of one lane of block `b`: product first, both
/// roundings kept.
pub(crate) fn lane_values<C: IntegerClass>(tile: &[u8], b: usize, lane: usize, out: &mut [f32]) {
    let layout = C::LAYOUT;
    let source = source(&layout, tile, b);
    let groups = lane_scales(&layout, &source, lane);
    for (quad, values) in out.chunks_exact_mut(4).enumerate().take(BLOCK / 4) {
        let (scale, min) = groups[quad / 4];
        for (i, value) in values.iter_mut().enumerate() {
            let code = lane_value(&layout, source.codes, quad, lane * 4 + i);
            *value = scale * code as f32 + min;
        }
    }
}

/// What the code at `byte` of quad `quad` stands for.
fn lane_value(layout: &Layout, codes: &[u8], quad: usize, byte: usize) -> i32 {
    let nibble = || codes[64 * (quad % 4) + byte] >> (4 * (quad / 4)) & 15;
    let field = |width: usize, start: usize| {
        let per_line = 8 / width;
        let line = codes[start + 64 * (quad / per_line) + byte];
        line >> (width * (quad % per_line)) & ((1 << width) - 1)
    };
    let code = match layout.codes {
        Codes::Bits => field(1, 0) << 1,
        Codes::Pairs => field(2, 0),
        Codes::PairsAndBit => field(2, 0) | field(1, 128) << 2,
        Codes::Nibbles => nibble(),
        Codes::Levels(levels) => return i32::from(levels.values()[usize::from(nibble())]),
        Codes::NibblesAndBit => nibble() | field(1, 256) << 4,
        Codes::NibblesAndPair => nibble() | field(2, 256) << 4,
        Codes::Bytes => codes[64 * quad + byte],
    };
    i32::from(code) - layout.offset()
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
        ScaleForm::PairMin => [0, 1].map(|group| {
            let scale = half(source.header, 0) * f32::from(byte(group).cast_signed());
            (scale, -half(source.header, 1) * f32::from(byte(2 + group)))
        }),
        ScaleForm::Super => {
            let d = half(source.header, 0);
            [0, 1].map(|group| (d * f32::from(byte(group).cast_signed()), NO_MIN))
        }
        ScaleForm::SuperSub => {
            let sub = source.header[64 + TILE_ROWS * source.within + lane].cast_signed();
            [(half(source.header, 0) * f32::from(sub), NO_MIN); 2]
        }
        ScaleForm::Span => [(half(source.header, source.within * BLOCK / SPAN), NO_MIN); 2],
        ScaleForm::Exponent => {
            [(power_of_two(source.header[TILE_ROWS * source.within + lane]), NO_MIN); 2]
        }
        ScaleForm::Group => [(single(0), NO_MIN), (single(1), NO_MIN)],
        ScaleForm::GroupMin => [(single(0), single(2)), (single(1), single(3))],
    }
}

/// `2^(e - 128)`, as two normal factors because the lowest two are subnormal.
fn power_of_two(e: u8) -> f32 {
    let power = |e: u8| f32::from_bits((u32::from(e) + 63) << 23);
    power(e / 2) * power(e - e / 2)
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
