//! AVX-512 VNNI: one zmm holds 16 output rows x 4 elements of k, so `vpdpbusd` with a broadcast
//! of 4 activation bytes yields 16 outputs and nothing is ever summed across lanes.
//!
//! The order is tiles, panel, block: a tile's codes come from memory for the first panel and from
//! cache for the rest, and each block is unpacked once for all rows of a panel. Few rows leave the
//! core waiting for memory, so they take several tiles at once, each from a run of its own.

mod float;
mod unpack;

use std::arch::x86_64::*;

use super::{Call, Record};
use crate::layout::IntegerClass;
use unpack::{Block, unpack};

pub(crate) use float::float;

/// Rows of the largest panel. Its products take long enough to fetch the whole next tile meanwhile.
const MOST_ROWS: usize = 8;

/// How far ahead of its reads a kernel of fewer rows prefetches each of its streams, in bytes.
pub(super) const PREFETCH: usize = 640;

/// Matrix product of an integer class, a [`MatmulFn`](onebit_plan::abi::MatmulFn).
///
/// # Safety
/// As `MatmulFn` demands; the CPU has the enabled features.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) unsafe extern "C" fn integer<C: IntegerClass>(
    weights: *const u8,
    activations: *const u8,
    out: *mut f32,
    k: u32,
    n0: u32,
    n1: u32,
    m: u32,
    out_stride: u32,
) {
    let call = Call::new::<C>(weights, activations, out, k, n0, n1, m, out_stride);
    // Eight sums in flight: that many rows, or fewer rows of more tiles.
    match call.panel_rows() {
        1 => {
            // SAFETY: the caller's promise is passed on; panels have that many rows.
            let first = unsafe { run::<C, 1, 8>(&call, call.first) };
            // SAFETY: as above.
            let first = unsafe { run::<C, 1, 4>(&call, first) };
            // SAFETY: as above.
            let first = unsafe { run::<C, 1, 2>(&call, first) };
            // SAFETY: as above.
            unsafe { run::<C, 1, 1>(&call, first) };
        }
        2 => {
            // SAFETY: as above.
            let first = unsafe { run::<C, 2, 4>(&call, call.first) };
            // SAFETY: as above.
            let first = unsafe { run::<C, 2, 2>(&call, first) };
            // SAFETY: as above.
            unsafe { run::<C, 2, 1>(&call, first) };
        }
        4 => {
            // SAFETY: as above.
            let first = unsafe { run::<C, 4, 2>(&call, call.first) };
            // SAFETY: as above.
            unsafe { run::<C, 4, 1>(&call, first) };
        }
        _ => {
            // SAFETY: as above.
            unsafe { run::<C, MOST_ROWS, 1>(&call, call.first) };
        }
    }
}

/// The tiles from output row `first` on, `S` at a time; returns where those left over start.
///
/// # Safety
/// As [`integer`]; panels have `P` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn run<C: IntegerClass, const P: usize, const S: usize>(call: &Call, first: usize) -> usize {
    let (streams, rest) = call.streams::<S>(first);
    for starts in streams {
        let tiles = starts.map(|n| call.tile(n));
        let panels = call.rows.div_ceil(P);
        for panel in 0..panels {
            let x = call.panel::<P>(panel);
            let rows = P.min(call.rows - panel * P);
            let ahead = Ahead::new(call, tiles[0], panel, panels);
            // Of eight rows, only those below m are worth their time; of fewer, one is not worth a
            // branch.
            let sums = if rows == P || P < MOST_ROWS {
                // SAFETY: the tiles and the panel are whole and readable.
                unsafe { product::<C, P, S>(tiles, x, AllRows::<P>, call.blocks(), ahead) }
            } else {
                // SAFETY: as above.
                unsafe { product::<C, P, S>(tiles, x, rows, call.blocks(), ahead) }
            };
            for ((n, tile), sums) in starts.into_iter().zip(tiles).zip(sums) {
                let mask = u16::MAX >> (16 - call.lanes(n));
                for (r, sum) in sums.into_iter().enumerate().take(rows) {
                    // SAFETY: the tile and the panel are whole; r is a row of the panel.
                    let sum = unsafe { refine::<C, P>(call, tile, x, r, sum) };
                    // SAFETY: masked to the lanes in range; the row is below m.
                    unsafe { _mm512_mask_storeu_ps(call.output(panel * P + r, n), mask, sum) };
                }
            }
        }
    }
    rest
}

