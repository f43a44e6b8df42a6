//! Every fault, by a design or a stream that is wrong in one thing.

mod common;

use common::*;
use onebit_aie::program::RegisterOp;
use onebit_aie::txn::{Direction, TxnHeader, TxnOp, Wait};
use onebit_aie_emu::Fault;
use onebit_aie_emu::array::{Array, Leftover, Options, UnknownRegisters};

const WORDS: u32 = 64;

fn plain() -> Bd {
    Bd { base: OWN, length: WORDS, ..Bd::default() }
}

/// A loopback of 64 words that works.
fn good() -> (Design, Stream) {
    let mut design = Design::new(1);
    design.loopback(0, plain(), plain(), 1);
    let mut stream = Stream::default();
    stream.send(0, WORDS).take(0, WORDS);
    (design, stream)
}

/// The fault of the good design with one change.
#[track_caller]
fn changed(change: impl FnOnce(&mut Design, &mut Stream)) -> Fault {
    let (mut design, mut stream) = good();
    change(&mut design, &mut stream);
    fault(&design, &stream, &counting(WORDS), WORDS as usize)
}

macro_rules! assert_fault {
    ($fault:expr, $pattern:pat $(if $guard:expr)?) => {
        let fault = $fault;
        assert!(matches!(&fault, $pattern $(if $guard)?), "{fault:?}");
    };
}

#[test]
fn without_a_change_nothing_is_wrong() {
    let (design, stream) = good();
    let (result, report) = both(&design, &stream, &counting(WORDS), WORDS as usize).unwrap();
    assert_eq!(result, counting(WORDS));
    assert_eq!(report.waiting.len(), 0, "{:?}", report.waiting);
    assert_eq!(report.unknown_registers, []);
}

// --- deadlocks ---

#[test]
fn a_lock_that_is_never_given_back_is_a_deadlock_that_names_who_waits() {
    let fault = changed(|design, _| {
        // The sender waits for two fillings, there is one.
        // Its descriptor is written anew before its start.
        let start = design.ops.pop().expect("the start of the sender");
        design.memory_bd(0, 1, Bd { acquire: Some((OWN_LOCK + 1, -2)), ..plain() });
        design.ops.push(start);
    });
    assert_fault!(fault, Fault::Deadlock { waiting, .. }
        if waiting.iter().any(|text| text.contains("(0,1) MM2S 0") && text.contains("lock 65 to be at least 2")));
}

#[test]
fn too_little_data_is_a_deadlock() {
    let (design, _) = good();
    let mut stream = Stream::default();
    stream.send(0, WORDS - 1).take(0, WORDS);
    let fault = fault(&design, &stream, &counting(WORDS), 64);
    assert_fault!(fault, Fault::Deadlock { index: 8, waiting, .. }
        if waiting.iter().any(|text| text.contains("(0,1) S2MM 0") && text.contains("1 words to arrive")));
}

#[test]
fn a_poll_for_what_never_comes_is_a_deadlock() {
    let fault = changed(|_, stream| {
        let register = address(0, MEMORY, 0xc0020);
        stream.ops.push(TxnOp::MaskPoll { address: register, mask: 3, value: 1, wait: Wait::Busy });
    });
    assert_fault!(fault, Fault::Deadlock { waits_for, .. } if waits_for.contains("0xc0020"));
}

#[test]
fn a_poll_sees_locks_and_channels_and_memory() {
    let (design, mut stream) = good();
    for (offset, mask, value) in [(0xc0000, 63, 1), (0xa0660, 1 << 19, 0), (0, u32::MAX, 1)] {
        let address = address(0, MEMORY, offset);
        stream.ops.push(TxnOp::MaskPoll { address, mask, value, wait: Wait::Yielding });
    }
    both(&design, &stream, &counting(WORDS), 64).unwrap();
}

