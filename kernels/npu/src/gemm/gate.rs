//! The part of a compute tile's program that makes codes of a gated product's sums.
//!
//! After each pass it takes the pass's sums of gate and up through [`super::gated`]'s arithmetic, one
//! row after the other, eight outputs at a time; after the last one it shifts each row's results to
//! their codes, and sends these and the shifts. What the rest of the program keeps in scalars is
//! put aside meanwhile, in registers that it does not use: nearly all scalars are needed here.

use super::block::{Block, Exit, Extend, Place, TEST};
use super::gated::{CODE_BITS, ENTRIES};
use super::kernel::{
    ACTIVATION_BASE, ACTIVATION_FREE, ACTIVATION_FULL, MINUS_ONE, ONE, OUTPUT, OUTPUT_FREE,
    OUTPUT_FULL, OUTPUT_STEP, PARAMETER_POINTER, PASSES_LEFT, SCRATCH, SECOND_WEIGHTS,
    SEGMENT_START, UNITS, WEIGHT_BASE, WEIGHT_FREE, WEIGHT_FULL, ZERO, load_parameters, parameter,
    set_constants,
};
use super::memory::{ACTIVATION_RING, PARAMETERS, PARTIAL_SUMS, ROW_BITS, core_address};
use super::{ACTIVATION_GRANULE_BYTES, BLOCK, OUTPUT_GRANULE_BYTES, WEIGHT_GRANULE_BYTES};
use Place::{M, Named, P, Quarter, R, X};

/// The table of the call's gate; zero for products that are not gated.
pub(super) const GATE: Place = M(2);

// What is put aside, and counters of rows.
const KEPT_PASSES: Place = Named("dn0");
const KEPT_SEGMENT: Place = Named("dn1");
const KEPT_WEIGHTS: Place = Named("dn2");
const KEPT_OUTPUT: Place = Named("dn3");
/// Where each is put aside, and where it belongs.
const KEPT: [(Place, Place); 4] = [
    (KEPT_PASSES, PASSES_LEFT),
    (KEPT_SEGMENT, SEGMENT_START),
    (KEPT_WEIGHTS, SECOND_WEIGHTS),
    (KEPT_OUTPUT, OUTPUT),
];
const SCALES: Place = Named("dn4");
const RESULTS: Place = Named("dn5");
const ROWS_LEFT: Place = Named("dn6");
const ROW_OFFSET: Place = Named("dn7");
const BITS_AT: Place = Named("dc0");
const PAIRS: Place = Named("dc1");

// Scalars of the loop over pairs.
const PAIRS_LEFT: Place = R(2);
const BITS: Place = R(7);
const GATE_DOWN: Place = R(8);
const UP_DOWN: Place = R(9);
const LEAST: Place = R(10);
const MOST: Place = R(11);
const PLACE: Place = R(12);
const DROP_PART: Place = R(13);
const DROP_FRACTION: Place = R(14);
const DROP_INDEX: Place = R(15);
const WORDS: Place = R(16);
/// Registers of an output; four outputs are under way at a time.
const SETS: [([Place; 5], Place); 4] = [
    ([R(0), R(1), R(3), R(4), R(5)], Named("dj0")),
    ([R(6), R(17), R(18), R(19), R(20)], Named("dj1")),
    ([R(21), R(22), R(23), R(24), R(25)], Named("dj2")),
    ([R(26), R(28), R(29), R(30), R(31)], Named("dj3")),
];

const GATE_SUMS: Place = P(0);
const UP_SUMS: Place = P(1);
const GATE_SCALES: Place = P(2);
const UP_SCALES: Place = P(7);
const VALUES: Place = P(3);
const SLOPES: Place = P(5);
const RESULT: Place = P(4);
const ROW: Place = P(6);
const BITS_POINTER: Place = P(7);
const ROW_STEP: Place = M(6);
const PAIR_STEP: Place = M(7);

/// Bytes of a unit's sums, of a pair's results, of a row of either.
const UNIT_BYTES: u32 = 512;
const PAIR_BYTES: u32 = 256;
const ROW_BYTES: u32 = 32;
const WORD_BYTES: u32 = 4;
/// Bytes of a vector.
const VECTOR: u32 = 64;
/// The registers that say how sums become bytes.
const MODES: [(Place, u32); 4] =
    [(Named("crrnd"), 0), (Named("crsat"), 0), (Named("crsrsmode"), 0), (Named("srssign1"), 1)];
