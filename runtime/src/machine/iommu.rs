//! The unit that translates the addresses of devices: the NPU needs it, the GPU is faster without.
//!
//! * `amd_iommu=off` leaves no PASID, and so no NPU (the driver binds each process's page tables,
//!   amd/xdna-driver issues 62 and 704). It is worth 3 to 6 % of the GPU's memory speed on a Strix
//!   Halo (lhl/strix-halo-testing; kyuz0/amd-strix-halo-toolboxes issue 66).
//! * `iommu=pt` passes addresses through. It is worth nothing to the GPU (the same issue), and drivers
//!   of the NPU from before June 2026 fail with it (amd/xdna-driver pull request 1445).
//! * `amd_iommu=pt` is no option of the kernel; it is often written for the former.

use super::{Roots, names, read};

/// How the unit stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Iommu {
    /// There is none, or it is off.
    Off,
    On {
        groups: usize,
        domain: Domain,
    },
    /// The kernel does not tell.
    Unknown,
}

/// What the unit does with the addresses of most devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    Translated,
    Passthrough,
    Unknown,
}

impl Iommu {
    /// Reads the groups of devices under /sys.
    pub fn read(roots: &Roots) -> Self {
        let folder = roots.sys.join("kernel/iommu_groups");
        let Some(groups) = names(&folder) else { return Self::Unknown };
        if groups.is_empty() {
            return Self::Off;
        }
        let kinds = groups.iter().filter_map(|group| read(&folder.join(group).join("type")));
        let (mut translated, mut passed) = (0, 0);
        for kind in kinds {
            match kind.as_str() {
                "identity" => passed += 1,
                // `DMA` and `DMA-FQ`
                kind if kind.starts_with("DMA") => translated += 1,
                _ => {}
            }
        }
        let domain = match (translated, passed) {
            (0, 0) => Domain::Unknown,
            (translated, passed) if passed > translated => Domain::Passthrough,
            _ => Domain::Translated,
        };
        Self::On { groups: groups.len(), domain }
    }
}

/// The options about it that the kernel was started with.
pub fn options(roots: &Roots) -> Vec<String> {
    let line = roots.command_line().unwrap_or_default();
    let is_one = |word: &&str| {
        ["amd_iommu=", "iommu=", "iommu."].iter().any(|start| word.starts_with(start))
    };
    line.split_whitespace().filter(is_one).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_machine::Machine;

    #[test]
    fn groups_tell_how_it_stands() {
        let machine = Machine::new(&[]);
        assert_eq!(Iommu::read(&machine.roots()), Iommu::Unknown);
        machine.file("sys/kernel/iommu_groups/", "");
        assert_eq!(Iommu::read(&machine.roots()), Iommu::Off);
        machine.file("sys/kernel/iommu_groups/0/", "");
        let on = |groups, domain| Iommu::On { groups, domain };
        assert_eq!(Iommu::read(&machine.roots()), on(1, Domain::Unknown));
        machine.file("sys/kernel/iommu_groups/0/type", "DMA-FQ\n");
        assert_eq!(Iommu::read(&machine.roots()), on(1, Domain::Translated));
        machine.file("sys/kernel/iommu_groups/1/type", "identity\n");
        machine.file("sys/kernel/iommu_groups/2/type", "identity\n");
        assert_eq!(Iommu::read(&machine.roots()), on(3, Domain::Passthrough));
    }

    #[test]
    fn options_are_those_of_the_kernel() {
        let line = "quiet amd_iommu=off ttm.pages_limit=5 iommu=pt iommu.passthrough=1 xiommu=2";
        let machine = Machine::new(&[("proc/cmdline", line)]);
        let expected = ["amd_iommu=off", "iommu=pt", "iommu.passthrough=1"];
        assert_eq!(options(&machine.roots()), expected);
    }
}
