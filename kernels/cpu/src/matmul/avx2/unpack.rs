//! Blocks of 8 rows, from their packed bytes into registers.

use std::arch::x86_64::*;

use onebit_plan::abi::BLOCK;
use onebit_plan::layout::Levels;

use crate::layout::{Codes, IntegerClass, SPAN, ScaleForm};

/// Codes of a block for 8 rows, `[half of k][quad]`.
pub(super) type Quads = [[__m256i; 4]; 2];

/// One block of half a tile in registers: codes, except that those of eight bits are the values
/// themselves. Index 1 of `scale` and `min` is for classes with a scale per 16 elements.
pub(super) struct Block {
    pub codes: Quads,
    pub scale: [__m256; 2],
    pub min: [__m256; 2],
}

/// Unpacks block `b` of a tile for the rows of one half.
///
/// # Safety
/// `tile` holds block `b`; `half` is 0 or 1.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn unpack<C: IntegerClass>(tile: *const u8, b: usize, half: usize) -> Block {
    let (header, block) = C::LAYOUT.block_at(b);
    let block = tile.wrapping_add(block);
    // SAFETY: the block's codes.
    let codes = unsafe { unpack_codes::<C>(block.wrapping_add(32 * half)) };
    let scales = block.wrapping_add(C::LAYOUT.code_bytes());
    let within = b % C::LAYOUT.blocks();
    let header = tile.wrapping_add(header);
    // SAFETY: the block's scales follow its codes, and its record's header precedes them.
    let (scale, min) = unsafe { unpack_scales::<C>(scales, header, within, half) };
    Block { codes, scale, min }
}

/// # Safety
/// `p` is the start of a block's codes, or 32 bytes further for the upper half of the tile.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn unpack_codes<C: IntegerClass>(p: *const u8) -> Quads {
    let high = p.wrapping_add(256);
    match C::LAYOUT.codes {
        // SAFETY: one line.
        Codes::Bits => bits(unsafe { load(p) }),
        // SAFETY: two lines.
        Codes::Pairs => pairs([unsafe { load(p) }, unsafe { load(p.wrapping_add(64)) }]),
        Codes::PairsAndBit => {
            // SAFETY: two lines.
            let codes = pairs([unsafe { load(p) }, unsafe { load(p.wrapping_add(64)) }]);
            // SAFETY: the line of high bits follows the pairs.
            add_third_bits(codes, unsafe { load(p.wrapping_add(128)) })
        }
        // SAFETY: four lines.
        Codes::Nibbles => nibbles(unsafe { load_lines(p) }),
        // SAFETY: four lines.
        Codes::Levels(levels) => look_up::<C>(levels, nibbles(unsafe { load_lines(p) })),
        // SAFETY: eight lines.
        Codes::Bytes => values([unsafe { load_lines(p) }, unsafe { load_lines(high) }]),
        Codes::NibblesAndBit => {
            // SAFETY: four lines.
            let codes = nibbles(unsafe { load_lines(p) });
            // SAFETY: the line of high bits follows the nibbles.
            add_bits(codes, unsafe { load(high) })
        }
        Codes::NibblesAndPair => {
            // SAFETY: four lines.
            let codes = nibbles(unsafe { load_lines(p) });
            // SAFETY: the first of two lines of bit pairs.
            let pairs = unsafe { load(high) };
            // SAFETY: the second one.
            add_pairs(codes, [pairs, unsafe { load(high.wrapping_add(64)) }])
        }
    }
}

/// Half of each of four lines.
///
/// # Safety
/// Half lines at `p` and 64, 128 and 192 bytes on are readable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_lines(p: *const u8) -> [__m256i; 4] {
    let mut lines = [_mm256_setzero_si256(); 4];
    for (j, line) in lines.iter_mut().enumerate() {
        // SAFETY: line j of 4.
        *line = unsafe { load(p.wrapping_add(64 * j)) };
    }
    lines
}