const DROP_LOW: Place = Named("s0");
const DROP_NOTHING: Place = Named("s1");
const LOW_MASK: Place = X(11);
/// Bits of the low plane.
const LOW_BITS: u32 = 7;

/// All blocks, entered at `gate_start` and left to `pass` or `call_end`.
pub(super) fn blocks() -> Vec<Block> {
    let of_pass = [start(), combine(), rows(), row(), pair(), row_end(), pass_end()];
    let of_call = [codes(), code_row(), code_pairs(), code_row_end()];
    let sent = [send(), send_pairs(), send_shifts(), resume(), done()];
    of_pass.into_iter().chain(of_call).chain(sent).collect()
}

/// Puts aside what is needed later, and finds where the pass's scales, its rows' constants and its
/// results are.
fn start() -> Block {
    let mut block = Block::new("gate_start");
    block.acquire(WEIGHT_FULL, MINUS_ONE);
    block.acquire(ACTIVATION_FULL, MINUS_ONE);
    block.add(SCRATCH, WEIGHT_BASE, SECOND_WEIGHTS);
    block.copy(SCALES, SCRATCH);
    block.add(SCRATCH, ACTIVATION_BASE, SEGMENT_START);
    block.copy(ROW, SCRATCH);
    for (kept, place) in KEPT {
        block.copy(kept, place);
    }
    let [passes, first, bits] = [R(2), R(3), R(4)];
    block.load_word(passes, PARAMETER_POINTER, WORD_BYTES * parameter::PASSES);
    block.load_word(first, PARAMETER_POINTER, WORD_BYTES * parameter::RESULTS);
    block.subtract(passes, passes, PASSES_LEFT);
    block.set(bits, (PAIR_BYTES / 2).ilog2());
    block.shift(SCRATCH, UNITS, bits);
    block.multiply_scalars(SCRATCH, SCRATCH, passes);
    block.add(SCRATCH, SCRATCH, first);
    block.copy(RESULTS, SCRATCH);
    block.shift(SCRATCH, UNITS, MINUS_ONE);
    block.copy(PAIRS, SCRATCH);
    block.copy(PAIRS_LEFT, SCRATCH);
    block.set(PAIR_STEP, 2 * UNIT_BYTES);
    block.set(ROW_STEP, ROW_BYTES);
    block.set(GATE_SUMS, core_address(PARTIAL_SUMS.start));
    block.set(UP_SUMS, core_address(PARTIAL_SUMS.start + UNIT_BYTES));
    block
}

/// high * 128 + low of both units of a pair, in the place of high.
fn combine() -> Block {
    let mut block = Block::new("gate_combine");
    let units = [GATE_SUMS, UP_SUMS];
    let high = |unit: usize, which: u8| X(4 * unit as u8 + which);
    let low = |which: u8| X(8 + which);
    let quarters = || (0..2).flat_map(|unit| (0..4).map(move |which| (unit, which)));
    for (unit, which) in quarters() {
        block.load(high(unit, which), units[unit], VECTOR * u32::from(which));
    }
    for _ in 0..LOW_BITS {
        for (unit, which) in quarters() {
            let sum = high(unit, which);
            block.add_lanes(sum, sum, sum);
        }
    }
    for (unit, which) in quarters() {
        let offset = VECTOR * u32::from(which);
        block.load(low(which), units[unit], PAIR_BYTES + offset);
        block.add_lanes(high(unit, which), high(unit, which), low(which));
        block.store_apart(high(unit, which), units[unit], offset);
    }
    block.advance(GATE_SUMS, PAIR_STEP);
    block.advance(UP_SUMS, PAIR_STEP);
    block.decrement(PAIRS_LEFT, PAIRS_LEFT);
    block.exit(Exit::NotZero(PAIRS_LEFT, "gate_combine"))
}