/// How many rows of a panel take part.
trait RowCount: Copy {
    fn get(self) -> usize;
}

/// All `P` of them, known when the kernel is compiled: it unrolls.
#[derive(Clone, Copy)]
struct AllRows<const P: usize>;

impl<const P: usize> RowCount for AllRows<P> {
    #[inline(always)]
    fn get(self) -> usize {
        P
    }
}

impl RowCount for usize {
    #[inline(always)]
    fn get(self) -> usize {
        self
    }
}

/// 16 outputs of each tile for the first `rows` of a panel's rows.
///
/// # Safety
/// `tiles` and `panel` are readable for `blocks` blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn product<C: IntegerClass, const P: usize, const S: usize>(
    tiles: [*const u8; S],
    panel: *const u8,
    rows: impl RowCount,
    blocks: usize,
    ahead: Ahead,
) -> [[__m512; P]; S] {
    let mut sums = [[_mm512_setzero_ps(); P]; S];
    for b in 0..blocks {
        let x = Record::<P>(panel.wrapping_add(b * Record::<P>::BYTES));
        if P == MOST_ROWS {
            ahead.prefetch(b);
        }
        // All tiles advance together: each is one sequential stream.
        for (tile, sums) in tiles.into_iter().zip(&mut sums) {
            // SAFETY: the tile holds block b.
            let block = unsafe { unpack::<C>(tile, b) };
            if P < MOST_ROWS {
                prefetch::<C>(tile, b);
            }
            for (r, sum) in sums.iter_mut().enumerate().take(rows.get()) {
                // SAFETY: the panel holds this block's record.
                *sum = unsafe { accumulate::<C, P>(&block, x, r, *sum) };
            }
        }
    }
    sums
}

/// Adds the refinements of row `r` of a panel to its 16 outputs of a tile.
///
/// # Safety
/// The tile and the panel are whole.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn refine<C: IntegerClass, const P: usize>(
    call: &Call,
    tile: *const u8,
    panel: *const u8,
    r: usize,
    sum: __m512,
) -> __m512 {
    let mut sum = sum;
    // SAFETY: the caller's promise.
    for (b, x) in unsafe { call.refinements::<P>(panel, r) } {
        // SAFETY: the tile holds block b.
        let block = unsafe { unpack::<C>(tile, b) };
        // SAFETY: x is a whole record.
        sum = unsafe { accumulate::<C, 1>(&block, x, 0, sum) };
    }
    sum
}

/// The part of the next tile that one panel's product brings to the caches: what it has to do in
/// between hides the whole way from memory.
#[derive(Clone, Copy)]
struct Ahead {
    start: *const u8,
    lines_a_block: usize,
}

impl Ahead {
    fn new(call: &Call, tile: *const u8, panel: usize, panels: usize) -> Self {
        let lines_a_block = call.tile_bytes.div_ceil(64 * panels * call.blocks());
        let start = tile.wrapping_add(call.tile_bytes + panel * lines_a_block * call.blocks() * 64);
        Self { start, lines_a_block }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn prefetch(self, b: usize) {
        let start = self.start.wrapping_add(b * self.lines_a_block * 64);
        for line in 0..self.lines_a_block {
            _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(64 * line).cast());
        }
    }
}

/// Into the second-level cache only: eight streams would push each other out of the first.
#[inline]
#[target_feature(enable = "avx512f")]
fn prefetch<C: IntegerClass>(tile: *const u8, b: usize) {
    let (_, block) = C::LAYOUT.block_at(b);
    for line in (0..C::LAYOUT.block_bytes()).step_by(64) {
        _mm_prefetch::<_MM_HINT_T1>(tile.wrapping_add(block + PREFETCH + line).cast());
    }
}

/// What a record says of one row, in all lanes.
struct Fields {
    d: __m512,
    s: __m512,
    n32: __m512i,
    n16: __m512i,
}

/// # Safety
/// `x` is a whole record and `r` below `P`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn fields<const P: usize>(x: Record<P>, r: usize) -> Fields {
    // SAFETY: a field of the record.
    let d = unsafe { broadcast_f32(x.d(r)) };
    // SAFETY: a field of the record.
    let s = unsafe { broadcast_f32(x.s(r)) };
    // SAFETY: a field of the record.
    let n32 = unsafe { broadcast_i32(x.n32(r)) };
    // SAFETY: a field of the record.
    let n16 = unsafe { broadcast_i32(x.n16(r)) };
    Fields { d, s, n32, n16 }
}

