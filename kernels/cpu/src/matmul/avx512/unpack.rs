//! Blocks of 16 rows, from their packed bytes into registers.

use std::arch::x86_64::*;

use onebit_plan::abi::BLOCK;
use onebit_plan::layout::Levels;

use crate::layout::{Codes, IntegerClass, SPAN, ScaleForm};

/// Codes of a block, `[half][quad of the half]`.
pub(super) type Quads = [[__m512i; 4]; 2];

/// One block of a tile in registers. Index 1 of `scale` and `min` is for classes with a scale
/// per 16 elements; `min` for classes that have one.
pub(super) struct Block {
    pub codes: Quads,
    pub scale: [__m512; 2],
    pub min: [__m512; 2],
}

/// Unpacks block `b` of a tile.
///
/// # Safety
/// `tile` holds block `b`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn unpack<C: IntegerClass>(tile: *const u8, b: usize) -> Block {
    let (header, block) = C::LAYOUT.block_at(b);
    let block = tile.wrapping_add(block);
    // SAFETY: the block's codes.
    let codes = unsafe { unpack_codes::<C>(block) };
    let scales = block.wrapping_add(C::LAYOUT.code_bytes());
    let within = b % C::LAYOUT.blocks();
    // SAFETY: the block's scales follow its codes, and its record's header precedes them.
    let (scale, min) = unsafe { unpack_scales::<C>(scales, tile.wrapping_add(header), within) };
    Block { codes, scale, min }
}

/// # Safety
/// `p` is the start of a block's codes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
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
        Codes::Bytes => [unsafe { load_lines(p) }, unsafe { load_lines(high) }],
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

/// # Safety
/// 256 bytes at `p` are readable.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_lines(p: *const u8) -> [__m512i; 4] {
    let mut lines = [_mm512_setzero_si512(); 4];
    for (j, line) in lines.iter_mut().enumerate() {
        // SAFETY: line j of 4.
        *line = unsafe { load(p.wrapping_add(64 * j)) };
    }
    lines
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn nibbles(lines: [__m512i; 4]) -> Quads {
    let mask = _mm512_set1_epi8(15);
    let mut codes = [lines; 2];
    for j in 0..4 {
        codes[0][j] = _mm512_and_si512(lines[j], mask);
        codes[1][j] = _mm512_and_si512(_mm512_srli_epi16::<4>(lines[j]), mask);
    }
    codes
}

/// Bit q of each byte of `line` as bit 1 of quad q.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn bits(line: __m512i) -> Quads {
    let moved = [
        [
            _mm512_slli_epi16::<1>(line),
            line,
            _mm512_srli_epi16::<1>(line),
            _mm512_srli_epi16::<2>(line),
        ],
        [
            _mm512_srli_epi16::<3>(line),
            _mm512_srli_epi16::<4>(line),
            _mm512_srli_epi16::<5>(line),
            _mm512_srli_epi16::<6>(line),
        ],
    ];
    masked(moved, _mm512_set1_epi8(2))
}

/// Pair c of each byte of line h as quad 4h + c.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn pairs(lines: [__m512i; 2]) -> Quads {
    let moved = lines.map(|line| {
        [
            line,
            _mm512_srli_epi16::<2>(line),
            _mm512_srli_epi16::<4>(line),
            _mm512_srli_epi16::<6>(line),
        ]
    });
    masked(moved, _mm512_set1_epi8(3))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn masked(codes: Quads, mask: __m512i) -> Quads {
    let mut codes = codes;
    for codes in codes.as_flattened_mut() {
        *codes = _mm512_and_si512(*codes, mask);
    }
    codes
}

/// The codes that nibbles stand for.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn look_up<C: IntegerClass>(levels: Levels, nibbles: Quads) -> Quads {
    let levels = levels.values();
    // SAFETY: 16 bytes.
    let levels = unsafe { _mm_loadu_si128(levels.as_ptr().cast()) };
    let offset = _mm512_set1_epi8(C::LAYOUT.offset() as i8);
    let table = _mm512_add_epi8(_mm512_broadcast_i32x4(levels), offset);
    let mut codes = nibbles;
    for codes in codes.as_flattened_mut() {
        *codes = _mm512_shuffle_epi8(table, *codes);
    }
    codes
}

