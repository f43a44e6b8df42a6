//! What registers hold while an entry runs, as far as it follows from the code: the tables and
//! buffers of its step context, with constant offsets.
//!
//! A forward analysis to its fixed point: what is known before an instruction is what all ways to
//! it agree on. It is for comments in listings; nothing is decided by it.

use std::collections::BTreeMap;
use std::mem::offset_of;

use iced_x86::{
    Code, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};
use onebit_plan::abi::StepContext;

/// A value that stands for something of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Address of the step context.
    Context,
    /// Address of the table of kernels.
    Kernels,
    /// Address of the kernel in this slot.
    Kernel(u64),
    /// Addresses with the bytes from the start of what they are in.
    Code(u64),
    Weights(u64),
    Arena(u64),
    Private(u64),
    Number(u64),
}

/// What is worth a comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The instruction calls this.
    Call(Known),
    /// The instruction makes this address.
    Address(Known),
}

/// Registers that a called function may change, by the System V convention.
const CLOBBERED: [Register; 9] = [
    Register::RAX,
    Register::RCX,
    Register::RDX,
    Register::RSI,
    Register::RDI,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
];

/// Where a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Register(usize),
    /// Bytes from the stack pointer.
    Stack(u64),
}

type State = BTreeMap<Place, Known>;

/// For each instruction of an entry, in order, what it means.
pub fn meanings(instructions: &[Instruction]) -> Vec<Option<Meaning>> {
    let places: BTreeMap<u64, usize> =
        instructions.iter().enumerate().map(|(index, it)| (it.ip(), index)).collect();
    let mut before: Vec<Option<State>> = vec![None; instructions.len()];
    let mut info = InstructionInfoFactory::new();
    let start = State::from([(register(Register::RDI), Known::Context)]);
    let mut open = vec![(0, start)];
    while let Some((index, state)) = open.pop() {
        let Some(instruction) = instructions.get(index) else { continue };
        let Some(state) = meet(&mut before[index], state) else { continue };
        let after = step(&mut info, instruction, state);
        let target = places.get(&instruction.near_branch_target()).copied();
        match instruction.flow_control() {
            FlowControl::Return | FlowControl::Exception | FlowControl::IndirectBranch => {}
            FlowControl::UnconditionalBranch => open.extend(target.map(|to| (to, after))),
            FlowControl::ConditionalBranch => {
                open.extend(target.map(|to| (to, after.clone())));
                open.push((index + 1, after));
            }
            _ => open.push((index + 1, after)),
        }
    }
    let meaning = |(instruction, before): (&Instruction, Option<State>)| {
        let before = before?;
        if instruction.flow_control() == FlowControl::IndirectCall {
            return operand(instruction, 0, &before).map(Meaning::Call);
        }
        if !matches!(instruction.mnemonic(), Mnemonic::Lea | Mnemonic::Add) {
            return None;
        }
        let target = register(instruction.op0_register());
        step(&mut info, instruction, before).get(&target).copied().map(Meaning::Address)
    };
    instructions.iter().zip(before).map(meaning).collect()
}

/// Joins what comes on another way; gives the result when it is news.
fn meet(known: &mut Option<State>, other: State) -> Option<State> {
    let joined = match known {
        None => other,
        Some(old) => {
            let agreed = old.iter().filter(|(place, value)| other.get(place) == Some(value));
            let agreed: State = agreed.map(|(place, value)| (*place, *value)).collect();
            if agreed.len() == old.len() {
                return None;
            }
            agreed
        }
    };
    *known = Some(joined.clone());
    Some(joined)
}

/// What is known behind `instruction`.
fn step(info: &mut InstructionInfoFactory, instruction: &Instruction, mut state: State) -> State {
    if matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall) {
        // The stack pointer is back where it was when the called function returns.
        state.retain(|place, _| !CLOBBERED.iter().any(|&it| register(it) == *place));
        return state;
    }
    let result = result(instruction, &state);
    for used in info.info(instruction).used_registers() {
        if matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess) {
            continue;
        }
        if used.register().full_register() == Register::RSP {
            state.retain(|place, _| matches!(place, Place::Register(_)));
        }
        state.remove(&register(used.register()));
    }
    match instruction.op0_kind() {
        OpKind::Memory if instruction.memory_base() == Register::RSP => {
            store(instruction, result, &mut state);
        }
        OpKind::Register => {
            if let Some(value) = result {
                state.insert(register(instruction.op0_register()), value);
            }
        }
        _ => {}
    }
    state
}

