//! A case file: its first line, its graphs, and what stands in its comments.

use onebit_ir::Graph;
use onebit_ir::text::{Position, parse_located};

const CHECK: &str = "; check:";
const ERROR: &str = "; error:";

/// The text of one case.
pub struct Case {
    text: String,
    stage: String,
    argument: String,
}

/// One graph's part of a case. Its lines stand where they stand in the file, so that positions in
/// errors are the file's.
pub struct GraphText {
    /// Line of `graph @..`, from 1.
    pub line: u32,
    /// The graph after as many empty lines as precede it.
    pub text: String,
}

impl Case {
    /// Fails when the first line names no stage.
    pub fn new(text: String) -> Result<Self, String> {
        let first = text.lines().next().unwrap_or_default();
        let Some(test) = first.strip_prefix("; test ") else {
            return Err("the first line must be `; test <stage>`".into());
        };
        let (stage, argument) = test.trim().split_once(' ').unwrap_or((test.trim(), ""));
        let (stage, argument) = (stage.to_owned(), argument.trim().to_owned());
        Ok(Self { text, stage, argument })
    }

    /// `; test <stage>`
    pub fn stage(&self) -> &str {
        &self.stage
    }

    /// What follows the stage on the first line; empty when nothing does.
    pub fn argument(&self) -> &str {
        &self.argument
    }

    /// The graphs, in order.
    pub fn graphs(&self) -> Vec<GraphText> {
        let mut graphs: Vec<GraphText> = Vec::new();
        for (number, line) in (1u32..).zip(self.text.lines()) {
            if line.starts_with("graph ") {
                let text = "\n".repeat(number as usize - 1);
                graphs.push(GraphText { line: number, text });
            }
            if let Some(graph) = graphs.last_mut() {
                graph.text.push_str(line);
                graph.text.push('\n');
            }
        }
        graphs
    }

    /// The case's only graph, with the position of each value's definition.
    pub fn graph(&self) -> Result<(Graph, Vec<Position>), String> {
        match self.graphs().as_slice() {
            [graph] => parse_located(&graph.text).map_err(|e| e.to_string()),
            graphs => Err(format!("this stage takes one graph, found {}", graphs.len())),
        }
    }

    /// What follows each `; check:`, in order.
    pub fn checks(&self) -> Vec<&str> {
        self.text.lines().filter_map(|line| line.strip_prefix(CHECK)).map(str::trim).collect()
    }

    /// What follows each `; key ` at the start of a line, in order.
    pub fn directives<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let directive =
            move |line: &'a str| line.strip_prefix("; ")?.strip_prefix(key)?.strip_prefix(' ');
        self.text.lines().filter_map(directive).map(str::trim)
    }

    /// The text with `found` for its check lines, at its end.
    pub fn blessed(&self, found: &[String]) -> String {
        let kept = self.text.lines().filter(|line| !line.starts_with(CHECK));
        let mut text: String = kept.flat_map(|line| [line, "\n"]).collect();
        for line in found {
            text.push_str(&format!("{CHECK} {line}\n"));
        }
        text
    }
}

impl GraphText {
    /// The errors said to belong to a line of this graph: line and text.
    pub fn errors(&self) -> Vec<(u32, &str)> {
        let lines = (1u32..).zip(self.text.lines());
        lines.filter_map(|(n, line)| Some((n, line.split_once(ERROR)?.1.trim()))).collect()
    }
}
