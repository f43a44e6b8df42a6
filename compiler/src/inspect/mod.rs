//! Views of a finished plan: JSON, listings, graphs, a page, and what two plans differ in.
//!
//! All of them read a checked [`PlanFile`](onebit_plan::PlanFile) and nothing else: no model, no
//! device. Names in a plan come from a model's file and may be anything; every view escapes them
//! for what it writes.

pub mod diff;
pub mod dot;
pub mod html;
pub mod json;
mod layers;
pub mod listing;
mod predict;
