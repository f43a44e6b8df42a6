//! WGSL to SPIR-V by naga.

use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};

use crate::kernel::Kernel;

/// Why a kernel did not compile: a defect of its builder.
#[derive(Debug, thiserror::Error)]
#[error("kernel {kernel}: {stage}: {message}")]
pub struct ShaderError {
    pub kernel: String,
    /// `parse`, `validate` or `emit`.
    pub stage: &'static str,
    /// With the line of WGSL, where there is one.
    pub message: String,
}

/// A kernel in SPIR-V 1.6.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    pub words: Vec<u32>,
}

/// Compiles a kernel. The same kernel gives the same words.
///
/// # Errors
/// WGSL that naga refuses.
pub fn compile(kernel: &Kernel) -> Result<Module, ShaderError> {
    let error = |stage, message| ShaderError { kernel: kernel.name.clone(), stage, message };
    let module = naga::front::wgsl::parse_str(&kernel.wgsl)
        .map_err(|e| error("parse", e.emit_to_string(&kernel.wgsl)))?;
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    validator
        .subgroup_stages(ShaderStages::COMPUTE)
        .subgroup_operations(SubgroupOperationSet::all());
    let info = validator
        .validate(&module)
        .map_err(|e| error("validate", e.emit_to_string(&kernel.wgsl)))?;
    let words = spv::write_vec(&module, &info, &options(), None)
        .map_err(|e| error("emit", e.to_string()))?;
    Ok(Module { words })
}

/// No check that shapes known at compile time make needless: bounds are the builders' concern.
fn options() -> spv::Options<'static> {
    let bounds = BoundsCheckPolicies {
        index: BoundsCheckPolicy::Unchecked,
        buffer: BoundsCheckPolicy::Unchecked,
        image_load: BoundsCheckPolicy::Unchecked,
        binding_array: BoundsCheckPolicy::Unchecked,
    };
    spv::Options {
        lang_version: (1, 6),
        flags: spv::WriterFlags::empty(),
        bounds_check_policies: bounds,
        force_loop_bounding: false,
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        emit_int_div_checks: false,
        use_storage_input_output_16: false,
        ..spv::Options::default()
    }
}
