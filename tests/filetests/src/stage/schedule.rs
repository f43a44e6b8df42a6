//! `; test schedule`: the CPU steps of the graph after all passes, with buffers and barriers.
//! `; batch N` and `; context N` set the sizes, 8 and 64 when not given; `; placement array` puts
//! products on a neural processor.

use onebit_ir::quant::Format;
use onebit_ir::{Elem, Graph, Op};
use onebitc::pipeline;
use onebitc::schedule::repack::{Placement, TensorSource, WeightStore};
use onebitc::target::cpu::{self, CpuOptions};

use crate::{Case, Outcome};

pub(crate) fn run(case: &Case) -> Result<Outcome, String> {
    let (mut graph, _) = case.graph()?;
    let size = |key: &str, default: usize| match case.directives(key).next() {
        Some(text) => text.parse().map_err(|_| format!("`; {key} {text}` is no number")),
        None => Ok(default),
    };
    let options = CpuOptions {
        architecture: std::env::consts::ARCH.into(),
        batch: size("batch", 8)?,
        context: size("context", 64)?,
        cache: onebitc::Options::default().kv,
    };
    let placement = match case.directives("placement").next() {
        None => Placement::Cpu,
        Some("array") => Placement::Array,
        Some(other) => return Err(format!("`; placement {other}`: there is only array")),
    };
    let info = pipeline::run(&mut graph, placement).map_err(|e| e.to_string())?;
    let shapes = Shapes(&graph);
    let mut store = WeightStore::new(&shapes, placement);
    let listing = cpu::schedule_listing(&graph, &info, &options, &mut store);
    let listing = listing.map_err(|e| e.to_string())?;
    Ok(Outcome::Lines(listing.lines().map(|line| line.trim().to_owned()).collect()))
}

/// Weights that have a format and no bytes: a schedule asks for no more.
struct Shapes<'g>(&'g Graph);

impl TensorSource for Shapes<'_> {
    fn tensor(&self, name: &str) -> Option<(Format, &[u8])> {
        let value = self.0.values().find(|&v| *self.0.op(v) == Op::Weight(name.to_owned()))?;
        match self.0.ty(value).elem {
            Elem::Block(format) => Some((format, &[])),
            _ => None,
        }
    }

    fn release(&self, _: &str) {}
}
