//! What a source file opens with, and what none may hold.

use crate::scan::{code_only, line_of};
use crate::tree::File;

/// Left-overs of work in progress, as code.
const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!", "#[ignore"];

/// Text that belongs in no file: marks of work in progress, and places that only one machine has.
/// Written in halves, so that this table does not find itself.
const UNWANTED: &[(&str, &str)] = &[
    ("FIX", "ME"),
    ("TO", "DO:"),
    ("<<<<", "<<< "),
    ("/ho", "me/"),
    ("/ro", "ot/"),
    ("/Us", "ers/"),
    ("/tmp/", "peer"),
    ("py", "pi.org"),
    ("crates", ".io/api"),
    ("python", "hosted"),
];

/// Places that may hold `unsafe` code, and what for.
const UNSAFE_PLACES: &[(&str, &str)] = &[
    ("kernels/cpu/", "SIMD intrinsics and raw buffers of the kernel ABI"),
    ("runtime/", "maps plans, runs their code, hands buffers to kernels"),
    ("models/src/gguf/map.rs", "maps model files"),
];

/// Rust files that do not open by saying what they are. A module's `tests.rs` need not.
pub fn without_header(files: &[File]) -> Vec<String> {
    let bound = |file: &&File| file.is_rust() && !file.path.ends_with("/tests.rs");
    let lacking = files.iter().filter(bound).filter(|file| !file.text.starts_with("//! "));
    lacking.map(|file| format!("{}:1: opens without `//! `", file.path)).collect()
}

/// Places with code or text that no commit should hold.
pub fn unwanted(files: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files {
        let mut report = |text: &str, word: &str| {
            for (at, _) in text.match_indices(word) {
                findings.push(format!("{}:{}: {word}", file.path, line_of(text, at)));
            }
        };
        if file.is_rust() {
            let code = code_only(&file.text);
            UNFINISHED.iter().for_each(|word| report(&code, word));
        }
        for (head, tail) in UNWANTED {
            report(&file.text, &format!("{head}{tail}"));
        }
    }
    findings
}

/// `unsafe` outside its places, and crate roots that do not keep it out.
///
/// A crate without such places forbids it; one with a single file for it denies it elsewhere.
pub fn misplaced_unsafe(files: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        if UNSAFE_PLACES.iter().any(|(place, _)| file.path.starts_with(place)) {
            continue;
        }
        let code = code_only(&file.text);
        for (at, _) in code.match_indices("unsafe ") {
            findings.push(format!("{}:{}: unsafe", file.path, line_of(&code, at)));
        }
        let roots = ["lib.rs", "main.rs"];
        let Some(source) = roots.iter().find_map(|root| file.path.strip_suffix(root)) else {
            continue;
        };
        let has_place = UNSAFE_PLACES.iter().any(|(place, _)| place.starts_with(source));
        let guard = if has_place { "#![deny(unsafe_code)]" } else { "#![forbid(unsafe_code)]" };
        if source.ends_with("src/") && !code.contains(guard) {
            findings.push(format!("{}: lacks {guard}", file.path));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.into(), bytes: 0, text: text.into() }
    }

    #[test]
    fn finds_missing_headers() {
        let files = [file("a.rs", "//! A.\n"), file("b.rs", "use a;\n"), file("c.md", "x")];
        assert_eq!(without_header(&files), ["b.rs:1: opens without `//! `"]);
    }

    #[test]
    fn finds_unfinished_code_but_not_text_about_it() {
        let files = [file("a.rs", "// todo!\n\"dbg!\";\nfn a() { todo!() }\n")];
        assert_eq!(unwanted(&files), ["a.rs:3: todo!"]);
    }

    #[test]
    fn finds_unsafe_code() {
        let files = [
            file("kernels/cpu/src/lib.rs", "unsafe { }"),
            file("a/src/lib.rs", "#![forbid(unsafe_code)]\n"),
            file("b/src/main.rs", "fn a() {\n  unsafe { }\n}"),
            file("models/src/lib.rs", "mod gguf;\n"),
        ];
        let expected = [
            "b/src/main.rs:2: unsafe",
            "b/src/main.rs: lacks #![forbid(unsafe_code)]",
            "models/src/lib.rs: lacks #![deny(unsafe_code)]",
        ];
        assert_eq!(misplaced_unsafe(&files), expected);
    }
}
