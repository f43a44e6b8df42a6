//! Where things lie in the tiles' memories.
//!
//! Rings start at multiples of their size: the core wraps an offset with a mask. What the core
//! loads side by side lies in different banks of 16 KiB.

use std::ops::Range;

use super::gated::{ENTRIES, Factor};
use super::{ACTIVATION_GRANULE_BYTES, OUTPUT_GRANULE_BYTES, UNITS_AT_MOST, WEIGHT_GRANULE_BYTES};

/// Granules of a compute tile's rings.
pub const ACTIVATION_GRANULES: u32 = 8;
/// Likewise, of weights.
pub const WEIGHT_GRANULES: u32 = 4;
/// Likewise, of results.
pub const OUTPUT_GRANULES: u32 = 2;

const BANK: u32 = 16 << 10;

/// Compute tile: sums of a pass that are not final yet, 512 bytes a unit. Banks 0 and 1.
pub const PARTIAL_SUMS: Range<u32> = region(0, 512 * UNITS_AT_MOST);
/// Compute tile: activations. Bank 2.
pub const ACTIVATION_RING: Range<u32> =
    region(2 * BANK, ACTIVATION_GRANULES * ACTIVATION_GRANULE_BYTES);
/// Compute tile: 512 bytes of zeros, where sums start from.
pub const ZEROS: Range<u32> = region(ACTIVATION_RING.end, 512);
/// Compute tile: what varies from call to call.
pub const PARAMETERS: Range<u32> = region(ZEROS.end, 64);
/// Compute tile: what a gated product's rows have of bits, a word each.
pub const ROW_BITS: Range<u32> = region(PARAMETERS.end, 64);
/// Compute tile: the tables of a gate's functions, one behind the other.
pub const TABLES: Range<u32> = region(ROW_BITS.end, (4 * ENTRIES * Factor::ALL.len()) as u32);
const _: () = assert!(TABLES.end <= 3 * BANK);

/// Where the table of `factor` starts.
pub const fn table(factor: Factor) -> u32 {
    TABLES.start + 4 * ENTRIES as u32 * factor as u32
}

/// Compute tile: weights. Bank 3.
pub const WEIGHT_RING: Range<u32> = region(3 * BANK, WEIGHT_GRANULES * WEIGHT_GRANULE_BYTES);
/// Compute tile: final results.
pub const OUTPUT_RING: Range<u32> = region(WEIGHT_RING.end, OUTPUT_GRANULES * OUTPUT_GRANULE_BYTES);

/// A core's own address of its tile's data memory (AM020; mlir-aie `AIETargetModel.cpp`).
const OWN_MEMORY: u32 = 0x7_0000;

/// The core's own address of byte `offset` of its tile.
pub const fn core_address(offset: u32) -> u32 {
    OWN_MEMORY + offset
}

const fn region(start: u32, bytes: u32) -> Range<u32> {
    start..start + bytes
}