fn rows() -> Block {
    let mut block = Block::new("gate_rows");
    block.copy(SCRATCH, GATE);
    // From the middle of the table: places are signed.
    let middle = R(24);
    block.set(middle, WORD_BYTES * ENTRIES as u32 / 2);
    block.add(SCRATCH, SCRATCH, middle);
    block.copy(VALUES, SCRATCH);
    block.set(middle, 2);
    block.add(SCRATCH, SCRATCH, middle);
    block.copy(SLOPES, SCRATCH);
    for (place, value) in [
        (ROWS_LEFT, BLOCK),
        (ROW_OFFSET, 0),
        (BITS_AT, core_address(ROW_BITS.start)),
        (DROP_PART, 15u32.wrapping_neg()),
        (DROP_FRACTION, 8u32.wrapping_neg()),
        (DROP_INDEX, 6u32.wrapping_neg()),
        (WORDS, 4u32.wrapping_neg()),
    ] {
        block.set(place, value);
    }
    block
}

/// A row's constants, where it starts, and which bits its results have so far. What the call before left
/// there, by how much it shifted, has fewer bits than a code, so it changes nothing.
fn row() -> Block {
    let mut block = Block::new("gate_row");
    let [offset, scratch] = [R(0), R(1)];
    block.copy(BITS_POINTER, BITS_AT);
    for (index, place) in (0..).zip([GATE_DOWN, UP_DOWN, LEAST, MOST, PLACE]) {
        block.load_word(place, ROW, WORD_BYTES * index);
    }
    block.load_word(BITS, BITS_POINTER, 0);
    block.copy(offset, ROW_OFFSET);
    for (pointer, start) in
        [(GATE_SUMS, PARTIAL_SUMS.start), (UP_SUMS, PARTIAL_SUMS.start + UNIT_BYTES)]
    {
        block.set(scratch, core_address(start));
        block.add(scratch, scratch, offset);
        block.copy(pointer, scratch);
    }
    block.copy(scratch, RESULTS);
    block.add(scratch, scratch, offset);
    block.copy(RESULT, scratch);
    block.copy(GATE_SCALES, SCALES);
    block.copy(UP_SCALES, SCALES);
    block.advance(UP_SCALES, ROW_STEP);
    block.copy(PAIRS_LEFT, PAIRS);
    block
}

/// One row of a pair: eight outputs.
fn pair() -> Block {
    let mut block = Block::new("gate_pair");
    for output in 0..BLOCK {
        let (registers, index) = SETS[output as usize % SETS.len()];
        one(&mut block, WORD_BYTES * output, registers, index);
    }
    block.advance(GATE_SUMS, PAIR_STEP);
    block.advance(UP_SUMS, PAIR_STEP);
    block.advance_by(GATE_SCALES, VECTOR.cast_signed());
    block.advance_by(UP_SCALES, VECTOR.cast_signed());
    block.advance_by(RESULT, PAIR_BYTES.cast_signed());
    block.decrement(PAIRS_LEFT, PAIRS_LEFT);
    block.exit(Exit::NotZero(PAIRS_LEFT, "gate_pair"))
}

/// One output, `offset` bytes into its row: what [`super::gated::Row::output`] does.
fn one(block: &mut Block, offset: u32, [a, b, c, d, e]: [Place; 5], index: Place) {
    block.load_word(a, GATE_SUMS, offset);
    block.load_word(b, GATE_SCALES, offset);
    block.shift_signed(a, a, GATE_DOWN);
    block.multiply_scalars(a, a, b);
    block.load_word(b, UP_SUMS, offset);
    block.load_word(e, UP_SCALES, offset);
    // The place in the table.
    block.is_less(TEST, a, LEAST);
    block.select(c, LEAST, a);
    block.is_less(TEST, MOST, c);
    block.select(c, MOST, c);
    block.shift_signed(c, c, PLACE);
    block.shift_signed(d, c, DROP_INDEX);
    block.and(d, d, WORDS);
    block.copy(index, d);
    // What is gated, meanwhile.
    block.shift_signed(b, b, UP_DOWN);
    block.multiply_scalars(b, b, e);
    block.load_half(d, VALUES, index, Extend::Zeros);
    block.load_half(e, SLOPES, index, Extend::Sign);
    block.low_byte(c, c);
    block.multiply_scalars(e, e, c);
    block.shift_signed(e, e, DROP_FRACTION);
    block.add_moved(d, d, e);
    block.shift_signed(a, a, DROP_PART);
    block.multiply_scalars(a, a, d);
    block.shift_signed(a, a, DROP_PART);
    block.shift_signed(b, b, DROP_PART);
    block.multiply_scalars(a, a, b);
    block.store_word_apart(a, RESULT, offset);
    block.absolute(c, a);
    block.or(BITS, BITS, c);
}

