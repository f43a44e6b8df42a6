//! The program of a compute tile.
//!
//! It multiplies what streams by: the tile's eight rows of activations, as two planes of int8,
//! with all weights of its column. `docs/npu-gemm.md` shows the loops; the formats are in
//! [`super::pack`]. Everything a call varies is a word of [`parameter`]; the program itself never
//! changes.

use super::block::{Assembled, Block, Exit, OwnLock, Place, Spacing};
use super::memory::{
    ACTIVATION_RING, OUTPUT_RING, PARAMETERS, PARTIAL_SUMS, WEIGHT_RING, ZEROS, core_address,
};
use super::{
    ACTIVATION_GRANULE_BYTES, BRICKS_PER_WEIGHT_GRANULE, OUTPUT_GRANULE_BYTES, WEIGHT_GRANULE_BYTES,
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
    /// How many there are.
    pub const COUNT: usize = 6;
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
const ZERO: Place = R(0);
const ONE: Place = R(14);
const MINUS_ONE: Place = R(13);
const CONFIGURATION: Place = R(30);
const ACTIVATION_BASE: Place = R(18);
const ACTIVATION_MASK: Place = R(17);
const ACTIVATION_STEP: Place = R(29);
const WEIGHT_BASE: Place = R(28);
const WEIGHT_MASK: Place = R(20);
const WEIGHT_STEP: Place = R(31);
const OUTPUT_BASE: Place = R(21);
const OUTPUT_STEP: Place = R(24);
const BRICKS_PER_GRANULE: Place = R(16);
const UNIT_STEP: Place = M(1);
// Parameters of the call.
const GROUPS: Place = R(6);
const SEGMENTS: Place = R(7);
const UNITS: Place = R(8);
const BRICKS: Place = R(9);
const SEPARATE_PLANES: Place = R(10);
const MINUS_BRICKS: Place = R(11);
// What is left of each loop.
const PASSES_LEFT: Place = R(1);
const GROUPS_LEFT: Place = R(2);
const SEGMENTS_LEFT: Place = R(3);
const UNITS_LEFT: Place = R(4);
const BRICKS_LEFT: Place = R(5);
// Where things are.
const WEIGHTS_LEFT: Place = R(12);
const SEGMENT_START: Place = R(15);
const ACTIVATION: Place = R(22);
const NEXT_WEIGHTS: Place = R(19);
const OUTPUT: Place = R(23);
const SCRATCH: Place = R(25);
const ACTIVATION_POINTER: Place = P(0);
const WEIGHT_POINTER: Place = P(1);
const START_POINTER: Place = P(2);
const START_STEP: Place = M(0);
const SUM_POINTER: Place = P(3);
const OUTPUT_POINTER: Place = P(4);
const PARAMETER_POINTER: Place = P(5);

const ACTIVATION_FREE: OwnLock = OwnLock(lock::ACTIVATION_FREE);
const ACTIVATION_FULL: OwnLock = OwnLock(lock::ACTIVATION_FULL);
const WEIGHT_FREE: OwnLock = OwnLock(lock::WEIGHT_FREE);
const WEIGHT_FULL: OwnLock = OwnLock(lock::WEIGHT_FULL);
const OUTPUT_FREE: OwnLock = OwnLock(lock::OUTPUT_FREE);
const OUTPUT_FULL: OwnLock = OwnLock(lock::OUTPUT_FULL);

/// The program, with its operations as far apart as `spacing` asks.
///
/// # Errors
/// Never for the table of this crate; the assembler's errors are passed on.
pub fn program(spacing: &Spacing) -> Result<Assembled, IsaError> {
    Assembled::new(&blocks(), spacing)
}

/// The blocks of the program, in the order in which they lie.
pub fn blocks() -> Vec<Block> {
    let mut blocks = vec![setup(), call()];
    blocks.extend([pass(), group(), segment(), unit()]);
    blocks.extend([need_weights(), next_weights(), brick(), weights_done(), brick_end()]);
    blocks.extend([unit_sums(), choose_output(), combined(), separate(HIGH), separate(LOW)]);
    blocks.extend([unit_end(), segment_end(), group_end(), pass_end()]);
    blocks.extend([call_end(), drop_weights()]);
    blocks
}

fn setup() -> Block {
    let mut block = Block::new("setup");
    for (place, value) in [
        (ZERO, 0),
        (ONE, 1),
        (MINUS_ONE, u32::MAX),
        (CONFIGURATION, SIGNED_BYTES),
        (ACTIVATION_BASE, core_address(ACTIVATION_RING.start)),
        (ACTIVATION_MASK, ACTIVATION_RING.len() as u32 - 1),
        (ACTIVATION_STEP, ACTIVATION_GRANULE_BYTES),
        (WEIGHT_BASE, core_address(WEIGHT_RING.start)),
        (WEIGHT_MASK, WEIGHT_RING.len() as u32 - 1),
        (WEIGHT_STEP, WEIGHT_GRANULE_BYTES),
        (OUTPUT_BASE, core_address(OUTPUT_RING.start)),
        (OUTPUT_STEP, OUTPUT_GRANULE_BYTES),
        (BRICKS_PER_GRANULE, BRICKS_PER_WEIGHT_GRANULE),
        (UNIT_STEP, 2 * BLOCK_BYTES),
        (PARAMETER_POINTER, core_address(PARAMETERS.start)),
        (WEIGHTS_LEFT, 0),
        (SEGMENT_START, 0),
        (NEXT_WEIGHTS, 0),
        (OUTPUT, 0),
    ] {
        block.set(place, value);
    }
    block
}

/// Waits for a call. Its parameters are written before its activations are sent, so they are
/// there when a granule is; the granule is left to the first segment.
fn call() -> Block {
    let mut block = Block::new("call");
    block.acquire(ACTIVATION_FULL, MINUS_ONE);
    block.release(ACTIVATION_FULL, ONE);
    for (place, index) in [
        (PASSES_LEFT, parameter::PASSES),
        (GROUPS, parameter::GROUPS),
        (SEGMENTS, parameter::SEGMENTS),
        (UNITS, parameter::UNITS),
        (BRICKS, parameter::BRICKS),
        (SEPARATE_PLANES, parameter::SEPARATE_PLANES),
    ] {
        block.load_word(place, PARAMETER_POINTER, 4 * index);
    }
    block.subtract(MINUS_BRICKS, ZERO, BRICKS);
    block
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

fn unit() -> Block {
    let mut block = Block::new("unit");
    for plane in [HIGH, LOW] {
        for which in 0..4 {
            let offset = BLOCK_BYTES * u32::from(plane) + 64 * u32::from(which);
            block.load(Quarter(plane, which), START_POINTER, offset);
        }
    }
    block.advance(START_POINTER, START_STEP);
    block.copy(ACTIVATION, SEGMENT_START);
    block.copy(BRICKS_LEFT, BRICKS);
    block
}

fn need_weights() -> Block {
    Block::new("need_weights").exit(Exit::NotZero(WEIGHTS_LEFT, "brick"))
}

fn next_weights() -> Block {
    let mut block = Block::new("next_weights");
    block.acquire(WEIGHT_FULL, MINUS_ONE);
    block.copy(WEIGHTS_LEFT, BRICKS_PER_GRANULE);
    block.add(SCRATCH, WEIGHT_BASE, NEXT_WEIGHTS);
    block.copy(WEIGHT_POINTER, SCRATCH);
    block.add(NEXT_WEIGHTS, NEXT_WEIGHTS, WEIGHT_STEP);
    block.and(NEXT_WEIGHTS, NEXT_WEIGHTS, WEIGHT_MASK);
    block
}

/// Eight steps of eight k: 8x64 activations of both planes with 64x8 weights.
fn brick() -> Block {
    let mut block = Block::new("brick");
    block.add(SCRATCH, ACTIVATION_BASE, ACTIVATION);
    block.copy(ACTIVATION_POINTER, SCRATCH);
    block.decrement(WEIGHTS_LEFT, WEIGHTS_LEFT);
    block.decrement(BRICKS_LEFT, BRICKS_LEFT);
    block.add(ACTIVATION, ACTIVATION, ACTIVATION_STEP);
    block.and(ACTIVATION, ACTIVATION, ACTIVATION_MASK);
    for step in 0..8 {
        // Twelve vectors: the loads of four steps are under way at a time.
        let [high, low, weights] = [0, 1, 2].map(|part| X(3 * (step % 4) + part));
        block.load_next_b(weights, WEIGHT_POINTER);
        block.load_next(high, ACTIVATION_POINTER);
        block.load_next(low, ACTIVATION_POINTER);
        block.multiply(HIGH, high, weights, CONFIGURATION);
        block.multiply(LOW, low, weights, CONFIGURATION);
    }
    block.exit(Exit::NotZero(WEIGHTS_LEFT, "brick_end"))
}

fn weights_done() -> Block {
    let mut block = Block::new("weights_done");
    block.release(WEIGHT_FREE, ONE);
    block
}

fn brick_end() -> Block {
    Block::new("brick_end").exit(Exit::NotZero(BRICKS_LEFT, "need_weights"))
}

fn unit_sums() -> Block {
    let mut block = Block::new("unit_sums");
    for plane in [HIGH, LOW] {
        for which in 0..4 {
            let offset = BLOCK_BYTES * u32::from(plane) + 64 * u32::from(which);
            block.store(Quarter(plane, which), SUM_POINTER, offset);
        }
    }
    block.decrement(SCRATCH, SEGMENTS_LEFT);
    block.exit(Exit::NotZero(SCRATCH, "unit_end"))
}

fn choose_output() -> Block {
    Block::new("choose_output").exit(Exit::NotZero(SEPARATE_PLANES, "separate_high"))
}

/// high * 128 + low, modulo 2^32.
fn combined() -> Block {
    let mut block = Block::new("combined");
    take_output(&mut block);
    for which in 0..4 {
        block.load(X(which), SUM_POINTER, 64 * u32::from(which));
        block.load(X(4 + which), SUM_POINTER, BLOCK_BYTES + 64 * u32::from(which));
    }
    for _ in 0..DOUBLINGS {
        (0..4).for_each(|which| block.add_lanes(X(which), X(which), X(which)));
    }
    for which in 0..4 {
        block.add_lanes(X(which), X(which), X(4 + which));
        block.store(X(which), OUTPUT_POINTER, 64 * u32::from(which));
    }
    block.release(OUTPUT_FULL, ONE);
    block.exit(Exit::Jump("unit_end"))
}

fn separate(plane: u8) -> Block {
    let mut block = Block::new(if plane == HIGH { "separate_high" } else { "separate_low" });
    take_output(&mut block);
    for which in 0..4 {
        block.store(Quarter(plane, which), OUTPUT_POINTER, 64 * u32::from(which));
    }
    block.release(OUTPUT_FULL, ONE);
    block
}

/// Waits for a granule of the output ring; the ring has two.
fn take_output(block: &mut Block) {
    block.acquire(OUTPUT_FREE, MINUS_ONE);
    block.add(SCRATCH, OUTPUT_BASE, OUTPUT);
    block.copy(OUTPUT_POINTER, SCRATCH);
    block.xor(OUTPUT, OUTPUT, OUTPUT_STEP);
}

fn unit_end() -> Block {
    let mut block = Block::new("unit_end");
    block.advance(SUM_POINTER, UNIT_STEP);
    block.decrement(UNITS_LEFT, UNITS_LEFT);
    block.exit(Exit::NotZero(UNITS_LEFT, "unit"))
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

fn pass_end() -> Block {
    let mut block = Block::new("pass_end");
    block.decrement(PASSES_LEFT, PASSES_LEFT);
    block.exit(Exit::NotZero(PASSES_LEFT, "pass"))
}

/// A call's weights are padded to whole granules; what is left of the last one is given back.
fn call_end() -> Block {
    Block::new("call_end").exit(Exit::Zero(WEIGHTS_LEFT, "call"))
}

fn drop_weights() -> Block {
    let mut block = Block::new("drop_weights");
    block.release(WEIGHT_FREE, ONE);
    block.copy(WEIGHTS_LEFT, ZERO);
    block.exit(Exit::Jump("call"))
}
