//! What this machine has of what plans need, with remedies.
//!
//! Everything is read, nothing changed. Findings come from files under some folders, so that tests
//! can make up a machine; only the answers of an NPU and of Vulkan come from devices, and how many
//! threads a team has here is what a load would say.

mod cpu;
mod graphics;
mod npu;
mod vulkan;

use serde::Serialize;

use crate::machine::Roots;

/// Everything found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub cpu: Vec<Finding>,
    /// AMD's graphics processors and their share of memory.
    pub gpu: Vec<Finding>,
    pub vulkan: Vec<Finding>,
    pub npu: Vec<Finding>,
}

impl Report {
    /// Whether plans run on the CPU: all else is optional.
    pub fn runs(&self) -> bool {
        self.cpu.iter().all(|finding| finding.status != Status::Missing)
    }

    /// The parts with their titles, in the order in which people read them.
    pub fn sections(&self) -> [(&'static str, &[Finding]); 4] {
        [
            ("CPU", &self.cpu),
            ("GPU (optional)", &self.gpu),
            ("Vulkan (optional)", &self.vulkan),
            ("NPU (optional)", &self.npu),
        ]
    }
}

/// Looks at a machine. What Vulkan and a device of the NPU answer is of the machine that runs this.
pub fn examine(roots: &Roots) -> Report {
    let devices = vulkan::ask();
    Report {
        cpu: cpu::findings(roots, std::env::consts::ARCH),
        gpu: graphics::findings(roots, &devices.infos()),
        vulkan: vulkan::findings(roots, &devices),
        npu: npu::findings(roots),
    }
}

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    /// It works, and could work better.
    Advice,
    Missing,
    /// Nothing here tells.
    Unknown,
}

/// A line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub what: &'static str,
    pub status: Status,
    pub found: String,
    pub remedy: Option<String>,
}

impl Finding {
    fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Finding { what, status: Status::Ok, found: found.into(), remedy: None }
    }

    fn advice(what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Finding { what, status: Status::Advice, found: found.into(), remedy }
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

/// The finding about something.
#[cfg(test)]
#[track_caller]
fn about<'a>(findings: &'a [Finding], what: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.what == what).unwrap()
}

#[cfg(test)]
mod tests;
