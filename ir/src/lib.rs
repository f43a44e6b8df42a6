//! The graph IR: ops with types, and what they mean.
//!
//! The IR is never serialised; its text form (`.oir`) is for people and tests.
#![forbid(unsafe_code)]

pub mod graph;
pub mod infer;
pub mod op;
pub mod quant;
pub mod types;

pub use graph::{Graph, ValueId};
pub use op::{AttentionSpec, Function, Op, RopeScaling, RopeSpec, RopeStyle};
pub use types::{Dim, Elem, TensorType};
