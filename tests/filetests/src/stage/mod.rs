//! The stages, one file each.

pub(crate) mod roundtrip;
pub(crate) mod run;
pub(crate) mod verify;
