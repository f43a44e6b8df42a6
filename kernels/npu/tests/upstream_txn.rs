//! TXN words that the tests of mlir-aie and iree-amd-aie expect of their writers, as facts with
//! their file: 304 words.
//!
//! Files are relative to mlir-aie's `test/Targets/NPU/`, iree-amd-aie's to
//! `compiler/plugins/target/AMD-AIE/iree-amd-aie/Transforms/test/`. Each case repeats all words
//! the file checks. Where a file checks parts of a stream, the case says so.

use onebit_aie::program::{RegisterAddress, RegisterOp};
use onebit_aie::txn::{Direction, Txn, TxnHeader, TxnOp};

const NPU1: TxnHeader =
    TxnHeader { major: 0, minor: 1, generation: 3, rows: 6, columns: 4, memory_rows: 1 };

fn register(column: u32, row: u32, offset: u32) -> RegisterAddress {
    RegisterAddress::new(column, row, offset).expect("a register of the array")
}

fn words(stream: &Txn) -> Vec<u32> {
    let bytes = stream.to_bytes().expect("a small stream");
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
}

/// Checks that `stream` is written as `expected` and that `expected` is read as `stream`.
fn check(file: &str, stream: &Txn, expected: &[u32]) {
    assert_eq!(words(stream), expected, "{file}");
    let bytes: Vec<u8> = expected.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!(Txn::parse(&bytes).as_ref(), Ok(stream), "{file}");
}

fn write(address: RegisterAddress, value: u32) -> TxnOp {
    TxnOp::Register(RegisterOp::Write32 { address, value })
}

fn block(address: RegisterAddress, data: &[u32]) -> TxnOp {
    TxnOp::Register(RegisterOp::BlockWrite { address, data: data.to_vec() })
}

const DATA: [u32; 8] = [100, 101, 102, 103, 104, 105, 106, 107];

const SYNC: TxnOp = TxnOp::Sync {
    column: 3,
    row: 4,
    columns: 1,
    rows: 2,
    direction: Direction::MemoryToStream,
    channel: 5,
};

/// The operations that `npu_instgen.mlir` and `npu2_instgen.mlir` share.
fn shared_ops() -> Vec<TxnOp> {
    let address = register(2, 3, 0x567a);
    let mask = TxnOp::Register(RegisterOp::MaskWrite { address, mask: 0xf00f_f00f, value: 0x1001 });
    vec![
        write(register(3, 4, 0xdef), 0x42),
        write(RegisterAddress::from_bits(0xabc0_0def), 0x314),
        block(RegisterAddress::from_bits(0x1234_5679), &DATA),
        TxnOp::TaggedBlockWrite { address: register(1, 1, 100), data: DATA.to_vec() },
        mask,
        SYNC,
    ]
}

#[rustfmt::skip]
const SHARED_WORDS: [u32; 47] = [
    0x00000000, 0x00000000, 0x06400def, 0x00000000, 0x00000042, 0x00000018,
    0x00000000, 0x00000000, 0xabc00def, 0x00000000, 0x00000314, 0x00000018,
    0x00000001, 0x00000000, 0x12345679, 0x00000030,
    0x00000064, 0x00000065, 0x00000066, 0x00000067, 0x00000068, 0x00000069, 0x0000006a, 0x0000006b,
    0x00000001, 0x00000101, 0x02100064, 0x00000030,
    0x00000064, 0x00000065, 0x00000066, 0x00000067, 0x00000068, 0x00000069, 0x0000006a, 0x0000006b,
    0x00000003, 0x00000000, 0x0430567a, 0x00000000, 0x00001001, 0xf00ff00f, 0x0000001c,
    0x00000080, 0x00000010, 0x00030401, 0x05010200,
];

#[test]
fn header_of_one_column() {
    let stream = Txn { header: TxnHeader::npu4(1), ops: vec![] };
    let expected = [0x0604_0100, 0x0000_0101, 0x0000_0000, 0x0000_0010];
    check("npu2_1col_header.mlir", &stream, &expected);
}

