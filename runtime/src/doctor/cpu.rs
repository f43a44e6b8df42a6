//! The processor and the memory.

use std::collections::BTreeSet;

use super::{Finding, Roots};
use crate::check::bytes_text;
use crate::driver::cpu::physical_cores;
use crate::machine::memory::{Bound, Memory};
use crate::machine::processor::{cores as count_cores, governors};
use crate::machine::{field, names, read};

/// What the code of plans for x86-64 needs (x86-64-v3, as far as Cranelift asks for it), as
/// /proc/cpuinfo spells it.
const NEEDED: [&str; 9] = ["sse4_2", "popcnt", "avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "abm"];
/// What microkernels use where it is there.
const FASTER: [&str; 5] = ["avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"];

pub(super) fn findings(roots: &Roots, architecture: &str) -> Vec<Finding> {
    let info = read(&roots.proc.join("cpuinfo"));
    vec![
        machine(architecture),
        features(architecture, info.as_deref()),
        cores(roots, info.as_deref()),
        governor(roots),
        memory(roots),
        huge_pages(roots),
    ]
}

fn machine(architecture: &str) -> Finding {
    const WHAT: &str = "machine";
    match architecture {
        "x86_64" | "aarch64" => Finding::ok(WHAT, architecture),
        _ => Finding::missing(WHAT, architecture, "use a machine with x86-64 or aarch64"),
    }
}

fn features(architecture: &str, info: Option<&str>) -> Finding {
    const WHAT: &str = "features";
    let flags = info.and_then(|info| field(info, "flags").or_else(|| field(info, "Features")));
    let Some(flags) = flags else {
        return Finding::unknown(WHAT, "no flags in /proc/cpuinfo");
    };
    let flags: BTreeSet<&str> = flags.split_whitespace().collect();
    if architecture != "x86_64" {
        return Finding::ok(WHAT, "portable kernels only");
    }
    let lacking: Vec<&str> = NEEDED.into_iter().filter(|flag| !flags.contains(flag)).collect();
    if !lacking.is_empty() {
        let found = format!("no {}", lacking.join(", "));
        let remedy =
            "use a CPU of 2015 or later, or give a virtual machine the features of its host";
        return Finding::missing(WHAT, found, remedy);
    }
    let kernels = if FASTER.iter().all(|flag| flags.contains(flag)) { "avx512" } else { "avx2" };
    Finding::ok(WHAT, format!("x86-64-v3, kernels for {kernels}"))
}

fn cores(roots: &Roots, info: Option<&str>) -> Finding {
    let threads = physical_cores();
    let model = info.and_then(|info| field(info, "model name"));
    let model = model.map_or_else(String::new, |model| format!(", {model}"));
    match count_cores(roots) {
        Some(cores) => {
            let (physical, logical) = (cores.physical, cores.logical);
            let found = format!(
                "{physical} cores, {logical} hardware threads; {threads} for a team{model}"
            );
            Finding::ok("cores", found)
        }
        None => Finding::unknown("cores", format!("{threads} for a team")),
    }
}

/// Who decides how fast cores run. Virtual machines have none to ask.
fn governor(roots: &Roots) -> Finding {
    const WHAT: &str = "governor";
    let found = governors(roots);
    if found.is_empty() {
        return Finding::unknown(WHAT, "the system does not tell, as in virtual machines");
    }
    let text = found.join(", ");
    let driver = read(&roots.sys.join("devices/system/cpu/cpu0/cpufreq/scaling_driver"));
    let text = driver.map_or_else(|| text.clone(), |driver| format!("{text}, by {driver}"));
    if found.iter().all(|governor| governor == "performance") {
        return Finding::ok(WHAT, text);
    }
    let remedy = "for measurements `sudo cpupower frequency-set -g performance`, or \
                  `tuned-adm profile accelerator-performance`";
    Finding::advice(WHAT, text, remedy)
}

fn memory(roots: &Roots) -> Finding {
    const WHAT: &str = "memory";
    match Memory::read(roots) {
        Some(Memory { total, available, bound }) => {
            let of = match bound {
                Bound::Machine => "",
                Bound::Group => ", by the limit of a control group",
            };
            let (total, available) = (bytes_text(total), bytes_text(available));
            Finding::ok(WHAT, format!("{total}, {available} available{of}"))
        }
        None => Finding::unknown(WHAT, "no MemTotal and MemAvailable in /proc/meminfo"),
    }
}

/// Which huge pages there are. Plans run without any.
fn huge_pages(roots: &Roots) -> Finding {
    const WHAT: &str = "huge pages";
    let pages = roots.sys.join("kernel/mm");
    let policy = read(&pages.join("transparent_hugepage/enabled"));
    let policy = policy.as_deref().and_then(|all| all.split_once('[')?.1.split_once(']'));
    let Some((policy, _)) = policy else {
        return Finding::unknown(WHAT, "no policy for transparent huge pages");
    };
    let mut found = format!("transparent: {policy}");
    for name in names(&pages.join("hugepages")).into_iter().flatten() {
        let count = read(&pages.join("hugepages").join(&name).join("nr_hugepages"));
        if let (Some(count), Some(size)) = (count, name.strip_prefix("hugepages-")) {
            found += &format!(", {count} of {size}");
        }
    }
    if policy == "never" {
        let remedy = "`echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled`";
        return Finding::advice(WHAT, found, remedy);
    }
    Finding::ok(WHAT, found)
}

#[cfg(test)]
mod tests {
    use super::super::{Status, about};
    use super::*;
    use crate::test_machine::Machine;

    const FLAGS: &str = "fpu sse4_2 popcnt avx avx2 fma f16c bmi1 bmi2 abm";

    fn machine_with(flags: &str) -> Vec<Finding> {
        let info = format!(
            "processor\t: 0\nmodel name\t: Fast 9000\nflags\t\t: {flags}\n\nprocessor\t: 1\n\
             model name\t: Fast 9000\nflags\t\t: {flags}\n"
        );
        let machine = Machine::new(&[
            ("proc/cpuinfo", &info),
            ("proc/meminfo", "MemTotal:       24601236 kB\nMemAvailable:   20480000 kB\n"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "12\n"),
        ]);
        findings(&machine.roots(), "x86_64")
    }

    #[test]
    fn a_good_machine_is_ok_throughout() {
        let found = machine_with(FLAGS);
        let fine = |finding: &Finding| finding.status == Status::Ok;
        assert!(found.iter().all(|it| fine(it) || it.what == "governor"), "{found:?}");
        assert_eq!(about(&found, "features").found, "x86-64-v3, kernels for avx2");
        assert_eq!(about(&found, "memory").found, "23.5 GiB, 19.5 GiB available");
        assert_eq!(about(&found, "huge pages").found, "transparent: madvise, 12 of 2048kB");
        let cores = &about(&found, "cores").found;
        assert!(cores.starts_with("2 cores, 2 hardware threads"), "{cores}");
        assert!(cores.ends_with("Fast 9000"), "{cores}");
        let flags = format!("{FLAGS} {}", FASTER.join(" "));
        assert_eq!(about(&machine_with(&flags), "features").found, "x86-64-v3, kernels for avx512");
    }

    #[test]
    fn what_plans_need_and_is_not_there_is_missing() {
        let found = machine_with(&FLAGS.replace("avx2 fma", ""));
        let features = about(&found, "features");
        assert_eq!((features.status, &*features.found), (Status::Missing, "no avx2, fma"));
        assert!(features.remedy.is_some());
        let machine = Machine::new(&[]);
        assert_eq!(findings(&machine.roots(), "pdp11")[0].status, Status::Missing);
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        let machine = Machine::new(&[("proc/meminfo", "MemTotal: lots\n")]);
        let found = findings(&machine.roots(), "x86_64");
        assert!(found[1..].iter().all(|finding| finding.status == Status::Unknown), "{found:?}");
    }
}