/// A sender and a taker that follow themselves for ever, with words and without; and enough for
/// a design that does end.
#[test]
fn descriptors_that_follow_themselves_without_a_lock() {
    let options = Options { longest_settle: 1_000_000, ..Options::default() };
    let endless = |design: &Design, options| {
        let mut stream = Stream::default();
        stream.send(0, WORDS).take(0, WORDS);
        let mut array = Array::configure(&design.xclbin(), options).unwrap();
        run(&mut array, &stream, &counting(WORDS), WORDS as usize)
    };
    let (good, _) = good();
    endless(&good, options).unwrap();
    assert_fault!(
        endless(&good, Options { longest_settle: 128, ..options }).unwrap_err(),
        Fault::Runaway { .. }
    );
    for length in [0, WORDS] {
        for seed in [None, Some(1)] {
            let mut design = good.clone();
            // Between two channels of the memory tile: DMA 1 to DMA 1, of pieces that are apart.
            design.connect(0, MEMORY, 1, 1);
            let from = Bd { base: OWN + 1024, length, next: Some(24), ..Bd::default() };
            let into = Bd { base: OWN + 2048, next: Some(25), ..from };
            design.memory_bd(0, 24, from);
            design.memory_bd(0, 25, into);
            design.block(0, MEMORY, 4096, counting(WORDS));
            design.start_in(0, 1, 25, 1).start_out(0, 1, 24, 1);
            let fault = endless(&design, Options { seed, ..options }).unwrap_err();
            assert_fault!(&fault, Fault::Runaway { who, .. } if who.contains("(0,1)"));
        }
    }
}

// --- streams ---

#[test]
fn a_connection_that_the_switch_does_not_have() {
    // A memory tile: South 0 to North 1, which is another index.
    assert_fault!(changed(|design, _| {
        design.connect(0, MEMORY, 7, 12);
    }), Fault::IllegalRoute { master, slave }
        if master.to_string() == "tile (0,1) master port North 1" && slave.port.index == 0);
    // A compute tile: South 1 back to South 0.
    assert_fault!(
        changed(|design, _| {
            design.connect(0, 2, 6, 5);
        }),
        Fault::IllegalRoute { .. }
    );
}

#[test]
fn a_port_that_does_not_exist() {
    assert_fault!(
        changed(|design, _| {
            design.set(0, MEMORY, 0xb0004, 1 << 31 | 18);
        }),
        Fault::NoSuchPort { index: 18, .. }
    );
}

#[test]
fn a_port_that_is_off() {
    assert_fault!(
        changed(|design, _| {
            design.set(0, MEMORY, 0xb0004, 1 << 31 | 8);
        }),
        Fault::SilentPort { .. }
    );
}

#[test]
fn a_port_driven_twice() {
    let (mut design, _) = good();
    design.connect(0, MEMORY, 8, 0);
    assert_fault!(design.array().unwrap_err(), Fault::DoubleDriven { first: 7, second: 8, .. });
}

#[test]
fn a_way_out_of_the_array() {
    assert_fault!(
        changed(|design, _| {
            design.connect(0, 2, 5, 9); // South 0 to West 0 in column 0
        }),
        Fault::RouteOffArray { .. }
    );
    assert_fault!(
        changed(|design, _| {
            design.connect(0, 2, 1, 5).connect(0, 5, 1, 13); // DMA 0 to North 0 in the top row
        }),
        Fault::RouteOffArray { .. }
    );
}

#[test]
fn a_way_in_a_circle() {
    // Only packets can come back to an arbiter: from DMA 0 of tile (0,2) east, and around through
    // (1,2), (1,3) and (0,3).
    assert_fault!(
        changed(|design, _| {
            let arbiter = (0, 0);
            design.admit((0, 2), 1, 0, 3, arbiter).emit((0, 2), 19, 0, 1, 0); // DMA 0 to East 0
            design.connect(1, 2, 11, 13); // West 0 to North 0
            design.connect(1, 3, 5, 9); // South 0 to West 0
            design.connect(0, 3, 19, 5); // East 0 to South 0
            design.admit((0, 2), 15, 0, 3, arbiter); // North 0 to East 0
        }),
        Fault::RouteLoop { .. }
    );
}

#[test]
fn data_that_nobody_takes() {
    assert_fault!(changed(|design, _| {
        design.set(0, MEMORY, 0xb011c, 0); // South 0 off
        design.set(0, MEMORY, 0xb0000, 0); // and so DMA 0
    }), Fault::DeadEnd { end, .. } if end == "tile (0,1) slave port South 0");
    assert_fault!(changed(|design, _| {
        design.set(0, SHIM, 0x1f004, 0); // the shim's South 2 to the PL
    }), Fault::DeadEnd { end, .. } if end == "tile (0,0) master port South 2");
    assert_fault!(changed(|design, _| {
        design.set(0, SHIM, 0x1f000, 0); // the shim's South 3 from the PL
    }), Fault::DeadEnd { source_channel, .. } if source_channel.tile.row == 0);
}

