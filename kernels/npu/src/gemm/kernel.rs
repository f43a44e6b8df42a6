//! The program of a compute tile.
//!
//! It multiplies what streams by: the tile's eight rows of activations, as two planes of int8,
//! with all weights of its column. `docs/npu-gemm.md` shows the loops; the formats are in
//! [`super::pack`]. Everything a call varies is a word of [`parameter`]; the program itself never
//! changes.

use super::block::{Assembled, Block, Exit, OwnLock, Part, Place, Spacing};
use super::gate::{GATE, blocks};
use super::memory::{
    ACTIVATION_RING, OUTPUT_RING, PARAMETERS, PARTIAL_SUMS, WEIGHT_RING, ZEROS, core_address,
};
use super::pipeline::{Load, Loop, Pipelined, Product, Unit};
use super::{
    ACTIVATION_GRANULE_BYTES, BLOCK, BRICK_BYTES, BRICK_DEPTH, OUTPUT_GRANULE_BYTES,
    WEIGHT_GRANULE_BYTES,
};
use crate::isa::IsaError;

/// Words that a call writes at [`PARAMETERS`], by their index.
pub mod parameter {
    /// How often the activations go by.
    pub const PASSES: u32 = 0;
    /// Groups of k, each with sums of its own.
    pub const GROUPS: u32 = 1;
    /// Segments of a group.
    pub const SEGMENTS: u32 = 2;
    /// Blocks of eight output columns a pass.
    pub const UNITS: u32 = 3;
    /// Bricks of 64 k a segment.
    pub const BRICKS: u32 = 4;
    /// Nonzero: a result for each plane; zero: one for both, high * 128 + low.
    pub const SEPARATE_PLANES: u32 = 5;
    /// Of a gated product the core's address of its gate's table; zero for others.
    pub const GATE: u32 = 6;
    /// Of a gated product the core's address of where its results are kept.
    pub const RESULTS: u32 = 7;
    /// How many there are.
    pub const COUNT: usize = 8;
}

/// Locks of the compute tile, in pairs: room for the producer, goods for the consumer.
pub mod lock {
    /// Granules of the activation ring that may be written.
    pub const ACTIVATION_FREE: u8 = 0;
    /// Granules that hold activations.
    pub const ACTIVATION_FULL: u8 = 1;
    /// Granules of the weight ring that may be written.
    pub const WEIGHT_FREE: u8 = 2;
    /// Granules that hold weights.
    pub const WEIGHT_FULL: u8 = 3;
    /// Granules of the output ring that the core may write.
    pub const OUTPUT_FREE: u8 = 4;
    /// Granules that hold results.
    pub const OUTPUT_FULL: u8 = 5;
}

/// int8 x int8 into int32, 8x8x8, both signed, without zeroing: the configuration word that
/// compiled int8 kernels pass to `vmac`.
const SIGNED_BYTES: u32 = 776;

/// Bytes of an 8x8 block of int32.
const BLOCK_BYTES: u32 = 256;
/// The high plane counts 2^7 times.
const DOUBLINGS: usize = 7;
const HIGH: u8 = 0;
const LOW: u8 = 1;

use Place::{M, P, Quarter, R, X};

// Constants of the program.
pub(super) const ZERO: Place = R(0);
pub(super) const ONE: Place = R(14);
pub(super) const MINUS_ONE: Place = R(13);
const CONFIGURATION: Place = R(30);
/// Of both rings, which are of one size.
const RING_MASK: Place = R(17);
pub(super) const ACTIVATION_BASE: Place = R(18);
const ACTIVATION_STEP: Place = R(29);
pub(super) const WEIGHT_BASE: Place = R(28);
const BRICK_STEP: Place = R(31);
pub(super) const OUTPUT_STEP: Place = R(24);
/// Shifts bytes of weights to granules.
const TO_GRANULES: Place = R(16);
const UNIT_STEP: Place = M(1);
// Parameters of the call.
const GROUPS: Place = R(6);
const SEGMENTS: Place = R(7);
pub(super) const UNITS: Place = R(8);
const BRICKS: Place = R(9);
const SEPARATE_PLANES: Place = R(10);
const MINUS_BRICKS: Place = R(11);
/// Bytes of weights of a unit and segment.
const UNIT_BYTES: Place = R(20);
// What is left of each loop.
pub(super) const PASSES_LEFT: Place = R(1);
const GROUPS_LEFT: Place = R(2);
const SEGMENTS_LEFT: Place = R(3);
const UNITS_LEFT: Place = R(4);
/// Likewise of bricks; then of results.
const BRICKS_LEFT: Place = R(5);
// Where things are.
pub(super) const SEGMENT_START: Place = R(15);
const ACTIVATION: Place = R(22);
/// In the ring of weights: the pair's first unit, and its second, behind which the next pair is.
const WEIGHTS: Place = R(19);
pub(super) const SECOND_WEIGHTS: Place = R(21);
/// Units of the pair: two, or one.
const PAIRED: Place = R(12);
/// Granules of weights that the pair is done with.
const DONE: Place = R(26);
pub(super) const OUTPUT: Place = R(23);
pub(super) const SCRATCH: Place = R(25);
const OTHER_SCRATCH: Place = R(27);
const ACTIVATION_POINTER: Place = P(0);
const WEIGHT_POINTER: Place = P(1);
const SECOND_WEIGHT_POINTER: Place = P(6);
const START_POINTER: Place = P(2);
const START_STEP: Place = M(0);
const SUM_POINTER: Place = P(3);
const RESULT_POINTER: Place = P(7);
const OUTPUT_POINTER: Place = P(4);
pub(super) const PARAMETER_POINTER: Place = P(5);