/// What is known behind an instruction whose first operand lies on the stack.
fn store(instruction: &Instruction, value: Option<Known>, state: &mut State) {
    // Comparisons have the same form and write nothing.
    if matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test) {
        return;
    }
    let size = instruction.memory_size().size() as u64;
    let at = instruction.memory_displacement64();
    // Behind an index the place is anywhere.
    let somewhere = instruction.memory_index() != Register::None;
    let apart =
        |slot: u64| !somewhere && (slot.wrapping_add(8) <= at || at.wrapping_add(size) <= slot);
    state.retain(|place, _| !matches!(place, Place::Stack(slot) if !apart(*slot)));
    if let (Some(value), Mnemonic::Mov, false) = (value, instruction.mnemonic(), somewhere) {
        state.insert(Place::Stack(at), value);
    }
}

/// The value that `instruction` makes, where it is one that stands for something.
fn result(instruction: &Instruction, state: &State) -> Option<Known> {
    match instruction.mnemonic() {
        Mnemonic::Mov => operand(instruction, 1, state),
        Mnemonic::Lea => {
            let base = *state.get(&register(instruction.memory_base()))?;
            let index = instruction.memory_index();
            let index = match (index, state.get(&register(index))) {
                (Register::None, _) => 0,
                (_, Some(Known::Number(number))) => {
                    number.wrapping_mul(instruction.memory_index_scale().into())
                }
                _ => return None,
            };
            plus(base, index.wrapping_add(instruction.memory_displacement64()))
        }
        Mnemonic::Add => {
            let (a, b) = (operand(instruction, 0, state)?, operand(instruction, 1, state)?);
            match (a, b) {
                (base, Known::Number(number)) | (Known::Number(number), base) => plus(base, number),
                _ => None,
            }
        }
        // Of 32 bits, too, since the upper half becomes 0; of fewer the rest stays.
        Mnemonic::Xor if instruction.op0_register() == instruction.op1_register() => {
            let name = instruction.op0_register();
            (name.is_gpr64() || name.is_gpr32()).then_some(Known::Number(0))
        }
        _ => None,
    }
}

/// What operand `index` holds.
fn operand(instruction: &Instruction, index: u32, state: &State) -> Option<Known> {
    match instruction.op_kind(index) {
        OpKind::Register => {
            let name = instruction.op_register(index);
            let wide = name.is_gpr64() || instruction.code() == Code::Mov_r32_imm32;
            wide.then(|| state.get(&register(name)).copied())?
        }
        OpKind::Memory => loaded(instruction, state),
        OpKind::Immediate8 | OpKind::Immediate16 => None,
        _ => instruction.try_immediate(index).ok().map(Known::Number),
    }
}

/// What a load of 8 bytes gives.
fn loaded(instruction: &Instruction, state: &State) -> Option<Known> {
    let at = instruction.memory_displacement64();
    if instruction.memory_index() != Register::None || instruction.memory_size().size() != 8 {
        return None;
    }
    if instruction.memory_base() == Register::RSP {
        return state.get(&Place::Stack(at)).copied();
    }
    match state.get(&register(instruction.memory_base()))? {
        Known::Context => field(at),
        Known::Kernels if at.is_multiple_of(8) => Some(Known::Kernel(at / 8)),
        _ => None,
    }
}

/// What stands at byte `at` of a step context.
fn field(at: u64) -> Option<Known> {
    let fields = [
        (offset_of!(StepContext, kernels), Known::Kernels),
        (offset_of!(StepContext, code), Known::Code(0)),
        (offset_of!(StepContext, weights), Known::Weights(0)),
        (offset_of!(StepContext, arena), Known::Arena(0)),
        (offset_of!(StepContext, private), Known::Private(0)),
    ];
    fields.into_iter().find(|(offset, _)| *offset as u64 == at).map(|(_, known)| known)
}

fn plus(base: Known, bytes: u64) -> Option<Known> {
    Some(match base {
        Known::Code(at) => Known::Code(at.wrapping_add(bytes)),
        Known::Weights(at) => Known::Weights(at.wrapping_add(bytes)),
        Known::Arena(at) => Known::Arena(at.wrapping_add(bytes)),
        Known::Private(at) => Known::Private(at.wrapping_add(bytes)),
        Known::Number(at) => Known::Number(at.wrapping_add(bytes)),
        Known::Context | Known::Kernels | Known::Kernel(_) => return None,
    })
}

fn register(register: Register) -> Place {
    Place::Register(register.full_register() as usize)
}