#[test]
fn a_packet_that_no_slot_admits() {
    assert_fault!(changed(|design, _| {
        design.set(0, MEMORY, 0xb001c, 0);
        design.admit((0, MEMORY), 0, 0, 9, (0, 0)).emit((0, MEMORY), 7, 0, 1, 0);
    }), Fault::DeadEnd { end, .. } if end.contains("id 1"));
}

#[test]
fn a_token_that_does_not_arrive() {
    assert_fault!(
        changed(|design, _| {
            design.set(0, SHIM, 0x3f200, 14 << 24 | 0x1f << 16 | 1 << 8 | 3 << 4 | 5);
        }),
        Fault::LostToken { controller: 15, .. }
    );
}

#[test]
fn data_that_is_left() {
    // The shim sends ten words too many: they stay in the switches.
    let (design, _) = good();
    let mut stream = Stream::default();
    stream.send(0, WORDS + 3).take(0, WORDS);
    let input = counting(WORDS + 3);
    assert_fault!(fault(&design, &stream, &input, 64), Fault::LeftoverData { words: 3, .. });
    let options = Options { leftover: Leftover::Kept, ..Options::default() };
    let mut array = Array::configure(&design.xclbin(), options).unwrap();
    run(&mut array, &stream, &input, 64).unwrap();
}

#[test]
fn a_task_that_does_not_end() {
    let (design, _) = good();
    let mut stream = Stream::default();
    stream.send(0, WORDS + 1000).take(0, WORDS);
    assert_fault!(fault(&design, &stream, &counting(2000), 64), Fault::UnfinishedTask { .. });
}

// --- DMA ---

#[test]
fn a_queue_that_overflows() {
    let (design, mut stream) = good();
    let bd = Bd { length: WORDS, ..Bd::default() };
    for index in 2..7 {
        stream.transfer((0, Direction::MemoryToStream, 1), index, (0, 0), bd, 1);
    }
    let fits = fault(&design, &stream, &counting(WORDS), 64);
    assert_fault!(fits, Fault::DeadEnd { .. });
    stream.transfer((0, Direction::MemoryToStream, 1), 7, (0, 0), bd, 1);
    assert_fault!(fault(&design, &stream, &counting(WORDS), 64), Fault::QueueOverflow { .. });
}

#[test]
fn a_descriptor_that_is_not_valid() {
    let mut design = Design::new(1);
    design.loopback(0, Bd { invalid: true, ..plain() }, plain(), 1);
    let (_, stream) = good();
    assert_fault!(
        fault(&design, &stream, &counting(WORDS), 64),
        Fault::InvalidDescriptor { descriptor: 0, .. }
    );
}

#[test]
fn a_descriptor_of_the_other_half() {
    for (channel, bd) in [(1, 0), (0, 24)] {
        assert_fault!(changed(|design, _| {
            design.memory_bd(0, bd + 5, plain()).start_in(0, channel, bd + 5, 1);
            design.memory_bd(0, 47, plain()).start_in(0, channel, bd + 5, 1);
        }), Fault::UnreachableDescriptor { descriptor, .. } if u32::from(*descriptor) == bd + 5);
    }
}

#[test]
fn a_descriptor_rewritten_in_use() {
    let (mut design, _) = good();
    design.memory_bd(0, 1, plain());
    assert_fault!(design.array().unwrap_err(), Fault::DescriptorInUse { descriptor: 1, .. });
}

#[test]
fn a_walk_out_of_memory() {
    // The last word of the neighbour that column 0 does not have; of its own memory too far east.
    for (column, base) in [(0, 0x1ffff), (7, 0x40000)] {
        let mut design = Design::new(8);
        design.loopback(column, Bd { base, length: 2, ..Bd::default() }, plain(), 1);
        let mut stream = Stream::default();
        stream.send(column, 2).take(column, WORDS);
        let fault = fault(&design, &stream, &counting(2), 64);
        let first = if column == 0 { 0x1ffff * 4 } else { 0x40000 * 4 };
        assert_fault!(fault, Fault::OutOfBounds { address, .. } if *address == first);
    }
    // A channel that does not reach neighbours at all.
    let mut design = Design::new(2);
    design.connect(1, MEMORY, 4, 11).memory_bd(1, 0, Bd { base: 0, length: 1, ..Bd::default() });
    design.start_out(1, 4, 0, 1);
    let fault = fault(&design, &Stream::default(), &[], 0);
    assert_fault!(fault, Fault::OutOfBounds { address: 0, .. });
}

