//! `; test pass <name>`: one pass of the compiler. The case's lines are the graph after it,
//! weights aside, as the printer writes it with densely numbered values.

use onebit_ir::text::parse;
use onebitc::pipeline::PASSES;

use crate::{Case, Outcome};

pub(crate) fn run(case: &Case) -> Result<Outcome, String> {
    let name = case.argument();
    let Some(pass) = PASSES.iter().find(|pass| pass.name == name) else {
        let names: Vec<&str> = PASSES.iter().map(|pass| pass.name).collect();
        return Err(format!("no pass `{name}`; there are {}", names.join(", ")));
    };
    let (mut graph, _) = case.graph()?;
    pass.run(&mut graph).map_err(|e| e.to_string())?;
    // A second parse numbers values densely, whatever the pass removed.
    let dense = parse(&graph.to_string()).map_err(|e| e.to_string())?.to_string();
    let lines = dense.lines().map(str::trim);
    let code = lines.filter(|line| line.starts_with('%') || line.starts_with("output"));
    let kept = code.filter(|line| !line.contains("= weight "));
    Ok(Outcome::Lines(kept.map(str::to_owned).collect()))
}