const _: () =
    assert!(ACTIVATION_RING.end - ACTIVATION_RING.start == WEIGHT_RING.end - WEIGHT_RING.start);
const _: () = assert!(OUTPUT_RING.start.is_multiple_of(2 * OUTPUT_GRANULE_BYTES));
const _: () = assert!(1 << GRANULE_BITS == WEIGHT_GRANULE_BYTES && 1 << BRICK_BITS == BRICK_BYTES);
const GRANULE_BITS: u32 = 11;
const BRICK_BITS: u32 = 9;

pub(super) const ACTIVATION_FREE: OwnLock = OwnLock(lock::ACTIVATION_FREE);
pub(super) const ACTIVATION_FULL: OwnLock = OwnLock(lock::ACTIVATION_FULL);
pub(super) const WEIGHT_FREE: OwnLock = OwnLock(lock::WEIGHT_FREE);
pub(super) const WEIGHT_FULL: OwnLock = OwnLock(lock::WEIGHT_FULL);
pub(super) const OUTPUT_FREE: OwnLock = OwnLock(lock::OUTPUT_FREE);
pub(super) const OUTPUT_FULL: OwnLock = OwnLock(lock::OUTPUT_FULL);

/// What a step of eight k loads: eight rows of both planes, and weights of both units.
const LOADS: [Load; 4] = [
    Load { unit: Unit::A, pointer: ACTIVATION_POINTER },
    Load { unit: Unit::A, pointer: ACTIVATION_POINTER },
    Load { unit: Unit::B, pointer: WEIGHT_POINTER },
    Load { unit: Unit::B, pointer: SECOND_WEIGHT_POINTER },
];

/// What it multiplies. Neighbours share a factor, so that no load is needed for long.
const PRODUCTS: [Product; 4] = [
    Product { accumulator: accumulator(0, HIGH), factors: [0, 2] },
    Product { accumulator: accumulator(1, HIGH), factors: [0, 3] },
    Product { accumulator: accumulator(1, LOW), factors: [1, 3] },
    Product { accumulator: accumulator(0, LOW), factors: [1, 2] },
];

/// The sums of unit `unit` of a pair and plane `plane`.
const fn accumulator(unit: u8, plane: u8) -> u8 {
    2 * unit + plane
}

/// The program, with its operations as far apart as `spacing` asks.
///
/// # Errors
/// Never for the table of this crate; the assembler's errors are passed on.
pub fn program(spacing: &Spacing) -> Result<Assembled, IsaError> {
    Assembled::new(&parts(spacing)?, spacing)
}

/// The parts of the program, in the order in which they lie.
///
/// # Errors
/// As for [`program`].
pub fn parts(spacing: &Spacing) -> Result<Vec<Part>, IsaError> {
    let before = [setup(), call(), pass(), group(), segment(), pair(), next_weights(), sums()];
    let after = [weights_done(), pair_sums(), choose_output(), combined()];
    let outputs = [separate(HIGH), separate(LOW), output_end()];
    let ends =
        [pair_end(), segment_end(), group_end(), gate(), pass_end(), call_end(), drop_weights()];
    let mut parts: Vec<Part> = before.map(Part::Block).into();
    parts.extend(bricks(spacing)?.parts);
    parts.extend(after.into_iter().chain(outputs).chain(ends).chain(blocks()).map(Part::Block));
    Ok(parts)
}