#[test]
fn a_walk_out_of_an_argument() {
    let (design, _) = good();
    let mut stream = Stream::default();
    stream.send(0, WORDS).take(0, WORDS);
    let fault = fault(&design, &stream, &counting(WORDS), WORDS as usize - 1);
    assert_fault!(fault, Fault::OutOfBounds { address, .. } if address & 0xffff == u64::from(WORDS - 1) * 4);
}

#[test]
fn memory_that_nobody_wrote() {
    let mut design = Design::new(1);
    let out = Bd { dims: [(2, 0), (0, 0), (0, 0), (0, 0)], ..plain() };
    design.loopback(0, plain(), out, 1);
    let (_, stream) = good();
    let fault = fault(&design, &stream, &counting(WORDS), 64);
    assert_fault!(fault, Fault::UnwrittenSent { tile, address: 256, .. } if tile.row == 1);
}

#[test]
fn two_channels_in_one_place() {
    // Interleaved buffers are fine, shared ones are not.
    for (shift, collides) in [(1, false), (2, true)] {
        let mut design = Design::new(1);
        design.loop_routes(0).connect(0, MEMORY, 7, 1);
        let dims = [(2, 0), (0, 0), (0, 0), (0, 0)];
        for (channel, bd, base) in [(0, 0, OWN), (1, 24, OWN + shift)] {
            let release = Some((OWN_LOCK, 1));
            design.memory_bd(0, bd, Bd { base, length: WORDS, dims, release, ..Bd::default() });
            design.start_in(0, channel, bd, 1);
        }
        let out = Bd { base: OWN, length: 128, acquire: Some((OWN_LOCK, -2)), ..Bd::default() };
        design.memory_bd(0, 1, out).start_out(0, 0, 1, 1);
        let mut stream = Stream::default();
        stream.send(0, WORDS).take(0, 128);
        let result = both(&design, &stream, &counting(WORDS), 128);
        if !collides {
            let twice: Vec<u32> = (0..128).map(|i| i / 2 + 1).collect();
            assert_eq!(result.unwrap().0, twice);
            continue;
        }
        let first = u64::from(OWN + 2) * 4;
        assert_fault!(result.unwrap_err(), Fault::ConcurrentAccess { address, .. } if *address == first);
    }
}

#[test]
fn columns_that_need_an_order_and_have_none() {
    let mut design = Design::new(2);
    let mut stream = Stream::default();
    for column in 0..2 {
        design.loopback(column, plain(), plain(), 1);
        stream.send(column, WORDS);
        let bd = Bd { length: WORDS, ..Bd::default() };
        let place = (1, u64::from(column) * 252);
        stream.transfer((column, Direction::StreamToMemory, 0), 1, place, bd, 1);
    }
    stream.sync(0, 0).sync(1, 0);
    let fault = fault(&design, &stream, &counting(WORDS), 128);
    assert_fault!(fault, Fault::UnorderedArgument { argument: 1, columns: [0, 1], offset: 252 });
}

#[test]
fn features_that_are_not_there() {
    let bad = |index: usize, bits: u32, what: &'static str| {
        let (mut design, stream) = good();
        let blocks = design.ops.iter_mut().filter_map(|op| match op {
            RegisterOp::BlockWrite { data, .. } => Some(data),
            _ => None,
        });
        blocks.into_iter().for_each(|data| data[index] |= bits);
        let fault = fault(&design, &stream, &counting(WORDS), 64);
        assert_fault!(fault, Fault::BadDescriptor { what: found, .. } if *found == what);
    };
    bad(4, 1 << 31, "compression");
    bad(1, 1 << 26, "zeros can only be sent");
    let mut design = Design::new(1);
    design.loopback(0, plain(), Bd { pad: [(0, 0), (1, 0), (0, 0)], ..plain() }, 1);
    let (_, stream) = good();
    let found = fault(&design, &stream, &counting(WORDS), 64);
    assert_fault!(found, Fault::BadDescriptor { what: "zeros behind an open dimension", .. });
    for (row, offset, value) in
        [(1, 0xa0600, 1 << 16), (1, 0xa0600, 8), (1, 0xa0600, 16), (0, 0x1d200, 2)]
    {
        let mut design = Design::new(1);
        design.set(0, row, offset, value);
        assert_fault!(design.array().unwrap_err(), Fault::Unsupported { .. });
    }
}

