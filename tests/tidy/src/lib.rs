//! What the source tree promises about itself, as functions that list where it does not hold.
//!
//! Each rule is a module: its tables say what is allowed and why. `tests/repository.rs` applies
//! them to this workspace. A rule knows nothing of what the code does.
#![forbid(unsafe_code)]

pub mod lengths;
pub mod links;
pub mod scan;
pub mod tree;
pub mod walls;
pub mod wording;
