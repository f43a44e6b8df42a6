//! Whole machines of files: a Strix Halo by documented values, a bare virtual machine, a container.

use super::*;
use crate::test_machine::Machine;

const GIB: u64 = 1 << 30;

/// A Ryzen AI Max+ 395 with 128 GB, of which the firmware gives 512 MiB to the GPU. PCI ids,
/// revisions and file names are those of Linux and of amd/xdna-driver; limits are the kernel's
/// defaults, half of the memory.
fn strix_halo() -> Machine {
    let machine = Machine::new(&[
        ("proc/meminfo", "MemTotal:       130000000 kB\nMemAvailable:   120000000 kB\n"),
        ("proc/sys/kernel/osrelease", "6.17.0\n"),
        ("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/nvme0n1p2 quiet\n"),
        ("proc/self/limits", "Max locked memory         unlimited  unlimited  bytes\n"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
        ("sys/module/amdgpu/parameters/gttsize", "-1\n"),
        ("sys/module/ttm/parameters/pages_limit", "16250000\n"),
        ("sys/module/amdxdna/initstate", "live\n"),
        ("sys/class/drm/card1/device/vendor", "0x1002\n"),
        ("sys/class/drm/card1/device/device", "0x1586\n"),
        ("sys/class/drm/card1/device/mem_info_vram_total", "536870912\n"),
        ("sys/class/drm/card1/device/mem_info_gtt_total", "66560000000\n"),
        ("sys/class/drm/card1-DP-1/status", "connected\n"),
        ("sys/bus/pci/devices/0000:c4:00.0/vendor", "0x1002\n"),
        ("sys/bus/pci/devices/0000:c4:00.0/device", "0x1586\n"),
        ("sys/bus/pci/devices/0000:c4:00.0/class", "0x038000\n"),
        ("sys/bus/pci/devices/0000:c5:00.1/vendor", "0x1022\n"),
        ("sys/bus/pci/devices/0000:c5:00.1/device", "0x17f0\n"),
        ("sys/bus/pci/devices/0000:c5:00.1/revision", "0x11\n"),
        ("sys/bus/pci/devices/0000:c5:00.1/class", "0x118000\n"),
        ("sys/class/accel/accel0/device/vendor", "0x1022\n"),
        ("sys/class/accel/accel0/device/device", "0x17f0\n"),
        ("sys/class/accel/accel0/device/fw_version", "1.0.0.166\n"),
        ("sys/kernel/iommu_groups/0/type", "DMA-FQ\n"),
        ("sys/kernel/iommu_groups/1/type", "DMA-FQ\n"),
        ("dev/accel/accel0", ""),
        ("dev/dri/renderD128", ""),
    ]);
    let mut info = String::new();
    for cpu in 0..32 {
        info += &format!(
            "processor\t: {cpu}\nmodel name\t: AMD RYZEN AI MAX+ 395 w/ Radeon 8060S\nflags\t\t: \
             sse4_2 popcnt avx avx2 fma f16c bmi1 bmi2 abm avx512f avx512bw avx512vl avx512dq \
             avx512_vnni\n\n"
        );
        let folder = format!("sys/devices/system/cpu/cpu{cpu}");
        machine.file(&format!("{folder}/topology/physical_package_id"), "0\n");
        machine.file(&format!("{folder}/topology/core_id"), &format!("{}\n", cpu % 16));
        machine.file(&format!("{folder}/cpufreq/scaling_governor"), "powersave\n");
        machine.file(&format!("{folder}/cpufreq/scaling_driver"), "amd-pstate-epp\n");
    }
    machine.file("proc/cpuinfo", &info);
    machine
}

/// All findings from files, but for what Vulkan answers.
fn found(machine: &Machine) -> Vec<(&'static str, Finding)> {
    let roots = machine.roots();
    let parts = [
        ("cpu", cpu::findings(&roots, "x86_64")),
        ("gpu", graphics::findings(&roots, &[])),
        ("npu", npu::findings(&roots)),
    ];
    parts.into_iter().flat_map(|(part, all)| all.into_iter().map(move |it| (part, it))).collect()
}

#[track_caller]
fn assert_finding(machine: &Machine, place: (&str, &str), status: Status, text: &str) {
    let all = found(machine);
    let (_, finding) = all
        .iter()
        .find(|(part, finding)| (*part, finding.what) == place)
        .unwrap_or_else(|| panic!("nothing about {place:?} in {all:#?}"));
    assert_eq!(finding.status, status, "{finding:?}");
    assert!(finding.found.contains(text), "{finding:?}");
    let needs_remedy = matches!(status, Status::Missing | Status::Advice);
    assert!(!needs_remedy || finding.remedy.is_some(), "{finding:?}");
}

#[test]
fn a_strix_halo_is_told_as_it_is() {
    use Status::{Advice, Missing, Ok as Fine};
    let machine = strix_halo();
    for (place, status, text) in [
        (("cpu", "features"), Fine, "avx512"),
        (("cpu", "cores"), Fine, "16 cores, 32 hardware threads"),
        (("cpu", "governor"), Advice, "powersave, by amd-pstate-epp"),
        (("cpu", "memory"), Fine, "124.0 GiB, 114.4 GiB available"),
        (("cpu", "huge pages"), Fine, "madvise"),
        (("gpu", "amdgpu"), Fine, "Linux 6.17.0"),
        (("gpu", "render node"), Fine, "renderD128 opens"),
        (("gpu", "memory"), Fine, "card1 (0x1586): 512.0 MiB of its own (VRAM), 62.0 GiB"),
        (("gpu", "ttm"), Advice, "pages_limit 16250000, 62.0 GiB of 124.0 GiB"),
        (("npu", "processor"), Fine, "Strix Halo at 0000:c5:00.1"),
        (("npu", "module"), Fine, "amdxdna"),
        (("npu", "firmware"), Fine, "1.0.0.166"),
        (("npu", "iommu"), Fine, "on, 2 groups, translating"),
        (("npu", "memlock"), Fine, "unlimited"),
    ] {
        assert_finding(&machine, place, status, text);
    }
    assert!(!found(&machine).iter().any(|(_, it)| it.what == "gttsize"), "-1 is the default");

    // The conflict: what the GPU's people advise takes the NPU away.
    machine.file("proc/cmdline", "quiet amd_iommu=off ttm.pages_limit=31457280\n");
    for group in ["0", "1"] {
        let folder = machine.roots().sys.join("kernel/iommu_groups").join(group);
        std::fs::remove_dir_all(folder).unwrap();
    }
    machine.file("sys/module/ttm/parameters/pages_limit", "31457280\n");
    machine.file("sys/module/amdgpu/parameters/gttsize", "122800\n");
    assert_finding(&machine, ("npu", "iommu"), Missing, "off, by amd_iommu=off: the NPU cannot");
    assert_finding(&machine, ("gpu", "ttm"), Fine, "120.0 GiB of 124.0 GiB");
    assert_finding(&machine, ("gpu", "gttsize"), Advice, "122800 MiB");
}

#[test]
fn a_passing_iommu_and_a_wrong_option_are_told() {
    let machine = strix_halo();
    machine.file("proc/cmdline", "iommu=pt\n");
    machine.file("sys/kernel/iommu_groups/0/type", "identity\n");
    machine.file("sys/kernel/iommu_groups/1/type", "identity\n");
    assert_finding(&machine, ("npu", "iommu"), Status::Advice, "passing through, by iommu=pt");
    machine.file("proc/cmdline", "amd_iommu=pt\n");
    machine.file("sys/kernel/iommu_groups/0/type", "DMA\n");
    let all = found(&machine);
    let (_, iommu) = all.iter().find(|(_, it)| it.what == "iommu").unwrap();
    assert!(iommu.remedy.as_ref().unwrap().contains("is no option of the kernel"), "{iommu:?}");
}

#[test]
fn a_graphics_processor_without_its_driver_is_missed() {
    let machine = strix_halo();
    std::fs::remove_dir_all(machine.roots().sys.join("module/amdgpu")).unwrap();
    std::fs::remove_dir_all(machine.roots().dev.join("dri")).unwrap();
    assert_finding(&machine, ("gpu", "amdgpu"), Status::Missing, "not loaded");
    let all = found(&machine);
    let (_, node) = all.iter().find(|(_, it)| it.what == "render node").unwrap();
    assert!(node.remedy.as_ref().unwrap().contains("--device /dev/dri"), "{node:?}");
}

#[test]
fn a_bare_virtual_machine_lacks_what_is_optional_and_runs_plans() {
    use Status::{Missing, Ok as Fine, Unknown};
    let machine = Machine::new(&[
        (
            "proc/cpuinfo",
            "processor : 0\nflags : sse4_2 popcnt avx avx2 fma f16c bmi1 bmi2 abm\n\nprocessor : 1\n",
        ),
        ("proc/meminfo", "MemTotal: 4194304 kB\nMemAvailable: 2097152 kB\n"),
        ("proc/cmdline", "console=ttyS0\n"),
        ("proc/self/limits", "Max locked memory         8388608  8388608  bytes\n"),
        ("sys/kernel/iommu_groups/", ""),
        ("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n"),
    ]);
    for (place, status, text) in [
        (("cpu", "features"), Fine, "avx2"),
        (("cpu", "cores"), Fine, "2 cores, 2 hardware threads"),
        (("cpu", "governor"), Unknown, "virtual"),
        (("cpu", "huge pages"), Status::Advice, "never"),
        (("gpu", "amdgpu"), Unknown, "no GPU"),
        (("gpu", "render node"), Unknown, "none"),
        (("gpu", "ttm"), Unknown, "no ttm"),
        (("npu", "processor"), Missing, "no XDNA 2"),
        (("npu", "iommu"), Fine, "off; only an NPU needs it"),
        (("npu", "memlock"), Missing, "8192 KiB"),
    ] {
        assert_finding(&machine, place, status, text);
    }
    let cpu = cpu::findings(&machine.roots(), "x86_64");
    let empty = Vec::new;
    assert!(Report { cpu, gpu: empty(), vulkan: empty(), npu: empty() }.runs());
}

#[test]
fn a_container_has_the_memory_of_its_group() {
    let machine = strix_halo();
    machine.file("proc/self/cgroup", "0::/\n");
    machine.file("sys/fs/cgroup/memory.max", &format!("{}\n", 8 * GIB));
    machine.file("sys/fs/cgroup/memory.current", &format!("{}\n", GIB));
    let text = "8.0 GiB, 7.0 GiB available, by the limit of a control group";
    assert_finding(&machine, ("cpu", "memory"), Status::Ok, text);
    std::fs::remove_dir_all(machine.roots().dev.join("accel")).unwrap();
    assert_finding(&machine, ("npu", "device"), Status::Missing, "no node");
}
