//! The sections of an NPU's xclbin that do not depend on the design.
//!
//! They tell XRT of one kernel, "MLIR_AIE", with an opcode, an instruction buffer, its length and
//! five data buffers, and of the two memories those may lie in.

use std::fmt::Write as _;

use crate::bytes::Reader;
use crate::error::ParseError;
use crate::partition::DPU_KERNEL_ID;

/// An argument of the kernel: name, byte offset in the command, size, C type, is it an address.
const ARGUMENTS: [(&str, u32, u32, &str, bool); 8] = [
    ("opcode", 0x00, 8, "uint64_t", false),
    ("instr", 0x08, 8, "char *", true),
    ("ninstr", 0x10, 4, "uint32_t", false),
    ("bo0", 0x14, 8, "void*", true),
    ("bo1", 0x1c, 8, "void*", true),
    ("bo2", 0x24, 8, "void*", true),
    ("bo3", 0x2c, 8, "void*", true),
    ("bo4", 0x34, 8, "void*", true),
];

/// Two memories: bytes / 1024, and name. Both start at the same address.
const MEMORIES: [(u64, &[u8; 4]); 2] = [(0x10000, b"HOST"), (0xc000, b"SRAM")];
/// Where the NPU sees the device heap.
const MEMORY_BASE: u64 = 0x400_0000;
const MEMORY_DRAM: u8 = 2;

/// Which memory each buffer argument lies in: argument, kernel, memory.
const CONNECTIONS: [[u32; 3]; 6] =
    [[1, 0, 1], [3, 0, 0], [4, 0, 0], [5, 0, 0], [6, 0, 0], [7, 0, 0]];

/// `IP_PS_KERNEL`.
const IP_PS_KERNEL: u32 = 7;
/// Kernel id, functional 0, subtype 1 (DPU), in the fields of `ip_data`'s properties.
const IP_PROPERTIES: u32 = DPU_KERNEL_ID << 16 | 1;

/// MEM_TOPOLOGY and ASK_GROUP_TOPOLOGY (`mem_topology`, `mem_data`).
pub(crate) const MEMORY_TOPOLOGY: [u8; 88] = {
    let mut bytes = [0; 88];
    bytes[0] = MEMORIES.len() as u8;
    let mut index = 0;
    while index < MEMORIES.len() {
        let entry = 8 + 40 * index;
        // The second byte says that the memory is used.
        [bytes[entry], bytes[entry + 1]] = [MEMORY_DRAM, 1];
        put(&mut bytes, entry + 8, &MEMORIES[index].0.to_le_bytes());
        put(&mut bytes, entry + 16, &MEMORY_BASE.to_le_bytes());
        put(&mut bytes, entry + 24, MEMORIES[index].1);
        index += 1;
    }
    bytes
};

/// IP_LAYOUT (`ip_layout`, `ip_data`): one kernel without a base address.
pub(crate) const IP_LAYOUT: [u8; 88] = {
    let mut bytes = [0; 88];
    bytes[0] = 1;
    put(&mut bytes, 8, &IP_PS_KERNEL.to_le_bytes());
    put(&mut bytes, 12, &IP_PROPERTIES.to_le_bytes());
    put(&mut bytes, 16, &u64::MAX.to_le_bytes());
    put(&mut bytes, 24, b"MLIR_AIE:MLIRAIE");
    bytes
};

/// CONNECTIVITY (`connectivity`, `connection`).
pub(crate) const CONNECTIVITY: [u8; 76] = connections();
/// ASK_GROUP_CONNECTIVITY: the same twice, for memories and for groups of them.
pub(crate) const GROUP_CONNECTIVITY: [u8; 148] = connections();

const fn connections<const BYTES: usize>() -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    let count = (BYTES - 4) / 12;
    bytes[0] = count as u8;
    let mut index = 0;
    while index < count {
        let connection = CONNECTIONS[index % CONNECTIONS.len()];
        let mut part = 0;
        while part < 3 {
            put(&mut bytes, 4 + 12 * index + 4 * part, &connection[part].to_le_bytes());
            part += 1;
        }
        index += 1;
    }
    bytes
}

const fn put(bytes: &mut [u8], at: usize, part: &[u8]) {
    let mut index = 0;
    while index < part.len() {
        bytes[at + index] = part[index];
        index += 1;
    }
}

/// How the EMBEDDED_METADATA section is spelt. Files of different tools differ in this only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metadata {
    /// Offsets as two upper-case digits; the kernel's id first among its attributes.
    PaddedOffsets,
    /// Offsets as few lower-case digits as go; the kernel's id last.
    BareOffsets,
}

impl Metadata {
    const ALL: [Metadata; 2] = [Metadata::PaddedOffsets, Metadata::BareOffsets];

    /// The text of the section.
    pub fn text(self) -> String {
        let id = format!("dpu_kernel_id=\"{DPU_KERNEL_ID:#x}\"");
        let extended = match self {
            Metadata::PaddedOffsets => format!("{id} functional=\"0\" subtype=\"1\""),
            Metadata::BareOffsets => format!("subtype=\"1\" functional=\"0\" {id}"),
        };
        let mut text = String::from(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<project>\n  <platform>\n    <device>\n      \
             <core>\n        <kernel name=\"MLIR_AIE\" language=\"c\" type=\"dpu\">\n",
        );
        let _ = writeln!(text, "          <extended-data {extended}/>");
        for (index, (name, offset, size, kind, is_address)) in ARGUMENTS.into_iter().enumerate() {
            let offset = match (self, offset) {
                (Metadata::BareOffsets, 1..) => format!("{offset:#x}"),
                _ => format!("0x{offset:02X}"),
            };
            let qualifier = u8::from(is_address);
            let _ = writeln!(
                text,
                "          <arg name=\"{name}\" addressQualifier=\"{qualifier}\" id=\"{index}\" \
                 size=\"{size:#x}\" offset=\"{offset}\" hostOffset=\"0x0\" hostSize=\"{size:#x}\" \
                 type=\"{kind}\"/>",
            );
        }
        text.push_str(
            "          <instance name=\"MLIRAIE\"/>\n        </kernel>\n      </core>\n    \
             </device>\n  </platform>\n</project>\n",
        );
        text
    }

    pub(crate) fn read(mut section: Reader<'_>) -> Result<Self, ParseError> {
        let texts = Metadata::ALL.map(Metadata::text);
        // The spellings differ in length; what has another length is compared with the first.
        let length = section.remaining();
        let spelling = texts.iter().position(|text| text.len() == length).unwrap_or(0);
        section.expect_bytes("metadata of the kernel", texts[spelling].as_bytes())?;
        section.finish()?;
        Ok(Metadata::ALL[spelling])
    }
}