// --- locks ---

#[test]
fn a_lock_out_of_its_range() {
    let mut design = Design::new(1);
    design.loop_routes(0).lock(0, 0, 60);
    design.memory_bd(0, 0, Bd { release: Some((OWN_LOCK, 4)), ..plain() }).start_in(0, 0, 0, 1);
    let (_, stream) = good();
    let found = fault(&design, &stream, &counting(WORDS), 64);
    assert_fault!(found, Fault::LockRange { value: 64, .. });
}

#[test]
fn a_sender_that_does_not_wait_for_its_data() {
    // The lock says from the start that the buffer is full.
    assert_fault!(
        changed(|design, _| {
            design.lock(0, 1, 1);
        }),
        Fault::ConcurrentAccess { .. } | Fault::UnwrittenSent { .. }
    );
}

#[test]
fn a_lock_that_no_channel_reaches() {
    let mut design = Design::new(1);
    design.loop_routes(0);
    design.memory_bd(0, 0, Bd { acquire: Some((192, -1)), ..plain() }).start_in(0, 0, 0, 1);
    let found = fault(&design, &Stream::default(), &[], 0);
    assert_fault!(found, Fault::UnreachableLock { number: 192, .. });
    // Column 0 has no neighbour in the west.
    let mut design = Design::new(1);
    design.memory_bd(0, 0, Bd { acquire: Some((3, -1)), ..plain() }).start_in(0, 0, 0, 1);
    let found = fault(&design, &Stream::default(), &[], 0);
    assert_fault!(found, Fault::UnreachableLock { number: 3, .. });
}

// --- registers and input ---

#[test]
fn an_unknown_register() {
    let (mut design, stream) = good();
    design.set(0, MEMORY, 0xb8000, 1);
    let (_, report) = both(&design, &stream, &counting(WORDS), 64).unwrap();
    let unknown: Vec<_> =
        report.unknown_registers.iter().map(|(tile, at)| (tile.row, *at)).collect();
    assert_eq!(unknown, [(1, 0xb8000)]);
    let options = Options { unknown_registers: UnknownRegisters::Refused, ..Options::default() };
    let fault = Array::configure(&design.xclbin(), options).unwrap_err();
    assert_fault!(fault, Fault::UnknownRegister { offset: 0xb8000, .. });
}

#[test]
fn a_tile_that_is_not_there() {
    let (mut design, _) = good();
    design.set(8, MEMORY, 0, 1);
    assert_fault!(design.array().unwrap_err(), Fault::NoSuchTile { column: 8, row: 1 });
}

#[test]
fn streams_that_ask_for_too_much() {
    assert_fault!(
        changed(|_, stream| {
            let register = address(0, SHIM, 0x1d004 + 0x140);
            stream.ops.push(TxnOp::AddressPatch { register, argument: 2, addend: 0 });
        }),
        Fault::NoSuchArgument { argument: 2, .. }
    );
    assert_fault!(
        changed(|_, stream| {
            stream.ops.push(TxnOp::LoadPdi { id: 1, bytes: 4, address: 0 });
        }),
        Fault::UnsupportedOperation { .. }
    );
}

#[test]
fn input_that_is_not_what_it_should_be() {
    assert_fault!(Array::configure(b"xclbin2", Options::default()).unwrap_err(), Fault::Parse(_));
    let mut array = Array::new(Options::default());
    assert_fault!(array.run(&[0; 15], &mut []).unwrap_err(), Fault::Parse(_));
    let header = TxnHeader { generation: 3, ..TxnHeader::npu4(8) };
    let txn = onebit_aie::txn::Txn { header, ops: Vec::new() }.to_bytes().unwrap();
    assert_fault!(array.run(&txn, &mut []).unwrap_err(), Fault::OtherArray { generation: 3, .. });
}

#[test]
fn a_run_that_fails_leaves_everything_as_it_was() {
    let (design, stream) = good();
    let mut array = design.array().unwrap();
    let mut bad = stream.clone();
    bad.sync(0, 0);
    run(&mut array, &bad, &counting(WORDS), 64).unwrap_err();
    let (result, _) = run(&mut array, &stream, &counting(WORDS), 64).unwrap();
    assert_eq!(result, counting(WORDS));
}