/// Takes the bias of 128 off.
#[inline]
#[target_feature(enable = "avx2")]
fn values(codes: Quads) -> Quads {
    let mut codes = codes;
    for codes in codes.as_flattened_mut() {
        *codes = _mm256_xor_si256(*codes, _mm256_set1_epi8(i8::MIN));
    }
    codes
}

#[inline]
#[target_feature(enable = "avx2")]
fn nibbles(lines: [__m256i; 4]) -> Quads {
    let mask = _mm256_set1_epi8(15);
    let mut codes = [lines; 2];
    for j in 0..4 {
        codes[0][j] = _mm256_and_si256(lines[j], mask);
        codes[1][j] = _mm256_and_si256(_mm256_srli_epi16::<4>(lines[j]), mask);
    }
    codes
}

/// Bit q of each byte of `line` as bit 1 of quad q.
#[inline]
#[target_feature(enable = "avx2")]
fn bits(line: __m256i) -> Quads {
    let moved = [
        [
            _mm256_slli_epi16::<1>(line),
            line,
            _mm256_srli_epi16::<1>(line),
            _mm256_srli_epi16::<2>(line),
        ],
        [
            _mm256_srli_epi16::<3>(line),
            _mm256_srli_epi16::<4>(line),
            _mm256_srli_epi16::<5>(line),
            _mm256_srli_epi16::<6>(line),
        ],
    ];
    masked(moved, _mm256_set1_epi8(2))
}

/// Pair c of each byte of line h as quad 4h + c.
#[inline]
#[target_feature(enable = "avx2")]
fn pairs(lines: [__m256i; 2]) -> Quads {
    let moved = lines.map(|line| {
        [
            line,
            _mm256_srli_epi16::<2>(line),
            _mm256_srli_epi16::<4>(line),
            _mm256_srli_epi16::<6>(line),
        ]
    });
    masked(moved, _mm256_set1_epi8(3))
}

#[inline]
#[target_feature(enable = "avx2")]
fn masked(codes: Quads, mask: __m256i) -> Quads {
    let mut codes = codes;
    for codes in codes.as_flattened_mut() {
        *codes = _mm256_and_si256(*codes, mask);
    }
    codes
}

/// What nibbles stand for: the level where codes are bytes, else the code.
#[inline]
#[target_feature(enable = "avx2")]
fn look_up<C: IntegerClass>(levels: Levels, nibbles: Quads) -> Quads {
    let levels = levels.values();
    // SAFETY: 16 bytes.
    let levels = unsafe { _mm_loadu_si128(levels.as_ptr().cast()) };
    let offset = if C::LAYOUT.bits() == 8 { 0 } else { C::LAYOUT.offset() as i8 };
    let table = _mm256_add_epi8(_mm256_broadcastsi128_si256(levels), _mm256_set1_epi8(offset));
    let mut codes = nibbles;
    for codes in codes.as_flattened_mut() {
        *codes = _mm256_shuffle_epi8(table, *codes);
    }
    codes
}

/// Adds bit q of each byte of `line` to quad q as bit 4.
#[inline]
#[target_feature(enable = "avx2")]
fn add_bits(codes: Quads, line: __m256i) -> Quads {
    let moved = [
        [
            _mm256_slli_epi16::<4>(line),
            _mm256_slli_epi16::<3>(line),
            _mm256_slli_epi16::<2>(line),
            _mm256_slli_epi16::<1>(line),
        ],
        [
            line,
            _mm256_srli_epi16::<1>(line),
            _mm256_srli_epi16::<2>(line),
            _mm256_srli_epi16::<3>(line),
        ],
    ];
    merge(codes, moved, _mm256_set1_epi8(0x10))
}

/// Adds bit q of each byte of `line` to quad q as bit 2.
#[inline]
#[target_feature(enable = "avx2")]
fn add_third_bits(codes: Quads, line: __m256i) -> Quads {
    let moved = [
        [
            _mm256_slli_epi16::<2>(line),
            _mm256_slli_epi16::<1>(line),
            line,
            _mm256_srli_epi16::<1>(line),
        ],
        [
            _mm256_srli_epi16::<2>(line),
            _mm256_srli_epi16::<3>(line),
            _mm256_srli_epi16::<4>(line),
            _mm256_srli_epi16::<5>(line),
        ],
    ];
    merge(codes, moved, _mm256_set1_epi8(4))
}