fn row_end() -> Block {
    let mut block = Block::new("gate_row_end");
    let [left, by, place] = [R(0), R(1), R(3)];
    block.copy(BITS_POINTER, BITS_AT);
    block.store_word_apart(BITS, BITS_POINTER, 0);
    for (counter, step) in [(BITS_AT, WORD_BYTES), (ROW_OFFSET, ROW_BYTES)] {
        block.copy(place, counter);
        block.set(by, step);
        block.add(place, place, by);
        block.copy(counter, place);
    }
    block.advance(ROW, ROW_STEP);
    block.copy(left, ROWS_LEFT);
    block.decrement(left, left);
    block.copy(ROWS_LEFT, left);
    block.exit(Exit::NotZero(left, "gate_row"))
}

/// Gives back the granules of scales and of rows' constants.
fn pass_end() -> Block {
    let mut block = Block::new("gate_pass_end");
    block.set(ONE, 1);
    block.release(WEIGHT_FREE, ONE);
    block.release(ACTIVATION_FREE, ONE);
    let mask = R(2);
    block.set(mask, ACTIVATION_RING.len() as u32 - 1);
    for (kept, bytes) in
        [(KEPT_SEGMENT, ACTIVATION_GRANULE_BYTES), (KEPT_WEIGHTS, WEIGHT_GRANULE_BYTES)]
    {
        block.copy(R(3), kept);
        block.set(R(4), bytes);
        block.add(R(3), R(3), R(4));
        block.and(R(3), R(3), mask);
        block.copy(kept, R(3));
    }
    block.copy(PASSES_LEFT, KEPT_PASSES);
    block.decrement(PASSES_LEFT, PASSES_LEFT);
    block.copy(KEPT_PASSES, PASSES_LEFT);
    block.exit(Exit::NotZero(PASSES_LEFT, "gate_resume"))
}

// Scalars of the blocks from here on.
const HALVES: Place = R(1);
const HALVES_LEFT: Place = R(2);
const LEFT: Place = R(3);
const FIRST: Place = R(4);
const OFFSET: Place = R(5);
const DOWN: Place = R(6);
const BITS_TO_SHIFT: Place = R(7);
const OUTPUTS: [Place; 12] =
    [R(8), R(9), R(10), R(11), R(12), R(15), R(16), R(17), R(18), R(19), R(20), R(21)];

/// Counts what all passes have left: two pairs at a time.
fn codes() -> Block {
    let mut block = Block::new("codes");
    block.set(ZERO, 0);
    block.set(PARAMETER_POINTER, core_address(PARAMETERS.start));
    block.load_word(HALVES, PARAMETER_POINTER, WORD_BYTES * parameter::PASSES);
    block.load_word(LEFT, PARAMETER_POINTER, WORD_BYTES * parameter::UNITS);
    block.load_word(FIRST, PARAMETER_POINTER, WORD_BYTES * parameter::RESULTS);
    block.multiply_scalars(HALVES, HALVES, LEFT);
    block.set(SCRATCH, 2u32.wrapping_neg());
    block.shift(HALVES, HALVES, SCRATCH);
    block.set(LEFT, BLOCK);
    block.set(OFFSET, 0);
    block.set(BITS_TO_SHIFT, 32 - CODE_BITS);
    block.set(BITS_POINTER, core_address(ROW_BITS.start));
    block.set(ROW_STEP, WORD_BYTES);
    block.set(PAIR_STEP, 2 * PAIR_BYTES);
    block
}

/// By how much the row is shifted, in the place of its bits.
fn code_row() -> Block {
    let mut block = Block::new("code_row");
    block.load_word(DOWN, BITS_POINTER, 0);
    block.leading_zeros(DOWN, DOWN);
    block.subtract(DOWN, BITS_TO_SHIFT, DOWN);
    block.is_less(TEST, DOWN, ZERO);
    block.select(DOWN, ZERO, DOWN);
    block.store_word_apart(DOWN, BITS_POINTER, 0);
    block.subtract(DOWN, ZERO, DOWN);
    block.advance(BITS_POINTER, ROW_STEP);
    block.add(SCRATCH, FIRST, OFFSET);
    block.copy(P(0), SCRATCH);
    block.copy(P(1), SCRATCH);
    block.advance_by(P(1), PAIR_BYTES.cast_signed());
    block.copy(HALVES_LEFT, HALVES);
    block
}