fn setup() -> Block {
    let mut block = Block::new("setup");
    set_constants(&mut block);
    for (place, value) in
        [(SEGMENT_START, 0), (SECOND_WEIGHTS, 0), (OUTPUT, core_address(OUTPUT_RING.start))]
    {
        block.set(place, value);
    }
    block
}

/// What no call changes.
pub(super) fn set_constants(block: &mut Block) {
    for (place, value) in [
        (ZERO, 0),
        (ONE, 1),
        (MINUS_ONE, u32::MAX),
        (CONFIGURATION, SIGNED_BYTES),
        (RING_MASK, ACTIVATION_RING.len() as u32 - 1),
        (ACTIVATION_BASE, core_address(ACTIVATION_RING.start)),
        (ACTIVATION_STEP, ACTIVATION_GRANULE_BYTES),
        (WEIGHT_BASE, core_address(WEIGHT_RING.start)),
        (BRICK_STEP, BRICK_BYTES),
        (OUTPUT_STEP, OUTPUT_GRANULE_BYTES),
        (TO_GRANULES, GRANULE_BITS.wrapping_neg()),
        (UNIT_STEP, 2 * BLOCK_BYTES),
        (PARAMETER_POINTER, core_address(PARAMETERS.start)),
    ] {
        block.set(place, value);
    }
}

/// Waits for a call. Its parameters are written before its activations are sent, so they are
/// there when a granule is; the granule is left to the first segment.
fn call() -> Block {
    let mut block = Block::new("call");
    block.acquire(ACTIVATION_FULL, MINUS_ONE);
    block.release(ACTIVATION_FULL, ONE);
    block.load_word(PASSES_LEFT, PARAMETER_POINTER, 4 * parameter::PASSES);
    load_parameters(&mut block);
    block
}

/// What a call does not change while it lasts.
pub(super) fn load_parameters(block: &mut Block) {
    for (place, index) in [
        (GROUPS, parameter::GROUPS),
        (SEGMENTS, parameter::SEGMENTS),
        (UNITS, parameter::UNITS),
        (BRICKS, parameter::BRICKS),
        (SEPARATE_PLANES, parameter::SEPARATE_PLANES),
        (OTHER_SCRATCH, parameter::GATE),
    ] {
        block.load_word(place, PARAMETER_POINTER, 4 * index);
    }
    block.copy(GATE, OTHER_SCRATCH);
    block.subtract(MINUS_BRICKS, ZERO, BRICKS);
    block.set(SCRATCH, BRICK_BITS);
    block.shift(UNIT_BYTES, BRICKS, SCRATCH);
}

fn pass() -> Block {
    let mut block = Block::new("pass");
    block.copy(GROUPS_LEFT, GROUPS);
    block
}

/// The first segment of a group starts all sums from one block of zeros.
fn group() -> Block {
    let mut block = Block::new("group");
    block.copy(SEGMENTS_LEFT, SEGMENTS);
    block.set(START_POINTER, core_address(ZEROS.start));
    block.copy(START_STEP, ZERO);
    block
}

fn segment() -> Block {
    let mut block = Block::new("segment");
    block.acquire(ACTIVATION_FULL, MINUS_BRICKS);
    block.copy(UNITS_LEFT, UNITS);
    block.set(SUM_POINTER, core_address(PARTIAL_SUMS.start));
    block
}

/// The next two units, or the last one, which is then both: its sums are computed twice, and the
/// second ones stay where nobody looks. Counts the granules of weights that they need.
fn pair() -> Block {
    let mut block = Block::new("pair");
    block.decrement(SCRATCH, UNITS_LEFT);
    block.is_not_zero(PAIRED, SCRATCH);
    block.subtract(SCRATCH, ZERO, PAIRED);
    block.and(SCRATCH, UNIT_BYTES, SCRATCH);
    block.copy(WEIGHTS, SECOND_WEIGHTS);
    block.add(SECOND_WEIGHTS, SECOND_WEIGHTS, SCRATCH);
    block.add(OTHER_SCRATCH, SECOND_WEIGHTS, UNIT_BYTES);
    // Done with: those that end before the pair does, less those that ended before it starts.
    block.shift(SCRATCH, OTHER_SCRATCH, TO_GRANULES);
    block.shift(DONE, WEIGHTS, TO_GRANULES);
    block.subtract(DONE, SCRATCH, DONE);
    // Needed, with a minus: those that began before it starts, less those that begin before it ends.
    block.decrement(OTHER_SCRATCH, OTHER_SCRATCH);
    block.shift_signed(OTHER_SCRATCH, OTHER_SCRATCH, TO_GRANULES);
    block.decrement(SCRATCH, WEIGHTS);
    block.shift_signed(SCRATCH, SCRATCH, TO_GRANULES);
    block.subtract(SCRATCH, SCRATCH, OTHER_SCRATCH);
    block.and(SECOND_WEIGHTS, SECOND_WEIGHTS, RING_MASK);
    block.add(PAIRED, PAIRED, ONE);
    block.exit(Exit::Zero(SCRATCH, "sums"))
}

