//! Round trips, refusals and determinism of the containers.

mod common;

use onebit_aie::cdo::{Cdo, CdoCommand};
use onebit_aie::partition::AiePartition;
use onebit_aie::pdi::Pdi;
use onebit_aie::program::{RegisterMap, RegisterOp, RegisterProgram};
use onebit_aie::txn::{Direction, Txn, TxnHeader, TxnOp, Wait};
use onebit_aie::xclbin::sections::Metadata;
use onebit_aie::xclbin::{SectionName, Xclbin};
use onebit_aie::{Format, ParseError};
use proptest::prelude::*;

use common::{program, register, xclbin};

type Parse = fn(&[u8]) -> Result<Vec<u8>, ParseError>;

/// Every format: its parser followed by its writer.
const FORMATS: [(Format, Parse); 5] = [
    (Format::Txn, |bytes| Ok(Txn::parse(bytes)?.to_bytes().expect("it was read"))),
    (Format::Cdo, |bytes| Ok(Cdo::parse(bytes)?.to_bytes().expect("it was read"))),
    (Format::Pdi, |bytes| Ok(Pdi::parse(bytes)?.to_bytes().expect("it was read"))),
    (Format::AiePartition, |bytes| {
        Ok(AiePartition::parse(bytes)?.to_bytes().expect("it was read"))
    }),
    (Format::Xclbin, |bytes| Ok(Xclbin::parse(bytes)?.to_bytes().expect("it was read"))),
];

/// A stream with every operation.
fn stream() -> Txn {
    let mut stream = Txn::from_program(TxnHeader::npu4(8), &program());
    let address = register(3, 1, 0xa_0000);
    stream.ops.extend([
        TxnOp::TaggedBlockWrite { address, data: vec![1, 2, 3] },
        TxnOp::MaskPoll { address, mask: 0xff, value: 1, wait: Wait::Yielding },
        TxnOp::MaskPoll { address, mask: 0xff, value: 1, wait: Wait::Busy },
        TxnOp::Noop,
        TxnOp::Preempt { level: 1 },
        TxnOp::LoadPdi { id: 7, bytes: 64, address: 1 << 40 },
        TxnOp::AddressPatch { register: address, argument: 2, addend: 1 << 33 },
    ]);
    let (column, row, columns, rows, channel) = (0, 0, 8, 1, 1);
    for direction in [Direction::StreamToMemory, Direction::MemoryToStream] {
        stream.ops.push(TxnOp::Sync { column, row, columns, rows, direction, channel });
    }
    stream
}

/// One file of every format.
fn files() -> [(Format, Parse, Vec<u8>); 5] {
    let container = xclbin();
    FORMATS.map(|(format, parse)| {
        let bytes = match format {
            Format::Txn => stream().to_bytes(),
            Format::Cdo => container.partition.pdi.cdo.to_bytes(),
            Format::Pdi => container.partition.pdi.to_bytes(),
            Format::AiePartition => container.partition.to_bytes(),
            Format::Xclbin => container.to_bytes(),
        };
        (format, parse, bytes.expect("a small design fits"))
    })
}

#[test]
fn what_is_written_reads_back() {
    let stream = stream();
    assert_eq!(Txn::parse(&stream.to_bytes().unwrap()), Ok(stream));
    for mirror in [None, Some(String::from("{}"))] {
        for metadata in [Metadata::PaddedOffsets, Metadata::BareOffsets] {
            let container = Xclbin { mirror: mirror.clone(), metadata, ..xclbin() };
            assert_eq!(Xclbin::parse(&container.to_bytes().unwrap()), Ok(container));
        }
    }
    for (format, parse, bytes) in files() {
        assert!(parse(&bytes).is_ok_and(|again| again == bytes), "{format}");
    }
}

#[test]
fn equal_designs_give_equal_files() {
    assert_eq!(xclbin().to_bytes(), xclbin().to_bytes());
    let mut other = program();
    other.ops.pop();
    let other = Xclbin::new(8, Pdi::new(Cdo::from_program(&other))).unwrap();
    assert_ne!(other.uuid, xclbin().uuid);
    assert_ne!(other.partition.uuid, xclbin().partition.uuid);
}

#[test]
fn every_truncation_and_every_extension_is_refused() {
    for (format, parse, mut bytes) in files() {
        for length in 0..bytes.len() {
            assert!(parse(&bytes[..length]).is_err(), "{format} of {length} bytes");
        }
        for extra in [0, 1, 0xff] {
            bytes.push(extra);
            assert!(parse(&bytes).is_err(), "{format} and a byte {extra}");
            bytes.pop();
        }
    }
}

