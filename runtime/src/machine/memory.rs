//! How much memory there is for this process.

use std::path::{Path, PathBuf};

use super::{Roots, field, number, read};

/// Memory of the machine, or of the group of processes that this one is limited with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes that there are.
    pub total: u64,
    /// Bytes that can be had without swapping. What holds copies of files counts as free.
    pub available: u64,
    /// Who sets the total.
    pub bound: Bound,
}

/// What bounds the memory of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The machine's own memory.
    Machine,
    /// A control group, as containers have one.
    Group,
}

impl Memory {
    /// Reads /proc/meminfo and the control groups (v2 and v1) of this process.
    pub fn read(roots: &Roots) -> Option<Self> {
        let info = read(&roots.proc.join("meminfo"))?;
        let bytes = |name: &str| -> Option<u64> {
            let kibibytes = field(&info, name)?.strip_suffix(" kB")?;
            kibibytes.trim().parse::<u64>().ok()?.checked_mul(1 << 10)
        };
        let total = bytes("MemTotal")?;
        // Kernels before 3.14 do not say what is available.
        let available = bytes("MemAvailable").or_else(|| bytes("MemFree"))?;
        let mut memory = Self { total, available, bound: Bound::Machine };
        for group in groups(roots) {
            memory.narrow(group);
        }
        Some(memory)
    }

    fn narrow(&mut self, group: Group) {
        if group.most < self.total {
            self.total = group.most;
            self.bound = Bound::Group;
        }
        self.available = self.available.min(group.most.saturating_sub(group.used));
    }
}

struct Group {
    most: u64,
    used: u64,
}

/// The group of this process and all that it is part of, as far as they are limited.
fn groups(roots: &Roots) -> Vec<Group> {
    let Some(list) = read(&roots.proc.join("self/cgroup")) else { return Vec::new() };
    let mut found = Vec::new();
    for line in list.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let base = roots.sys.join("fs/cgroup");
        let (base, files) = match controllers {
            "" => (base, ("memory.max", "memory.current", "inactive_file")),
            _ if controllers.split(',').any(|it| it == "memory") => (
                base.join("memory"),
                ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
            ),
            _ => continue,
        };
        found.extend(ancestors(&base, path).filter_map(|folder| group(&folder, files)));
    }
    found
}

/// The folders from a group up to the root of its tree. In a container the root is the group.
fn ancestors<'a>(base: &'a Path, path: &'a str) -> impl Iterator<Item = PathBuf> + 'a {
    let inner = Path::new(path.trim_start_matches('/'));
    inner.ancestors().map(|part| base.join(part))
}

fn group(folder: &Path, (most, used, cached): (&str, &str, &str)) -> Option<Group> {
    // `max` is no number: no limit.
    let most = number(&folder.join(most))?;
    let used = number(&folder.join(used)).unwrap_or(0);
    let stat = read(&folder.join("memory.stat")).unwrap_or_default();
    let cached = stat
        .lines()
        .find_map(|line| line.strip_prefix(cached)?.trim().parse::<u64>().ok())
        .unwrap_or(0);
    Some(Group { most, used: used.saturating_sub(cached) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_machine::Machine;

    const INFO: &str = "MemTotal:       1048576 kB\nMemAvailable:    524288 kB\n";

    #[test]
    fn the_tightest_group_counts() {
        let machine = Machine::new(&[("proc/meminfo", INFO)]);
        let read = |machine: &Machine| Memory::read(&machine.roots()).unwrap();
        let all = Memory { total: 1 << 30, available: 1 << 29, bound: Bound::Machine };
        assert_eq!(read(&machine), all);
        machine.file("proc/self/cgroup", "0::/user/app\n");
        machine.file("sys/fs/cgroup/user/app/memory.max", "max\n");
        assert_eq!(read(&machine), all);
        machine.file("sys/fs/cgroup/user/memory.max", "268435456\n");
        machine.file("sys/fs/cgroup/user/memory.current", "67108864\n");
        machine.file("sys/fs/cgroup/user/memory.stat", "anon 5\ninactive_file 16777216\n");
        let group = Memory { total: 256 << 20, available: 208 << 20, bound: Bound::Group };
        assert_eq!(read(&machine), group);
    }

    #[test]
    fn old_groups_have_other_files() {
        let machine = Machine::new(&[
            ("proc/meminfo", INFO),
            ("proc/self/cgroup", "4:cpu,cpuacct:/a\n3:memory:/docker/b\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "134217728"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "33554432"),
        ]);
        let memory = Memory::read(&machine.roots()).unwrap();
        assert_eq!((memory.total, memory.available), (128 << 20, 96 << 20));
    }

    #[test]
    fn what_is_not_there_is_not_guessed() {
        assert_eq!(Memory::read(&Machine::new(&[]).roots()), None);
        let machine = Machine::new(&[("proc/meminfo", "MemTotal: lots\n")]);
        assert_eq!(Memory::read(&machine.roots()), None);
    }
}