fn next_weights() -> Block {
    let mut block = Block::new("next_weights");
    block.acquire(WEIGHT_FULL, SCRATCH);
    block
}

/// Where the pair's sums start from, and where its operands are.
fn sums() -> Block {
    let mut block = Block::new("sums");
    for unit in 0..2 {
        for (place, offset) in sums_of(unit) {
            block.load(place, START_POINTER, offset);
        }
        block.advance(START_POINTER, START_STEP);
    }
    block.copy(ACTIVATION, SEGMENT_START);
    point(&mut block, ACTIVATION_POINTER, ACTIVATION_BASE, ACTIVATION);
    point(&mut block, WEIGHT_POINTER, WEIGHT_BASE, WEIGHTS);
    point(&mut block, SECOND_WEIGHT_POINTER, WEIGHT_BASE, SECOND_WEIGHTS);
    block.decrement(BRICKS_LEFT, BRICKS);
    block
}

/// The vectors of a unit's sums, and where in its part of the memory they are.
fn sums_of(unit: u8) -> impl Iterator<Item = (Place, u32)> {
    [HIGH, LOW].into_iter().flat_map(move |plane| {
        (0..4).map(move |which| {
            let offset = BLOCK_BYTES * u32::from(plane) + 64 * u32::from(which);
            (Quarter(accumulator(unit, plane), which), offset)
        })
    })
}

fn point(block: &mut Block, pointer: Place, base: Place, offset: Place) {
    block.add(SCRATCH, base, offset);
    block.copy(pointer, SCRATCH);
}

/// The next place in a ring.
fn step(block: &mut Block, offset: Place, by: Place) {
    block.add(offset, offset, by);
    block.and(offset, offset, RING_MASK);
}

/// 8x64 activations of both planes with 64x8 weights of both units a turn.
fn bricks(spacing: &Spacing) -> Result<Pipelined, IsaError> {
    let mut between = Block::new("between");
    between.decrement(BRICKS_LEFT, BRICKS_LEFT);
    for (pointer, base, offset, by) in [
        (WEIGHT_POINTER, WEIGHT_BASE, WEIGHTS, BRICK_STEP),
        (SECOND_WEIGHT_POINTER, WEIGHT_BASE, SECOND_WEIGHTS, BRICK_STEP),
        (ACTIVATION_POINTER, ACTIVATION_BASE, ACTIVATION, ACTIVATION_STEP),
    ] {
        step(&mut between, offset, by);
        point(&mut between, pointer, base, offset);
    }
    let mut last = Block::new("last");
    step(&mut last, SECOND_WEIGHTS, BRICK_STEP);
    step(&mut last, ACTIVATION, ACTIVATION_STEP);
    let bricks = Loop {
        loads: &LOADS,
        products: &PRODUCTS,
        configuration: CONFIGURATION,
        steps: (BRICK_DEPTH / BLOCK) as usize,
        between,
        last,
        counter: BRICKS_LEFT,
        labels: ["first_loads", "brick", "last_brick"],
        exit: Exit::Zero(DONE, "pair_sums"),
    };
    bricks.schedule(spacing)
}

fn weights_done() -> Block {
    let mut block = Block::new("weights_done");
    block.release(WEIGHT_FREE, DONE);
    block
}

fn pair_sums() -> Block {
    let mut block = Block::new("pair_sums");
    block.copy(RESULT_POINTER, SUM_POINTER);
    for unit in 0..2 {
        for (place, offset) in sums_of(unit) {
            block.store(place, SUM_POINTER, offset);
        }
        block.advance(SUM_POINTER, UNIT_STEP);
    }
    block.copy(BRICKS_LEFT, PAIRED);
    // Not the last segment, or sums that stay for the gate.
    block.decrement(SCRATCH, SEGMENTS_LEFT);
    block.copy(OTHER_SCRATCH, GATE);
    block.or(SCRATCH, SCRATCH, OTHER_SCRATCH);
    block.exit(Exit::NotZero(SCRATCH, "pair_end"))
}