/// Adds pair c of each byte of line h to quad 4h + c as bits 4 and 5.
#[inline]
#[target_feature(enable = "avx2")]
fn add_pairs(codes: Quads, lines: [__m256i; 2]) -> Quads {
    let mut moved = codes;
    for (moved, line) in moved.iter_mut().zip(lines) {
        *moved = [
            _mm256_slli_epi16::<4>(line),
            _mm256_slli_epi16::<2>(line),
            line,
            _mm256_srli_epi16::<2>(line),
        ];
    }
    merge(codes, moved, _mm256_set1_epi8(0x30))
}

/// Puts the bits of `mask` from `moved` into `codes`.
#[inline]
#[target_feature(enable = "avx2")]
fn merge(codes: Quads, moved: Quads, mask: __m256i) -> Quads {
    let mut codes = codes;
    for (codes, moved) in codes.as_flattened_mut().iter_mut().zip(moved.as_flattened()) {
        *codes = _mm256_or_si256(*codes, _mm256_and_si256(*moved, mask));
    }
    codes
}

/// Scales and minima of 8 rows of a block, as [`Block`] holds them.
///
/// # Safety
/// `scales` are those of block `within` of a record and `header` the record's; `half` is 0 or 1.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn unpack_scales<C: IntegerClass>(
    scales: *const u8,
    header: *const u8,
    within: usize,
    half: usize,
) -> ([__m256; 2], [__m256; 2]) {
    let zero = _mm256_setzero_ps();
    let f16s = scales.wrapping_add(16 * half);
    let bytes = scales.wrapping_add(8 * half);
    let f32s = scales.wrapping_add(32 * half);
    let subs = header.wrapping_add(16 * within + 8 * half);
    let header = header.wrapping_add(16 * half);
    match C::LAYOUT.scales {
        // SAFETY: d.
        ScaleForm::Block => ([unsafe { load_f16(f16s) }, zero], [zero; 2]),
        ScaleForm::BlockMin => {
            // SAFETY: d.
            let d = unsafe { load_f16(f16s) };
            // SAFETY: m.
            let m = unsafe { load_f16(f16s.wrapping_add(32)) };
            ([d, zero], [m, zero])
        }
        ScaleForm::SuperMin => {
            // SAFETY: sub.
            let sub = unsafe { load_i8(bytes) };
            // SAFETY: sub_min.
            let sub_min = unsafe { load_u8(bytes.wrapping_add(16)) };
            // SAFETY: d.
            let d = unsafe { load_f16(header) };
            // SAFETY: dmin.
            let dmin = unsafe { load_f16(header.wrapping_add(32)) };
            let dmin = _mm256_xor_ps(dmin, _mm256_set1_ps(-0.0));
            ([_mm256_mul_ps(d, sub), zero], [_mm256_mul_ps(dmin, sub_min), zero])
        }
        ScaleForm::PairMin => {
            // SAFETY: d.
            let d = unsafe { load_f16(header) };
            // SAFETY: dmin.
            let dmin = unsafe { load_f16(header.wrapping_add(32)) };
            // SAFETY: sub.
            let sub = unsafe { load_i8_pair(bytes) };
            // SAFETY: sub_min.
            let sub_min = unsafe { load_u8_pair(bytes.wrapping_add(32)) };
            (times(d, sub), times(_mm256_xor_ps(dmin, _mm256_set1_ps(-0.0)), sub_min))
        }
        ScaleForm::Super => {
            // SAFETY: d.
            let d = unsafe { load_f16(header) };
            // SAFETY: sub.
            (times(d, unsafe { load_i8_pair(bytes) }), [zero; 2])
        }
        ScaleForm::SuperSub => {
            // SAFETY: d.
            let d = unsafe { load_f16(header) };
            // SAFETY: sub of the block.
            let sub = unsafe { load_i8(subs.wrapping_add(64)) };
            ([_mm256_mul_ps(d, sub), zero], [zero; 2])
        }
        ScaleForm::Span => {
            let span = within * BLOCK / SPAN;
            // SAFETY: d of the span.
            ([unsafe { load_f16(header.wrapping_add(32 * span)) }, zero], [zero; 2])
        }
        // SAFETY: e of the block.
        ScaleForm::Exponent => ([unsafe { load_exponents(subs) }, zero], [zero; 2]),
        // SAFETY: scale.
        ScaleForm::Group => (unsafe { load_f32_pair(f32s) }, [zero; 2]),
        ScaleForm::GroupMin => {
            // SAFETY: scale, then min.
            (unsafe { load_f32_pair(f32s) }, unsafe { load_f32_pair(f32s.wrapping_add(128)) })
        }
    }
}

