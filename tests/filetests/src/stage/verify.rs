//! `; test verify`: a graph is valid unless one of its lines carries `; error: text`; then its
//! first error must be on that line and say that text. A case may hold several graphs.

use onebit_ir::text::parse_located;

use crate::case::GraphText;
use crate::{Case, Outcome};

pub(crate) fn run(case: &Case) -> Result<Outcome, String> {
    let graphs = case.graphs();
    if graphs.is_empty() {
        return Err("there is no graph to verify".into());
    }
    graphs.iter().try_for_each(judge)?;
    Ok(Outcome::Passed)
}

fn judge(graph: &GraphText) -> Result<(), String> {
    let found = first_error(graph);
    match (graph.errors().as_slice(), found) {
        ([], None) => Ok(()),
        ([], Some((line, message))) => Err(format!("line {line}: unexpected error: {message}")),
        ([(line, text)], None) => Err(format!("line {line}: no error, expected: {text}")),
        ([(line, text)], Some((at, message))) if *line == at && message.contains(text) => Ok(()),
        ([(line, text)], Some((at, message))) => {
            Err(format!("line {line}: expected: {text}\nline {at}: found: {message}"))
        }
        _ => Err(format!("line {}: a graph stops at its first error; expect one", graph.line)),
    }
}

fn first_error(graph: &GraphText) -> Option<(u32, String)> {
    match parse_located(&graph.text) {
        Err(error) => Some((error.at.line, error.to_string())),
        Ok((parsed, positions)) => {
            let error = onebit_ir::verify(&parsed).err()?;
            let line = error.value().map_or(graph.line, |value| positions[value.index()].line);
            Some((line, error.to_string()))
        }
    }
}
