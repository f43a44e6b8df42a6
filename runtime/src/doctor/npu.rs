//! The NPU: the processor, its driver, its firmware, and what the system must allow.

use std::path::{Path, PathBuf};

use super::{Finding, Roots};
use crate::driver::npu::probe::{Probe, may_lock, nodes, probe};
use crate::driver::npu::{COLUMNS, COMPUTE_ROWS, Errno, HEAP_BYTES, LOCKED_HELP, ROWS};
use crate::machine::iommu::{Domain, Iommu, options};
use crate::machine::{names, read};

/// AMD.
const VENDOR: &str = "0x1022";
/// The XDNA 2 NPUs that the driver calls npu4, npu5 and npu6 (amd/xdna-driver
/// `src/driver/amdxdna`), which differ in their revision only.
const DEVICE: &str = "0x17f0";
const MODELS: [(&str, &str); 3] =
    [("0x10", "Strix Point"), ("0x11", "Strix Halo"), ("0x20", "Krackan")];

pub(super) fn findings(roots: &Roots) -> Vec<Finding> {
    let processors = processors(roots);
    let node = nodes(&roots.dev).into_iter().find(|node| is_npu(roots, node));
    let answer = node.as_deref().map(probe);
    vec![
        processor(&processors),
        module(roots, &processors),
        device(node.as_deref(), &processors),
        permission(node.as_deref(), answer.as_ref()),
        driver(answer.as_ref()),
        firmware(roots, node.as_deref(), answer.as_ref()),
        array(answer.as_ref()),
        iommu(roots, !processors.is_empty()),
        locked(roots),
    ]
}

/// The PCI folders of NPUs.
fn processors(roots: &Roots) -> Vec<PathBuf> {
    let folder = roots.sys.join("bus/pci/devices");
    let devices = names(&folder).into_iter().flatten().map(|name| folder.join(name));
    devices.filter(|device| is_processor(device)).collect()
}

fn is_processor(device: &Path) -> bool {
    let is = |name: &str, value: &str| read(&device.join(name)).as_deref() == Some(value);
    is("vendor", VENDOR) && is("device", DEVICE)
}

/// The folder of the device behind a node.
fn device_of(roots: &Roots, node: &Path) -> Option<PathBuf> {
    Some(roots.sys.join("class/accel").join(node.file_name()?).join("device"))
}

/// Whether a node is an NPU's, or may be.
fn is_npu(roots: &Roots, node: &Path) -> bool {
    let device = device_of(roots, node);
    device.is_none_or(|device| !device.join("vendor").exists() || is_processor(&device))
}

fn processor(processors: &[PathBuf]) -> Finding {
    const WHAT: &str = "processor";
    let Some(first) = processors.first() else {
        let remedy = "an XDNA 2 NPU is PCI device 1022:17f0; if this machine should have one, \
                      look for it in the firmware's setup";
        return Finding::missing(WHAT, "no XDNA 2 NPU", remedy);
    };
    let revision = read(&first.join("revision"));
    let model = MODELS.iter().find(|(number, _)| revision.as_deref() == Some(number));
    let model = model.map_or("of an unknown revision", |(_, model)| model);
    let place = first.file_name().unwrap_or_default().to_string_lossy();
    Finding::ok(WHAT, format!("{model} at {place}"))
}

fn module(roots: &Roots, processors: &[PathBuf]) -> Finding {
    const WHAT: &str = "module";
    let module = roots.sys.join("module/amdxdna");
    if module.is_dir() {
        let version = read(&module.join("version"));
        return Finding::ok(WHAT, format!("amdxdna {}", version.unwrap_or_default()).trim_end());
    }
    let remedy = match processors {
        [] => "not needed without an NPU",
        _ => "`sudo modprobe amdxdna`; it comes with Linux 6.14 and later",
    };
    Finding::missing(WHAT, "amdxdna is not loaded", remedy)
}

