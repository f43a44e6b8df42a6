//! x86-64 code as text, with what calls and addresses stand for.

use iced_x86::{Code, Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter};
use onebit_plan::abi::KernelId;
use onebit_plan::manifest::{BufferRecord, BufferScope, Entry, Manifest};

use super::flow::{self, Known, Meaning};
use super::{Line, part};

/// An entry, with kernels, functions, weights and scratch named where the code says which.
pub fn entry(manifest: &Manifest, entry: &Entry, code: &[u8]) -> Vec<Line> {
    let instructions = decode(part(code, entry.offset, entry.length), entry.offset);
    let notes = flow::meanings(&instructions);
    let note = |meaning: &Meaning| match meaning {
        Meaning::Call(known) => called(manifest, *known),
        Meaning::Address(known) => address(manifest, entry, *known),
    };
    let notes = notes.iter().map(|meaning| meaning.as_ref().and_then(note));
    lines(&instructions, notes)
}

/// A row loop.
pub fn function(bytes: &[u8], offset: u64) -> Vec<Line> {
    let all = decode(bytes, offset);
    // Constants of a function lie behind its last instruction and zeros up to their alignment.
    let constants = all.iter().filter(|it| it.is_ip_rel_memory_operand());
    let constants = constants.map(Instruction::ip_rel_memory_address).min();
    let end = constants.map_or(bytes.len(), |at| {
        bytes.len().min(usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX))
    });
    let mut instructions = decode(&bytes[..end], offset);
    let zeros = |it: &Instruction| it.is_invalid() || it.code() == Code::Add_rm8_r8;
    while instructions.last().is_some_and(|last| constants.is_some() && zeros(last)) {
        instructions.pop();
    }
    let constant = |instruction: &Instruction| {
        if !instruction.is_ip_rel_memory_operand() {
            return None;
        }
        let at = usize::try_from(instruction.ip_rel_memory_address().checked_sub(offset)?).ok()?;
        let size = instruction.memory_size().size();
        floats(bytes.get(at..at.checked_add(size)?)?)
    };
    let notes: Vec<_> = instructions.iter().map(constant).collect();
    let mut lines = lines(&instructions, notes.into_iter());
    for (index, chunk) in bytes[end..].chunks(16).enumerate() {
        let at = offset + (end + 16 * index) as u64;
        let digits: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        lines.push(Line { offset: at, text: format!("  {at:08x}: data {}\n", digits.join(" ")) });
    }
    lines
}

/// What a kernel is called in listings: `matmul.Q4DM`.
fn kernel_name(kernel: KernelId) -> String {
    match kernel {
        KernelId::Barrier => "barrier".into(),
        KernelId::RopeTable => "rope_table".into(),
        KernelId::KvWrite => "kv_write".into(),
        KernelId::Attention => "attention".into(),
        KernelId::Matmul(class) => format!("matmul.{class:?}"),
        KernelId::Gather(class) => format!("gather.{class:?}"),
        KernelId::Array => "array".into(),
        KernelId::Trace => "trace".into(),
    }
}

fn called(manifest: &Manifest, known: Known) -> Option<String> {
    match known {
        Known::Kernel(slot) => {
            let kernel = manifest.kernels.iter().find(|kernel| kernel.slot() as u64 == slot)?;
            Some(format!("call {}", kernel_name(*kernel)))
        }
        Known::Code(offset) => {
            let function = manifest.functions.iter().find(|it| it.offset == offset)?;
            Some(format!("call function {}", function.name))
        }
        _ => None,
    }
}

fn address(manifest: &Manifest, entry: &Entry, known: Known) -> Option<String> {
    match known {
        Known::Weights(at) => {
            let holds = |offset: u64, bytes: u64| offset <= at && at - offset < bytes;
            let record = manifest.weights.iter().find(|record| holds(record.offset, record.bytes));
            let name = record.map_or(String::new(), |it| format!(" {}", it.tensors.join(" + ")));
            Some(format!("weights+{at}{name}"))
        }
        Known::Code(at) => {
            let function = manifest.functions.iter().find(|function| function.offset == at);
            let name = function.map_or(String::new(), |it| format!(" function {}", it.name));
            Some(format!("code+{at:#x}{name}"))
        }
        Known::Arena(at) => Some(scratch(entry, BufferScope::Shared, "arena", at)),
        Known::Private(at) => Some(scratch(entry, BufferScope::Private, "private", at)),
        Known::Context | Known::Kernels | Known::Kernel(_) | Known::Number(_) => None,
    }
}

/// Scratch by what may lie there: several buffers share bytes, one after the other.
fn scratch(entry: &Entry, scope: BufferScope, place: &str, at: u64) -> String {
    let holds = |buffer: &&BufferRecord| {
        buffer.scope == scope && buffer.offset <= at && at - buffer.offset < buffer.bytes
    };
    let mut names: Vec<&str> =
        entry.buffers.iter().filter(holds).map(|buffer| buffer.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    format!("{place}+{at} {}", names.join(" or "))
}

fn decode(bytes: &[u8], offset: u64) -> Vec<Instruction> {
    Decoder::with_ip(64, bytes, offset, DecoderOptions::NONE).iter().collect()
}

fn lines(instructions: &[Instruction], notes: impl Iterator<Item = Option<String>>) -> Vec<Line> {
    let mut formatter = IntelFormatter::new();
    formatter.options_mut().set_space_after_operand_separator(true);
    let line = |(instruction, note): (&Instruction, Option<String>)| {
        let mut code = String::new();
        formatter.format(instruction, &mut code);
        let at = instruction.ip();
        let text = match note {
            Some(note) => format!("  {at:08x}: {code:<44} ; {note}\n"),
            None => format!("  {at:08x}: {code}\n"),
        };
        Line { offset: at, text }
    };
    instructions.iter().zip(notes).map(line).collect()
}

/// Bytes of a constant as floats, one where all are equal.
fn floats(bytes: &[u8]) -> Option<String> {
    let (words, []) = bytes.as_chunks::<4>() else { return None };
    let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
    let first = values.first()?;
    if values.iter().all(|value| value.to_bits() == first.to_bits()) {
        return Some(format!("{first:?} = {:#010x}", first.to_bits()));
    }
    Some(format!("{values:?}"))
}
