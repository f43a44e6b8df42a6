//! The workspace's files.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold nothing of ours.
const SKIPPED: &[&str] = &["target", ".git", "artifacts", "corpus"];

/// A text file of the workspace.
pub struct File {
    /// Relative to the workspace, with `/` between its parts.
    pub path: String,
    pub bytes: u64,
    /// Its text; empty when it is not UTF-8.
    pub text: String,
}

impl File {
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub fn is_markdown(&self) -> bool {
        self.path.ends_with(".md")
    }

    /// Integration tests, benchmarks and files that only hold unit tests.
    pub fn is_test(&self) -> bool {
        let mut parts = self.path.split('/').skip(1);
        parts.any(|part| matches!(part, "tests" | "benches" | "tests.rs"))
    }
}

/// The folder of the workspace's Cargo.toml.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("tidy lies two folders below the workspace").to_path_buf()
}

/// Every file of the workspace, sorted by path.
///
/// # Panics
/// When a folder cannot be read.
pub fn files() -> Vec<File> {
    let root = workspace();
    let mut files = Vec::new();
    collect(&root, &root, &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<File>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            if !SKIPPED.iter().any(|skipped| name == *skipped) {
                collect(root, &path, files);
            }
            continue;
        }
        let Ok(bytes) = fs::read(&path) else { continue };
        let relative = path.strip_prefix(root).expect("the walk starts at the root");
        files.push(File {
            path: relative.to_string_lossy().replace('\\', "/"),
            bytes: bytes.len() as u64,
            text: String::from_utf8(bytes).unwrap_or_default(),
        });
    }
}
