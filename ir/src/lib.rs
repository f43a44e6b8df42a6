//! The graph IR: ops with types, and what they mean.
//!
//! The IR is never serialised; its text form (`.oir`) is for people and tests.
#![forbid(unsafe_code)]

pub mod graph;
pub mod infer;
pub mod interp;
pub mod op;
pub mod quant;
pub mod rows;
pub mod text;
pub mod types;
pub mod verify;

pub use graph::{Graph, ValueId};
pub use op::{AttentionSpec, Function, Op, RopeScaling, RopeSpec, RopeStyle};
pub use types::{Dim, Elem, TensorType};
pub use verify::{GraphInfo, verify};
