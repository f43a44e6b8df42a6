//! What a module asks of a device, read off its capabilities.

use std::collections::BTreeSet;

use onebit_plan::gpu::GpuFeature;
use rspirv::dr::{Module, Operand};
use rspirv::spirv::{Capability, Op};

use crate::post::{constants, id};

/// What makes a capability legal.
enum Needs {
    /// Every device that the runtime takes has it.
    Nothing,
    Feature(GpuFeature),
    /// One of the cooperative features, by the matrices' element types.
    Cooperative,
}

/// Extension that a capability needs in SPIR-V 1.6, and what of the device. A capability that is
/// not here is one that the contract with the runtime does not have.
const CAPABILITIES: &[(Capability, Option<&str>, Needs)] = &[
    (Capability::Shader, None, Needs::Nothing),
    (Capability::Matrix, None, Needs::Nothing),
    (Capability::GroupNonUniform, None, Needs::Nothing),
    (Capability::GroupNonUniformVote, None, Needs::Nothing),
    (Capability::GroupNonUniformArithmetic, None, Needs::Nothing),
    (Capability::GroupNonUniformBallot, None, Needs::Nothing),
    (Capability::GroupNonUniformShuffle, None, Needs::Nothing),
    (Capability::DotProduct, None, Needs::Feature(GpuFeature::IntegerDot)),
    (Capability::DotProductInput4x8BitPacked, None, Needs::Feature(GpuFeature::IntegerDot)),
    (Capability::Float16, None, Needs::Feature(GpuFeature::Float16)),
    (Capability::StorageBuffer16BitAccess, None, Needs::Feature(GpuFeature::Storage16)),
    (Capability::UniformAndStorageBuffer16BitAccess, None, Needs::Feature(GpuFeature::Storage16)),
    (Capability::Int8, None, Needs::Feature(GpuFeature::Int8)),
    (Capability::VulkanMemoryModel, None, Needs::Feature(GpuFeature::MemoryModel)),
    (Capability::VulkanMemoryModelDeviceScope, None, Needs::Feature(GpuFeature::MemoryModel)),
    (Capability::CooperativeMatrixKHR, Some("SPV_KHR_cooperative_matrix"), Needs::Cooperative),
];

/// Features that a module needs, sorted.
///
/// A cooperative module's matrices are 16x16 for the runtime's purposes; their size is the
/// builder's choice and not looked at here.
///
/// # Errors
/// A capability that is unknown or lacks its extension.
pub fn audit(module: &Module) -> Result<Vec<GpuFeature>, String> {
    let mut features = BTreeSet::new();
    for inst in &module.capabilities {
        let Operand::Capability(capability) = inst.operands[0] else { continue };
        let known = CAPABILITIES.iter().find(|(known, ..)| *known == capability);
        let Some((_, extension, needs)) = known else {
            return Err(format!("no device feature is known for capability {capability:?}"));
        };
        if let Some(extension) = extension.filter(|extension| !has_extension(module, extension)) {
            return Err(format!("capability {capability:?} without extension {extension}"));
        }
        match needs {
            Needs::Nothing => {}
            Needs::Feature(feature) => _ = features.insert(*feature),
            Needs::Cooperative => _ = features.insert(cooperative(module)?),
        }
    }
    Ok(features.into_iter().collect())
}

fn has_extension(module: &Module, name: &str) -> bool {
    let name = Operand::LiteralString(name.into());
    module.extensions.iter().any(|inst| inst.operands[0] == name)
}

/// The cooperative feature, by the narrowest elements of the module's matrices.
fn cooperative(module: &Module) -> Result<GpuFeature, String> {
    let types = &module.types_global_values;
    let constant = constants(types);
    let matrices = types.iter().filter(|inst| inst.class.opcode == Op::TypeCooperativeMatrixKHR);
    let elements = matrices.filter_map(|inst| id(&inst.operands[0]));
    let element = |ty| types.iter().find(|inst| inst.result_id == Some(ty));
    let widths = elements.filter_map(element).map(|inst| match inst.operands[0] {
        Operand::LiteralBit32(width) => (width, inst.class.opcode),
        _ => (0, inst.class.opcode),
    });
    let scopes = types
        .iter()
        .filter(|inst| inst.class.opcode == Op::TypeCooperativeMatrixKHR)
        .filter_map(|inst| match inst.operands[1] {
            Operand::IdScope(scope) => constant(scope),
            _ => None,
        });
    // Scope 3 is the subgroup.
    if scopes.into_iter().any(|scope| scope != 3) {
        return Err("cooperative matrices beyond one subgroup".into());
    }
    match widths.min_by_key(|(width, _)| *width) {
        Some((16, Op::TypeFloat)) => Ok(GpuFeature::CooperativeF16),
        Some((8, Op::TypeInt)) => Ok(GpuFeature::CooperativeI8),
        other => Err(format!("cooperative matrices of {other:?}")),
    }
}
