//! Designs and streams made to take for ever, or to be believed where they should not: each ends at
//! once, with a fault that names the place.

mod common;

use std::sync::mpsc;
use std::time::Duration;

use common::*;
use onebit_aie::program::RegisterOp;
use onebit_aie::txn::{Direction, TxnOp};
use onebit_aie_emu::Fault;
use onebit_aie_emu::array::{Array, Options, UnknownRegisters};
use onebit_aie_emu::descriptor::{Dimension, Run, Walk};
use proptest::prelude::*;

/// What `work` gives, if it does so before anybody loses patience.
#[track_caller]
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(Duration::from_secs(120)).expect("an end in time")
}

/// Registers of a compute tile's ports, in the order of aie-rt's tables.
const SOUTH_SLAVE: u32 = 5;
const WEST_SLAVE: u32 = 11;
const EAST_SLAVE: u32 = 19;
const WEST_MASTER: u32 = 9;
const NORTH_MASTER: u32 = 13;
const EAST_MASTER: u32 = 19;

/// A tile that gives every packet from any of four ports on to all of four ports.
fn spread(design: &mut Design, place: (u32, u32), slaves: u32, masters: u32) {
    for lane in 0..4 {
        design.admit(place, slaves + lane, 0, 3, (0, 0));
        design.emit(place, masters + lane, 0, 1, 0);
    }
}

/// Packets that go through sixteen tiles, by each of four ways from one to the next: 4^15 ways in
/// all, and 4^15 copies of each packet.
#[test]
fn packets_by_ever_more_ways() {
    let mut design = Design::new(1);
    // A channel of a compute tile begins: DMA 0 is slave port 1.
    design.admit((0, 2), 1, 0, 3, (0, 0));
    for lane in 0..4 {
        design.emit((0, 2), EAST_MASTER + lane, 0, 1, 0);
    }
    for column in 1..7 {
        spread(&mut design, (column, 2), WEST_SLAVE, EAST_MASTER);
    }
    spread(&mut design, (7, 2), WEST_SLAVE, NORTH_MASTER);
    spread(&mut design, (7, 3), SOUTH_SLAVE, WEST_MASTER);
    for column in (1..7).rev() {
        spread(&mut design, (column, 3), EAST_SLAVE, WEST_MASTER);
    }
    let fault = in_time(move || design.array().unwrap().routes().unwrap_err());
    assert!(matches!(fault, Fault::RoutesMeet { .. }), "{fault}");
    assert!(fault.to_string().contains("by two ways"), "{fault}");
}

/// A walk of 2^32 - 1 words, none beside the one before, over a few thousand of them; and another
/// channel in the same argument.
#[test]
fn a_walk_of_four_thousand_million_stretches() {
    let walk =
        Bd { length: u32::MAX, dims: [(2, 1023), (1, 1023), (1, 0), (0, 0)], ..Bd::default() };
    let mut design = Design::new(1);
    design.loop_routes(0);
    let mut stream = Stream::default();
    stream.transfer(
        (0, Direction::StreamToMemory, 0),
        0,
        (0, 0),
        Bd { length: 64, ..Bd::default() },
        1,
    );
    stream.transfer((0, Direction::MemoryToStream, 0), 1, (0, 0), walk, 1);
    stream.sync(0, 0);
    let fault = in_time(move || fault(&design, &stream, &counting(16384), 1));
    let Fault::TooScattered { descriptor, .. } = &fault else { panic!("{fault}") };
    assert_eq!(*descriptor, 1, "{fault}");
}