fn choose_output() -> Block {
    Block::new("choose_output").exit(Exit::NotZero(SEPARATE_PLANES, "separate_high"))
}

/// high * 128 + low, modulo 2^32.
fn combined() -> Block {
    let mut block = Block::new("combined");
    take_output(&mut block);
    for which in 0..4 {
        block.load(X(which), RESULT_POINTER, 64 * u32::from(which));
        block.load(X(4 + which), RESULT_POINTER, BLOCK_BYTES + 64 * u32::from(which));
    }
    for _ in 0..DOUBLINGS {
        (0..4).for_each(|which| block.add_lanes(X(which), X(which), X(which)));
    }
    for which in 0..4 {
        block.add_lanes(X(which), X(which), X(4 + which));
        block.store(X(which), OUTPUT_POINTER, 64 * u32::from(which));
    }
    block.release(OUTPUT_FULL, ONE);
    block.exit(Exit::Jump("output_end"))
}

fn separate(plane: u8) -> Block {
    let mut block = Block::new(if plane == HIGH { "separate_high" } else { "separate_low" });
    take_output(&mut block);
    for which in 0..4 {
        let offset = BLOCK_BYTES * u32::from(plane) + 64 * u32::from(which);
        block.load(X(which), RESULT_POINTER, offset);
    }
    for which in 0..4 {
        block.store(X(which), OUTPUT_POINTER, 64 * u32::from(which));
    }
    block.release(OUTPUT_FULL, ONE);
    block
}

/// Waits for a granule of the output ring; the ring has two.
fn take_output(block: &mut Block) {
    block.acquire(OUTPUT_FREE, MINUS_ONE);
    block.copy(OUTPUT_POINTER, OUTPUT);
    block.xor(OUTPUT, OUTPUT, OUTPUT_STEP);
}

fn output_end() -> Block {
    let mut block = Block::new("output_end");
    block.advance(RESULT_POINTER, UNIT_STEP);
    block.decrement(BRICKS_LEFT, BRICKS_LEFT);
    block.exit(Exit::NotZero(BRICKS_LEFT, "choose_output"))
}

fn pair_end() -> Block {
    let mut block = Block::new("pair_end");
    block.subtract(UNITS_LEFT, UNITS_LEFT, PAIRED);
    block.exit(Exit::NotZero(UNITS_LEFT, "pair"))
}

fn segment_end() -> Block {
    let mut block = Block::new("segment_end");
    block.release(ACTIVATION_FREE, BRICKS);
    block.copy(SEGMENT_START, ACTIVATION);
    block.set(START_POINTER, core_address(PARTIAL_SUMS.start));
    block.copy(START_STEP, UNIT_STEP);
    block.decrement(SEGMENTS_LEFT, SEGMENTS_LEFT);
    block.exit(Exit::NotZero(SEGMENTS_LEFT, "segment"))
}

fn group_end() -> Block {
    let mut block = Block::new("group_end");
    block.decrement(GROUPS_LEFT, GROUPS_LEFT);
    block.exit(Exit::NotZero(GROUPS_LEFT, "group"))
}

/// A gated product's sums are all there.
fn gate() -> Block {
    let mut block = Block::new("gate");
    block.copy(SCRATCH, GATE);
    block.exit(Exit::NotZero(SCRATCH, "gate_start"))
}

fn pass_end() -> Block {
    let mut block = Block::new("pass_end");
    block.decrement(PASSES_LEFT, PASSES_LEFT);
    block.exit(Exit::NotZero(PASSES_LEFT, "pass"))
}

/// A call's weights are padded to whole granules; what is left of the last one is given back.
fn call_end() -> Block {
    let mut block = Block::new("call_end");
    block.set(SCRATCH, WEIGHT_GRANULE_BYTES - 1);
    block.and(SCRATCH, SECOND_WEIGHTS, SCRATCH);
    block.exit(Exit::Zero(SCRATCH, "call"))
}

fn drop_weights() -> Block {
    let mut block = Block::new("drop_weights");
    block.release(WEIGHT_FREE, ONE);
    block.set(SCRATCH, WEIGHT_GRANULE_BYTES);
    block.add(SECOND_WEIGHTS, SECOND_WEIGHTS, SCRATCH);
    block.set(SCRATCH, WEIGHT_RING.len() as u32 - WEIGHT_GRANULE_BYTES);
    block.and(SECOND_WEIGHTS, SECOND_WEIGHTS, SCRATCH);
    block.exit(Exit::Jump("call"))
}