fn code_pairs() -> Block {
    let mut block = Block::new("code_pairs");
    let outputs = (0..BLOCK).flat_map(|output| [(P(0), output), (P(1), output)]);
    for ((pointer, output), place) in outputs.zip(OUTPUTS.iter().cycle()) {
        block.load_word(*place, pointer, WORD_BYTES * output);
        block.shift_signed(*place, *place, DOWN);
        block.store_word_apart(*place, pointer, WORD_BYTES * output);
    }
    block.advance(P(0), PAIR_STEP);
    block.advance(P(1), PAIR_STEP);
    block.decrement(HALVES_LEFT, HALVES_LEFT);
    block.exit(Exit::NotZero(HALVES_LEFT, "code_pairs"))
}

fn code_row_end() -> Block {
    let mut block = Block::new("code_row_end");
    block.set(SCRATCH, ROW_BYTES);
    block.add(OFFSET, OFFSET, SCRATCH);
    block.decrement(LEFT, LEFT);
    block.exit(Exit::NotZero(LEFT, "code_row"))
}

fn send() -> Block {
    let mut block = Block::new("send");
    block.copy(P(0), FIRST);
    block.copy(P(1), FIRST);
    block.advance_by(P(1), PAIR_BYTES.cast_signed());
    block.copy(OUTPUT, KEPT_OUTPUT);
    block.set(OUTPUT_STEP, OUTPUT_GRANULE_BYTES);
    block.set(MINUS_ONE, u32::MAX);
    for (place, value) in MODES.into_iter().chain([(DROP_LOW, LOW_BITS), (DROP_NOTHING, 0)]) {
        block.set(place, value);
    }
    block.set(SCRATCH, (1 << LOW_BITS) - 1);
    block.broadcast(LOW_MASK, SCRATCH);
    block
}

/// Two pairs: eight rows of sixteen codes, as two planes.
fn send_pairs() -> Block {
    let mut block = Block::new("send_pairs");
    take_output(&mut block);
    let modes = MODES.map(|(place, _)| place);
    for pair in 0..2 {
        let (high, low) = (2 * pair, 2 * pair + 1);
        for which in 0..4 {
            let offset = VECTOR * u32::from(which);
            let codes = X(4 * pair + which);
            block.load(Quarter(high, which), P(pair), offset);
            block.load(codes, P(pair), offset);
            block.and_lanes(codes, codes, LOW_MASK);
            block.copy_vector(Quarter(low, which), codes);
        }
        let at = 2 * VECTOR * u32::from(pair);
        block.store_bytes_apart(high, DROP_LOW, OUTPUT_POINTER, at, &modes);
        block.store_bytes_apart(low, DROP_NOTHING, OUTPUT_POINTER, at + VECTOR, &modes);
    }
    block.release(OUTPUT_FULL, ONE);
    block.advance(P(0), PAIR_STEP);
    block.advance(P(1), PAIR_STEP);
    block.decrement(HALVES, HALVES);
    block.exit(Exit::NotZero(HALVES, "send_pairs"))
}

const OUTPUT_POINTER: Place = P(4);

fn take_output(block: &mut Block) {
    block.acquire(OUTPUT_FREE, MINUS_ONE);
    block.copy(OUTPUT_POINTER, OUTPUT);
    block.xor(OUTPUT, OUTPUT, OUTPUT_STEP);
}

/// By how much each row was shifted.
fn send_shifts() -> Block {
    let mut block = Block::new("send_shifts");
    take_output(&mut block);
    block.set(P(0), core_address(ROW_BITS.start));
    block.load(X(0), P(0), 0);
    block.store_apart(X(0), OUTPUT_POINTER, 0);
    block.release(OUTPUT_FULL, ONE);
    block.copy(KEPT_OUTPUT, OUTPUT);
    block
}

/// Everything as the rest of the program expects it.
fn resume() -> Block {
    let mut block = Block::new("gate_resume");
    set_constants(&mut block);
    load_parameters(&mut block);
    for (kept, place) in KEPT {
        block.copy(place, kept);
    }
    block.exit(Exit::NotZero(PASSES_LEFT, "pass"))
}

fn done() -> Block {
    Block::new("gate_done").exit(Exit::Jump("call_end"))
}
