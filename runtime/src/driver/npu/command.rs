//! Command buffers: what the back end writes into them, and what it reads afterwards.

use bytemuck::{bytes_of, pod_read_unaligned};
use xrt_sys::ert::{
    ARGUMENTS, CHAIN_AT_MOST, CHAIN_BUFFER_BYTES, CHAIN_SLOT_BYTES, ChainHeader, HEALTH_AIE2,
    HEALTH_VERSION, Header, Health, HealthReport, StartUnit, TXN_OPCODE, opcode,
};

/// Bytes of a header word.
const HEADER: usize = size_of::<Header>();

/// Calls of a chain: as many as have room in the 4096 bytes in which the driver passes a chain to
/// the firmware, with the longer of its two forms of a slot (52 bytes and the 15 words of our
/// payload; amd/xdna-driver `aie2_message.c`, `aie2_cmdlist_fill_npu_cf`).
pub(super) const CALLS_PER_CHAIN: usize =
    CHAIN_BUFFER_BYTES / (CHAIN_SLOT_BYTES + size_of::<StartUnit>() - size_of::<u32>());

const _: () = assert!(CALLS_PER_CHAIN == 36 && CALLS_PER_CHAIN <= CHAIN_AT_MOST);

/// Bytes of the longest command.
pub(super) const COMMAND_BYTES: usize = 4096;

const _: () = assert!(HEADER + size_of::<ChainHeader>() + 8 * CHAIN_AT_MOST <= COMMAND_BYTES);

/// Writes the call of a program into a command buffer.
///
/// # Panics
/// With more buffers than [`ARGUMENTS`].
pub(super) fn write_call(command: &mut [u8], instructions: u64, bytes: u32, buffers: &[u64]) {
    let mut start = StartUnit {
        mask: 1,
        opcode: halves(TXN_OPCODE),
        instructions: halves(instructions),
        instruction_words: bytes / 4,
        buffers: [[0; 2]; ARGUMENTS],
    };
    for (index, &address) in buffers.iter().enumerate() {
        start.buffers[index] = halves(address);
    }
    let words = size_of::<StartUnit>() as u32 / 4;
    write(command, opcode::START_CU, words, &[bytes_of(&start)]);
}

/// Writes a chain of commands, given their handles, into a command buffer.
///
/// # Panics
/// With more handles than [`CHAIN_AT_MOST`].
pub(super) fn write_chain(command: &mut [u8], handles: impl ExactSizeIterator<Item = u32>) {
    let mut wide = [0_u64; CHAIN_AT_MOST];
    let count = handles.len();
    wide.iter_mut().zip(handles).for_each(|(wide, handle)| *wide = handle.into());
    let header = ChainHeader { count: count as u32, ..ChainHeader::default() };
    let handles: &[u8] = bytemuck::cast_slice(&wide[..count]);
    let words = (size_of::<ChainHeader>() + handles.len()) as u32 / 4;
    write(command, opcode::CMD_CHAIN, words, &[bytes_of(&header), handles]);
}

/// The state of a command.
pub(super) fn state(command: &[u8]) -> u32 {
    pod_read_unaligned::<Header>(&command[..HEADER]).state()
}

/// Which command of a chain failed.
pub(super) fn error_index(command: &[u8]) -> u32 {
    let header = &command[HEADER..HEADER + size_of::<ChainHeader>()];
    pod_read_unaligned::<ChainHeader>(header).error_index
}

/// Where a command stood when the driver stopped it. Drivers that do not tell leave the call as it
/// was, whose mask and opcode are no version and family.
pub(super) fn health(command: &[u8]) -> Option<HealthReport> {
    let health: Health = pod_read_unaligned(&command[HEADER..HEADER + size_of::<Health>()]);
    match (health.version, health.family) {
        (HEALTH_VERSION, HEALTH_AIE2) => Some(health.report),
        (0, _) => {
            let from = HEADER + size_of::<u32>();
            Some(pod_read_unaligned(&command[from..from + size_of::<HealthReport>()]))
        }
        _ => None,
    }
}

fn write(command: &mut [u8], opcode: u32, words: u32, payload: &[&[u8]]) {
    command[..HEADER].copy_from_slice(bytes_of(&Header::new(opcode, words)));
    let mut at = HEADER;
    for part in payload {
        command[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
}

/// A double word as words, the low one first.
fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use xrt_sys::ert::state as of;

    use super::*;

    fn words(bytes: &[u8]) -> Vec<u32> {
        bytes.as_chunks().0.iter().map(|&word| u32::from_le_bytes(word)).collect()
    }

    /// Header by hand: state new 1, 16 words of payload, operation 0. Behind the mask the offsets
    /// are those of the XML in the xclbin: 0x00, 0x08, 0x10, 0x14, 0x1c, 0x24, 0x2c, 0x34.
    #[test]
    fn a_call_is_these_words() {
        let mut command = [0xee; 72];
        write_call(&mut command, 0x0400_8000, 4512, &[0x7f12_3456_7000, 0x7f00_0000_1000, 7]);
        let expected = [
            0x0001_0001, // header
            1,           // the first unit
            3,
            0, // TXN
            0x0400_8000,
            0,    // instructions
            1128, // their words
            0x3456_7000,
            0x7f12,
            0x0000_1000,
            0x7f00,
            7,
            0, // three buffers
            0,
            0,
            0,
            0, // and room for two
            0xeeee_eeee,
        ];
        assert_eq!(words(&command), expected);
    }

    /// Header by hand: state new 1, 12 words of payload, operation 19.
    #[test]
    fn a_chain_is_these_words() {
        let mut command = [0xee; 56];
        write_chain(&mut command, [5, 9, 6].into_iter());
        let expected = [
            0x0980_c001, // header
            3,
            0,
            0,
            0,
            0,
            0, // count; indices and spare words
            5,
            0,
            9,
            0,
            6,
            0, // handles
            0xeeee_eeee,
        ];
        assert_eq!(words(&command), expected);
    }

    #[test]
    fn answers_are_read_where_drivers_put_them() {
        let mut command = [0; 128];
        write_call(&mut command, 0, 0, &[]);
        assert_eq!((state(&command), health(&command)), (of::NEW, None));
        let report = HealthReport { txn_op_idx: 3, ctx_pc: 4, ..HealthReport::default() };
        let with = Health { version: 1, family: 0, report };
        command[4..36].copy_from_slice(bytes_of(&with));
        assert_eq!(health(&command), Some(report));
        command[4..8].fill(0);
        command[8..32].copy_from_slice(bytes_of(&report));
        assert_eq!(health(&command), Some(report));
        command[12] = 2;
        assert_eq!(error_index(&command), 2);
        command[0] = command[0] & 0xf0 | 8;
        assert_eq!(state(&command), of::TIMEOUT);
    }
}
