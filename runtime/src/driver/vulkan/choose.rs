//! Which device runs a plan.

use onebit_vulkan::{DeviceInfo, DeviceKind, Instance, PhysicalDevice};

use super::GpuError;

/// A device by what the person said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// A card before a part of the processor, that before Vulkan made of software; of equals the
    /// first.
    #[default]
    Best,
    /// By its place among all.
    Index(usize),
    /// By a part of its name, in any case.
    Name(String),
}

impl Choice {
    /// A number is a place, anything else a name.
    pub fn parse(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Name(text.into()), Self::Index)
    }
}

/// The device of the choice. One that lacks what every plan needs is never the best, and is refused
/// by [`PhysicalDevice::open`] when it was asked for.
pub(super) fn choose(instance: &Instance, choice: &Choice) -> Result<PhysicalDevice, GpuError> {
    let devices = instance.devices()?;
    let infos: Vec<&DeviceInfo> = devices.iter().map(PhysicalDevice::info).collect();
    let index = position(&infos, choice)?;
    devices.into_iter().nth(index).ok_or(GpuError::NoDevice)
}

fn position(infos: &[&DeviceInfo], choice: &Choice) -> Result<usize, GpuError> {
    if infos.is_empty() {
        return Err(GpuError::NoDevice);
    }
    let missing = |wanted: String| {
        let found = infos.iter().zip(0..).map(|(info, at)| format!("{at} {}", info.name)).collect();
        GpuError::NoSuchDevice { wanted, found }
    };
    match choice {
        Choice::Index(index) if *index < infos.len() => Ok(*index),
        Choice::Index(index) => Err(missing(format!("number {index}"))),
        Choice::Name(name) => {
            let wanted = name.to_lowercase();
            let fits = |info: &&DeviceInfo| info.name.to_lowercase().contains(&wanted);
            infos.iter().position(fits).ok_or_else(|| missing(format!("named {name:?}")))
        }
        Choice::Best => {
            let able = (0..infos.len()).filter(|&at| infos[at].lacks.is_empty());
            able.min_by_key(|&at| rank(infos[at].kind)).ok_or_else(|| {
                let reason =
                    |info: &&DeviceInfo| format!("{} lacks {}", info.name, info.lacks.join(", "));
                GpuError::NoFit { reasons: infos.iter().map(reason).collect() }
            })
        }
    }
}

fn rank(kind: DeviceKind) -> u32 {
    match kind {
        DeviceKind::Discrete => 0,
        DeviceKind::Integrated => 1,
        DeviceKind::Virtual => 2,
        DeviceKind::Other => 3,
        DeviceKind::Cpu => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onebit_vulkan::{Driver, Limits, Subgroups, Uuid};

    fn device(name: &str, kind: DeviceKind, lacks: &[&'static str]) -> DeviceInfo {
        DeviceInfo {
            name: name.into(),
            kind,
            api: "1.3.0".into(),
            driver: Driver { id: 0, name: String::new(), info: String::new(), version: 0 },
            vendor: 0,
            device: 0,
            device_uuid: Uuid([0; 16]),
            driver_uuid: Uuid([0; 16]),
            cache_uuid: Uuid([0; 16]),
            limits: Limits {
                storage_range: 0,
                storage_align: 16,
                buffer: 0,
                shared: 0,
                invocations: 0,
                groups: [0; 3],
                immediates: 128,
                tick: 1.0,
                tick_bits: 64,
                heap: 0,
                memory: 0,
            },
            subgroups: Subgroups { size: 32, min: 32, max: 32, per_workgroup: 32 },
            features: Vec::new(),
            lacks: lacks.to_vec(),
            inspects: false,
        }
    }

    #[test]
    fn the_best_device_is_hardware_that_can() {
        let devices = [
            device("llvmpipe", DeviceKind::Cpu, &[]),
            device("Old Card", DeviceKind::Discrete, &["Vulkan 1.3"]),
            device("Radeon 8060S", DeviceKind::Integrated, &[]),
        ];
        let infos: Vec<&DeviceInfo> = devices.iter().collect();
        let at = |infos: &[&DeviceInfo], text| position(infos, &Choice::parse(text)).ok();
        assert_eq!(position(&infos, &Choice::Best).ok(), Some(2));
        assert_eq!(position(&infos[..2], &Choice::Best).ok(), Some(0));
        assert_eq!(at(&infos, "radeon"), Some(2));
        assert_eq!(at(&infos, "1"), Some(1), "the person's choice stands, whatever it lacks");
        assert_eq!(at(&infos, "LLVM"), Some(0));
        let error = position(&infos, &Choice::parse("3")).unwrap_err().to_string();
        assert!(error.contains("2 Radeon 8060S"), "{error}");
        assert!(position(&infos, &Choice::parse("arc")).is_err());
        let error = position(&infos[1..2], &Choice::Best).unwrap_err();
        assert!(error.to_string().contains("Old Card lacks Vulkan 1.3"), "{error}");
        assert!(matches!(position(&[], &Choice::Best), Err(GpuError::NoDevice)));
    }
}