/// Adds bit q of each byte of `line` to quad q as bit 4.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn add_bits(codes: Quads, line: __m512i) -> Quads {
    let moved = [
        [
            _mm512_slli_epi16::<4>(line),
            _mm512_slli_epi16::<3>(line),
            _mm512_slli_epi16::<2>(line),
            _mm512_slli_epi16::<1>(line),
        ],
        [
            line,
            _mm512_srli_epi16::<1>(line),
            _mm512_srli_epi16::<2>(line),
            _mm512_srli_epi16::<3>(line),
        ],
    ];
    merge(codes, moved, _mm512_set1_epi8(0x10))
}

/// Adds bit q of each byte of `line` to quad q as bit 2.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn add_third_bits(codes: Quads, line: __m512i) -> Quads {
    let moved = [
        [
            _mm512_slli_epi16::<2>(line),
            _mm512_slli_epi16::<1>(line),
            line,
            _mm512_srli_epi16::<1>(line),
        ],
        [
            _mm512_srli_epi16::<2>(line),
            _mm512_srli_epi16::<3>(line),
            _mm512_srli_epi16::<4>(line),
            _mm512_srli_epi16::<5>(line),
        ],
    ];
    merge(codes, moved, _mm512_set1_epi8(4))
}

/// Adds pair c of each byte of line h to quad 4h + c as bits 4 and 5.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn add_pairs(codes: Quads, lines: [__m512i; 2]) -> Quads {
    let mut moved = codes;
    for (moved, line) in moved.iter_mut().zip(lines) {
        *moved = [
            _mm512_slli_epi16::<4>(line),
            _mm512_slli_epi16::<2>(line),
            line,
            _mm512_srli_epi16::<2>(line),
        ];
    }
    merge(codes, moved, _mm512_set1_epi8(0x30))
}

/// Puts the bits of `mask` from `moved` into `codes`.
#[inline]
#[target_feature(enable = "avx512f")]
fn merge(codes: Quads, moved: Quads, mask: __m512i) -> Quads {
    let mut codes = codes;
    for (codes, moved) in codes.as_flattened_mut().iter_mut().zip(moved.as_flattened()) {
        *codes = _mm512_or_si512(*codes, _mm512_and_si512(*moved, mask));
    }
    codes
}

/// Scales and minima of a block, as [`Block`] holds them.
///
/// # Safety
/// `scales` are those of block `within` of a record and `header` the record's.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn unpack_scales<C: IntegerClass>(
    scales: *const u8,
    header: *const u8,
    within: usize,
) -> ([__m512; 2], [__m512; 2]) {
    let zero = _mm512_setzero_ps();
    match C::LAYOUT.scales {
        // SAFETY: d.
        ScaleForm::Block => ([unsafe { load_f16(scales) }, zero], [zero; 2]),
        ScaleForm::BlockMin => {
            // SAFETY: d.
            let d = unsafe { load_f16(scales) };
            // SAFETY: m.
            let m = unsafe { load_f16(scales.wrapping_add(32)) };
            ([d, zero], [m, zero])
        }
        ScaleForm::SuperMin => {
            // SAFETY: sub.
            let sub = unsafe { load_i8(scales) };
            // SAFETY: sub_min.
            let sub_min = unsafe { load_u8(scales.wrapping_add(16)) };
            // SAFETY: d.
            let d = unsafe { load_f16(header) };
            // SAFETY: dmin.
            let dmin = unsafe { load_f16(header.wrapping_add(32)) };
            ([_mm512_mul_ps(d, sub), zero], [_mm512_mul_ps(negate(dmin), sub_min), zero])
        }
        ScaleForm::PairMin => {
            // SAFETY: d.
            let d = unsafe { load_f16(header) };
            // SAFETY: dmin.
            let dmin = unsafe { load_f16(header.wrapping_add(32)) };
            // SAFETY: sub.
            let sub = unsafe { load_i8_pair(scales) };
            // SAFETY: sub_min.
            let sub_min = unsafe { load_u8_pair(scales.wrapping_add(32)) };
            (times(d, sub), times(negate(dmin), sub_min))
        }
        ScaleForm::Super => {
            // SAFETY: d.
            let d = unsafe { load_f16(header) };
            // SAFETY: sub.
            (times(d, unsafe { load_i8_pair(scales) }), [zero; 2])
        }
        ScaleForm::SuperSub => {
            // SAFETY: d.
            let d = unsafe { load_f16(header) };
            // SAFETY: sub of the block.
            let sub = unsafe { load_i8(header.wrapping_add(64 + 16 * within)) };
            ([_mm512_mul_ps(d, sub), zero], [zero; 2])
        }
        ScaleForm::Span => {
            let span = within * BLOCK / SPAN;
            // SAFETY: d of the span.
            ([unsafe { load_f16(header.wrapping_add(32 * span)) }, zero], [zero; 2])
        }
        ScaleForm::Exponent => {
            // SAFETY: e of the block.
            ([unsafe { load_exponents(header.wrapping_add(16 * within)) }, zero], [zero; 2])
        }
        // SAFETY: scale.
        ScaleForm::Group => (unsafe { load_f32_pair(scales) }, [zero; 2]),
        ScaleForm::GroupMin => {
            // SAFETY: scale, then min.
            (unsafe { load_f32_pair(scales) }, unsafe { load_f32_pair(scales.wrapping_add(128)) })
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn negate(x: __m512) -> __m512 {
    let sign = _mm512_set1_epi32(i32::MIN);
    _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(x), sign))
}

/// # Safety
/// 64 bytes at `p` are readable.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(p: *const u8) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe { _mm512_loadu_si512(p.cast()) }
}

