//! Values of the graph that steps leave in memory, as the manifest says where.

use onebit_ir::Graph;
use onebit_plan::manifest::{Scratch, Tap, TapRows};

use super::steps::{BufferId, Contents, Schedule};

/// The value that `buffer` holds, given the memory it is in and its first byte there; `None` for
/// what is no value of the graph as floats.
pub fn tap(
    graph: &Graph,
    schedule: &Schedule,
    buffer: BufferId,
    (scratch, offset): (Scratch, u64),
) -> Option<Tap> {
    let at = schedule.values.binary_search_by_key(&buffer, |&(buffer, _)| buffer).ok()?;
    let value = schedule.values[at].1;
    let Contents::F32 { width } = schedule.buffers[buffer.0].contents else { return None };
    let outputs = graph.ty(value).shape.first() == Some(&onebit_ir::Dim::Outputs);
    Some(Tap {
        value: value.to_string(),
        op: graph.op(value).name().into(),
        scratch,
        offset,
        columns: u32::try_from(width).expect("row sizes fit u32"),
        rows: if outputs { TapRows::Outputs } else { TapRows::All },
    })
}
