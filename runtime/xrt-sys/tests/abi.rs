//! The words of the ABI against examples.

use xrt_sys::accel::{self, ArrayMetadata, TileMetadata};
use xrt_sys::drm::{self, argument_bytes};
use xrt_sys::ert::{Header, StartUnit, opcode, state};

/// The numbers that a C compiler makes of the macros in Linux `amdxdna_accel.h` and `drm.h`, with
/// the sizes of their structures.
#[test]
fn ioctl_numbers_name_their_structures() {
    for (number, index, bytes) in [
        (accel::CREATE_CONTEXT, 0x40, 56),
        (accel::DESTROY_CONTEXT, 0x41, 8),
        (accel::CONFIGURE_CONTEXT, 0x42, 24),
        (accel::CREATE_BUFFER, 0x43, 32),
        (accel::GET_BUFFER_INFO, 0x44, 48),
        (accel::SYNC_BUFFER, 0x45, 24),
        (accel::EXECUTE_COMMAND, 0x46, 56),
        (accel::GET_INFO, 0x47, 16),
        (accel::WAIT_COMMAND, 0x49, 16),
        (drm::VERSION, 0x00, 64),
        (drm::GEM_CLOSE, 0x09, 8),
        (drm::SYNCOBJ_DESTROY, 0xc0, 8),
        (drm::SYNCOBJ_TIMELINE_WAIT, 0xca, 48),
    ] {
        assert_eq!((number & 0xff, argument_bytes(number)), (index, bytes), "{number:#x}");
        assert_eq!(number >> 8 & 0xff, 0x64, "{number:#x}");
    }
}

#[test]
fn headers_keep_their_fields_apart() {
    let header = Header::new(opcode::CMD_CHAIN, 0x7ff);
    assert_eq!(header.0, 0x09ff_f001);
    assert_eq!((header.state(), header.words(), header.opcode()), (state::NEW, 0x7ff, 19));
    assert_eq!(header.masks(), 1);
    assert_eq!(Header(0xc00).masks(), 4);
    let timeout = header.with_state(state::TIMEOUT);
    assert_eq!((timeout.state(), timeout.0 >> 4), (8, header.0 >> 4));
    assert_eq!(Header::new(opcode::START_CU, 16).0, 0x0001_0001);
}

#[test]
fn structures_are_read_as_they_lie() {
    let mut bytes = [0_u8; 64];
    bytes[4] = 8;
    bytes[6] = 6;
    bytes[16] = 4;
    bytes[18] = 2;
    let metadata: ArrayMetadata = bytemuck::pod_read_unaligned(&bytes);
    let core = TileMetadata { rows: 4, first_row: 2, ..TileMetadata::default() };
    assert_eq!(metadata, ArrayMetadata { columns: 8, rows: 6, core, ..ArrayMetadata::default() });
    let mut bytes = [0_u8; 64];
    bytes[4 + 0x34] = 5;
    let start: StartUnit = bytemuck::pod_read_unaligned(&bytes);
    assert_eq!(start.buffers, [[0, 0], [0, 0], [0, 0], [0, 0], [5, 0]]);
}
