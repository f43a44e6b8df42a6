//! How many cores the process may use.

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroUsize;
use std::thread::available_parallelism;

/// Physical cores among the CPUs that affinity and quotas leave to this process. Two hardware
/// threads of one core share its multipliers and its path to memory, so a team gains nothing
/// from the second. Where the system does not tell, every CPU counts as a core.
pub fn physical_cores() -> NonZeroUsize {
    let logical = available_parallelism().unwrap_or(NonZeroUsize::MIN);
    match affine_cores() {
        Some(cores) => cores.min(logical),
        None => logical,
    }
}

#[cfg(target_os = "linux")]
fn affine_cores() -> Option<NonZeroUsize> {
    use rustix::thread::{CpuSet, sched_getaffinity};

    let allowed = sched_getaffinity(None).ok()?;
    let mut cores = BTreeSet::new();
    for cpu in (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)) {
        let read = |name: &str| {
            fs::read_to_string(format!("/sys/devices/system/cpu/cpu{cpu}/topology/{name}")).ok()
        };
        cores.insert((read("physical_package_id")?, read("core_id")?));
    }
    NonZeroUsize::new(cores.len())
}

#[cfg(not(target_os = "linux"))]
fn affine_cores() -> Option<NonZeroUsize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_core_and_not_more_than_the_system_grants() {
        assert!(physical_cores() <= available_parallelism().unwrap());
    }
}
