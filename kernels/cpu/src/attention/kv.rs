//! Storing keys and values in the cache.

use half::f16;
use onebit_plan::abi::{AttentionShape, BLOCK, CacheForm, KEY_TILE, StepContext};

use super::isa::{Isa, LANES};
use super::q8_positions;

/// Rounds rows `r0 <= r < r1` of k and v to the cache's form and stores them.
///
/// # Safety
/// `context` and `shape` are valid; `k` and `v` hold the rows; every slot and position of the rows
/// lies inside the cache; no other thread touches the same positions meanwhile.
#[inline(always)]
pub(super) unsafe fn write<I: Isa>(
    isa: I,
    context: *const StepContext,
    shape: *const AttentionShape,
    k: *const f32,
    v: *const f32,
    r0: u32,
    r1: u32,
) {
    // SAFETY: valid by the contract.
    let context = unsafe { &*context };
    // SAFETY: valid by the contract.
    let shape = unsafe { &*shape };
    for row in r0 as usize..r1 as usize {
        // SAFETY: the step has this row.
        let slot = unsafe { context.slots.add(row) };
        // SAFETY: as above.
        let slot = unsafe { slot.read() } as usize;
        // SAFETY: the step has this row.
        let position = unsafe { context.positions.add(row) };
        // SAFETY: as above.
        let position = unsafe { position.read() } as usize;
        // SAFETY: the slot lies inside the cache.
        let slot = unsafe { context.cache.add(slot * shape.slot_bytes as usize) };
        // SAFETY: the layer's keys lie inside the slot.
        let keys = unsafe { slot.add(shape.key_offset as usize) };
        // SAFETY: the layer's values lie inside the slot.
        let values = unsafe { slot.add(shape.value_offset as usize) };
        // SAFETY: k holds the row.
        let k = unsafe { k.add(row * shape.k_stride as usize) };
        // SAFETY: v holds the row.
        let v = unsafe { v.add(row * shape.v_stride as usize) };
        for head in 0..shape.kv_heads as usize {
            match shape.cache_form() {
                CacheForm::F16 => {
                    // SAFETY: as of the row, and the position lies inside the context.
                    unsafe { write_key(isa, shape, keys.cast(), k, head, position) };
                    // SAFETY: as above.
                    unsafe { write_value(isa, shape, values.cast(), v, head, position) };
                }
                CacheForm::Q8 => {
                    // SAFETY: as above.
                    unsafe { write_key_codes(isa, shape, keys, k, head, position) };
                    // SAFETY: as above.
                    unsafe { write_value_codes(isa, shape, values, v, head, position) };
                }
            }
        }
    }
}

/// Scatters one key: element d goes to `[head][position / 16][d][position % 16]`.
///
/// # Safety
/// `keys` is the slot's key region, `row` one row of k, head and position are in range.
#[inline(always)]
unsafe fn write_key<I: Isa>(
    isa: I,
    shape: &AttentionShape,
    keys: *mut u16,
    row: *const f32,
    head: usize,
    position: usize,
) {
    let width = shape.key_dim as usize;
    let tile = head * (shape.context as usize / KEY_TILE) + position / KEY_TILE;
    let lane = tile * width * KEY_TILE + position % KEY_TILE;
    // SAFETY: the row holds `kv_heads * key_dim` floats.
    let source = unsafe { row.add(head * width) };
    // SAFETY: as above.
    let source = unsafe { std::slice::from_raw_parts(source, width) };
    for (chunk, part) in source.chunks(LANES).enumerate() {
        for (i, bits) in narrow_part(isa, part).iter().take(part.len()).enumerate() {
            let d = chunk * LANES + i;
            // SAFETY: d is below key_dim, so that this is inside the position's tile.
            let to = unsafe { keys.add(lane + d * KEY_TILE) };
            // SAFETY: as above, and the position is this thread's.
            unsafe { to.write(*bits) };
        }
    }
}

/// Stores one value at `[head][position]`.
///
/// # Safety
/// `values` is the slot's value region, `row` one row of v, head and position are in range.
#[inline(always)]
unsafe fn write_value<I: Isa>(
    isa: I,
    shape: &AttentionShape,
    values: *mut u16,
    row: *const f32,
    head: usize,
    position: usize,
) {
    let width = shape.value_dim as usize;
    let place = (head * shape.context as usize + position) * width;
    // SAFETY: the row holds `kv_heads * value_dim` floats.
    let source = unsafe { row.add(head * width) };
    // SAFETY: as above.
    let source = unsafe { std::slice::from_raw_parts(source, width) };
    for (chunk, part) in source.chunks(LANES).enumerate() {
        let bits = narrow_part(isa, part);
        // SAFETY: the chunk ends by the end of the position's value.
        let to = unsafe { values.add(place + chunk * LANES) };
        // SAFETY: as above; the source is an array of this function.
        unsafe { std::ptr::copy_nonoverlapping(bits.as_ptr(), to, part.len()) };
    }
}

