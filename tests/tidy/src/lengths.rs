//! Files stay one topic, functions do one thing, and no fixture is a binary blob.

use crate::scan::{code_only, functions, test_modules};
use crate::tree::File;

/// Lines of a file outside its test modules.
const FILE_LINES: usize = 700;
/// Lines of a file that is a test, and of any file with its test modules.
const TEST_FILE_LINES: usize = 1000;
/// Lines of a function.
const FUNCTION_LINES: usize = 80;
/// Lines of a function of a test.
const TEST_FUNCTION_LINES: usize = 150;
/// Bytes of anything that is not Rust.
const DATA_BYTES: u64 = 100_000;

/// Files that may be longer: path and why.
const LONG_FILES: &[(&str, &str)] = &[("Cargo.lock", "written by cargo")];

/// Functions that may be longer: path, name and why.
const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[];

/// Files that are too long or too big.
pub fn long_files(files: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| !is_listed(file)) {
        if !file.is_rust() {
            if file.bytes > DATA_BYTES {
                findings.push(format!("{}: {} bytes, at most {DATA_BYTES}", file.path, file.bytes));
            }
            continue;
        }
        let total = file.text.lines().count();
        let tests: usize =
            test_modules(&code_only(&file.text)).into_iter().map(Iterator::count).sum();
        if total > TEST_FILE_LINES {
            findings.push(format!("{}: {total} lines, at most {TEST_FILE_LINES}", file.path));
        } else if !file.is_test() && total - tests > FILE_LINES {
            let lines = total - tests;
            findings.push(format!(
                "{}: {lines} lines without its tests, at most {FILE_LINES}",
                file.path
            ));
        }
    }
    findings
}

fn is_listed(file: &File) -> bool {
    LONG_FILES.iter().any(|(path, _)| *path == file.path)
}

/// Functions that are too long.
pub fn long_functions(files: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let code = code_only(&file.text);
        let tests = test_modules(&code);
        for function in functions(&code) {
            let in_test =
                file.is_test() || tests.iter().any(|range| range.contains(&function.line));
            let limit = if in_test { TEST_FUNCTION_LINES } else { FUNCTION_LINES };
            let listed = LONG_FUNCTIONS
                .iter()
                .any(|(path, name, _)| *path == file.path && *name == function.name);
            if function.lines > limit && !listed {
                findings.push(format!(
                    "{}:{}: fn {} has {} lines, at most {limit}",
                    file.path, function.line, function.name, function.lines
                ));
            }
        }
    }
    findings
}

/// Exceptions that name nothing any more.
pub fn stale_exceptions(files: &[File]) -> Vec<String> {
    let exists = |path: &str| files.iter().any(|file| file.path == path);
    let paths = LONG_FILES.iter().map(|e| e.0).chain(LONG_FUNCTIONS.iter().map(|e| e.0));
    paths.filter(|path| !exists(path)).map(|path| format!("{path}: no such file")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: String) -> File {
        File { path: path.into(), bytes: text.len() as u64, text }
    }

    #[test]
    fn finds_what_is_too_long() {
        let long = format!("fn a() {{\n{}}}\n", "x();\n".repeat(700));
        let findings = long_files(&[file("a/src/b.rs", long.clone()), file("a/tests/b.rs", long)]);
        assert_eq!(findings, ["a/src/b.rs: 702 lines without its tests, at most 700"]);

        let function = format!("fn a() {{\n{}}}\n", "x();\n".repeat(79));
        let test = format!("#[cfg(test)]\nmod tests {{\n{function}}}\n");
        let findings = long_functions(&[file("b.rs", function + &test)]);
        assert_eq!(findings, ["b.rs:1: fn a has 81 lines, at most 80"]);

        let findings = long_files(&[file("a/cases/b.txt", "x".repeat(100_001))]);
        assert_eq!(findings, ["a/cases/b.txt: 100001 bytes, at most 100000"]);
    }
}