/// Adds one block to one row's outputs, in the order of [`super`].
///
/// # Safety
/// `x` is a whole record and `r` below `P`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn accumulate<C: IntegerClass, const P: usize>(
    block: &Block,
    x: Record<P>,
    r: usize,
    acc: __m512,
) -> __m512 {
    // SAFETY: the caller's promise.
    let fields = unsafe { fields(x, r) };
    if C::LAYOUT.has_groups() {
        // SAFETY: quads of row r.
        let sum = unsafe { group_sum::<C>(block, &fields, x.quad(r, 0), x.quad(r, 4)) };
        return _mm512_fmadd_ps(sum, fields.d, acc);
    }
    let start = unbias::<C>(fields.n32);
    // SAFETY: the first 16 elements of row r.
    let low = unsafe { dot(start, &block.codes[0], x.quad(r, 0)) };
    // SAFETY: the other 16.
    let dot = _mm512_cvtepi32_ps(unsafe { dot(low, &block.codes[1], x.quad(r, 4)) });
    let acc = _mm512_fmadd_ps(dot, _mm512_mul_ps(block.scale[0], fields.d), acc);
    if C::LAYOUT.has_min() { _mm512_fmadd_ps(block.min[0], fields.s, acc) } else { acc }
}

/// A block's sum where each 16 elements have a scale of their own, without the row's scale.
///
/// # Safety
/// 16 bytes at `low` and at `high` are readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn group_sum<C: IntegerClass>(
    block: &Block,
    fields: &Fields,
    low: *const u8,
    high: *const u8,
) -> __m512 {
    let negated = [fields.n16, _mm512_sub_epi32(fields.n32, fields.n16)];
    let start = [unbias::<C>(negated[0]), unbias::<C>(negated[1])];
    // SAFETY: the first 16 elements.
    let low = unsafe { dot(start[0], &block.codes[0], low) };
    // SAFETY: the other 16.
    let high = unsafe { dot(start[1], &block.codes[1], high) };
    let sum = _mm512_mul_ps(_mm512_cvtepi32_ps(low), block.scale[0]);
    let sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), block.scale[1], sum);
    if !C::LAYOUT.has_min() {
        return sum;
    }
    let sum = _mm512_fnmadd_ps(block.min[0], _mm512_cvtepi32_ps(negated[0]), sum);
    _mm512_fnmadd_ps(block.min[1], _mm512_cvtepi32_ps(negated[1]), sum)
}

/// What takes the bias off a sum of stored codes times q; `negated` is minus the sum of q.
#[inline]
#[target_feature(enable = "avx512f")]
fn unbias<C: IntegerClass>(negated: __m512i) -> __m512i {
    match C::LAYOUT.bias {
        Some(0) => negated,
        Some(2) => _mm512_slli_epi32::<2>(negated),
        Some(3) => _mm512_slli_epi32::<3>(negated),
        Some(4) => _mm512_slli_epi32::<4>(negated),
        Some(5) => _mm512_slli_epi32::<5>(negated),
        Some(_) => _mm512_slli_epi32::<7>(negated),
        None => _mm512_setzero_si512(),
    }
}

/// Integer products of 16 elements of a row, starting at `x`, added to `acc`.
///
/// # Safety
/// 16 bytes at `x` are readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn dot(acc: __m512i, codes: &[__m512i; 4], x: *const u8) -> __m512i {
    let mut acc = acc;
    for (q, codes) in codes.iter().enumerate() {
        // SAFETY: quad q of 4.
        acc = _mm512_dpbusd_epi32(acc, *codes, unsafe { broadcast_i32(x.wrapping_add(4 * q)) });
    }
    acc
}

/// # Safety
/// 4 bytes at `p` are readable.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn broadcast_i32(p: *const u8) -> __m512i {
    // SAFETY: the caller's promise.
    _mm512_set1_epi32(unsafe { p.cast::<i32>().read_unaligned() })
}

/// # Safety
/// 4 bytes at `p` are readable.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn broadcast_f32(p: *const u8) -> __m512 {
    // SAFETY: the caller's promise.
    _mm512_set1_ps(unsafe { p.cast::<f32>().read_unaligned() })
}
