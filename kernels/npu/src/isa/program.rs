//! Whole programs: listings and their assembly.

use std::collections::BTreeMap;
use std::fmt;

use super::{Bundle, IsaError, Op};

/// A word of a program and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Bytes from the start of the code.
    pub offset: usize,
    /// The word.
    pub bundle: Bundle,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:5x}: {}", self.offset, self.bundle)
    }
}

/// The words of `code`.
///
/// # Errors
/// At the first word that is of no format or that the code ends in.
pub fn disassemble(code: &[u8]) -> Result<Vec<Line>, IsaError> {
    let mut lines = Vec::new();
    let mut offset = 0;
    while offset < code.len() {
        let bundle = Bundle::decode(code, offset)?;
        let length = bundle.byte_len();
        lines.push(Line { offset, bundle });
        offset += length;
    }
    Ok(lines)
}

/// The code that `text` says.
///
/// A line is a label `name:`, a word whose operations are separated by `;`, or nothing; `//` starts
/// a comment. In an operation `@name` stands for the label's byte offset plus `origin`. A word that
/// no format holds exactly, and any word after a line `.full` up to a line `.exact`, is filled up
/// to 16 bytes with NOPs.
///
/// # Errors
/// At the first line that is none of these.
pub fn assemble(text: &str, origin: u32) -> Result<Vec<u8>, IsaError> {
    // Labels change numbers, never lengths: a first pass with zeros finds where they are.
    let mut labels = BTreeMap::new();
    for (name, _) in label_lines(text) {
        labels.insert(name, 0);
    }
    let (_, places) = pass(text, &labels)?;
    for (name, place) in places {
        labels.insert(name, origin as usize + place);
    }
    pass(text, &labels).map(|(code, _)| code)
}

type Places<'a> = Vec<(&'a str, usize)>;

fn label_lines(text: &str) -> impl Iterator<Item = (&str, usize)> {
    let lines = text.lines().enumerate();
    lines.filter_map(|(index, line)| Some((without_comment(line).strip_suffix(':')?, index + 1)))
}

fn without_comment(line: &str) -> &str {
    line.split("//").next().unwrap_or_default().trim()
}

fn pass<'a>(
    text: &'a str,
    labels: &BTreeMap<&str, usize>,
) -> Result<(Vec<u8>, Places<'a>), IsaError> {
    let (mut code, mut places) = (Vec::new(), Vec::new());
    let mut fills = false;
    for (index, line) in text.lines().enumerate() {
        let line = without_comment(line);
        match line {
            "" => {}
            ".full" => fills = true,
            ".exact" => fills = false,
            "nop" if !fills => code.extend(Bundle::default().encode()),
            _ => match line.strip_suffix(':') {
                Some(name) => places.push((name, code.len())),
                None => code.extend(word(line, index + 1, labels, fills)?.encode()),
            },
        }
    }
    Ok((code, places))
}

fn word(
    line: &str,
    number: usize,
    labels: &BTreeMap<&str, usize>,
    fills: bool,
) -> Result<Bundle, IsaError> {
    let syntax = |text: &str, reason: String| IsaError::Syntax {
        line: number,
        text: text.to_owned(),
        reason,
    };
    let mut ops = Vec::new();
    for text in line.split(';').map(str::trim).filter(|&text| text != "nop") {
        let text = with_labels(text, labels)
            .map_err(|label| syntax(text, format!("there is no label `{label}`")))?;
        let op = Op::parse(&text);
        ops.push(op.ok_or_else(|| syntax(&text, "no operation of the table".to_owned()))?);
    }
    if fills {
        return Bundle::full(ops);
    }
    match Bundle::new(ops.clone()) {
        Err(IsaError::NoSuchFormat { .. }) => Bundle::full(ops),
        other => other,
    }
}

/// `text` with the values of its labels; the label's name when there is none.
fn with_labels(text: &str, labels: &BTreeMap<&str, usize>) -> Result<String, String> {
    let mut parts = text.split('@');
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (name, rest) = part.split_at(end.unwrap_or(part.len()));
        let value = labels.get(name).ok_or(name)?;
        result.push_str(&value.to_string());
        result.push_str(rest);
    }
    Ok(result)
}
