//! Relative links in markdown lead somewhere, headings included.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::tree::File;

/// Links to files or headings that do not exist.
pub fn broken(files: &[File]) -> Vec<String> {
    let paths: BTreeSet<PathBuf> = files
        .iter()
        .flat_map(|file| Path::new(&file.path).ancestors().map(Path::to_path_buf))
        .collect();
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_markdown()) {
        for (line, target) in links(&file.text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, heading) = target.split_once('#').unwrap_or((&target, ""));
            let path = resolve(&file.path, path);
            let known = paths.contains(&path);
            let text = files.iter().find(|other| Path::new(&other.path) == path);
            let has_heading = |other: &File| headings(&other.text).any(|found| found == heading);
            if !known || !(heading.is_empty() || text.is_some_and(has_heading)) {
                findings.push(format!("{}:{line}: {target} does not exist", file.path));
            }
        }
    }
    findings
}

/// Line and target of every inline link outside code.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (line, prose) in prose(text) {
        let mut code = false;
        let without_code: String = prose
            .chars()
            .map(|c| {
                code ^= c == '`';
                if code { ' ' } else { c }
            })
            .collect();
        for part in without_code.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                links.push((line, target.trim().to_owned()));
            }
        }
    }
    links
}

/// Lines outside fenced code, from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// Anchors of a file's headings, the way GitHub makes them.
fn headings(text: &str) -> impl Iterator<Item = String> {
    prose(text).filter(|(_, line)| line.starts_with('#')).map(|(_, line)| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|&c| c.is_alphanumeric() || " -_".contains(c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

/// `target` as seen from the folder of `from`, without `.` and `..`.
fn resolve(from: &str, target: &str) -> PathBuf {
    if target.is_empty() {
        return from.into();
    }
    let mut path = Path::new(from).parent().unwrap_or(Path::new("")).to_path_buf();
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_broken_links() {
        let text = "# A title, with `code`\n[a](b.md) [c](../README.md#top) [d](#a-title-with-code)\n\
                    [e](https://example.com) `[f](g.md)`\n```\n[h](i.md)\n```\n[j](../src) [k](#l)\n";
        let file = |path: &str, text: &str| File { path: path.into(), bytes: 0, text: text.into() };
        let files = [file("docs/a.md", text), file("README.md", "# Top\n"), file("src/m.rs", "")];
        let expected = ["docs/a.md:2: b.md does not exist", "docs/a.md:7: #l does not exist"];
        assert_eq!(broken(&files), expected);
    }
}
