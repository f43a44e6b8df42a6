//! This machine as a `box.sys` that the compiler reads.

use onebit_plan::box_sys::{
    BOX_VERSION, BoxCache, BoxDescription, BoxGpu, BoxGpuKind, BoxMemory, BoxNpu, BoxOrigin,
    BoxProcessor, BoxRate, BoxSoftware,
};

use crate::Error;
use crate::bandwidth::measure_read;
use crate::driver::cpu::physical_cores;
use crate::driver::npu::probe as npu;
use crate::driver::vulkan::api::{DeviceInfo, DeviceKind, Instance, Validation};
use crate::machine::Roots;
use crate::machine::memory::Memory;
use crate::machine::processor::{Cache, Cores, Processor, caches, cores, model, name_of};

/// Whether the speed of memory is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    /// By all cores, for some seconds.
    Measure,
    /// Left out of the description.
    Unknown,
}

/// Describes the machine that runs this. Processor, Vulkan devices and NPU are asked; the rest is
/// read under `roots`.
///
/// # Errors
/// A system that does not say how much memory it has; a measurement whose sums are wrong.
pub fn probe(roots: &Roots, speed: Speed) -> Result<BoxDescription, Error> {
    let memory = Memory::read(roots).ok_or(Error::Unknown { what: "the size of memory" })?;
    let read = match speed {
        Speed::Measure => Some(rate()?),
        Speed::Unknown => None,
    };
    Ok(BoxDescription {
        onebit_box: BOX_VERSION,
        tool: env!("CARGO_PKG_VERSION").into(),
        processor: processor(roots),
        memory: BoxMemory { bytes: memory.total, read },
        gpus: gpus(),
        npu: neural_processor(roots),
        software: BoxSoftware {
            system: std::env::consts::OS.into(),
            kernel: roots.kernel().map(|version| numbers(&version)),
        },
    })
}

fn processor(roots: &Roots) -> BoxProcessor {
    let processor = Processor::detect();
    let mut features: Vec<String> = processor.features.iter().map(|&it| it.into()).collect();
    features.sort();
    let team = physical_cores().get();
    let Cores { physical, logical } =
        cores(roots).unwrap_or(Cores { physical: team, logical: team });
    let cache = |it: Cache| BoxCache {
        level: it.level,
        kind: it.kind,
        bytes: it.bytes,
        threads: it.threads,
    };
    BoxProcessor {
        architecture: processor.architecture,
        model: model(roots),
        features,
        kernels: name_of(processor.instruction_set).into(),
        cores: small(physical),
        threads: small(logical),
        caches: caches(roots).into_iter().map(cache).collect(),
    }
}

fn rate() -> Result<BoxRate, Error> {
    let threads = physical_cores().get();
    let measured = measure_read(threads);
    if !measured.checked {
        return Err(Error::Measurement { what: "the speed of memory" });
    }
    Ok(BoxRate {
        origin: BoxOrigin::Measured,
        bytes_per_second: measured.best() as u64,
        median_bytes_per_second: measured.median() as u64,
        threads: small(threads),
        bytes: measured.bytes,
        passes: small(measured.passes.len()),
        checked: measured.checked,
    })
}

/// Vulkan's devices that can run plans; none where there is no loader.
fn gpus() -> Vec<BoxGpu> {
    let devices = Instance::new(Validation::Off).and_then(|instance| instance.devices());
    let devices = devices.unwrap_or_default();
    let able = devices.iter().map(|device| device.info()).filter(|info| info.lacks.is_empty());
    able.map(gpu).collect()
}

/// Uuids are left out: they may be a device's own.
fn gpu(info: &DeviceInfo) -> BoxGpu {
    let capabilities = info.capabilities();
    BoxGpu {
        name: info.name.clone(),
        kind: match info.kind {
            DeviceKind::Discrete => BoxGpuKind::Discrete,
            DeviceKind::Integrated => BoxGpuKind::Integrated,
            DeviceKind::Virtual => BoxGpuKind::Virtual,
            DeviceKind::Cpu => BoxGpuKind::Cpu,
            DeviceKind::Other => BoxGpuKind::Other,
        },
        vendor: info.vendor,
        device: info.device,
        vulkan: info.api.clone(),
        driver: format!("{} {}", info.driver.name, info.driver.info).trim_end().into(),
        features: capabilities.features,
        subgroup_sizes: capabilities.subgroup_sizes,
        subgroups: capabilities.subgroups,
        invocations: capabilities.invocations,
        immediates: capabilities.immediates,
        shared: capabilities.shared,
        window: info.limits.storage_range,
        buffer: info.limits.buffer,
        heap: info.limits.heap,
        memory: info.limits.memory,
    }
}

/// The NPU that a load would open, where it says how large it is.
fn neural_processor(roots: &Roots) -> Option<BoxNpu> {
    let found = npu::first(&roots.dev).ok()?;
    let [columns, rows, compute_rows] = found.array.ok()?;
    let [major, minor, patch] = found.version;
    Some(BoxNpu {
        driver: format!("{} {major}.{minor}.{patch}", found.driver),
        firmware: found.firmware.ok().map(|it| it.map(|part| part.to_string()).join(".")),
        columns,
        rows,
        compute_rows,
    })
}

/// The numbers that a version begins with. What follows may name whoever built it.
fn numbers(version: &str) -> String {
    let end = version.find(|it: char| !(it.is_ascii_digit() || it == '.'));
    version[..end.unwrap_or(version.len())].trim_end_matches('.').into()
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_machine::Machine;

    #[test]
    fn the_same_machine_gives_the_same_text() {
        let machine = Machine::new(&[
            ("proc/meminfo", "MemTotal: 1048576 kB\nMemAvailable: 524288 kB\n"),
            ("proc/sys/kernel/osrelease", "6.17.0-builder@secret\n"),
            ("proc/sys/kernel/hostname", "secret\n"),
        ]);
        let text = || probe(&machine.roots(), Speed::Unknown).unwrap().to_text().unwrap();
        assert_eq!(text(), text());
        assert_eq!(BoxDescription::parse(&text()).unwrap().to_text().unwrap(), text());
        assert!(text().contains("\"kernel\": \"6.17.0\""), "{}", text());
        assert!(!text().contains("secret"), "{}", text());
        let empty = Machine::new(&[]);
        assert!(matches!(probe(&empty.roots(), Speed::Unknown), Err(Error::Unknown { .. })));
    }

    #[test]
    fn versions_are_numbers() {
        for (version, expected) in
            [("6.17.0", "6.17.0"), ("6.8.0-31-generic", "6.8.0"), ("5.15.x", "5.15"), ("x", "")]
        {
            assert_eq!(numbers(version), expected);
        }
    }
}