fn device(node: Option<&Path>, processors: &[PathBuf]) -> Finding {
    const WHAT: &str = "device";
    match (node, processors) {
        (Some(node), _) => Finding::ok(WHAT, node.display().to_string()),
        (None, []) => Finding::missing(WHAT, "no node in /dev/accel", "not needed without an NPU"),
        (None, _) => {
            let remedy = "load the module; if it is loaded, look for amdxdna in `dmesg`";
            Finding::missing(WHAT, "no node in /dev/accel", remedy)
        }
    }
}

fn permission(node: Option<&Path>, answer: Option<&Result<Probe, Errno>>) -> Finding {
    const WHAT: &str = "permission";
    match (node, answer) {
        (Some(_), Some(Err(Errno::ACCESS | Errno::PERM))) => {
            let remedy = "`sudo usermod -aG render $USER` and a new login; where the node belongs \
                          to another group, that one";
            Finding::missing(WHAT, "the device may not be opened", remedy)
        }
        (Some(_), Some(Ok(_) | Err(Errno::NOTTY))) => Finding::ok(WHAT, "the device opens"),
        (Some(_), Some(Err(errno))) => Finding::unknown(WHAT, format!("cannot open it: {errno}")),
        _ => Finding::unknown(WHAT, "no device"),
    }
}

fn driver(answer: Option<&Result<Probe, Errno>>) -> Finding {
    const WHAT: &str = "driver";
    match answer {
        Some(Ok(Probe { driver, version: [major, minor, patch], .. })) => {
            let found = format!("{driver} {major}.{minor}.{patch}");
            if driver.starts_with("amdxdna") {
                return Finding::ok(WHAT, found);
            }
            Finding::missing(WHAT, found, "the device is not an NPU; load the module amdxdna")
        }
        Some(Err(errno)) => Finding::unknown(WHAT, format!("it does not say: {errno}")),
        None => Finding::unknown(WHAT, "no device"),
    }
}

fn firmware(roots: &Roots, node: Option<&Path>, answer: Option<&Result<Probe, Errno>>) -> Finding {
    const WHAT: &str = "firmware";
    if let Some(Ok(Probe { firmware: Ok(version), .. })) = answer {
        let version: Vec<String> = version.iter().map(u32::to_string).collect();
        return Finding::ok(WHAT, version.join("."));
    }
    // AMD's driver shows it to those who may not open the device, too.
    let file = node.and_then(|node| device_of(roots, node)).map(|it| it.join("fw_version"));
    match (file.and_then(|file| read(&file)), answer) {
        (Some(version), _) => Finding::ok(WHAT, version),
        (None, Some(Ok(Probe { firmware: Err(errno), .. }))) => {
            Finding::unknown(WHAT, format!("the driver does not say: {errno}"))
                .with_remedy("look for amdxdna in `dmesg`; update linux-firmware")
        }
        (None, Some(_)) => Finding::unknown(WHAT, "it cannot be asked"),
        (None, None) => Finding::unknown(WHAT, "no device"),
    }
}

fn array(answer: Option<&Result<Probe, Errno>>) -> Finding {
    const WHAT: &str = "array";
    match answer {
        Some(Ok(Probe { array: Ok([columns, rows, cores]), .. })) => {
            let found = format!("{columns} columns of {rows} tiles, {cores} of them with cores");
            if *columns >= COLUMNS && (*rows, *cores) == (ROWS, COMPUTE_ROWS) {
                return Finding::ok(WHAT, found);
            }
            let remedy = format!(
                "plans are made for {COLUMNS} columns of {ROWS} tiles, {COMPUTE_ROWS} of them with \
                 cores"
            );
            Finding::missing(WHAT, found, remedy)
        }
        Some(_) => Finding::unknown(WHAT, "it cannot be asked"),
        None => Finding::unknown(WHAT, "no device"),
    }
}

