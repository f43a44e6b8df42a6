//! The `.plan` file: the one artefact that onebitc writes and onebit-rt loads.
//!
//! A plan is a 64-byte [`header`], page-aligned raw segments and a [`manifest::Manifest`] at the
//! end. [`PlanWriter`] makes one, [`PlanFile`] checks and maps one; docs/plan-format.md describes
//! every byte. Two things about trust:
//!
//! * Nothing that [`PlanFile::open`] reads is believed before it is checked: a damaged or hostile
//!   file gives a [`PlanError`], never a panic or an allocation beyond the manifest's limit.
//! * The code segment is native code. Checks keep damage out, not malice: before code of a plan
//!   runs, [`PlanFile::require_trust`] must find the signature of a key that is trusted; a
//!   [`trust::AllowedPlan`], which drivers take, is a plan of which that was asked. [`trust`] has
//!   all about keys.

pub mod abi;
pub mod box_sys;
mod check;
mod codec;
mod dump;
mod error;
pub mod fit;
pub mod golden;
pub mod gpu;
mod head;
pub mod header;
pub mod layout;
pub mod manifest;
mod part;
mod read;
mod regions;
pub mod trust;
mod write;

pub use error::PlanError;
pub use head::PlanHead;
pub use read::PlanFile;
pub use regions::layer_of;
pub use write::{CompletePlan, PlanWriter, sign_plan};

/// Version of the file format; a runtime reads exactly the version it was built with.
pub const FORMAT_VERSION: u32 = 1;

/// Segments start at multiples of this many bytes, so that they can be mapped by themselves.
pub const PAGE: u64 = 4096;
