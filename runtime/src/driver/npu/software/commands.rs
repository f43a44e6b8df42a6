//! Commands: what the driver checks when it takes them up, what the firmware checks when it gets
//! them, and what the array makes of them.

use bytemuck::{bytes_of, pod_read_unaligned};
use onebit_aie_emu::Fault;
use xrt_sys::ert::{
    ARGUMENTS, CHAIN_AT_MOST, CHAIN_BUFFER_BYTES, CHAIN_SLOT_BYTES, ChainHeader, HEALTH_AIE2,
    HEALTH_VERSION, Header, Health, HealthReport, START_UNIT_WORDS_AT_MOST, TXN_OPCODE, opcode,
    state,
};

use super::buffers::Buffers;
use super::contexts::{HardwareContext, Job};

/// How a call failed.
enum Failure {
    /// The driver does not pass it on; the command stays new.
    Refused(String),
    /// The firmware finds it wrong.
    Wrong(String),
    /// It does not end; the operation that waits.
    Stuck(usize, String),
}

/// A call of a unit, as its command says.
struct UnitCall {
    unit: u32,
    /// The kernel's arguments from the opcode on.
    words: Vec<u32>,
}

/// Runs a command to its end, and says why it failed if it did.
pub(super) fn run(
    context: &mut HardwareContext,
    job: &Job,
    buffers: &mut Buffers,
) -> Option<String> {
    let Some(command) = buffers.command(job.command) else {
        return Some(String::from("the command was closed before it ran"));
    };
    let header = header(command);
    let calls = match header.opcode() {
        opcode::CMD_CHAIN => chain(command, buffers),
        _ => call_of(command).map(|call| vec![(job.command, call)]),
    };
    let result = calls.and_then(|calls| {
        for (index, (command, call)) in calls.iter().enumerate() {
            start(context, call, &job.pinned, buffers).inspect_err(|failure| {
                report(buffers, job.command, *command, index, failure);
            })?;
        }
        Ok(())
    });
    match result {
        Ok(()) => {
            set_state(buffers, job.command, state::COMPLETED);
            None
        }
        Err(Failure::Refused(why) | Failure::Wrong(why) | Failure::Stuck(_, why)) => Some(why),
    }
}

/// Writes into a command, and into the call of a chain that it was, how it failed.
fn report(buffers: &mut Buffers, command: u32, call: u32, index: usize, failure: &Failure) {
    let end = match failure {
        Failure::Refused(_) => return,
        Failure::Wrong(_) => state::ERROR,
        Failure::Stuck(..) => state::TIMEOUT,
    };
    set_state(buffers, command, end);
    if call != command
        && let Some(chain) = buffers.command_mut(command)
    {
        // Behind the header, the third word.
        chain[12..16].copy_from_slice(bytes_of(&(index as u32)));
    }
    if let Failure::Stuck(operation, _) = failure {
        set_state(buffers, call, end);
        let txn_op_idx = u32::try_from(*operation).unwrap_or(u32::MAX);
        let report = HealthReport { txn_op_idx, ..HealthReport::default() };
        let health = Health { version: HEALTH_VERSION, family: HEALTH_AIE2, report };
        if let Some(call) = buffers.command_mut(call) {
            let room = call.len().min(4 + size_of::<Health>());
            call[4..room].copy_from_slice(&bytes_of(&health)[..room - 4]);
        }
    }
}

/// The calls of a chain with the handles of their commands (`aie2_cmdlist_multi_execbuf`).
fn chain(command: &[u8], buffers: &Buffers) -> Result<Vec<(u32, UnitCall)>, Failure> {
    let refused = |why: String| Err(Failure::Refused(why));
    let payload = payload(command, 0)?;
    let Some((chain, handles)) = payload.split_at_checked(size_of::<ChainHeader>()) else {
        return refused(String::from("a chain without its count"));
    };
    let count = pod_read_unaligned::<ChainHeader>(chain).count as usize;
    if !(1..=CHAIN_AT_MOST).contains(&count) || handles.len() < 8 * count {
        return refused(format!("a chain of {count} commands in {} bytes", handles.len()));
    }
    let mut calls = Vec::new();
    let mut room = CHAIN_BUFFER_BYTES;
    for handle in handles.chunks_exact(8).take(count) {
        let handle = pod_read_unaligned::<u64>(handle) as u32;
        let Some(command) = buffers.command(handle) else {
            return refused(format!("buffer {handle} of a chain is no command"));
        };
        let call = call_of(command)?;
        let slot = CHAIN_SLOT_BYTES + 4 * call.words.len();
        let Some(rest) = room.checked_sub(slot) else {
            return refused(format!("a chain of {count} commands does not fit 4096 bytes"));
        };
        room = rest;
        calls.push((handle, call));
    }
    Ok(calls)
}

