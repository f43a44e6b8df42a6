//! `; test roundtrip`: the case is written as the printer writes it, comments and empty lines
//! aside; parsing and printing gives it back, and a second parse the same graph.

use onebit_ir::text::parse;

use crate::case::GraphText;
use crate::{Case, Outcome};

pub(crate) fn run(case: &Case) -> Result<Outcome, String> {
    case.graphs().iter().try_for_each(judge)?;
    Ok(Outcome::Passed)
}

fn judge(graph: &GraphText) -> Result<(), String> {
    let parsed = parse(&graph.text).map_err(|e| e.to_string())?;
    let printed = parsed.to_string();
    let code = |line: &&str| !line.is_empty() && !line.starts_with(';');
    let written: String = graph.text.lines().filter(code).flat_map(|line| [line, "\n"]).collect();
    if printed != written {
        return Err(format!("line {}: it prints as\n{printed}", graph.line));
    }
    let again = parse(&printed).map_err(|e| format!("what was printed: {e}"))?;
    if again.same_structure(&parsed) {
        Ok(())
    } else {
        Err(format!("line {}: what was printed is another graph", graph.line))
    }
}
