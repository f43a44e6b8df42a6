//! The array's tiles as registers: what may be written where, and what that says.
//!
//! [`Configuration`] collects programs, locks, buffer descriptors, queues and routes, refuses what
//! the array has no room for or no way to do ([`ArrayError`]), and says the rest as a
//! [`crate::program::RegisterProgram`]. Only what this crate's designs need is here: linear
//! descriptors, circuit-switched routes, and the packet-switched one of reports to the controller.
//!
//! Register offsets, fields and sizes: aie-rt `driver/src/global/xaie2pgbl_params.h` and
//! `xaie2pgbl_reginit.c`, `driver/src/dma/xaie_dma_aieml.c`; which connections a tile has:
//! mlir-aie `lib/Dialect/AIE/IR/AIETargetModel.cpp`.

mod configuration;
mod descriptor;
mod error;
mod route;
mod tile;

pub use configuration::{
    Configuration, Reports, Run, data_register, descriptor_register, queue_register,
    report_to_controller,
};
pub use descriptor::{Acquire, Blocks, Descriptor, DescriptorId, Release};
pub use error::ArrayError;
pub use route::{Port, Side};
pub use tile::{COLUMNS, Channel, LockId, ROWS, Tile, TileKind};