/// The call that a command is (`aie2_init_exec_cu_req`).
fn call_of(command: &[u8]) -> Result<UnitCall, Failure> {
    let header = header(command);
    if header.opcode() != opcode::START_CU {
        return Err(Failure::Refused(format!("operation {} is not supported", header.opcode())));
    }
    let masks = header.masks();
    let words: Vec<u32> =
        payload(command, masks)?.chunks_exact(4).map(pod_read_unaligned).collect();
    if words.len() > START_UNIT_WORDS_AT_MOST {
        return Err(Failure::Refused(format!("{} words of arguments", words.len())));
    }
    let masks = command[4..].chunks_exact(4).take(masks as usize);
    // The driver takes the first bit of the first mask that has one, as that mask counts.
    let mask = masks.map(pod_read_unaligned).find(|&mask: &u32| mask != 0);
    let Some(mask) = mask else {
        return Err(Failure::Refused(String::from("no unit in the masks")));
    };
    Ok(UnitCall { unit: mask.trailing_zeros(), words })
}

/// A payload behind its masks.
fn payload(command: &[u8], masks: u32) -> Result<&[u8], Failure> {
    let words = header(command).words();
    let range = 4 + 4 * masks as usize..4 + 4 * words as usize;
    match command.get(range) {
        Some(payload) if words > masks => Ok(payload),
        _ => Err(Failure::Refused(format!("{words} words of payload behind {masks} masks"))),
    }
}

/// What the firmware does with a call.
fn start(
    context: &mut HardwareContext,
    call: &UnitCall,
    pinned: &[u32],
    buffers: &mut Buffers,
) -> Result<(), Failure> {
    let wrong = |why: String| Failure::Wrong(why);
    if call.unit >= context.units.into() {
        return Err(wrong(format!("unit {} of {}", call.unit, context.units)));
    }
    let [low, high, at_low, at_high, words, addresses @ ..] = &call.words[..] else {
        return Err(wrong(format!("{} words of arguments", call.words.len())));
    };
    let kernel_opcode = double(*low, *high);
    if kernel_opcode != TXN_OPCODE {
        return Err(wrong(format!("the kernel's opcode {kernel_opcode}")));
    }
    let at = double(*at_low, *at_high);
    let txn = buffers.instructions(at, 4 * u64::from(*words)).filter(|_| at.is_multiple_of(4));
    let txn = txn.ok_or_else(|| wrong(format!("{words} words of instructions at {at:#x}")))?;
    let txn = txn.to_vec();
    let mut places = Vec::new();
    for address in addresses.chunks_exact(2).take(ARGUMENTS) {
        let address = double(address[0], address[1]);
        let place = match address {
            0 => None,
            _ => Some(place_of(address, pinned, buffers).map_err(wrong)?),
        };
        places.push(place);
    }
    let mut arguments = Vec::new();
    for place in &places {
        let view = place.and_then(|(handle, offset)| Some((buffers.shared_mut(handle)?, offset)));
        arguments.push(view.map_or(Vec::new(), |(array, offset)| array[offset..].to_vec()));
    }
    context.array.run(&txn, &mut arguments).map_err(|fault| match fault {
        Fault::Deadlock { index, .. } => Failure::Stuck(index, fault.to_string()),
        _ => Failure::Wrong(fault.to_string()),
    })?;
    put_back(&places, arguments, buffers).map_err(wrong)
}

/// The buffer that holds an address. It must be one that the command names.
fn place_of(address: u64, pinned: &[u32], buffers: &Buffers) -> Result<(u32, usize), String> {
    let Some(place) = buffers.shared_at(address) else {
        return Err(format!("no shared buffer at {address:#x}"));
    };
    if !pinned.contains(&place.0) {
        return Err(format!("buffer {} at {address:#x} is not named by the command", place.0));
    }
    Ok(place)
}

/// Puts the arguments back where they came from. The emulator takes each for memory of its own:
/// one buffer may be two arguments only while no result makes them differ.
fn put_back(
    places: &[Option<(u32, usize)>],
    arguments: Vec<Vec<u8>>,
    buffers: &mut Buffers,
) -> Result<(), String> {
    for (index, (place, argument)) in places.iter().zip(&arguments).enumerate() {
        let Some((handle, offset)) = place else { continue };
        for (other, other_argument) in places.iter().zip(&arguments).take(index) {
            let Some((_, other_offset)) = other.filter(|(other, _)| other == handle) else {
                continue;
            };
            let start = (*offset).max(other_offset);
            if argument[start - offset..] != other_argument[start - other_offset..] {
                return Err(format!("buffer {handle} is two arguments, and one is a result"));
            }
        }
    }
    for (place, argument) in places.iter().zip(arguments) {
        if let Some((handle, offset)) = *place
            && let Some(array) = buffers.shared_mut(handle)
        {
            array[offset..].copy_from_slice(&argument);
        }
    }
    Ok(())
}

fn set_state(buffers: &mut Buffers, command: u32, state: u32) {
    if let Some(command) = buffers.command_mut(command) {
        let header = header(command).with_state(state);
        command[..4].copy_from_slice(bytes_of(&header));
    }
}

/// A command is at least a page long.
fn header(command: &[u8]) -> Header {
    pod_read_unaligned(&command[..4])
}

fn double(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}
