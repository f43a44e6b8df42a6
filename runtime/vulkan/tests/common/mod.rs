//! A device for tests: lavapipe behind the validation layer, and kernels from WGSL.

use std::sync::Arc;

use naga::back::spv;
use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use onebit_vulkan::{Device, Inspect, Instance, Pipeline, PipelineDesc, Validation, VulkanError};

/// Lavapipe with the validation layer, or a loud line about why not. Chosen by what the drivers
/// say of themselves, so no environment is needed.
pub fn lavapipe(validation: Validation) -> Option<(Instance, Arc<Device>)> {
    let instance = match Instance::new(validation) {
        Err(error @ (VulkanError::NoLoader { .. } | VulkanError::NoDriver)) => {
            eprintln!("skipped: {error}");
            return None;
        }
        Err(error @ VulkanError::NoLayer { .. }) => {
            eprintln!("skipped: {error}");
            return None;
        }
        other => other.unwrap(),
    };
    let devices = instance.devices().unwrap();
    let Some(found) = devices.iter().find(|device| device.info().is_lavapipe()) else {
        eprintln!("skipped: lavapipe is not among the {} devices", devices.len());
        return None;
    };
    let device = found.open().unwrap();
    Some((instance, device))
}

/// What the validation layer found must be nothing.
#[track_caller]
pub fn assert_valid(instance: &Instance) {
    let findings = instance.take_findings();
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

/// SPIR-V 1.6 of a WGSL kernel.
pub fn spirv(wgsl: &str) -> Vec<u32> {
    let module = naga::front::wgsl::parse_str(wgsl).unwrap();
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    validator
        .subgroup_stages(ShaderStages::COMPUTE)
        .subgroup_operations(SubgroupOperationSet::all());
    let info = validator.validate(&module).unwrap();
    let options = spv::Options {
        lang_version: (1, 6),
        flags: spv::WriterFlags::empty(),
        use_storage_input_output_16: false,
        ..spv::Options::default()
    };
    spv::write_vec(&module, &info, &options, None).unwrap()
}

/// A pipeline of a WGSL kernel with workgroups of 64.
pub fn pipeline(
    device: &Arc<Device>,
    wgsl: &str,
    bindings: &[u32],
    immediates: u32,
    inspect: Inspect,
) -> Result<Arc<Pipeline>, VulkanError> {
    let spirv = spirv(wgsl);
    let desc = PipelineDesc {
        name: "test",
        spirv: &spirv,
        bindings,
        immediates,
        workgroup: 64,
        subgroup: None,
        inspect,
    };
    Pipeline::new(device, &desc, None)
}
