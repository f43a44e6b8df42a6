//! The processor: its features, cores and caches.

use std::collections::BTreeSet;

use onebit_cpu::{Isa, Kernels};
use serde::Serialize;

use super::{Roots, field, names, number, read};

/// A processor by what plans may need of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processor {
    /// By Rust's name: `x86_64`
    pub architecture: String,
    /// Those of [`FEATURES`] that are there, in that order.
    pub features: Vec<&'static str>,
    /// What microkernels would use.
    pub instruction_set: Isa,
}

impl Processor {
    /// The one that runs this.
    pub fn detect() -> Self {
        Self {
            architecture: std::env::consts::ARCH.into(),
            features: FEATURES.iter().copied().filter(|name| has_feature(name)).collect(),
            instruction_set: Kernels::detect().isa(),
        }
    }

    /// Whether it has a feature. One that this release does not know is not there.
    pub fn has(&self, feature: &str) -> bool {
        self.features.contains(&feature)
    }
}

/// The features a plan can name, by the names of Rust's detection.
#[cfg(target_arch = "x86_64")]
pub const FEATURES: &[&str] = &[
    "sse2",
    "sse3",
    "ssse3",
    "sse4.1",
    "sse4.2",
    "popcnt",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "bmi1",
    "bmi2",
    "lzcnt",
    "avxvnni",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512dq",
    "avx512vbmi",
    "avx512vnni",
    "avx512bf16",
];
/// The features a plan can name, by the names of Rust's detection.
#[cfg(target_arch = "aarch64")]
pub const FEATURES: &[&str] = &["neon", "dotprod", "fp16", "i8mm"];
/// The features a plan can name: none on this architecture.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub const FEATURES: &[&str] = &[];

#[cfg(target_arch = "x86_64")]
fn has_feature(name: &str) -> bool {
    macro_rules! detect {
        ($($feature:tt)*) => {
            match name {
                $($feature => std::is_x86_feature_detected!($feature),)*
                _ => false,
            }
        };
    }
    detect!("sse2" "sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "avx" "avx2" "fma" "f16c" "bmi1"
        "bmi2" "lzcnt" "avxvnni" "avx512f" "avx512bw" "avx512vl" "avx512dq" "avx512vbmi"
        "avx512vnni" "avx512bf16")
}

#[cfg(target_arch = "aarch64")]
fn has_feature(name: &str) -> bool {
    match name {
        "neon" => std::arch::is_aarch64_feature_detected!("neon"),
        "dotprod" => std::arch::is_aarch64_feature_detected!("dotprod"),
        "fp16" => std::arch::is_aarch64_feature_detected!("fp16"),
        "i8mm" => std::arch::is_aarch64_feature_detected!("i8mm"),
        _ => false,
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_feature(_name: &str) -> bool {
    false
}

/// The name of an instruction set as the program prints it: `avx512`.
pub fn name_of(set: Isa) -> &'static str {
    match set {
        Isa::Portable => "portable",
        Isa::Avx2 => "avx2",
        Isa::Avx512 => "avx512",
    }
}

/// How many cores there are, of the whole machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cores {
    pub physical: usize,
    /// Hardware threads.
    pub logical: usize,
}

/// Cores by /sys, or by /proc/cpuinfo where that is all there is.
pub fn cores(roots: &Roots) -> Option<Cores> {
    let numbers = cpus(roots);
    let mut physical = BTreeSet::new();
    for cpu in &numbers {
        let read = |name: &str| {
            read(&roots.sys.join(format!("devices/system/cpu/cpu{cpu}/topology/{name}")))
        };
        if let (Some(package), Some(core)) = (read("physical_package_id"), read("core_id")) {
            physical.insert((package, core));
        }
    }
    let logical = match numbers.len() {
        0 => read(&roots.proc.join("cpuinfo"))
            .map_or(0, |info| info.lines().filter(|it| super::key(it) == "processor").count()),
        count => count,
    };
    let physical = if physical.is_empty() { logical } else { physical.len() };
    (logical > 0).then_some(Cores { physical, logical })
}