#[test]
fn every_operation_on_aie2p() {
    let mut ops = shared_ops();
    ops.push(TxnOp::Preempt { level: 3 });
    let mut expected = vec![0x0604_0100, 0x0000_0108, 0x0000_0007, 0x0000_00d0];
    expected.extend(SHARED_WORDS);
    expected.push(0x0000_0306);
    check("npu2_instgen.mlir", &Txn { header: TxnHeader::npu4(8), ops }, &expected);
}

#[test]
fn every_operation_on_aie2() {
    let mut ops = shared_ops();
    ops.push(TxnOp::LoadPdi { id: 2, bytes: 1024, address: 0xabc_1234_5678 });
    let mut expected = vec![0x0603_0100, 0x0000_0104, 0x0000_0007, 0x0000_00dc];
    expected.extend(SHARED_WORDS);
    expected.extend([0x0002_0008, 0x0000_0400, 0x1234_5678, 0x0000_0abc]);
    check("npu_instgen.mlir", &Txn { header: NPU1, ops }, &expected);
}

#[test]
fn one_of_several_devices() {
    let ops = vec![write(register(2, 2, 0x4_0404), 0x0404_0404)];
    #[rustfmt::skip]
    let expected = [
        0x06040100, 0x00000108, 0x00000001, 0x00000028,
        0x00000000, 0x00000000, 0x04240404, 0x00000000, 0x04040404, 0x00000018,
    ];
    let stream = Txn { header: TxnHeader::npu4(8), ops };
    check("npu2_instgen_multiple_devices.mlir", &stream, &expected);
}

#[test]
fn descriptor_of_a_memory_tile() {
    #[rustfmt::skip]
    let expected = [
        0x06030100, 0x00000104, 0x00000003, 0x00000068,
        0x00000001, 0x00000000, 0x061a00c0, 0x00000030,
        0x00000001, 0x00580002, 0x000c0005, 0x00100007, 0x00000009, 0x00000000, 0x059a000c, 0x84038201,
        0x00000000, 0x00000000, 0x06400def, 0x00000000, 0x00000042, 0x00000018,
        0x00000080, 0x00000010, 0x00030401, 0x05010200,
    ];
    let descriptor = block(register(3, 1, 0xa_00c0), &expected[8..16]);
    let ops = vec![descriptor, write(register(3, 4, 0xdef), 0x42), SYNC];
    check("npu_blockwrite_instgen.mlir", &Txn { header: NPU1, ops }, &expected);
}

/// `npu_blockwrite_data.mlir` checks the address, the size and the data of each block.
#[test]
fn blocks_of_any_signedness() {
    let cases: [(u32, &[u32], &[u32]); 4] = [
        (0x1000, &[305_419_896, u32::MAX], &[0x0020_1000, 0x18, 0x1234_5678, 0xffff_ffff]),
        (0x2000, &[305_419_896, u32::MAX], &[0x0020_2000, 0x18, 0x1234_5678, 0xffff_ffff]),
        (0x3000, &[-2i32 as u32, 7], &[0x0020_3000, 0x18, 0xffff_fffe, 0x0000_0007]),
        (0x4000, &[2_147_483_648], &[0x0020_4000, 0x14, 0x8000_0000]),
    ];
    for (offset, data, expected) in cases {
        let ops = vec![block(register(0, 2, offset), data)];
        let written = words(&Txn { header: TxnHeader::npu4(8), ops });
        assert_eq!(written[6..], *expected);
    }
}

