//! Every rule of tidy, applied to this workspace.

use onebit_tidy::tree::{File, files};
use onebit_tidy::{lengths, links, walls, wording};

#[track_caller]
fn check(rule: impl Fn(&[File]) -> Vec<String>) {
    let findings = rule(&files());
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn crates_import_only_what_the_architecture_allows() {
    check(|_| walls::breaches(&walls::metadata()));
}

#[test]
fn files_are_short() {
    check(lengths::long_files);
}

#[test]
fn functions_are_short() {
    check(lengths::long_functions);
}

#[test]
fn exceptions_to_lengths_are_used() {
    check(lengths::stale_exceptions);
}

#[test]
fn files_say_what_they_are() {
    check(wording::without_header);
}

#[test]
fn nothing_unfinished_or_local_is_left() {
    check(wording::unwanted);
}

#[test]
fn unsafe_code_stays_in_its_places() {
    check(wording::misplaced_unsafe);
}

#[test]
fn links_in_the_documentation_lead_somewhere() {
    check(links::broken);
}