/// Numbers of the machine's CPUs.
fn cpus(roots: &Roots) -> Vec<usize> {
    let all = names(&roots.sys.join("devices/system/cpu")).unwrap_or_default();
    let mut numbers: Vec<usize> =
        all.iter().filter_map(|name| name.strip_prefix("cpu")?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// `AMD RYZEN AI MAX+ 395 w/ Radeon 8060S`
pub fn model(roots: &Roots) -> Option<String> {
    let info = read(&roots.proc.join("cpuinfo"))?;
    field(&info, "model name").map(str::to_owned)
}

/// How the clocks of CPUs are governed: each policy once, sorted. Empty where nothing governs,
/// as in virtual machines.
pub fn governors(roots: &Roots) -> Vec<String> {
    let folder = roots.sys.join("devices/system/cpu");
    let read = |cpu| read(&folder.join(format!("cpu{cpu}/cpufreq/scaling_governor")));
    let all: BTreeSet<String> = cpus(roots).into_iter().filter_map(read).collect();
    all.into_iter().collect()
}

/// A cache as the first CPU sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cache {
    pub level: u32,
    /// `data`, `instruction` or `unified`
    pub kind: String,
    pub bytes: u64,
    /// Hardware threads that share it.
    pub threads: u32,
}

/// Caches, the nearest first.
pub fn caches(roots: &Roots) -> Vec<Cache> {
    let folder = roots.sys.join("devices/system/cpu/cpu0/cache");
    let all = names(&folder).unwrap_or_default();
    let cache = |name: &String| {
        let file = |file: &str| folder.join(name).join(file);
        let size = read(&file("size"))?;
        let bytes = size.strip_suffix('K')?.parse::<u64>().ok()? << 10;
        Some(Cache {
            level: u32::try_from(number(&file("level"))?).ok()?,
            kind: read(&file("type"))?.to_lowercase(),
            bytes,
            threads: listed(&read(&file("shared_cpu_list"))?)?,
        })
    };
    let indices = all.iter().filter(|name| name.starts_with("index"));
    let mut caches: Vec<Cache> = indices.filter_map(cache).collect();
    caches.sort_by(|a, b| (a.level, &a.kind).cmp(&(b.level, &b.kind)));
    caches
}

/// How many numbers a list such as `0-3,8` has.
fn listed(list: &str) -> Option<u32> {
    list.split(',').try_fold(0_u32, |sum, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_machine::Machine;

    #[test]
    fn the_processor_that_runs_this_has_its_features() {
        let here = Processor::detect();
        assert!(FEATURES.iter().all(|name| here.has(name) == has_feature(name)));
        assert!(!here.has("telepathy"));
    }

    #[test]
    fn cores_are_counted_once() {
        let machine = Machine::new(&[]);
        for cpu in 0..4 {
            let topology = format!("sys/devices/system/cpu/cpu{cpu}/topology");
            machine.file(&format!("{topology}/physical_package_id"), "0\n");
            machine.file(&format!("{topology}/core_id"), &format!("{}\n", cpu / 2));
            let governor = format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
            machine.file(&governor, if cpu == 3 { "powersave\n" } else { "performance\n" });
        }
        machine.file("sys/devices/system/cpu/cpufreq/boost", "1");
        let roots = machine.roots();
        assert_eq!(cores(&roots), Some(Cores { physical: 2, logical: 4 }));
        assert_eq!(governors(&roots), ["performance", "powersave"]);
        let listed = Machine::new(&[("proc/cpuinfo", "processor : 0\nprocessor : 1\n")]);
        assert_eq!(cores(&listed.roots()), Some(Cores { physical: 2, logical: 2 }));
        assert_eq!(cores(&Machine::new(&[]).roots()), None);
    }

    #[test]
    fn caches_are_read_as_they_stand() {
        let machine = Machine::new(&[]);
        let base = "sys/devices/system/cpu/cpu0/cache";
        for (index, level, kind, size, list) in [
            (0, 1, "Data", "48K", "0,16"),
            (3, 3, "Unified", "32768K", "0-7,16-23"),
            (4, 4, "Unified", "lots", "0"),
        ] {
            for (name, text) in [
                ("level", level.to_string()),
                ("type", kind.into()),
                ("size", size.into()),
                ("shared_cpu_list", list.into()),
            ] {
                machine.file(&format!("{base}/index{index}/{name}"), &text);
            }
        }
        let found = caches(&machine.roots());
        let expected = [(1, "data", 48 << 10, 2), (3, "unified", 32 << 20, 16)];
        let found: Vec<_> =
            found.iter().map(|it| (it.level, &*it.kind, it.bytes, it.threads)).collect();
        assert_eq!(found, expected);
    }
}
