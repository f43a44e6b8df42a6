//! The ordered table of passes, verified after each.

use onebit_ir::Graph;
use onebit_ir::verify::{self, GraphInfo};

use crate::error::CompileError;
use crate::pass::{fuse_gated::FuseGated, split_bias::SplitBias, stack_linears::StackLinears};
use crate::rewrite::{self, Rule};

/// A named set of rules that is run to its fixed point.
pub struct Pass {
    pub name: &'static str,
    rules: &'static [&'static dyn Rule],
}

/// In order. Each prepares for the next: biases leave linears before linears are stacked, and
/// gates are fused first because stacking leaves their linears alone.
pub const PASSES: &[Pass] = &[
    Pass { name: "split-bias", rules: &[&SplitBias] },
    Pass { name: "fuse-gated", rules: &[&FuseGated] },
    Pass { name: "stack-linears", rules: &[&StackLinears] },
];

impl Pass {
    /// Runs the pass and verifies its result.
    pub fn run(&self, graph: &mut Graph) -> Result<GraphInfo, CompileError> {
        let broken = |reason: String| CompileError::Pass { pass: self.name, reason };
        rewrite::run(graph, self.rules).map_err(|error| broken(error.to_string()))?;
        verify::verify(graph).map_err(|error| broken(error.to_string()))
    }
}

/// Runs every pass.
pub fn run(graph: &mut Graph) -> Result<GraphInfo, CompileError> {
    let mut info = verify::verify(graph)
        .map_err(|error| CompileError::Pass { pass: "input", reason: error.to_string() })?;
    for pass in PASSES {
        info = pass.run(graph)?;
    }
    Ok(info)
}
