//! WGSL to SPIR-V by naga, and the passes after it.

use naga::AddressSpace;
use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy, Layouter};
use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};

use onebit_plan::gpu::GpuFeature;
use rspirv::binary::{Assemble, Disassemble};

use crate::audit::audit;
use crate::kernel::Kernel;
use crate::post::{
    Pass, coop_to_i8, halves_by_bits, keep_loops, matrices_of_halves, strip_workgroup_layout,
};
use crate::visible::share_memory;

/// Why a kernel did not compile: a defect of its builder.
#[derive(Debug, thiserror::Error)]
#[error("kernel {kernel}: {stage}: {message}")]
pub struct ShaderError {
    pub kernel: String,
    /// `parse`, `validate`, `emit`, `edit` or `audit`.
    pub stage: &'static str,
    /// With the line of WGSL, where there is one.
    pub message: String,
}

/// A kernel in SPIR-V 1.6.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    pub words: Vec<u32>,
    /// Bytes that a workgroup shares, at most.
    pub shared: u32,
    /// What it needs of a device, sorted.
    pub features: Vec<GpuFeature>,
}

impl Module {
    /// The module as text, for people.
    ///
    /// # Errors
    /// Words that are no module.
    pub fn disassemble(&self) -> Result<String, String> {
        rspirv::dr::load_words(&self.words)
            .map(|module| module.disassemble())
            .map_err(|e| e.to_string())
    }
}

/// Compiles a kernel. The same kernel gives the same words.
///
/// # Errors
/// WGSL that naga refuses, and modules that need what the runtime does not know.
pub fn compile(kernel: &Kernel) -> Result<Module, ShaderError> {
    compile_with(kernel, &[])
}

/// Compiles a kernel and applies passes to it.
///
/// # Errors
/// As [`compile`], and modules that a pass does not fit.
pub fn compile_with(kernel: &Kernel, passes: &[Pass]) -> Result<Module, ShaderError> {
    let error = |stage, message| ShaderError { kernel: kernel.name.clone(), stage, message };
    let Translated { words, shared } = translate(kernel)?;
    let mut module = rspirv::dr::load_words(&words).map_err(|e| error("edit", e.to_string()))?;
    strip_workgroup_layout(&mut module).map_err(|e| error("edit", e))?;
    share_memory(&mut module).map_err(|e| error("edit", e))?;
    halves_by_bits(&mut module);
    matrices_of_halves(&mut module).map_err(|e| error("edit", e))?;
    for pass in passes {
        match pass {
            Pass::CoopToI8 => coop_to_i8(&mut module).map_err(|e| error("edit", e))?,
        }
    }
    let features = audit(&module).map_err(|e| error("audit", e))?;
    if features.contains(&GpuFeature::CooperativeF16) {
        keep_loops(&mut module);
    }
    Ok(Module { words: module.assemble(), shared, features })
}

struct Translated {
    words: Vec<u32>,
    shared: u32,
}

fn translate(kernel: &Kernel) -> Result<Translated, ShaderError> {
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
    let shared = shared_bytes(&module).map_err(|e| error("validate", e))?;
    if let Some(name) = unaligned_neighbour(&module) {
        let message = format!("workgroup variable {name} does not fill words of 16 bytes");
        return Err(error("validate", message));
    }
    Ok(Translated { words, shared })
}

/// Bytes of the variables that a workgroup shares, each at a multiple of 16 as drivers may lay
/// them out.
fn shared_bytes(module: &naga::Module) -> Result<u32, String> {
    let mut layouter = Layouter::default();
    layouter.update(module.to_ctx()).map_err(|error| error.to_string())?;
    let variables = module.global_variables.iter().map(|(_, variable)| variable);
    let shared = variables.filter(|variable| variable.space == AddressSpace::WorkGroup);
    Ok(shared.map(|variable| layouter[variable.ty].size.next_multiple_of(16)).sum())
}

/// A workgroup variable that moves others off multiples of 16 bytes, in a module of cooperative
/// matrices.
///
/// Matrices are loaded from such multiples (VUID-RuntimeSpirv-OpCooperativeMatrixLoadKHR-08986).
/// Where a variable begins is the driver's choice, by its type's alignment, which is 8 bytes for
/// `vec4<f16>`: NVIDIA's puts variables one behind the other, and loads from between two multiples
/// give wrong numbers.
fn unaligned_neighbour(module: &naga::Module) -> Option<&str> {
    let is_matrix =
        |(_, ty): (_, &naga::Type)| matches!(ty.inner, naga::TypeInner::CooperativeMatrix { .. });
    if !module.types.iter().any(is_matrix) {
        return None;
    }
    let mut variables = module.global_variables.iter().map(|(_, variable)| variable);
    let unaligned = variables.find(|variable| {
        variable.space == AddressSpace::WorkGroup
            && !module.types[variable.ty].inner.size(module.to_ctx()).is_multiple_of(16)
    });
    unaligned.map(|variable| variable.name.as_deref().unwrap_or("without a name"))
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