/// As [`write_key`], in codes; the scale of block b goes to `[head][position / 16][b][position %
/// 16]`, behind the codes of all heads.
///
/// # Safety
/// As of [`write_key`].
#[inline(always)]
unsafe fn write_key_codes<I: Isa>(
    isa: I,
    shape: &AttentionShape,
    keys: *mut u8,
    row: *const f32,
    head: usize,
    position: usize,
) {
    let width = shape.key_dim as usize;
    let tile = head * (shape.context as usize / KEY_TILE) + position / KEY_TILE;
    let lane = position % KEY_TILE;
    // SAFETY: the codes of all heads lie before the scales.
    let scales = unsafe { keys.add(q8_positions(shape) * width) }.cast::<u16>();
    // SAFETY: the row holds `kv_heads * key_dim` floats.
    let source = unsafe { row.add(head * width) };
    // SAFETY: as above.
    let source = unsafe { std::slice::from_raw_parts(source, width) };
    for (block, part) in source.as_chunks::<BLOCK>().0.iter().enumerate() {
        let (codes, scale) = quantise(isa, part);
        let first = tile * width + block * BLOCK;
        for (i, code) in codes.iter().enumerate() {
            // SAFETY: inside the position's tile.
            let to = unsafe { keys.add((first + i) * KEY_TILE + lane) }.cast::<i8>();
            // SAFETY: as above, and the position is this thread's.
            unsafe { to.write(*code) };
        }
        // SAFETY: inside the scales of the position's tile.
        let to = unsafe { scales.add(first / BLOCK * KEY_TILE + lane) };
        // SAFETY: as above, and the position is this thread's.
        unsafe { to.write(scale) };
    }
}

/// As [`write_value`], in codes; the scales go to `[head][position]`, behind the codes of all heads.
///
/// # Safety
/// As of [`write_value`].
#[inline(always)]
unsafe fn write_value_codes<I: Isa>(
    isa: I,
    shape: &AttentionShape,
    values: *mut u8,
    row: *const f32,
    head: usize,
    position: usize,
) {
    let width = shape.value_dim as usize;
    let place = (head * shape.context as usize + position) * width;
    // SAFETY: the codes of all heads lie before the scales.
    let scales = unsafe { values.add(q8_positions(shape) * width) }.cast::<u16>();
    // SAFETY: the row holds `kv_heads * value_dim` floats.
    let source = unsafe { row.add(head * width) };
    // SAFETY: as above.
    let source = unsafe { std::slice::from_raw_parts(source, width) };
    for (block, part) in source.as_chunks::<BLOCK>().0.iter().enumerate() {
        let (codes, scale) = quantise(isa, part);
        let first = place + block * BLOCK;
        // SAFETY: inside the position's value.
        let to = unsafe { values.add(first) }.cast::<i8>();
        // SAFETY: as above; the source is an array of this function.
        unsafe { std::ptr::copy_nonoverlapping(codes.as_ptr(), to, BLOCK) };
        // SAFETY: inside the position's scales.
        let to = unsafe { scales.add(first / BLOCK) };
        // SAFETY: as above, and the position is this thread's.
        unsafe { to.write(scale) };
    }
}

/// Codes and scale of a block, as [`CacheForm`] says.
#[inline(always)]
fn quantise<I: Isa>(isa: I, block: &[f32; BLOCK]) -> ([i8; BLOCK], u16) {
    /// `1.5 * 2^23`: adding it rounds a small float to an integer, kept in the low mantissa bits.
    const ROUND: f32 = 12_582_912.0;
    let (chunks, _) = block.as_chunks::<LANES>();
    let infinite = isa.splat(f32::INFINITY);
    let mut most = isa.splat(0.0);
    for chunk in chunks {
        let magnitude = isa.abs(isa.load(chunk));
        // What is no number counts as infinite.
        most = isa.max(isa.select_below(magnitude, infinite, magnitude, infinite), most);
    }
    let least = isa.max_across(most) * (1.0 / 127.0);
    let nearest = f16::from_f32(least);
    let scale = f16::from_bits(nearest.to_bits() + u16::from(nearest.to_f32() < least));
    let inverse = isa.splat(1.0 / scale.to_f32());
    let mut codes = [0; BLOCK];
    for (codes, chunk) in codes.chunks_exact_mut(LANES).zip(chunks) {
        let code = isa.mul(isa.load(chunk), inverse);
        let code = isa.select_below(isa.abs(code), isa.splat(128.0), code, isa.splat(0.0));
        let mut rounded = [0.0_f32; LANES];
        isa.store(isa.add(code, isa.splat(ROUND)), &mut rounded);
        for (code, rounded) in codes.iter_mut().zip(rounded) {
            *code = i8::from_le_bytes([rounded.to_bits().to_le_bytes()[0]]);
        }
    }
    (codes, scale.to_bits())
}

/// Rounds up to sixteen floats; the rest is zero.
#[inline(always)]
fn narrow_part<I: Isa>(isa: I, part: &[f32]) -> [u16; LANES] {
    let vector = match <&[f32; LANES]>::try_from(part) {
        Ok(full) => isa.load(full),
        Err(_) => {
            let mut padded = [0.0; LANES];
            padded[..part.len()].copy_from_slice(part);
            isa.load(&padded)
        }
    };
    isa.narrow(vector)
}