/// A flipped bit either is refused or means something: nothing is read and then forgotten.
#[test]
fn no_byte_is_slack() {
    for (format, parse, mut bytes) in files() {
        for byte in 0..bytes.len() {
            let flip = 1 << (byte % 8);
            bytes[byte] ^= flip;
            if let Ok(again) = parse(&bytes) {
                assert!(again == bytes, "{format}: byte {byte} is lost");
            }
            bytes[byte] ^= flip;
        }
    }
}

#[test]
fn data_of_blocks_is_aligned_in_a_cdo() {
    let cdo = Cdo::from_program(&program());
    let bytes = cdo.to_bytes().unwrap();
    let mut found = 0;
    for command in &cdo.commands {
        let CdoCommand::DmaWrite { data, .. } = command else { continue };
        let data: Vec<u8> = data.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut places = (0..bytes.len() - data.len()).step_by(16);
        assert!(places.any(|at| bytes[at..].starts_with(&data)));
        found += 1;
    }
    assert_eq!(found, 5);
    assert!(cdo.commands.iter().all(|command| match command {
        CdoCommand::Nop { padding } => *padding < 3,
        _ => true,
    }));
}

#[test]
fn errors_name_the_place() {
    let bytes = xclbin().to_bytes().unwrap();
    // The PDI of a container starts at the partition's offset plus its header.
    let partition_at = u64::from_le_bytes(bytes[0x208..0x210].try_into().unwrap()) as usize;
    let cdo_at = partition_at + 0xd0 + 0x150;
    let cases: [(usize, Format, &str); 6] = [
        (0, Format::Xclbin, "magic"),
        (0x150, Format::Xclbin, "interface and platform"),
        (0x1f0, Format::Xclbin, "kind of a section"),
        (partition_at + 4, Format::AiePartition, "header"),
        (partition_at + 0xd0 + 0x8c, Format::Pdi, "image header table"),
        (cdo_at + 16, Format::Cdo, "checksum"),
    ];
    for (at, format, field) in cases {
        let mut broken = bytes.clone();
        broken[at] ^= 0x40;
        let error = Xclbin::parse(&broken).unwrap_err();
        assert_eq!((error.offset, error.format, error.field), (at, format, field));
    }
    let long = SectionName::new("seventeen letters");
    assert_eq!(long, None);
}

fn any_op() -> impl Strategy<Value = RegisterOp> {
    let address = (0..8u32, 0..6u32, 0..0x400u32);
    let address = address.prop_map(|(column, row, word)| register(column, row, 0x1d000 + 4 * word));
    prop_oneof![
        (address.clone(), any::<u32>())
            .prop_map(|(address, value)| RegisterOp::Write32 { address, value }),
        (address.clone(), any::<u32>(), any::<u32>())
            .prop_map(|(address, mask, value)| RegisterOp::MaskWrite { address, mask, value }),
        (address, proptest::collection::vec(any::<u32>(), 0..300))
            .prop_map(|(address, data)| RegisterOp::BlockWrite { address, data }),
    ]
}

proptest! {
    #[test]
    fn both_serialisations_leave_the_same_registers(ops in proptest::collection::vec(any_op(), 0..40)) {
        let program = RegisterProgram { ops };
        let cdo = Cdo::from_program(&program).to_bytes().unwrap();
        let txn = Txn::from_program(TxnHeader::npu4(8), &program).to_bytes().unwrap();
        let [mut left, mut right, mut direct] = [(); 3].map(|()| RegisterMap::default());
        left.apply(&Cdo::parse(&cdo).unwrap().program());
        right.apply(&Txn::parse(&txn).unwrap().program());
        direct.apply(&program);
        prop_assert_eq!(&left, &right);
        prop_assert_eq!(&left, &direct);
        prop_assert_eq!(Cdo::parse(&cdo).unwrap().program(), program);
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        for (format, parse) in FORMATS {
            if let Ok(again) = parse(&bytes) {
                prop_assert!(again == bytes, "{format}");
            }
        }
    }

    /// Damage deep inside good files, where random bytes would never get to.
    #[test]
    fn damaged_files_never_panic(
        which in 0..5usize,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u32>()), 1..6),
    ) {
        let (format, parse, mut bytes) = files()[which].clone();
        for (at, word) in damage {
            let at = at.index(bytes.len() / 4) * 4;
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        if let Ok(again) = parse(&bytes) {
            prop_assert!(again == bytes, "{format}");
        }
    }
}
