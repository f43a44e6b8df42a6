//! Memory that invocations share, in modules of the Vulkan memory model.
//!
//! naga takes that model for cooperative matrices, and writes accesses and barriers as if it were
//! the older one. There every access is private unless it says otherwise, and a barrier makes
//! nothing available or visible unless it says so (SPIR-V, Memory Model; Vulkan, appendix Memory
//! Model). A compiler may then read workgroup memory before others have written it.

use std::collections::BTreeMap;

use rspirv::dr::{Instruction, Module, Operand};
use rspirv::spirv::{MemoryAccess, MemoryModel, MemorySemantics, Op, StorageClass, Word};

use crate::post::{id, new_id};

/// Where the optional memory operands of an access stand, and its pointer.
const ACCESSES: [(Op, usize, usize); 4] = [
    (Op::Load, 0, 1),
    (Op::Store, 0, 2),
    // Pointer, layout, stride, and pointer, object, layout, stride.
    (Op::CooperativeMatrixLoadKHR, 0, 3),
    (Op::CooperativeMatrixStoreKHR, 0, 4),
];

/// Says of accesses to memory that others see that it is so, and of barriers that they are to
/// show it. Does nothing to modules of another memory model.
///
/// # Errors
/// A barrier whose semantics are no constant.
pub fn share_memory(module: &mut Module) -> Result<(), String> {
    let model = module.memory_model.as_ref().and_then(|model| model.operands.get(1));
    if model != Some(&Operand::MemoryModel(MemoryModel::Vulkan)) {
        return Ok(());
    }
    let shared = shared_pointers(module);
    for instruction in module.all_inst_iter_mut() {
        let op = instruction.class.opcode;
        let access = ACCESSES.iter().find(|access| access.0 == op);
        let Some(&(_, pointer, at)) = access else { continue };
        let is_shared =
            id(&instruction.operands[pointer]).is_some_and(|id| shared.contains_key(&id));
        if is_shared {
            say_shared(instruction, at);
        }
    }
    widen_barriers(module)
}

/// Pointers to memory of the workgroup and to buffers, by id.
fn shared_pointers(module: &Module) -> BTreeMap<Word, StorageClass> {
    let class_of = |instruction: &Instruction| match instruction.operands.first() {
        Some(&Operand::StorageClass(class)) => Some(class),
        _ => None,
    };
    let types: BTreeMap<Word, StorageClass> = module
        .types_global_values
        .iter()
        .filter(|instruction| instruction.class.opcode == Op::TypePointer)
        .filter_map(|instruction| Some((instruction.result_id?, class_of(instruction)?)))
        .filter(|(_, class)| matches!(class, StorageClass::Workgroup | StorageClass::StorageBuffer))
        .collect();
    let pointers = module.all_inst_iter().filter_map(|instruction| {
        let class = types.get(&instruction.result_type?)?;
        Some((instruction.result_id?, *class))
    });
    pointers.collect()
}

fn say_shared(instruction: &mut Instruction, at: usize) {
    match instruction.operands.get_mut(at) {
        Some(Operand::MemoryAccess(access)) => *access |= MemoryAccess::NON_PRIVATE_POINTER,
        _ => {
            let access = Operand::MemoryAccess(MemoryAccess::NON_PRIVATE_POINTER);
            instruction.operands.insert(at, access);
        }
    }
}

/// Lets control barriers make available and visible what their semantics name.
fn widen_barriers(module: &mut Module) -> Result<(), String> {
    let mut wide: BTreeMap<Word, Word> = BTreeMap::new();
    let barriers: Vec<Word> = module
        .all_inst_iter()
        .filter(|instruction| instruction.class.opcode == Op::ControlBarrier)
        .filter_map(|instruction| match instruction.operands.get(2) {
            Some(&Operand::IdMemorySemantics(semantics)) => Some(semantics),
            _ => None,
        })
        .collect();
    for semantics in barriers {
        if wide.contains_key(&semantics) {
            continue;
        }
        let constants = &module.types_global_values;
        let constant = constants.iter().find(|it| it.result_id == Some(semantics));
        let Some((ty, &[Operand::LiteralBit32(bits)])) = constant
            .and_then(|it| Some((it.result_type, <&[_; 1]>::try_from(&it.operands[..]).ok()?)))
        else {
            return Err(format!("the semantics %{semantics} of a barrier are no constant"));
        };
        let show = MemorySemantics::MAKE_AVAILABLE | MemorySemantics::MAKE_VISIBLE;
        let value = vec![Operand::LiteralBit32(bits | show.bits())];
        let new = new_id(module)?;
        module.types_global_values.push(Instruction::new(Op::Constant, ty, Some(new), value));
        wide.insert(semantics, new);
    }
    for instruction in module.all_inst_iter_mut() {
        if instruction.class.opcode == Op::ControlBarrier
            && let Some(Operand::IdMemorySemantics(semantics)) = instruction.operands.get_mut(2)
        {
            *semantics = wide.get(semantics).copied().unwrap_or(*semantics);
        }
    }
    Ok(())
}
