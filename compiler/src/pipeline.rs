//! The ordered table of passes, verified after each.

use onebit_ir::Graph;
use onebit_ir::verify::{self, GraphInfo};

use crate::error::CompileError;
use crate::pass::fuse_gated::FuseGated;
use crate::pass::split_bias::SplitBias;
use crate::pass::stack_linears::StackLinears;
use crate::rewrite::{self, Rule};
use crate::schedule::repack::Placement;

/// A named set of rules that is run to its fixed point.
pub struct Pass {
    pub name: &'static str,
    rules: &'static [&'static dyn Rule],
    /// The only placement of products that it is for; `None` is all.
    only_for: Option<Placement>,
}

/// In order. Each prepares for the next: biases leave linears before linears are stacked, and
/// gates are fused first because stacking for the CPU leaves their linears alone. What a neural
/// processor takes is stacked first; the CPU's rules are for the rest.
pub const PASSES: &[Pass] = &[
    Pass { name: "split-bias", rules: &[&SplitBias], only_for: None },
    Pass { name: "fuse-gated", rules: &[&FuseGated], only_for: None },
    Pass {
        name: "stack-for-array",
        rules: &[&StackLinears(Placement::Array)],
        only_for: Some(Placement::Array),
    },
    Pass { name: "stack-linears", rules: &[&StackLinears(Placement::Cpu)], only_for: None },
];

impl Pass {
    /// Runs the pass and verifies its result.
    pub fn run(&self, graph: &mut Graph) -> Result<GraphInfo, CompileError> {
        let broken = |reason: String| CompileError::Pass { pass: self.name, reason };
        rewrite::run(graph, self.rules).map_err(|error| broken(error.to_string()))?;
        verify::verify(graph).map_err(|error| broken(error.to_string()))
    }
}

/// Runs every pass that is for `placement`.
pub fn run(graph: &mut Graph, placement: Placement) -> Result<GraphInfo, CompileError> {
    let mut info = verify::verify(graph)
        .map_err(|error| CompileError::Pass { pass: "input", reason: error.to_string() })?;
    let wanted = |pass: &&Pass| pass.only_for.is_none_or(|only| only == placement);
    for pass in PASSES.iter().filter(wanted) {
        info = pass.run(graph)?;
    }
    Ok(info)
}