/// As long a walk that leaves its argument with its last word only.
#[test]
fn a_long_walk_that_ends_outside() {
    // 255 x 1023 rounds of 1023 words, and one word more.
    let length = 255 * 1023 * 1023 + 1;
    let walk = Bd { length, dims: [(2, 1023), (1, 1023), (1, 0), (0, 0)], ..Bd::default() };
    let last = 2 * 1022 + 1022 + 254;
    let mut design = Design::new(1);
    design.loop_routes(0);
    for (words, is_inside) in [(last + 1, true), (last, false)] {
        let mut stream = Stream::default();
        stream.transfer((0, Direction::MemoryToStream, 0), 0, (0, 0), walk, 1);
        stream.sync(0, 0);
        let design = design.clone();
        let fault = in_time(move || fault(&design, &stream, &counting(words), 1));
        if is_inside {
            assert!(matches!(fault, Fault::Deadlock { .. }), "{fault}");
            continue;
        }
        let Fault::OutOfBounds { address, .. } = fault else { panic!("{fault}") };
        assert_eq!(address & 0xffff, u64::from(last) * 4, "the only word outside");
    }
}

#[test]
fn syncs_for_channels_that_do_not_exist() {
    let wait = |column, row, columns, rows, channel| TxnOp::Sync {
        column,
        row,
        columns,
        rows,
        direction: Direction::StreamToMemory,
        channel,
    };
    for (op, place) in [
        (wait(8, 0, 1, 1, 0), "tile (8,0) S2MM 0"),
        (wait(7, 0, 2, 1, 0), "tile (8,0) S2MM 0"),
        (wait(0, 5, 1, 2, 0), "tile (0,6) S2MM 0"),
        (wait(255, 255, 255, 255, 0), "tile (255,255) S2MM 0"),
        (wait(0, 0, 1, 1, 2), "tile (0,0) S2MM 2"),
        (wait(0, 1, 1, 1, 6), "tile (0,1) S2MM 6"),
    ] {
        let stream = Stream { ops: vec![op] };
        let fault = fault(&Design::new(1), &stream, &[], 0);
        assert!(matches!(fault, Fault::NoSuchChannel { index: 0, .. }), "{fault}");
        assert!(fault.to_string().contains(place), "{fault}");
    }
}

/// The register that is refused is the one that is written, not one from before.
#[test]
fn a_refused_register_is_named_and_not_written() {
    let options = Options { unknown_registers: UnknownRegisters::Refused, ..Options::default() };
    let mut array = Array::new(options);
    let set = |offset, value| {
        let address = address(0, MEMORY, offset);
        let stream = Stream { ops: vec![TxnOp::Register(RegisterOp::Write32 { address, value })] };
        stream.bytes()
    };
    let mut unknown = Design::default();
    unknown.set(0, MEMORY, 0xb8000, 1);
    let xclbin = onebit_aie::xclbin::Xclbin::parse(&unknown.xclbin()).unwrap();
    let fault = array.apply(&xclbin).unwrap_err();
    assert!(matches!(fault, Fault::UnknownRegister { offset: 0xb8000, .. }), "{fault}");
    // A lock, which is known.
    array.run(&set(0xc0000, 1), &mut []).unwrap();
    let fault = array.run(&set(0xb8004, 1), &mut []).unwrap_err();
    assert!(matches!(fault, Fault::UnknownRegister { offset: 0xb8004, .. }), "{fault}");
}

fn dimension(wrap: Option<u64>) -> impl Strategy<Value = Dimension> {
    (1..7u64, 0..3u64, 0..3u64, 1..5u64).prop_map(move |(step, before, after, most)| Dimension {
        step,
        wrap: wrap.map(|_| most),
        before,
        after: if wrap.is_some() { after } else { 0 },
    })
}

proptest! {
    /// Bounds are what walking finds.
    #[test]
    fn bounds_are_exact(
        inner in prop::collection::vec(dimension(Some(1)), 0..4),
        outer in dimension(None),
        first in 0..100u64,
        length in 0..400u64,
    ) {
        let dimensions: Vec<Dimension> = inner.into_iter().chain([outer]).collect();
        let walk = Walk::new(first, length, &dimensions);
        let words = walk.clone().runs().filter_map(|run| match run {
            Run::Words { first, count } => Some((first, first + count)),
            Run::Zeros(_) => None,
        });
        let found = words.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
        prop_assert_eq!(walk.bounds(), found.unwrap_or((first, first)));
    }
}
