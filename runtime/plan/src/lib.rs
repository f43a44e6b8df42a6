//! The `.plan` file: the one artefact that onebitc writes and onebit-rt loads.

pub mod abi;
pub mod manifest;

/// Version of the file format; a runtime reads exactly the version it was built with.
pub const FORMAT_VERSION: u32 = 1;