/// `npu_address_patch_arg_plus_64bit.mlir` checks six words from the register on.
#[test]
fn addends_of_64_bits() {
    let cases: [(u64, [u32; 2]); 4] = [
        (4_294_967_295, [0xffff_ffff, 0x0000_0000]),
        (4_294_967_296, [0x0000_0000, 0x0000_0001]),
        (8_589_934_848, [0x0000_0100, 0x0000_0002]),
        (256, [0x0000_0100, 0x0000_0000]),
    ];
    for (addend, [low, high]) in cases {
        let register = RegisterAddress::from_bits(74_560);
        let ops = vec![TxnOp::AddressPatch { register, argument: 0, addend }];
        let written = words(&Txn { header: TxnHeader::npu4(8), ops });
        assert_eq!(written[10..], [0x0001_2340, 0, 0, 0, low, high]);
    }
}

/// `controlcode_to_transaction.mlir` of iree-amd-aie: address patch, pushes to DMA queues, waits,
/// descriptors. A push is a write to the queue's register.
#[test]
fn streams_of_iree() {
    let wait = |column, columns| TxnOp::Sync {
        column,
        row: 0,
        columns,
        rows: 1,
        direction: Direction::MemoryToStream,
        channel: 0,
    };
    let push = |column, offset, value| write(register(column, 0, offset), value);
    let empty = [0, 0, 0, 0, 0x8000_0000, 0, 0, 0x0200_0000];
    let with_packet = [0x400, 0x20, 0x4008_0000, 0x0100_0000, 0x8100_0007, 0x3f, 0, 0x0200_0000];
    let mut four = (0..4).map(|column| push(column, 0x1_d214, 0x8000_0000)).collect::<Vec<_>>();
    four.push(wait(0, 4));
    let patch = TxnOp::AddressPatch { register: register(0, 0, 0x1_d004), argument: 0, addend: 0 };
    #[rustfmt::skip]
    let cases: [(Vec<TxnOp>, &[u32]); 8] = [
        (vec![], &[0x00000000, 0x00000010]),
        (vec![patch], &[
            0x00000001, 0x00000040,
            0x00000081, 0x00000030, 0, 0, 0, 0, 0x0001d004, 0, 0, 0, 0, 0,
        ]),
        (vec![push(0, 0x1_d214, 0)], &[
            0x00000001, 0x00000028, 0, 0, 0x0001d214, 0, 0x00000000, 0x00000018,
        ]),
        (vec![push(3, 0x1_d21c, 63 << 16 | 2)], &[
            0x00000001, 0x00000028, 0, 0, 0x0601d21c, 0, 0x003f0002, 0x00000018,
        ]),
        (vec![push(2, 0x1_d214, 0x80ff_000f), wait(2, 1)], &[
            0x00000002, 0x00000038,
            0, 0, 0x0401d214, 0, 0x80ff000f, 0x00000018,
            0x00000080, 0x00000010, 0x00020001, 0x00010100,
        ]),
        (four, &[
            0x00000005, 0x00000080,
            0, 0, 0x0001d214, 0, 0x80000000, 0x00000018,
            0, 0, 0x0201d214, 0, 0x80000000, 0x00000018,
            0, 0, 0x0401d214, 0, 0x80000000, 0x00000018,
            0, 0, 0x0601d214, 0, 0x80000000, 0x00000018,
            0x00000080, 0x00000010, 0x00000001, 0x00040100,
        ]),
        (vec![block(register(0, 0, 0x1_d000), &empty)], &[
            0x00000001, 0x00000040, 0x00000001, 0x00000000, 0x0001d000, 0x00000030,
            0, 0, 0, 0, 0x80000000, 0, 0, 0x02000000,
        ]),
        (vec![block(register(1, 0, 0x1_d040), &with_packet)], &[
            0x00000001, 0x00000040, 0x00000001, 0x00000000, 0x0201d040, 0x00000030,
            0x00000400, 0x00000020, 0x40080000, 0x01000000, 0x81000007, 0x0000003f, 0, 0x02000000,
        ]),
    ];
    for (ops, rest) in cases {
        let expected = [&[0x0603_0100, 0x0000_0105], rest].concat();
        let header = TxnHeader { columns: 5, ..NPU1 };
        check("controlcode_to_transaction.mlir", &Txn { header, ops }, &expected);
    }
}
