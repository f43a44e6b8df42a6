//! Command buffers: a header word, and a payload that depends on the operation.
//!
//! Sources: amd/xdna-driver `src/driver/amdxdna/amdxdna_ctx.h` (`struct amdxdna_cmd` and what it
//! holds) and `aie2_msg_priv.h`; the driver of Linux itself has the same (`drivers/accel/amdxdna`).

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

/// Words of a payload that the header's count can say.
const PAYLOAD_WORDS_AT_MOST: u32 = 0x7ff;
/// Most commands of a chain that the driver takes (`MAX_CHAINED_SUB_CMD`).
pub const CHAIN_AT_MOST: usize = 64;
/// Bytes of the driver's own buffer that the slots of a chain must fit (`MAX_CHAIN_CMDBUF_SIZE`).
pub const CHAIN_BUFFER_BYTES: usize = 4096;
/// Bytes of a slot before its payload, the larger of the two forms that firmwares take
/// (`struct cmd_chain_slot_npu`, packed).
pub const CHAIN_SLOT_BYTES: usize = 52;
/// Most words of a [`StartUnit`] payload without its masks (`struct execute_buffer_req`).
pub const START_UNIT_WORDS_AT_MOST: usize = 19;

/// The opcode in a [`StartUnit`] that says that the instructions are a TXN
/// (`AIE2_EXEC_BUFFER_KERNEL_OP_TXN`).
pub const TXN_OPCODE: u64 = 3;
/// Buffers that the kernel in an NPU's xclbin takes.
pub const ARGUMENTS: usize = 5;

/// `enum ert_cmd_opcode`, as far as NPUs of this family take them.
pub mod opcode {
    /// `ERT_START_CU`: a [`super::StartUnit`].
    pub const START_CU: u32 = 0;
    /// `ERT_CMD_CHAIN`: a [`super::ChainHeader`] and handles of command buffers, a u64 each.
    pub const CMD_CHAIN: u32 = 19;
    /// `ERT_START_NPU`: what newer programs send instead of `ERT_START_CU`.
    pub const START_NPU: u32 = 20;
}

/// `enum ert_cmd_state`.
pub mod state {
    pub const NEW: u32 = 1;
    pub const QUEUED: u32 = 2;
    pub const RUNNING: u32 = 3;
    pub const COMPLETED: u32 = 4;
    pub const ERROR: u32 = 5;
    pub const ABORT: u32 = 6;
    pub const SUBMITTED: u32 = 7;
    pub const TIMEOUT: u32 = 8;
    pub const NO_RESPONSE: u32 = 9;
}

/// The first word of a command buffer: state in bits 3..0, further masks of units in 11..10, words
/// of the payload in 22..12, operation in 27..23.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Header(pub u32);

impl Header {
    /// A new command with `words` words of payload.
    pub const fn new(opcode: u32, words: u32) -> Self {
        Header(state::NEW | (words & PAYLOAD_WORDS_AT_MOST) << 12 | (opcode & 0x1f) << 23)
    }

    /// Of [`state`].
    pub const fn state(self) -> u32 {
        self.0 & 0xf
    }

    /// The same command in another state.
    #[must_use]
    pub const fn with_state(self, state: u32) -> Self {
        Header(self.0 & !0xf | state & 0xf)
    }

    /// Masks of units at the payload's start; a chain has none.
    pub const fn masks(self) -> u32 {
        1 + (self.0 >> 10 & 3)
    }

    /// Words of the payload, masks included.
    pub const fn words(self) -> u32 {
        self.0 >> 12 & PAYLOAD_WORDS_AT_MOST
    }

    /// Of [`opcode`].
    pub const fn opcode(self) -> u32 {
        self.0 >> 23 & 0x1f
    }
}

/// The payload of `ERT_START_CU` with one mask, as words: the mask of the unit, then the kernel's
/// arguments at the offsets that its xclbin's XML says, which puts addresses at half words.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct StartUnit {
    /// A bit for the unit.
    pub mask: u32,
    /// [`TXN_OPCODE`], low half first.
    pub opcode: [u32; 2],
    /// Where the array sees the instructions.
    pub instructions: [u32; 2],
    /// Words of the instructions.
    pub instruction_words: u32,
    /// Addresses of the buffers; zero for none.
    pub buffers: [[u32; 2]; ARGUMENTS],
}

/// The start of the payload of `ERT_CMD_CHAIN` (`struct amdxdna_cmd_chain`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ChainHeader {
    /// Commands.
    pub count: u32,
    pub submit_index: u32,
    /// Returned: the command that failed.
    pub error_index: u32,
    pub reserved: [u32; 3],
}

/// What replaces the payload of a command whose state became `TIMEOUT`, in drivers that say which
/// family the array is of (`struct amdxdna_ctx_health_data`, version 1).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Health {
    /// [`HEALTH_VERSION`].
    pub version: u32,
    /// [`HEALTH_AIE2`].
    pub family: u32,
    pub report: HealthReport,
}

/// The version of [`Health`]. In version 0 the report follows the version at once.
pub const HEALTH_VERSION: u32 = 1;
/// `AMDXDNA_NPU_GEN_AIE2`.
pub const HEALTH_AIE2: u32 = 0;

/// `struct amdxdna_ctx_health_data_aie2`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct HealthReport {
    /// Operation of the TXN; all ones when it is not known.
    pub txn_op_idx: u32,
    /// Program counter of the controller; zero when it is not known.
    pub ctx_pc: u32,
    pub fatal_error_type: u32,
    pub exception_type: u32,
    pub exception_pc: u32,
    pub app_module: u32,
}

const _: () = {
    assert!(size_of::<StartUnit>() == 64);
    // The XML counts from behind the mask.
    assert!(offset_of!(StartUnit, opcode) == 4);
    assert!(offset_of!(StartUnit, instructions) == 4 + 0x08);
    assert!(offset_of!(StartUnit, instruction_words) == 4 + 0x10);
    assert!(offset_of!(StartUnit, buffers) == 4 + 0x14);
    assert!(size_of::<StartUnit>() - 4 <= 4 * START_UNIT_WORDS_AT_MOST);
    assert!(size_of::<ChainHeader>() == 24);
    assert!(offset_of!(ChainHeader, error_index) == 8);
    assert!(size_of::<Health>() == 32);
    assert!(offset_of!(Health, report) == 8);
};
