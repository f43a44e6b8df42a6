//! Matrix products of packed weights with a step's activations.
//!
//! Every output has one order of operations, whatever the instruction set, m, the row range or
//! the thread, so results agree bit for bit. `fma` rounds once, integers are exact.
//!
//! Integer classes, acc = 0, then for each block of 32 elements, ascending:
//! ```text
//! one scale a block:                    one scale for each 16 elements (g = 0, 1):
//!   t   = f32(dot(code, q))               u   = f32(dot_0(code, q)) * w[0]
//!   acc = fma(t, w * d, acc)              u   = fma(f32(dot_1(code, q)), w[1], u)
//!   acc = fma(min, s, acc)                u   = fma(-min[0], f32(n16), u)
//!                                         u   = fma(-min[1], f32(n32 - n16), u)
//!                                         acc = fma(u, d, acc)
//! ```
//! and after all blocks the same for each of the row's refinements, in their order.
//! The lines with `min` only for classes with a minimum. `code` is the value (without bias); `q`,
//! `d`, `s`, `n32` and `n16` are the activation's. K classes: `w = f32(d) * f32(sub)` and
//! `min = -(f32(dmin) * f32(sub_min))`, both exact.
//!
//! Float classes: elements of even k add up in one accumulator by `fma(weight, x, acc)`, those
//! of odd k in another, both ascending; the result is `even + odd`.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod portable;

use onebit_plan::abi::{
    BLOCK, RECORD_ROW_BYTES, REFINEMENT_BLOCK_AT, REFINEMENT_BYTES, TILE_ROWS, panel_bytes,
    panel_rows, refinement_bytes,
};

use crate::layout::{Class, tile_bytes};

/// Addresses that differ by a multiple of this share the sets of a first-level cache: streams so
/// far apart would push each other's prefetched lines out.
const ALIASING: usize = 4096;

/// Arguments of a [`MatmulFn`](onebit_plan::abi::MatmulFn) with its addresses worked out.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    weights: *const u8,
    activations: *const u8,
    out: *mut f32,
    k: usize,
    rows: usize,
    first: usize,
    end: usize,
    out_stride: usize,
    tile_bytes: usize,
}

impl Call {
    #[expect(clippy::too_many_arguments, reason = "the arguments of MatmulFn")]
    fn new<C: Class>(
        weights: *const u8,
        activations: *const u8,
        out: *mut f32,
        k: u32,
        n0: u32,
        n1: u32,
        m: u32,
        out_stride: u32,
    ) -> Self {
        Self {
            weights,
            activations,
            out,
            k: k as usize,
            rows: m as usize,
            first: n0 as usize,
            end: n1 as usize,
            out_stride: out_stride as usize,
            tile_bytes: tile_bytes(C::CLASS, k as usize),
        }
    }

    /// Blocks of 32 elements in a row.
    fn blocks(&self) -> usize {
        self.k / BLOCK
    }

    /// First output row of each tile in the range.
    fn tiles(&self) -> impl Iterator<Item = usize> + use<> {
        (self.first..self.end).step_by(TILE_ROWS)
    }

    /// Splits the tiles from output row `first` on into `S` runs of equal length. Yields the next
    /// tile of each run, and says where the tiles that are left over start.
    ///
    /// A core reads memory faster as several streams than as one, and hardware prefetchers follow
    /// them best when each is long: hence runs, not neighbouring tiles.
    #[inline]
    fn streams<const S: usize>(
        &self,
        first: usize,
    ) -> (impl Iterator<Item = [usize; S]> + use<S>, usize) {
        let mut tiles = self.end.saturating_sub(first).div_ceil(TILE_ROWS) / S;
        if S > 1 && tiles > 1 && (tiles * self.tile_bytes).is_multiple_of(ALIASING) {
            tiles -= 1;
        }
        let run = tiles * TILE_ROWS;
        let tiles = move |n: usize| {
            let mut tiles = [n; S];
            for (s, tile) in tiles.iter_mut().enumerate() {
                *tile += s * run;
            }
            tiles
        };
        ((first..first + run).step_by(TILE_ROWS).map(tiles), first + S * run)
    }

    /// The tile that starts at output row `n`.
    fn tile(&self, n: usize) -> *const u8 {
        self.weights.wrapping_add(n / TILE_ROWS * self.tile_bytes)
    }

    /// Output rows of the tile at `n` that are in the range.
    fn lanes(&self, n: usize) -> usize {
        TILE_ROWS.min(self.end - n)
    }

    /// Panel `index` of `P` activation rows.
    fn panel<const P: usize>(&self, index: usize) -> *const u8 {
        self.activations.wrapping_add(index * panel_bytes(P, self.k))
    }

    /// Refinements of row `r` of the panel at `panel`, in order: the block and its record.
    ///
    /// # Safety
    /// The panel is whole.
    #[inline]
    unsafe fn refinements<const P: usize>(
        &self,
        panel: *const u8,
        r: usize,
    ) -> impl Iterator<Item = (usize, Record<1>)> + use<P> {
        let records = self.blocks() * P * RECORD_ROW_BYTES;
        let start = panel.wrapping_add(records + r * refinement_bytes(self.k));
        // SAFETY: the count stands first.
        let count = unsafe { start.cast::<u32>().read_unaligned() };
        (1..=count as usize).map(move |index| {
            let entry = start.wrapping_add(index * REFINEMENT_BYTES);
            let block = entry.wrapping_add(REFINEMENT_BLOCK_AT).cast::<u32>();
            // SAFETY: the entry is one of `count`.
            (unsafe { block.read_unaligned() } as usize, Record(entry))
        })
    }

    /// Where output `n` of row `r` goes.
    fn output(&self, r: usize, n: usize) -> *mut f32 {
        self.out.wrapping_add(r * self.out_stride + n)
    }

    /// Rows of a panel.
    fn panel_rows(&self) -> usize {
        panel_rows(self.rows)
    }
}

/// One block record of `P` activation rows, see [`onebit_plan::abi::Activation::Q8`].
#[derive(Clone, Copy)]
struct Record<const P: usize>(*const u8);

impl<const P: usize> Record<P> {
    const BYTES: usize = P * RECORD_ROW_BYTES;

    /// Address of quad `q` of row `r`.
    #[inline(always)]
    fn quad(self, r: usize, q: usize) -> *const u8 {
        self.0.wrapping_add(r * BLOCK + q * 4)
    }

    #[inline(always)]
    fn d(self, r: usize) -> *const u8 {
        self.0.wrapping_add(P * BLOCK + 4 * r)
    }

    #[inline(always)]
    fn s(self, r: usize) -> *const u8 {
        self.0.wrapping_add(P * (BLOCK + 4) + 4 * r)
    }

    #[inline(always)]
    fn n32(self, r: usize) -> *const u8 {
        self.0.wrapping_add(P * (BLOCK + 8) + 4 * r)
    }

    #[inline(always)]
    fn n16(self, r: usize) -> *const u8 {
        self.0.wrapping_add(P * (BLOCK + 12) + 4 * r)
    }
}