/// The array shares the page tables of a process, which needs an IOMMU; the GPU is a little faster
/// without. `crate::machine::iommu` names the sources.
fn iommu(roots: &Roots, is_there: bool) -> Finding {
    const WHAT: &str = "iommu";
    let options = options(roots);
    let told = match options.as_slice() {
        [] => String::new(),
        all => format!(", by {}", all.join(" ")),
    };
    let finding = match Iommu::read(roots) {
        Iommu::Off if is_there => {
            let remedy = "turn the IOMMU on in the firmware's setup, and take `amd_iommu=off` and \
                          `iommu=off` from the kernel's command line; off is worth 3 to 6 % to the \
                          GPU and costs the NPU";
            Finding::missing(WHAT, format!("off{told}: the NPU cannot run"), remedy)
        }
        Iommu::Off => Finding::ok(WHAT, format!("off{told}; only an NPU needs it")),
        Iommu::On { groups, domain: Domain::Passthrough } if is_there => {
            let remedy = "if the NPU fails, take `iommu=pt` from the kernel's command line: drivers \
                          from before June 2026 need translation, and the GPU gains nothing by it";
            Finding::advice(WHAT, format!("on, {groups} groups, passing through{told}"), remedy)
        }
        Iommu::On { groups, domain } => {
            let how = match domain {
                Domain::Translated => ", translating",
                Domain::Passthrough => ", passing through",
                Domain::Unknown => "",
            };
            let cost = match is_there {
                true => "; `amd_iommu=off` is worth 3 to 6 % to the GPU and costs the NPU",
                false => "",
            };
            Finding::ok(WHAT, format!("on, {groups} groups{how}{told}{cost}"))
        }
        Iommu::Unknown => Finding::unknown(WHAT, "the kernel does not show IOMMU groups"),
    };
    if options.iter().any(|option| option == "amd_iommu=pt") {
        return finding.with_remedy(
            "`amd_iommu=pt` is no option of the kernel, which ignores it; `iommu=pt` is meant",
        );
    }
    finding
}

