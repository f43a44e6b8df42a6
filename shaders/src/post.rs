//! Passes over finished SPIR-V, for what naga cannot say.
//!
//! They edit a module in place and know nothing of what it computes.

use std::collections::{BTreeMap, BTreeSet};

use rspirv::dr::{Instruction, Module, Operand};
use rspirv::spirv::{
    Capability, CooperativeMatrixOperands, CooperativeMatrixUse, Decoration, LoopControl, Op,
    StorageClass, Word,
};

/// A change that a kernel's builder can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Cooperative products on i8 with i32 sums: the kernel is written with f16 matrices in the
    /// places of A and B and f32 ones in that of C, loaded through pointers to u32.
    CoopToI8,
}

/// Drops `ArrayStride` and `Offset` from types that no buffer has.
///
/// naga puts them on every type, which is invalid on types of workgroup and function memory
/// (VUID-StandaloneSpirv-None-10684; gfx-rs/wgpu#7696) and makes some drivers crash.
///
/// # Errors
/// A type that both a buffer and workgroup memory have: it would need both forms.
pub fn strip_workgroup_layout(module: &mut Module) -> Result<(), String> {
    let laid_out = reachable(module, |class| {
        matches!(
            class,
            StorageClass::StorageBuffer | StorageClass::Uniform | StorageClass::PushConstant
        )
    });
    let plain = reachable(module, |class| {
        matches!(class, StorageClass::Workgroup | StorageClass::Function)
    });
    let mut both = None;
    module.annotations.retain(|annotation| {
        let Some(target) = layout_target(annotation) else { return true };
        if laid_out.contains(&target) && plain.contains(&target) {
            both = Some(target);
        }
        laid_out.contains(&target)
    });
    match both {
        Some(id) => Err(format!("type %{id} is in buffers and in workgroup memory")),
        None => Ok(()),
    }
}

/// The type that a decoration of memory layout is on.
fn layout_target(annotation: &Instruction) -> Option<Word> {
    let at = match annotation.class.opcode {
        Op::Decorate => 1,
        Op::MemberDecorate => 2,
        _ => return None,
    };
    let layout = [Decoration::ArrayStride, Decoration::Offset];
    let is_layout = |decoration| layout.map(Operand::Decoration).contains(decoration);
    annotation.operands.get(at).is_some_and(is_layout).then(|| id(&annotation.operands[0]))?
}

/// Types of variables in some storage classes, and everything that they are made of.
fn reachable(module: &Module, wanted: impl Fn(StorageClass) -> bool) -> BTreeSet<Word> {
    let mut found = BTreeSet::new();
    let mut waiting: Vec<Word> = module
        .types_global_values
        .iter()
        .filter(|inst| inst.class.opcode == Op::TypePointer)
        .filter(|inst| matches!(inst.operands[0], Operand::StorageClass(class) if wanted(class)))
        .filter_map(|inst| id(&inst.operands[1]))
        .collect();
    while let Some(ty) = waiting.pop() {
        if !found.insert(ty) {
            continue;
        }
        let definition = module
            .types_global_values
            .iter()
            .find(|inst| inst.result_id == Some(ty) && inst.class.opcode != Op::TypePointer);
        waiting.extend(definition.into_iter().flat_map(|inst| inst.operands.iter().filter_map(id)));
    }
    found
}

/// Retypes cooperative matrices to i8 x i8 + i32, see [`Pass::CoopToI8`].
///
/// # Errors
/// A module without f16 and f32 matrices, or one that has i8 types already.
pub fn coop_to_i8(module: &mut Module) -> Result<(), String> {
    let [int8, int32] = [new_id(module)?, new_id(module)?];
    let types = std::mem::take(&mut module.types_global_values);
    let signed32 = types.iter().find(|inst| is_int(inst, 32, 1)).and_then(|inst| inst.result_id);
    if types.iter().any(|inst| inst.class.opcode == Op::TypeInt && !is_width(inst, 32)) {
        return Err("the module has integers of other widths already".into());
    }
    let int = |id, width| {
        let operands = vec![Operand::LiteralBit32(width), Operand::LiteralBit32(1)];
        Instruction::new(Op::TypeInt, None, Some(id), operands)
    };
    let sums = signed32.unwrap_or(int32);
    let mut retyped = vec![int(int8, 8)];
    if signed32.is_none() {
        retyped.push(int(int32, 32));
    }
    // The signed type has to stand before its first use.
    retyped.extend(
        types.iter().filter(|inst| inst.result_id == signed32 && signed32.is_some()).cloned(),
    );
    let mut changed = false;
    let uses = constants(&types);
    for mut inst in types {
        if signed32.is_some() && inst.result_id == signed32 {
            continue;
        }
        if inst.class.opcode == Op::TypeCooperativeMatrixKHR {
            let role = id(&inst.operands[4]).and_then(&uses);
            let sum = role == Some(CooperativeMatrixUse::MatrixAccumulatorKHR as u32);
            inst.operands[0] = Operand::IdRef(if sum { sums } else { int8 });
            changed = true;
        }
        retyped.push(inst);
    }
    module.types_global_values = retyped;
    let signed = CooperativeMatrixOperands::MATRIX_A_SIGNED_COMPONENTS_KHR
        | CooperativeMatrixOperands::MATRIX_B_SIGNED_COMPONENTS_KHR
        | CooperativeMatrixOperands::MATRIX_C_SIGNED_COMPONENTS_KHR
        | CooperativeMatrixOperands::MATRIX_RESULT_SIGNED_COMPONENTS_KHR;
    for inst in module.all_inst_iter_mut() {
        if inst.class.opcode == Op::CooperativeMatrixMulAddKHR {
            inst.operands.truncate(3);
            inst.operands.push(Operand::CooperativeMatrixOperands(signed));
        }
    }
    let capability = Operand::Capability(Capability::Int8);
    module.capabilities.push(Instruction::new(Op::Capability, None, None, vec![capability]));
    changed.then_some(()).ok_or_else(|| "the module has no cooperative matrices".into())
}

