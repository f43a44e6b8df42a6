//! The stages, one file each.

pub(crate) mod pass;
pub(crate) mod roundtrip;
pub(crate) mod run;
pub(crate) mod schedule;
pub(crate) mod verify;
