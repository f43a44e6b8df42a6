//! Just enough of Rust's lexical rules to tell code from text, and functions from each other.

/// `source` with comments, strings and character literals blanked; newlines and every code byte
/// keep their place.
pub fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' | b'b' | b'c' if !continues_word(bytes, at) => match raw_string_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            b'\'' => match char_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            _ => {
                at += 1;
                continue;
            }
        };
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(code).expect("whole characters are blanked")
}

fn continues_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && is_word(bytes[at - 1])
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

fn line_end(bytes: &[u8], start: usize) -> usize {
    bytes[start..].iter().position(|&b| b == b'\n').map_or(bytes.len(), |n| start + n)
}

/// Block comments nest.
fn comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// End of `r"..."`, `r#"..."#` and the like with a `b` or `c` before them; `None` for anything
/// else, such as a plain byte string, whose quote is met later.
fn raw_string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    if matches!(bytes[at], b'b' | b'c') {
        at += 1;
    }
    if bytes.get(at) != Some(&b'r') {
        return None;
    }
    at += 1;
    let hashes = bytes[at..].iter().take_while(|&&b| b == b'#').count();
    at += hashes;
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let length = bytes[at + 1..].windows(close.len()).position(|window| window == close);
    Some(length.map_or(bytes.len(), |n| at + 1 + n + close.len()))
}

/// End of a character literal; `None` for a lifetime or a loop label.
fn char_end(bytes: &[u8], start: usize) -> Option<usize> {
    let rest = std::str::from_utf8(&bytes[start + 1..]).ok()?;
    let mut characters = rest.char_indices();
    let (_, first) = characters.next()?;
    if first == '\\' {
        let (after, _) = characters.nth(1)?;
        let close = rest[after..].find('\'')?;
        return Some(start + 1 + after + close + 1);
    }
    let (after, second) = characters.next()?;
    (second == '\'' && first != '\'').then_some(start + 1 + after + 1)
}

/// A function that has a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    /// Line of `fn`, from 1.
    pub line: usize,
    /// Lines from `fn` to the closing brace.
    pub lines: usize,
}

/// The functions of `code`, which comes from [`code_only`].
pub fn functions(code: &str) -> Vec<Function> {
    let bytes = code.as_bytes();
    let mut functions = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if continues_word(bytes, at) {
            continue;
        }
        let name: String = code[at + 3..]
            .trim_start()
            .chars()
            .take_while(|&c| c.is_alphanumeric() || c == '_')
            .collect();
        let Some(open) = body_start(bytes, at) else { continue };
        if name.is_empty() {
            continue;
        }
        let line = line_of(code, at);
        let lines = line_of(code, block_end(bytes, open)) - line + 1;
        functions.push(Function { name, line, lines });
    }
    functions
}

/// Line ranges of `#[cfg(test)]` modules in `code`, from 1, both ends included.
pub fn test_modules(code: &str) -> Vec<std::ops::RangeInclusive<usize>> {
    let bytes = code.as_bytes();
    let mut ranges = Vec::new();
    for (at, _) in code.match_indices("#[cfg(test)]") {
        let rest = &code[at + "#[cfg(test)]".len()..];
        if !rest.trim_start().starts_with("mod ") {
            continue;
        }
        if let Some(open) = body_start(bytes, at + "#[cfg(test)]".len()) {
            ranges.push(line_of(code, at)..=line_of(code, block_end(bytes, open)));
        }
    }
    ranges
}

/// Place of the `{` that opens the item's body; `None` when a `;` ends the item before.
fn body_start(bytes: &[u8], from: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, byte) in bytes.iter().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.checked_sub(1)?,
            b'{' if depth == 0 => return Some(at),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

fn block_end(bytes: &[u8], open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in bytes.iter().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    bytes.len() - 1
}

/// Line of byte `at`, from 1.
pub fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_everything_that_is_not_code() {
        let cases = [
            ("a // }\nb", "a     \nb"),
            ("/* { /* } */ */ x", "                x"),
            (r#"f("}\"{") + 1"#, r"f(      ) + 1"),
            (r##"r#"a " }"# ;"##, "           ;"),
            ("br\"}\" b\"{\"", "      b   "),
            (r"'}' '\'' '\u{7d}' 'a: &'b str", "                  'a: &'b str"),
            ("'é' x", "     x"),
            ("for r in b { c }", "for r in b { c }"),
        ];
        for (source, expected) in cases {
            assert_eq!(code_only(source), expected, "{source}");
        }
    }

    #[test]
    fn measures_functions_with_bodies() {
        let source = "fn a() {\n}\ntrait T {\n  fn b(x: [u8; 2]);\n  fn c(f: fn(u8)) -> [u8; 2]\n  where Self: Sized {\n    { }\n  }\n}\n";
        let found = functions(&code_only(source));
        let expected = [("a", 1, 2), ("c", 5, 4)].map(|(name, line, lines)| Function {
            name: name.into(),
            line,
            lines,
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn finds_test_modules() {
        let source = "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() {}\n}\n#[cfg(test)]\nmod c;\n";
        assert_eq!(test_modules(source), [2..=5]);
    }
}