/// Takes halves by their bits that are unpacked to f32 and rounded to f16 again, and those that are
/// widened to f32 and packed.
///
/// WGSL cannot read a word as two f16: naga refuses that bitcast. The two conversions give the same
/// numbers and cost drivers, which do not see it, two operations for each of them.
pub fn halves_by_bits(module: &mut Module) {
    let sources = |wanted: &dyn Fn(&Instruction) -> Option<Operand>| -> BTreeMap<Word, Operand> {
        let found = module.all_inst_iter();
        found.filter_map(|inst| Some((inst.result_id?, wanted(inst)?))).collect()
    };
    let is_ext = |inst: &Instruction, number: &Operand| {
        inst.class.opcode == Op::ExtInst && inst.operands.get(1) == Some(number)
    };
    let unpacked = sources(&|inst| is_ext(inst, &UNPACK_HALVES).then(|| inst.operands[2].clone()));
    let widened =
        sources(&|inst| (inst.class.opcode == Op::FConvert).then(|| inst.operands[0].clone()));
    for inst in module.all_inst_iter_mut() {
        let bits = match inst.class.opcode {
            Op::FConvert => id(&inst.operands[0]).and_then(|id| unpacked.get(&id)),
            _ if is_ext(inst, &PACK_HALVES) => {
                id(&inst.operands[2]).and_then(|id| widened.get(&id))
            }
            _ => None,
        };
        if let Some(bits) = bits {
            let (ty, result) = (inst.result_type, inst.result_id);
            *inst = Instruction::new(Op::Bitcast, ty, result, vec![bits.clone()]);
        }
    }
}

/// Makes the matrices A and B of f32 matrices of f16, loaded from words that hold four times two.
///
/// naga takes a matrix's elements from what its pointer points to. Words of 16 bytes are stored by
/// one operation, and begin where devices want a matrix to begin.
///
/// # Errors
/// A module without f16.
pub fn matrices_of_halves(module: &mut Module) -> Result<(), String> {
    let types = &module.types_global_values;
    let float = |width| {
        let is_it =
            |inst: &&Instruction| inst.class.opcode == Op::TypeFloat && is_width(inst, width);
        types.iter().find(is_it).and_then(|inst| inst.result_id)
    };
    let constant = constants(types);
    let factors: Vec<Word> = types
        .iter()
        .filter(|inst| inst.class.opcode == Op::TypeCooperativeMatrixKHR)
        .filter(|inst| id(&inst.operands[0]) == float(32))
        .filter(|inst| {
            let role = id(&inst.operands[4]).and_then(&constant);
            role != Some(CooperativeMatrixUse::MatrixAccumulatorKHR as u32)
        })
        .filter_map(|inst| inst.result_id)
        .collect();
    if factors.is_empty() {
        return Ok(());
    }
    let half = float(16).ok_or("matrices of f16 in a module without f16")?;
    // The type may stand behind its new use.
    let at = types.iter().position(|inst| inst.result_id == Some(half)).unwrap_or(0);
    let half_type = module.types_global_values.remove(at);
    module.types_global_values.insert(0, half_type);
    for inst in &mut module.types_global_values {
        if inst.result_id.is_some_and(|id| factors.contains(&id)) {
            inst.operands[0] = Operand::IdRef(half);
        }
    }
    Ok(())
}

/// Asks drivers not to unroll loops: what is worth it is written out already, and copies of a long
/// body outgrow the instruction cache and take registers for loads that are moved to the front.
pub fn keep_loops(module: &mut Module) {
    for inst in module.all_inst_iter_mut().filter(|inst| inst.class.opcode == Op::LoopMerge) {
        inst.operands[2] = Operand::LoopControl(LoopControl::DONT_UNROLL);
    }
}

/// GLSL.std.450's UnpackHalf2x16 and PackHalf2x16.
const UNPACK_HALVES: Operand = Operand::LiteralExtInstInteger(62);
const PACK_HALVES: Operand = Operand::LiteralExtInstInteger(58);

/// Looks integer constants up by their ids.
pub(crate) fn constants(types: &[Instruction]) -> impl Fn(Word) -> Option<u32> + use<> {
    let known: Vec<(Word, u32)> = types
        .iter()
        .filter(|inst| inst.class.opcode == Op::Constant)
        .filter_map(|inst| match (inst.result_id, &inst.operands[0]) {
            (Some(id), Operand::LiteralBit32(value)) => Some((id, *value)),
            _ => None,
        })
        .collect();
    move |id| known.iter().find(|(known, _)| *known == id).map(|(_, value)| *value)
}

fn is_int(inst: &Instruction, width: u32, signed: u32) -> bool {
    inst.class.opcode == Op::TypeInt
        && is_width(inst, width)
        && inst.operands[1] == Operand::LiteralBit32(signed)
}

fn is_width(inst: &Instruction, width: u32) -> bool {
    inst.operands[0] == Operand::LiteralBit32(width)
}

pub(crate) fn id(operand: &Operand) -> Option<Word> {
    match operand {
        Operand::IdRef(id) => Some(*id),
        _ => None,
    }
}

pub(crate) fn new_id(module: &mut Module) -> Result<Word, String> {
    let header = module.header.as_mut().ok_or("the module has no header")?;
    header.bound += 1;
    Ok(header.bound - 1)
}
