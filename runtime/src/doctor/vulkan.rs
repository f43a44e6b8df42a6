//! Vulkan: the loader, its drivers, and what each device has of what plans may need.

use super::{Finding, Roots};
use crate::driver::vulkan::api::{DeviceInfo, DeviceKind, Instance, Validation, VulkanError};
use crate::machine::names;
use onebit_plan::gpu::GpuFeature;

/// What modules may ask for, with what goes without.
const FEATURES: [(GpuFeature, &str); 7] = [
    (GpuFeature::IntegerDot, "products of int8"),
    (GpuFeature::Float16, "half precision"),
    (GpuFeature::Storage16, "16-bit buffers"),
    (GpuFeature::Int8, "8-bit integers"),
    (GpuFeature::MemoryModel, "Vulkan's memory model"),
    (GpuFeature::CooperativeF16, "matrices of f16"),
    (GpuFeature::CooperativeI8, "matrices of int8"),
];

/// What Vulkan answers.
pub(super) enum Answer {
    /// No loader, or none with a driver.
    Nothing(VulkanError),
    /// A loader whose drivers fail.
    Failure(VulkanError),
    Devices(Vec<DeviceInfo>),
}

impl Answer {
    /// All devices.
    pub(super) fn infos(&self) -> Vec<DeviceInfo> {
        match self {
            Self::Devices(devices) => devices.clone(),
            Self::Nothing(_) | Self::Failure(_) => Vec::new(),
        }
    }
}

/// Asks the loader of the machine that runs this.
pub(super) fn ask() -> Answer {
    let instance = match Instance::new(Validation::Off) {
        Ok(instance) => instance,
        Err(error) => return Answer::Nothing(error),
    };
    match instance.devices() {
        Ok(devices) => Answer::Devices(devices.iter().map(|it| it.info().clone()).collect()),
        Err(error) => Answer::Failure(error),
    }
}

pub(super) fn findings(roots: &Roots, answer: &Answer) -> Vec<Finding> {
    let missing = match answer {
        Answer::Nothing(error) => Some(error),
        Answer::Failure(_) | Answer::Devices(_) => None,
    };
    let mut findings = vec![loader(missing), drivers(roots)];
    match answer {
        Answer::Devices(devices) if devices.is_empty() => findings.push(no_device("none".into())),
        Answer::Devices(devices) => {
            findings.extend(devices.iter().enumerate().map(|(at, info)| device(at, info)));
        }
        Answer::Failure(error) => findings.push(no_device(error.to_string())),
        Answer::Nothing(error @ VulkanError::NoDriver) => {
            findings.push(Finding::missing("device", "no driver that starts", error.help()));
        }
        Answer::Nothing(_) => findings.push(Finding::unknown("device", "no loader to ask")),
    }
    findings
}

fn loader(error: Option<&VulkanError>) -> Finding {
    const WHAT: &str = "loader";
    match error {
        None => Finding::ok(WHAT, "Vulkan 1.3 or later"),
        // It is there, and found nothing.
        Some(VulkanError::NoDriver) => Finding::ok(WHAT, "there, without a driver"),
        Some(error) => Finding::missing(WHAT, error.to_string(), error.help()),
    }
}

/// The lists that the system's packages of drivers bring.
fn drivers(roots: &Roots) -> Finding {
    const WHAT: &str = "drivers";
    let files = roots.vulkan.iter().flat_map(|folder| names(folder).unwrap_or_default());
    let files: Vec<String> = files.filter(|file| file.ends_with(".json")).collect();
    if files.is_empty() {
        return Finding::missing(WHAT, "none", VulkanError::NoDriver.help());
    }
    let short = |file: &String| file.trim_end_matches(".json").replace("_icd", "");
    Finding::ok(WHAT, files.iter().map(short).collect::<Vec<_>>().join(", "))
}

fn no_device(found: String) -> Finding {
    let remedy = "look for the graphics processor with `lspci`, for its files with \
                  `ls -l /dev/dri`, and join the group render if they are there";
    Finding::missing("device", found, remedy)
}

fn device(index: usize, info: &DeviceInfo) -> Finding {
    const WHAT: &str = "device";
    let (driver, groups) = (&info.driver, &info.subgroups);
    let mut found = format!(
        "{index} {} ({}), Vulkan {}, {} {}, subgroups of {} to {}, windows of {} MiB, {:.1} GiB",
        info.name,
        info.kind,
        info.api,
        driver.name,
        driver.info,
        groups.min,
        groups.max,
        info.limits.storage_range >> 20,
        info.limits.heap as f64 / f64::from(1 << 30),
    );
    let without = FEATURES.iter().filter(|(feature, _)| !info.features.contains(feature));
    let without: Vec<&str> = without.map(|(_, name)| *name).collect();
    if !without.is_empty() {
        found += &format!(", without {}", without.join(", "));
    }
    if !info.lacks.is_empty() {
        found += &format!("; plans need {}", info.lacks.join(", "));
        return Finding::missing(WHAT, found, "update the graphics driver");
    }
    match info.kind {
        DeviceKind::Cpu => Finding::ok(WHAT, found + "; software, for tests only"),
        _ => Finding::ok(WHAT, found),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;
    use crate::test_device::radeon_8060s;
    use crate::test_machine::Machine;

    #[test]
    fn a_device_is_told_with_what_it_lacks() {
        let finding = device(1, &radeon_8060s());
        assert_eq!(finding.status, Status::Ok);
        let expected = "1 AMD Radeon 8060S (RADV GFX1151) (integrated), Vulkan 1.4.305, radv Mesa \
                        25.0.7, subgroups of 32 to 64, windows of 4095 MiB, 96.0 GiB, without \
                        matrices of int8";
        assert_eq!(finding.found, expected);
        let old = DeviceInfo { lacks: vec!["Vulkan 1.3", "synchronization2"], ..radeon_8060s() };
        let finding = device(0, &old);
        assert_eq!(finding.status, Status::Missing);
        assert!(finding.found.ends_with("plans need Vulkan 1.3, synchronization2"));
        assert!(finding.remedy.unwrap().contains("driver"));
    }

    #[test]
    fn drivers_are_files() {
        let machine = Machine::new(&[
            ("etc/vulkan/icd.d/nvidia_icd.json", "{}"),
            ("usr/share/vulkan/icd.d/radeon_icd.x86_64.json", "{}"),
            ("usr/share/vulkan/icd.d/README", ""),
        ]);
        assert_eq!(drivers(&machine.roots()), Finding::ok("drivers", "nvidia, radeon.x86_64"));
        let none = drivers(&Machine::new(&[]).roots());
        assert_eq!(none.status, Status::Missing);
        assert!(none.remedy.unwrap().contains("mesa-vulkan-drivers"));
    }

    #[test]
    fn a_loader_without_drivers_is_a_loader() {
        assert_eq!(loader(None).status, Status::Ok);
        assert_eq!(loader(Some(&VulkanError::NoDriver)).status, Status::Ok);
        let missing = loader(Some(&VulkanError::NoLoader { reason: "no such file".into() }));
        assert_eq!(missing.status, Status::Missing);
        assert!(missing.remedy.unwrap().contains("libvulkan1"));
    }
}
