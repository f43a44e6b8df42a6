//! What this machine is, read from the files in which Linux shows it.
//!
//! Everything is read and nothing changed. All readers take the folders to look in, so that tests
//! can make up a machine. What cannot be read is absent, never guessed.

pub mod graphics;
pub mod iommu;
pub mod memory;
pub mod processor;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the system shows itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// `/dev`
    pub dev: PathBuf,
    /// `/sys`
    pub sys: PathBuf,
    /// `/proc`
    pub proc: PathBuf,
    /// Folders with a list of Vulkan's drivers each.
    pub vulkan: Vec<PathBuf>,
}

impl Roots {
    /// This machine's.
    pub fn system() -> Self {
        Self {
            dev: "/dev".into(),
            sys: "/sys".into(),
            proc: "/proc".into(),
            vulkan: ["/etc", "/usr/local/share", "/usr/share"]
                .map(|folder| Path::new(folder).join("vulkan/icd.d"))
                .into(),
        }
    }

    /// A machine that stands in a folder, as dev, sys, proc, etc and usr.
    pub fn inside(folder: &Path) -> Self {
        let root = |name: &str| folder.join(name);
        Self {
            dev: root("dev"),
            sys: root("sys"),
            proc: root("proc"),
            vulkan: vec![root("etc/vulkan/icd.d"), root("usr/share/vulkan/icd.d")],
        }
    }

    /// Version of the kernel: `6.14.0-15-generic`.
    pub fn kernel(&self) -> Option<String> {
        read(&self.proc.join("sys/kernel/osrelease"))
    }

    /// What the kernel was started with.
    pub fn command_line(&self) -> Option<String> {
        read(&self.proc.join("cmdline"))
    }
}

/// A file's text without white space at its ends; None when it cannot be read.
pub fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// A file's number; None when it cannot be read or is none.
pub fn number(path: &Path) -> Option<u64> {
    read(path)?.parse().ok()
}

/// Names of what is in a folder, sorted; None when it cannot be read.
pub fn names(folder: &Path) -> Option<Vec<String>> {
    let entries = fs::read_dir(folder).ok()?;
    let name = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
    let mut names: Vec<String> = entries.filter_map(name).collect();
    names.sort();
    Some(names)
}

/// The value of the first line `name : value`.
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| key(line) == name)?;
    Some(line.split_once(':')?.1.trim())
}

/// What stands before the first colon of a line.
pub fn key(line: &str) -> &str {
    line.split(':').next().unwrap_or_default().trim()
}