/// Two vectors of 16 floats.
///
/// # Safety
/// 128 bytes at `p` are readable.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_f32_pair(p: *const u8) -> [__m512; 2] {
    // SAFETY: the caller's promise.
    let low = unsafe { load(p) };
    // SAFETY: the caller's promise.
    let high = unsafe { load(p.wrapping_add(64)) };
    [_mm512_castsi512_ps(low), _mm512_castsi512_ps(high)]
}

/// 16 f16 as f32.
///
/// # Safety
/// 32 bytes at `p` are readable.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_f16(p: *const u8) -> __m512 {
    // SAFETY: the caller's promise.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(p.cast()) })
}

/// 16 i8 as f32.
///
/// # Safety
/// 16 bytes at `p` are readable.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_i8(p: *const u8) -> __m512 {
    // SAFETY: the caller's promise.
    let bytes = unsafe { _mm_loadu_si128(p.cast()) };
    _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))
}

/// `2^(e - 128)` for 16 u8, as two normal factors because the lowest two are subnormal.
///
/// # Safety
/// 16 bytes at `p` are readable.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_exponents(p: *const u8) -> __m512 {
    // SAFETY: the caller's promise.
    let e = _mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(p.cast()) });
    let half = _mm512_srli_epi32::<1>(e);
    let powers = [half, _mm512_sub_epi32(e, half)]
        .map(|e| _mm512_slli_epi32::<23>(_mm512_add_epi32(e, _mm512_set1_epi32(63))));
    _mm512_mul_ps(_mm512_castsi512_ps(powers[0]), _mm512_castsi512_ps(powers[1]))
}

/// 16 u8 as f32.
///
/// # Safety
/// 16 bytes at `p` are readable.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_u8(p: *const u8) -> __m512 {
    // SAFETY: the caller's promise.
    let bytes = unsafe { _mm_loadu_si128(p.cast()) };
    _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))
}

/// 16 i8 at `p` and 16 at 16 bytes on, as f32.
///
/// # Safety
/// Both are readable.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_i8_pair(p: *const u8) -> [__m512; 2] {
    // SAFETY: the caller's promise.
    let low = unsafe { load_i8(p) };
    // SAFETY: the caller's promise.
    [low, unsafe { load_i8(p.wrapping_add(16)) }]
}

/// 16 u8 at `p` and 16 at 16 bytes on, as f32.
///
/// # Safety
/// Both are readable.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_u8_pair(p: *const u8) -> [__m512; 2] {
    // SAFETY: the caller's promise.
    let low = unsafe { load_u8(p) };
    // SAFETY: the caller's promise.
    [low, unsafe { load_u8(p.wrapping_add(16)) }]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn times(x: __m512, pair: [__m512; 2]) -> [__m512; 2] {
    [_mm512_mul_ps(x, pair[0]), _mm512_mul_ps(x, pair[1])]
}
