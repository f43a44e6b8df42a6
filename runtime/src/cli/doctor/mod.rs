//! `onebit-rt doctor`: what this machine has of what plans need, with remedies.
//!
//! Everything is read, nothing changed. Findings come from files under three folders, so that tests
//! can make up a machine; only the answers of an NPU and of Vulkan come from devices.

mod cpu;
mod npu;
mod vulkan;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::failure::Failure;

/// Prints the findings. Exit code 0 means that plans can run on the CPU; NPU and
/// Vulkan are optional.
pub fn run() -> Result<ExitCode, Failure> {
    let roots = Roots::system();
    let cpu = cpu::findings(&roots, std::env::consts::ARCH);
    let npu = npu::findings(&roots);
    let vulkan = vulkan::findings(&roots);
    let text = format!(
        "CPU\n{}NPU (optional)\n{}Vulkan (optional)\n{}",
        section(&cpu),
        section(&npu),
        section(&vulkan)
    );
    io::stdout().write_all(text.as_bytes()).map_err(Failure::output)?;
    let runs = cpu.iter().all(|finding| finding.status != Status::Missing);
    Ok(if runs { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where the system shows itself.
struct Roots {
    dev: PathBuf,
    sys: PathBuf,
    proc: PathBuf,
    /// Folders with a list of Vulkan's drivers each.
    vulkan: Vec<PathBuf>,
}

impl Roots {
    fn system() -> Self {
        Roots {
            dev: "/dev".into(),
            sys: "/sys".into(),
            proc: "/proc".into(),
            vulkan: ["/etc", "/usr/local/share", "/usr/share"]
                .map(|folder| Path::new(folder).join("vulkan/icd.d"))
                .into(),
        }
    }
}

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Ok,
    Missing,
    /// Nothing here tells.
    Unknown,
}

/// A line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    what: &'static str,
    status: Status,
    found: String,
    remedy: Option<String>,
}

impl Finding {
    fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Finding { what, status: Status::Ok, found: found.into(), remedy: None }
    }

    fn missing(what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Finding { what, status: Status::Missing, found: found.into(), remedy }
    }

    fn unknown(what: &'static str, found: impl Into<String>) -> Self {
        Finding { what, status: Status::Unknown, found: found.into(), remedy: None }
    }

    /// The same with something to do about it.
    fn with_remedy(self, remedy: impl Into<String>) -> Self {
        Finding { remedy: Some(remedy.into()), ..self }
    }
}

fn section(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { what, status, found, remedy } in findings {
        let status = match status {
            Status::Ok => "ok",
            Status::Missing => "missing",
            Status::Unknown => "unknown",
        };
        text += &format!("  {status:<8} {what:<12} {found}\n");
        if let Some(remedy) = remedy {
            text += &format!("           {:<12} help: {remedy}\n", "");
        }
    }
    text
}

/// A file's text without white space at its ends; None when it cannot be read.
fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Names of what is in a folder, sorted; None when it cannot be read.
fn names(folder: &Path) -> Option<Vec<String>> {
    let entries = fs::read_dir(folder).ok()?;
    let name = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
    let mut names: Vec<String> = entries.filter_map(name).collect();
    names.sort();
    Some(names)
}

/// A machine of files, for tests.
#[cfg(test)]
mod fake {
    use super::*;

    pub(super) struct Machine {
        folder: tempfile::TempDir,
    }

    impl Machine {
        pub(super) fn new(files: &[(&str, &str)]) -> Self {
            let machine = Machine { folder: tempfile::tempdir().unwrap() };
            for (path, text) in files {
                machine.file(path, text);
            }
            machine
        }

        /// Writes a file; a path that ends in a slash is a folder.
        pub(super) fn file(&self, path: &str, text: &str) {
            let full = self.folder.path().join(path);
            if path.ends_with('/') {
                fs::create_dir_all(full).unwrap();
                return;
            }
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            fs::write(full, text).unwrap();
        }

        pub(super) fn roots(&self) -> Roots {
            let root = |name: &str| self.folder.path().join(name);
            Roots {
                dev: root("dev"),
                sys: root("sys"),
                proc: root("proc"),
                vulkan: vec![root("etc/vulkan/icd.d"), root("usr/share/vulkan/icd.d")],
            }
        }
    }

    /// The finding about something.
    #[track_caller]
    pub(super) fn about<'a>(findings: &'a [Finding], what: &str) -> &'a Finding {
        findings.iter().find(|finding| finding.what == what).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_columns_with_remedies_below() {
        let findings = [
            Finding::ok("memory", "24 GiB"),
            Finding::missing("device", "none", "buy one"),
            Finding::unknown("firmware", "no device"),
        ];
        let expected = "  ok       memory       24 GiB\n  missing  device       none\n                        \
                        help: buy one\n  unknown  firmware     no device\n";
        assert_eq!(section(&findings), expected);
    }
}