/// # Safety
/// 32 bytes at `p` are readable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load(p: *const u8) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe { _mm256_loadu_si256(p.cast()) }
}

/// 8 floats at `p` and 8 at 64 bytes on.
///
/// # Safety
/// Both are readable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_f32_pair(p: *const u8) -> [__m256; 2] {
    // SAFETY: the caller's promise.
    let low = unsafe { load(p) };
    // SAFETY: the caller's promise.
    let high = unsafe { load(p.wrapping_add(64)) };
    [_mm256_castsi256_ps(low), _mm256_castsi256_ps(high)]
}

/// 8 f16 as f32.
///
/// # Safety
/// 16 bytes at `p` are readable.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn load_f16(p: *const u8) -> __m256 {
    // SAFETY: the caller's promise.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(p.cast()) })
}

/// 8 i8 as f32.
///
/// # Safety
/// 8 bytes at `p` are readable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_i8(p: *const u8) -> __m256 {
    // SAFETY: the caller's promise.
    let bytes = unsafe { _mm_loadl_epi64(p.cast()) };
    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes))
}

/// `2^(e - 128)` for 8 u8, as two normal factors because the lowest two are subnormal.
///
/// # Safety
/// 8 bytes at `p` are readable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_exponents(p: *const u8) -> __m256 {
    // SAFETY: the caller's promise.
    let e = _mm256_cvtepu8_epi32(unsafe { _mm_loadl_epi64(p.cast()) });
    let half = _mm256_srli_epi32::<1>(e);
    let powers = [half, _mm256_sub_epi32(e, half)]
        .map(|e| _mm256_slli_epi32::<23>(_mm256_add_epi32(e, _mm256_set1_epi32(63))));
    _mm256_mul_ps(_mm256_castsi256_ps(powers[0]), _mm256_castsi256_ps(powers[1]))
}

/// 8 u8 as f32.
///
/// # Safety
/// 8 bytes at `p` are readable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_u8(p: *const u8) -> __m256 {
    // SAFETY: the caller's promise.
    let bytes = unsafe { _mm_loadl_epi64(p.cast()) };
    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes))
}

/// 8 i8 at `p` and 8 at 16 bytes on, as f32.
///
/// # Safety
/// Both are readable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_i8_pair(p: *const u8) -> [__m256; 2] {
    // SAFETY: the caller's promise.
    let low = unsafe { load_i8(p) };
    // SAFETY: the caller's promise.
    [low, unsafe { load_i8(p.wrapping_add(16)) }]
}

/// 8 u8 at `p` and 8 at 16 bytes on, as f32.
///
/// # Safety
/// Both are readable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_u8_pair(p: *const u8) -> [__m256; 2] {
    // SAFETY: the caller's promise.
    let low = unsafe { load_u8(p) };
    // SAFETY: the caller's promise.
    [low, unsafe { load_u8(p.wrapping_add(16)) }]
}

#[inline]
#[target_feature(enable = "avx2")]
fn times(x: __m256, pair: [__m256; 2]) -> [__m256; 2] {
    [_mm256_mul_ps(x, pair[0]), _mm256_mul_ps(x, pair[1])]
}
