//! Products of int8 matrices on all 32 compute tiles, for at most 32 rows of activations.
//!
//! With so few rows the array waits for weights, so everything serves their stream: each byte of
//! weights leaves the machine's memory once, in order, and meets all rows at once.
//!
//! * [`Design`]: the configuration, one for all shapes, as an xclbin; and [`Design::call`], the
//!   instruction stream of one product.
//! * [`Shape`] and [`Tiling`]: what is asked for, and how it is cut.
//! * [`pack`]: the formats of the three buffers.
//! * [`gated`]: two products, and what becomes of a gate and what it gates without leaving the array.
//! * [`cost`]: how long a call takes, by a model.
//! * [`kernel`]: the program of a compute tile, of [`block`]s and a [`pipeline`]; [`mapping`]: streams, locks and descriptors.
//!
//! `docs/npu-gemm.md` tells the whole. Nothing here ever ran on silicon.
//!
//! ```
//! use onebit_aie::gemm::{Design, GemmError, Results, Shape, pack};
//!
//! # fn main() -> Result<(), GemmError> {
//! // Once: the container that the driver loads.
//! let design = Design::new()?;
//! let container = design.xclbin()?.to_bytes()?;
//!
//! // For each matrix: its instruction stream, and its weights as the array takes them.
//! let shape = Shape { n: 960, k: 576, group: 576, results: Results::of_fifteen_bits(576) };
//! let call = design.call(&shape)?;
//! let weights = pack::weights(&call.tiling, &vec![1; 960 * 576]);
//! assert_eq!(weights.len() as u64, call.buffers.weights);
//!
//! // For each step: the activations, as two planes, and what becomes of the results.
//! let (high, low): (Vec<i8>, Vec<i8>) = [300i16; 576].map(pack::planes).into_iter().unzip();
//! let mut activations = vec![0; call.buffers.activations as usize];
//! pack::activations(&call.tiling, &high, &low, &mut activations);
//! # let results = vec![0; call.buffers.results as usize];
//! // … the driver runs call.txn with the three buffers …
//! let mut sums = vec![0; pack::result_count(&call.tiling, 1)];
//! pack::results(&call.tiling, 1, &results, &mut sums);
//! # assert_eq!(sums.len(), 960);
//! # Ok(())
//! # }
//! ```

pub mod block;
pub mod call;
pub mod cost;
mod gate;
pub mod gated;
pub mod kernel;
pub mod mapping;
pub mod memory;
pub mod pack;
pub mod pipeline;
mod shape;

pub use call::{Argument, BufferSizes, Call, Patch};
pub use cost::Cost;
pub use gated::Gated;
pub use shape::{Results, Shape, ShapeError, Tiling};

use block::{Assembled, Spacing};
use thiserror::Error;

use crate::array::{ArrayError, Blocks, COLUMNS};
use crate::cdo::Cdo;
use crate::error::WriteError;
use crate::isa::IsaError;
use crate::pdi::Pdi;
use crate::program::RegisterProgram;
use crate::xclbin::Xclbin;

/// Rows of activations of a product. Fewer are padded with zeros.
pub const ROWS: u32 = 32;
/// Side of the blocks that the core multiplies.
pub const BLOCK: u32 = 8;
/// k of a brick, and what a product's k is a multiple of, zeros included.
pub const BRICK_DEPTH: u32 = 64;
/// Planes of int8 that the activations are cut into.
pub const PLANES: u32 = 2;

