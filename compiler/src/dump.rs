//! The stages of a compile as text.

use onebit_models::Model;

use crate::emit::{Options, cpu_options};
use crate::error::CompileError;
use crate::pipeline;
use crate::schedule::repack::WeightStore;
use crate::target::cpu;

/// A point of the compiler where its state can be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The graph as the model gives it.
    Graph,
    /// The graph after all passes.
    Fused,
    /// The steps of every entry.
    Schedule,
}

/// The state of compiling `model` at `stage`.
pub fn dump(model: &Model, options: &Options, stage: Stage) -> Result<String, CompileError> {
    let mut graph = model.graph().clone();
    if stage == Stage::Graph {
        return Ok(graph.to_string());
    }
    let info = pipeline::run(&mut graph, options.placement)?;
    if stage == Stage::Fused {
        return Ok(graph.to_string());
    }
    let mut store =
        WeightStore::new(model, options.placement).with_array_limits(options.array_limits);
    let options = cpu_options(model, options)?;
    cpu::schedule_listing(&graph, &info, &options, &mut store)
}
