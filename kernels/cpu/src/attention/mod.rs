//! Causal attention over the cache, and the writes into it.
//!
//! A row's result is fixed by its own query and cache alone, bit for bit: keys come in tiles of 16
//! and blocks of [`tile::BLOCK_POSITIONS`] at *absolute* positions, every sum runs over ascending
//! positions or dimensions, and what a row may not see takes no part in any sum. Hence the
//! grouping of rows, the number of threads and the instruction set change the speed only.
//!
//! Work is split without talk: [`share`] gives each thread a run of the (row, head) queries,
//! balanced by the positions they see, and [`tile`] takes up to eight of the run together, so that
//! a key or value read from the cache serves all of them.

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
mod dot;
mod form;
mod isa;
mod kv;
mod math;
pub mod portable;
mod share;
#[cfg(test)]
mod tests;
mod tile;

use std::ops::Range;

use onebit_plan::abi::{AttentionShape, BLOCK, KEY_TILE, StepContext};

use form::{F16Head, Head, Q8Head, Q8Keys};
use isa::Isa;
use share::Share;
use tile::{Query, Scratch};

/// Largest `key_dim` and `value_dim` that attention takes; the compiler refuses larger ones.
pub const MAX_HEAD_DIM: usize = 256;

/// Defines `attention`, [`onebit_plan::abi::AttentionFn`] for an instruction set, over a function
/// for each form of the cache. They are not inlined: together they would be one too large for the
/// compiler to keep either's loops in registers.
macro_rules! attention_functions {
    ($isa:expr, #[doc = $doc:literal] #[doc = $safety:literal] $(#[$feature:meta])?) => {
        #[doc = $doc]
        ///
        /// # Safety
        #[doc = $safety]
        $(#[$feature])?
        pub unsafe extern "C" fn attention(
            context: *const onebit_plan::abi::StepContext,
            shape: *const onebit_plan::abi::AttentionShape,
            q: *const f32,
            out: *mut f32,
        ) {
            use onebit_plan::abi::CacheForm;
            // SAFETY: valid by the contract.
            match unsafe { &*shape }.cache_form() {
                // SAFETY: the caller's contract is the callee's.
                CacheForm::F16 => unsafe { over_f16(context, shape, q, out) },
                // SAFETY: as above.
                CacheForm::Q8 => unsafe { over_q8(context, shape, q, out) },
            }
        }

        $crate::attention::attention_functions!(over_f16, F16, $isa, $(#[$feature])?);
        $crate::attention::attention_functions!(over_q8, Q8, $isa, $(#[$feature])?);
    };
    ($name:ident, $form:ident, $isa:expr, $(#[$feature:meta])?) => {
        /// # Safety
        /// As [`super::run`], on a CPU with the features.
        $(#[$feature])?
        #[inline(never)]
        unsafe fn $name(
            context: *const onebit_plan::abi::StepContext,
            shape: *const onebit_plan::abi::AttentionShape,
            q: *const f32,
            out: *mut f32,
        ) {
            let isa = $isa;
            // SAFETY: the caller's contract is the callee's.
            unsafe { super::run::<_, super::$form>(isa, context, shape, q, out) }
        }
    };
}
use attention_functions;

/// One step as attention sees it.
struct Step<'a> {
    shape: &'a AttentionShape,
    slots: &'a [i32],
    positions: &'a [i32],
    cache: *const u8,
    q: *const f32,
    out: *mut f32,
}

impl Step<'_> {
    /// Positions that a row sees.
    fn visible(&self, row: usize) -> Range<usize> {
        let end = self.positions[row] as usize + 1;
        match self.shape.window as usize {
            0 => 0..end,
            window => end.saturating_sub(window)..end,
        }
    }

    /// The run of rows from `first` that have the slot of `first`.
    fn group(&self, first: usize) -> Range<usize> {
        let slot = self.slots[first];
        let others = self.slots[first..].iter().take_while(|s| **s == slot).count();
        first..first + others
    }

    /// Query of a row and head.
    ///
    /// # Safety
    /// The step has the row and the shape has the head; no other query of this row and head lives.
    unsafe fn query(&self, row: usize, head: usize) -> Query<'_> {
        let (key_dim, value_dim) = (self.shape.key_dim as usize, self.shape.value_dim as usize);
        let q = row * self.shape.q_stride as usize + head * key_dim;
        let out = row * self.shape.out_stride as usize + head * value_dim;
        // SAFETY: the row of q holds all heads.
        let q = unsafe { self.q.add(q) };
        // SAFETY: the row of the output holds all heads.
        let out = unsafe { self.out.add(out) };
        Query {
            // SAFETY: as above; nothing writes q during the call.
            q: unsafe { std::slice::from_raw_parts(q, key_dim) },
            // SAFETY: as above; heads do not overlap and this head is asked for once.
            out: unsafe { std::slice::from_raw_parts_mut(out, value_dim) },
            visible: self.visible(row),
        }
    }

    /// `count` items at byte `offset` of a slot.
    ///
    /// # Safety
    /// They lie inside the cache, aligned, and nothing writes them during the call. Any bits are a
    /// `T`.
    unsafe fn part<T>(&self, slot: usize, offset: usize, count: usize) -> &[T] {
        let at = slot * self.shape.slot_bytes as usize + offset;
        // SAFETY: inside the cache.
        let start = unsafe { self.cache.add(at) }.cast();
        // SAFETY: the caller's contract.
        unsafe { std::slice::from_raw_parts(start, count) }
    }
}

/// How a cache keeps keys and values.
trait Form {
    type Head<'a>: Head;

    /// Keys and values of one slot and key/value head, up to position `end`.
    ///
    /// # Safety
    /// The cache has this form, the slot and the head, and `end <= context`.
    unsafe fn head<'a>(step: &'a Step<'_>, slot: usize, head: usize, end: usize) -> Self::Head<'a>;
}

/// [`CacheForm::F16`]
struct F16;

/// [`CacheForm::Q8`]
struct Q8;

impl Form for F16 {
    type Head<'a> = F16Head<'a>;

    unsafe fn head<'a>(step: &'a Step<'_>, slot: usize, head: usize, end: usize) -> F16Head<'a> {
        let shape = step.shape;
        let (key_dim, value_dim) = (shape.key_dim as usize, shape.value_dim as usize);
        let (keys, values) = (shape.key_offset as usize, shape.value_offset as usize);
        let of_head = shape.context as usize * head;
        let tiles = end.div_ceil(KEY_TILE);
        F16Head {
            // SAFETY: whole key tiles fit in the context.
            keys: unsafe { step.part(slot, keys + 2 * of_head * key_dim, tiles * key_dim) },
            // SAFETY: inside the head's values.
            values: unsafe { step.part(slot, values + 2 * of_head * value_dim, end * value_dim) },
            key_dim,
            value_dim,
        }
    }
}

impl Form for Q8 {
    type Head<'a> = Q8Head<'a>;

    unsafe fn head<'a>(step: &'a Step<'_>, slot: usize, head: usize, end: usize) -> Q8Head<'a> {
        let shape = step.shape;
        let (key_dim, value_dim) = (shape.key_dim as usize, shape.value_dim as usize);
        let (keys, values) = (shape.key_offset as usize, shape.value_offset as usize);
        let (of_head, of_all) = (shape.context as usize * head, q8_positions(shape));
        let (key_blocks, value_blocks) = (key_dim / BLOCK, value_dim / BLOCK);
        let key_scales = keys + of_all * key_dim + 2 * of_head * key_blocks;
        let value_scales = values + of_all * value_dim + 2 * of_head * value_blocks;
        let tiles = end.div_ceil(KEY_TILE);
        Q8Head {
            keys: Q8Keys {
                // SAFETY: whole key tiles fit in the context.
                codes: unsafe { step.part(slot, keys + of_head * key_dim, tiles * key_dim) },
                // SAFETY: as above.
                scales: unsafe { step.part(slot, key_scales, tiles * key_blocks) },
                dim: key_dim,
            },
            // SAFETY: inside the head's values.
            values: unsafe { step.part(slot, values + of_head * value_dim, end * value_dim) },
            // SAFETY: sixteen positions have a whole number of sixteens, and fit in the context.
            value_scales: unsafe { step.part(slot, value_scales, tiles * value_blocks) },
            value_dim,
        }
    }
}

/// Positions of all heads: the codes of a slot's keys come to `key_dim` bytes for each.
fn q8_positions(shape: &AttentionShape) -> usize {
    shape.kv_heads as usize * shape.context as usize
}

/// [`onebit_plan::abi::AttentionFn`] over any instruction set and one form of the cache: this
/// thread's share of the step.
///
/// # Safety
/// `context`, `shape` and what they point at are valid, fit each other and have the form `F`; `key_dim` and
/// `value_dim` are at most [`MAX_HEAD_DIM`]; slots and positions lie inside the cache, which no
/// thread writes meanwhile; rows of one slot stand together, in ascending order of position.
#[inline(always)]
unsafe fn run<I: Isa, F: Form>(
    isa: I,
    context: *const StepContext,
    shape: *const AttentionShape,
    q: *const f32,
    out: *mut f32,
) {
    // SAFETY: valid by the contract.
    let context = unsafe { &*context };
    let rows = context.rows as usize;
    let step = Step {
        // SAFETY: valid by the contract.
        shape: unsafe { &*shape },
        // SAFETY: one slot a row.
        slots: unsafe { std::slice::from_raw_parts(context.slots, rows) },
        // SAFETY: one position a row.
        positions: unsafe { std::slice::from_raw_parts(context.positions, rows) },
        cache: context.cache,
        q,
        out,
    };
    let heads = step.shape.heads as usize;
    let per_kv_head = heads / step.shape.kv_heads as usize;
    let mut share = Share::new(
        (0..rows).map(|row| step.visible(row).len()),
        heads,
        context.thread as usize,
        context.threads as usize,
    );
    let mut scratch = Scratch::new();
    let mut first = 0;
    while first < rows {
        let group = step.group(first);
        first = group.end;
        for kv_head in 0..step.shape.kv_heads as usize {
            let lengths = group.clone().map(|row| step.visible(row).len());
            let mine = share.take(lengths, per_kv_head);
            // SAFETY: the contract, and shares of two threads do not overlap.
            unsafe { attend::<I, F>(isa, &step, group.start, kv_head, mine, &mut scratch) };
        }
    }
}

/// Computes a run of the queries of one slot and key/value head; query i is head
/// `i % per_kv_head` of row `first_row + i / per_kv_head`.
///
/// # Safety
/// As [`run`]; no other thread computes these queries.
#[inline(always)]
unsafe fn attend<I: Isa, F: Form>(
    isa: I,
    step: &Step<'_>,
    first_row: usize,
    kv_head: usize,
    queries: Range<usize>,
    scratch: &mut Scratch,
) {
    let per_kv_head = step.shape.heads as usize / step.shape.kv_heads as usize;
    let slot = step.slots[first_row] as usize;
    let tiles = queries.len().div_ceil(tile::most_queries(isa));
    for i in 0..tiles {
        let cut = |i: usize| queries.start + queries.len() * i / tiles;
        let members = cut(i)..cut(i + 1);
        let last_row = first_row + (members.end - 1) / per_kv_head;
        let end = step.visible(last_row).end;
        let query = |member: usize| {
            let row = first_row + member / per_kv_head;
            // SAFETY: the member is a query of this group, and asked for once.
            unsafe { step.query(row, kv_head * per_kv_head + member % per_kv_head) }
        };
        // SAFETY: the slot and the last row's positions lie inside the cache.
        let head = unsafe { F::head(step, slot, kv_head, end) };
        scratch.run(isa, step.shape, head, members, query);
    }
}