/// Bytes of a brick of weights: 8 output columns, 64 k.
pub const BRICK_BYTES: u32 = BLOCK * BRICK_DEPTH;
/// Bricks that a DMA moves at a time.
pub const BRICKS_PER_WEIGHT_GRANULE: u32 = 4;
/// Bytes of weights that a DMA moves at a time.
pub const WEIGHT_GRANULE_BYTES: u32 = BRICK_BYTES * BRICKS_PER_WEIGHT_GRANULE;
/// Bytes of activations that a compute tile takes at a time: 8 rows, 64 k, two planes.
pub const ACTIVATION_GRANULE_BYTES: u32 = PLANES * BLOCK * BRICK_DEPTH;
/// Bytes of activations of a compute tile that lie together in the machine's memory: 8 rows, 16 k,
/// two planes. As many as gated results that a DMA moves at a time, which are such activations.
pub const ACTIVATION_PIECE_BYTES: u32 = OUTPUT_GRANULE_BYTES;
/// Bytes of results that a DMA moves at a time: 8 rows, 8 output columns, int32.
pub const OUTPUT_GRANULE_BYTES: u32 = 4 * BLOCK * BLOCK;
/// Blocks of eight output columns that one pass of a compute tile holds sums for.
pub const UNITS_AT_MOST: u32 = 64;
/// Bricks of a segment: half of the activation ring, so that the next segment comes meanwhile.
pub const BRICKS_AT_MOST: u32 = 4;

/// What can go wrong between a shape and bytes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GemmError {
    /// A shape that the design has no way to do.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A configuration that the array has no room for.
    #[error(transparent)]
    Array(#[from] ArrayError),
    /// A program that is none.
    #[error(transparent)]
    Isa(#[from] IsaError),
    /// A value that a container has no room for.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The design: a program and a configuration, the same for every shape.
#[derive(Clone, Debug)]
pub struct Design {
    kernel: Assembled,
    configuration: RegisterProgram,
}

impl Design {
    /// The design, with a program that has four products under way for each step of eight k, and
    /// is right whatever the other latencies are up to eight cycles.
    ///
    /// # Errors
    /// None; those of the parts are passed on.
    pub fn new() -> Result<Self, GemmError> {
        Design::spaced(&Spacing::PIPELINED)
    }

    /// The design, with the core's operations as far apart as `spacing` asks.
    ///
    /// # Errors
    /// None for the spacings of this crate; those of the parts are passed on.
    pub fn spaced(spacing: &Spacing) -> Result<Self, GemmError> {
        let kernel = kernel::program(spacing)?;
        let configuration = mapping::configuration(&kernel.code)?.register_program()?;
        Ok(Design { kernel, configuration })
    }

    /// The program of every compute tile.
    pub fn kernel(&self) -> &Assembled {
        &self.kernel
    }

    /// The writes that configure the array.
    pub fn configuration(&self) -> &RegisterProgram {
        &self.configuration
    }

    /// The container that a driver loads once. The same design gives the same bytes.
    ///
    /// # Errors
    /// None for a configuration of this size; the writer's errors are passed on.
    pub fn xclbin(&self) -> Result<Xclbin, GemmError> {
        let pdi = Pdi::new(Cdo::from_program(&self.configuration));
        Ok(Xclbin::new(COLUMNS.into(), pdi)?)
    }

    /// One product: its instruction stream, the sizes of its buffers and what it will cost.
    ///
    /// # Errors
    /// A shape that the design has no way to do.
    pub fn call(&self, shape: &Shape) -> Result<Call, GemmError> {
        let tiling = Tiling::new(shape)?;
        call::call(tiling, Cost::new(&tiling, &self.kernel), None)
    }

    /// Two products of one input, and what the gate makes of them. Its results are the activations
    /// of [`Design::call_of_gated`].
    ///
    /// # Errors
    /// A shape that the design has no way to do.
    pub fn gated_call(&self, gated: &Gated) -> Result<Call, GemmError> {
        let tiling = gated.tiling()?;
        call::call(tiling, Cost::new(&tiling, &self.kernel), None)
    }

    /// The product with n rows of weights that reads the results of `gated`, as they lie.
    ///
    /// # Errors
    /// A shape that the design has no way to do.
    pub fn call_of_gated(&self, gated: &Gated, n: u32) -> Result<Call, GemmError> {
        let before = gated.tiling()?;
        let tiling = Tiling::new(&gated.reader(n))?;
        let source = call::Source {
            blocks: Blocks { bytes: before.code_bytes(), every: before.result_bytes() },
            bytes: u64::from(COLUMNS) * before.result_bytes(),
        };
        call::call(tiling, Cost::new(&tiling, &self.kernel), Some(&source))
    }
}