/// What the process may lock: every buffer of the NPU is.
fn locked(roots: &Roots) -> Finding {
    const WHAT: &str = "memlock";
    let limits = read(&roots.proc.join("self/limits"));
    let line = limits
        .as_deref()
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("Max locked memory")));
    let limit = line.and_then(|line| line.split_whitespace().next());
    match (limit, limit.and_then(|limit| limit.parse::<u64>().ok())) {
        _ if may_lock(&roots.proc) => Finding::ok(WHAT, "any, by the right CAP_IPC_LOCK"),
        (Some("unlimited"), _) => Finding::ok(WHAT, "unlimited"),
        (_, Some(bytes)) if bytes < HEAP_BYTES => {
            Finding::missing(WHAT, format!("{} KiB", bytes >> 10), LOCKED_HELP)
        }
        (_, Some(bytes)) => {
            let heap = HEAP_BYTES >> 20;
            let found = format!("{} MiB; a plan needs {heap} MiB and its weights", bytes >> 20);
            Finding::unknown(WHAT, found).with_remedy(LOCKED_HELP)
        }
        _ => Finding::unknown(WHAT, "no limit in /proc/self/limits"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status::{self, Missing, Ok as Fine, Unknown};
    use super::super::about;
    use super::*;
    use crate::test_machine::Machine;

    const PCI: &str = "sys/bus/pci/devices/0000:c5:00.1";

    /// A machine with an NPU whose node is a plain file: no driver answers behind it.
    fn strix() -> Machine {
        let machine = Machine::new(&[
            ("dev/accel/accel0", ""),
            ("sys/module/amdxdna/version", "2.21.0\n"),
            ("sys/class/accel/accel0/device/vendor", "0x1022\n"),
            ("sys/class/accel/accel0/device/device", "0x17f0\n"),
            ("sys/class/accel/accel0/device/fw_version", "1.1.2.64\n"),
            ("sys/kernel/iommu_groups/0/", ""),
            ("sys/kernel/iommu_groups/1/", ""),
            ("proc/self/limits", "Limit  Soft\nMax locked memory  unlimited  unlimited  bytes\n"),
        ]);
        for (name, text) in [("vendor", "0x1022\n"), ("device", "0x17f0\n"), ("revision", "0x11\n")]
        {
            machine.file(&format!("{PCI}/{name}"), text);
        }
        machine
    }

    fn statuses(machine: &Machine) -> Vec<(&'static str, Status)> {
        let found = findings(&machine.roots());
        found.iter().map(|finding| (finding.what, finding.status)).collect()
    }

    #[test]
    fn what_files_tell_is_told() {
        let machine = strix();
        let expected = [
            ("processor", Fine),
            ("module", Fine),
            ("device", Fine),
            ("permission", Fine),
            ("driver", Unknown),
            ("firmware", Fine),
            ("array", Unknown),
            ("iommu", Fine),
            ("memlock", Fine),
        ];
        assert_eq!(statuses(&machine), expected);
        let found = findings(&machine.roots());
        assert_eq!(about(&found, "processor").found, "Strix Halo at 0000:c5:00.1");
        assert_eq!(about(&found, "module").found, "amdxdna 2.21.0");
        assert_eq!(about(&found, "firmware").found, "1.1.2.64");
        let iommu = &about(&found, "iommu").found;
        assert!(iommu.starts_with("on, 2 groups; `amd_iommu=off` is worth"), "{iommu}");
        assert!(about(&found, "device").found.ends_with("dev/accel/accel0"));
    }

    #[test]
    fn a_machine_without_an_npu_lacks_it_and_nothing_else_is_guessed() {
        let machine = Machine::new(&[
            ("sys/kernel/iommu_groups/", ""),
            ("proc/self/limits", "Max locked memory         8388608  8388608  bytes\n"),
        ]);
        let expected = [
            ("processor", Missing),
            ("module", Missing),
            ("device", Missing),
            ("permission", Unknown),
            ("driver", Unknown),
            ("firmware", Unknown),
            ("array", Unknown),
            ("iommu", Fine),
            ("memlock", Missing),
        ];
        assert_eq!(statuses(&machine), expected);
        let found = findings(&machine.roots());
        assert_eq!(about(&found, "memlock").found, "8192 KiB");
        for finding in found.iter().filter(|finding| finding.status == Missing) {
            assert!(finding.remedy.is_some(), "{finding:?}");
        }
    }

    #[test]
    fn other_accelerators_are_not_taken_for_an_npu() {
        let machine = strix();
        machine.file("sys/class/accel/accel0/device/vendor", "0x8086\n");
        let found = findings(&machine.roots());
        assert_eq!(about(&found, "device").status, Missing);
        assert_eq!(about(&found, "firmware").found, "no device");
    }

    #[test]
    fn a_limit_above_the_heap_is_left_to_the_plan() {
        let machine = strix();
        machine.file("proc/self/limits", "Max locked memory   1073741824  1073741824  bytes\n");
        let found = findings(&machine.roots());
        let memlock = about(&found, "memlock");
        assert_eq!(memlock.status, Unknown);
        assert!(memlock.found.starts_with("1024 MiB"), "{}", memlock.found);
        assert!(memlock.remedy.as_ref().unwrap().contains("limits.conf"));
    }

    #[test]
    fn answers_of_a_device_are_told() {
        let answer = |firmware, array| {
            let driver = String::from("amdxdna_accel_driver");
            Some(Ok(Probe { driver, version: [0, 6, 0], firmware, array }))
        };
        let good = answer(Ok([1, 1, 2, 65]), Ok([8, 6, 4]));
        assert_eq!(driver(good.as_ref()), Finding::ok("driver", "amdxdna_accel_driver 0.6.0"));
        let machine = Machine::new(&[]);
        let roots = machine.roots();
        assert_eq!(firmware(&roots, None, good.as_ref()), Finding::ok("firmware", "1.1.2.65"));
        assert_eq!(array(good.as_ref()).status, Fine);
        let poor = answer(Err(Errno::OPNOTSUPP), Ok([5, 6, 4]));
        assert_eq!(array(poor.as_ref()).status, Missing);
        let unknown = firmware(&roots, None, poor.as_ref());
        assert_eq!(unknown.status, Unknown);
        assert!(unknown.remedy.unwrap().contains("linux-firmware"));
        let node = Path::new("accel0");
        let closed = Err(Errno::ACCESS);
        let finding = permission(Some(node), Some(&closed));
        assert_eq!(finding.status, Missing);
        assert!(finding.remedy.unwrap().contains("render"));
    }
}
