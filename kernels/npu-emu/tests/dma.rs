//! Designs that only move data: what arrives where, under every order of events.

mod common;

use common::*;
use onebit_aie::txn::Direction;
use onebit_aie_emu::array::{Array, Options};

fn plain(length: u32) -> Bd {
    Bd { base: OWN, length, ..Bd::default() }
}

/// Runs a loopback of `words` words with a fixed order and with many others.
#[track_caller]
fn check_loopback(bd_in: Bd, bd_out: Bd, words: u32, expected: &[u32]) {
    let mut design = Design::new(1);
    design.loopback(0, bd_in, bd_out, 1);
    let mut stream = Stream::default();
    let out = u32::try_from(expected.len()).expect("a small buffer");
    stream.send(0, words).take(0, out);
    for seed in [None, Some(1), Some(2), Some(3)] {
        let options = Options { seed, ..Options::default() };
        let mut array = Array::configure(&design.xclbin(), options).expect("a good design");
        let (result, report) = run(&mut array, &stream, &counting(words), expected.len()).unwrap();
        assert_eq!(result, expected, "seed {seed:?}");
        assert_eq!(report.bytes_read, u64::from(words) * 4);
        assert_eq!(report.bytes_written, u64::from(out) * 4);
        assert!(report.cycles >= u64::from(words.max(out)));
    }
}

#[test]
fn a_buffer_comes_back() {
    check_loopback(plain(1000), plain(1000), 1000, &counting(1000));
}

#[test]
fn a_memory_tile_transposes() {
    // Out by columns: 8 rows of 32 words, the inner dimension goes down a column.
    let out = Bd { dims: [(32, 8), (1, 0), (0, 0), (0, 0)], ..plain(256) };
    let expected: Vec<u32> = (0..256).map(|i| (i % 8) * 32 + i / 8 + 1).collect();
    check_loopback(plain(256), out, 256, &expected);
}

#[test]
fn a_memory_tile_scatters_on_arrival() {
    // Four dimensions into memory, read back linearly: 2 x 3 x 4 x 5, innermost last.
    let dims = [(24, 5), (6, 4), (2, 3), (1, 0)];
    let expected: Vec<u32> = (0..120)
        .map(|place| {
            (place / 24) + 5 * (place % 24 / 6) + 20 * (place % 6 / 2) + 60 * (place % 2) + 1
        })
        .collect();
    check_loopback(Bd { dims, ..plain(120) }, plain(120), 120, &expected);
}

#[test]
fn zeros_are_padded_around_what_is_sent() {
    // 3 rows of 4 words, 2 zeros left and 1 right, a row of zeros above and two below.
    let out = Bd {
        dims: [(1, 4), (4, 3), (12, 1), (0, 0)],
        pad: [(2, 1), (1, 2), (0, 0)],
        ..plain(7 * 6)
    };
    let mut expected = vec![0; 42];
    for row in 0..3 {
        for column in 0..4 {
            expected[(row + 1) * 7 + 2 + column] = u32::try_from(row * 4 + column + 1).unwrap();
        }
    }
    check_loopback(plain(12), out, 12, &expected);
}

#[test]
fn an_outer_dimension_is_padded_round_by_round() {
    // Two planes of 2 x 2, a zero plane before each pair.
    let out =
        Bd { dims: [(1, 2), (2, 2), (4, 2), (0, 0)], pad: [(0, 0), (0, 1), (1, 0)], ..plain(18) };
    let expected = [0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 5, 6, 7, 8, 0, 0];
    check_loopback(plain(8), out, 8, &expected);
}

#[test]
fn iterations_move_a_descriptor_on_and_start_over() {
    // Twice 3 runs of 4 words, 10 words apart, into a zeroed buffer; read back whole.
    let mut design = Design::new(1);
    design.loop_routes(0);
    let full = OWN_LOCK;
    design.block(0, MEMORY, 0, vec![0; 30]);
    let bd = Bd { iteration: (10, 3), release: Some((full, 1)), ..plain(4) };
    design.memory_bd(0, 0, bd).start_in(0, 0, 0, 6);
    design.memory_bd(0, 1, Bd { acquire: Some((full, -6)), ..plain(30) }).start_out(0, 0, 1, 1);
    let mut stream = Stream::default();
    stream.send(0, 24).take(0, 30);
    let (result, _) = both(&design, &stream, &counting(24), 30).unwrap();
    let mut expected = vec![0; 30];
    for (run, word) in (0..6).flat_map(|run| (0..4).map(move |word| (run, word))) {
        expected[run % 3 * 10 + word] = u32::try_from(run * 4 + word + 1).unwrap();
    }
    assert_eq!(result, expected);
}

#[test]
fn the_shim_walks_with_dimensions_iterations_and_repeats() {
    // A 4 x 6 matrix read by columns in two halves; and each half of the result put 20 words on.
    let mut design = Design::new(1);
    design.loopback(0, plain(12), plain(12), 2);
    let mut stream = Stream::default();
    let send = Bd {
        length: 12,
        dims: [(6, 4), (1, 3), (1, 0), (0, 0)],
        iteration: (3, 2),
        ..Bd::default()
    };
    stream.transfer((0, Direction::MemoryToStream, 0), 0, (0, 0), send, 2);
    let take = Bd { length: 12, iteration: (20, 2), ..Bd::default() };
    stream.transfer((0, Direction::StreamToMemory, 0), 1, (1, 8), take, 2).sync(0, 0);
    let (result, _) = both(&design, &stream, &counting(24), 40).unwrap();
    let by_columns: Vec<u32> = (0..24).map(|i| i % 4 * 6 + i / 4 + 1).collect();
    assert_eq!(result[2..14], by_columns[..12]);
    assert_eq!(result[22..34], by_columns[12..]);
    assert!(result[..2].iter().chain(&result[14..22]).all(|&word| word == 0xeeee_eeee));
}

/// Two buffers in turn, in rings of descriptors: 40 rounds and more than one call.
fn ping_pong() -> Design {
    let mut design = Design::new(1);
    design.loop_routes(0).lock(0, 0, 2);
    let (empty, full) = (OWN_LOCK, OWN_LOCK + 1);
    for buffer in 0..2 {
        let bd = Bd { base: OWN + 100 * buffer, length: 16, ..Bd::default() };
        let next = Some(1 - buffer);
        design.memory_bd(
            0,
            buffer,
            Bd { next, acquire: Some((empty, -1)), release: Some((full, 1)), ..bd },
        );
        let next = Some(3 - buffer);
        design.memory_bd(
            0,
            2 + buffer,
            Bd { next, acquire: Some((full, -1)), release: Some((empty, 1)), ..bd },
        );
    }
    design.start_in(0, 0, 0, 1).start_out(0, 0, 2, 1);
    design
}

#[test]
fn two_buffers_take_turns_over_many_calls() {
    for seed in (0..8).map(Some).chain([None]) {
        let options = Options { seed, ..Options::default() };
        let mut array = Array::configure(&ping_pong().xclbin(), options).unwrap();
        for rounds in [40, 1, 3] {
            let mut stream = Stream::default();
            stream.send(0, 16 * rounds).take(0, 16 * rounds);
            let input: Vec<u32> = (0..16 * rounds).map(|i| i * i + rounds).collect();
            let (result, _) = run(&mut array, &stream, &input, input.len()).unwrap();
            assert_eq!(result, input, "seed {seed:?}");
        }
    }
}

#[test]
fn a_broadcast_reaches_every_channel_once() {
    // Shim to two channels of the memory tile, sent back one after the other.
    let mut design = Design::new(1);
    design.loop_routes(0).connect(0, MEMORY, 7, 1); // South 0 to DMA 1 as well
    let full = OWN_LOCK;
    for (channel, bd) in [(0, 0), (1, 24)] {
        let base = OWN + 64 * channel;
        design.memory_bd(0, bd, Bd { base, length: 64, release: Some((full, 1)), ..Bd::default() });
        design.start_in(0, channel, bd, 1);
    }
    let out = Bd { acquire: Some((full, -2)), ..plain(128) };
    design.memory_bd(0, 2, out).start_out(0, 0, 2, 1);
    let mut stream = Stream::default();
    stream.send(0, 64).take(0, 128);
    let (result, _) = both(&design, &stream, &counting(64), 128).unwrap();
    assert_eq!(result, [counting(64), counting(64)].concat());
}

#[test]
fn eight_columns_run_on_their_own_and_give_the_same_at_any_number_of_threads() {
    let mut design = Design::new(8);
    let mut stream = Stream::default();
    for column in 0..8 {
        design.loopback(column, plain(500), plain(500), 3);
        let offset = u64::from(column) * 6000;
        let bd = Bd { length: 1500, ..Bd::default() };
        stream.transfer((column, Direction::MemoryToStream, 0), 0, (0, offset), bd, 1);
        stream.transfer((column, Direction::StreamToMemory, 0), 1, (1, 42_000 - offset), bd, 1);
    }
    (0..8).for_each(|column| {
        stream.sync(column, 0);
    });
    let input = counting(12_000);
    let expected: Vec<u32> = input.chunks(1500).rev().flatten().copied().collect();
    let reports: Vec<_> = [1, 2, 5]
        .map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (result, report) = both(&design, &stream, &input, 12_000).unwrap();
                assert_eq!(result, expected);
                report
            })
        })
        .into_iter()
        .collect();
    assert_eq!(reports[0].groups, 8);
    assert!(reports.iter().all(|report| *report == reports[0]));
    // 96 kB at 50 GB/s and 1.8 GHz are 3456 cycles, more than a stream's 1500.
    assert!(reports[0].cycles >= 3456 && reports[0].memory_cycles > 0, "{}", reports[0].cycles);
}

#[test]
fn a_memory_tile_reaches_its_neighbours() {
    // Column 1 writes into column 0's memory and tells its lock; column 0 sends it on.
    let mut design = Design::new(2);
    design.loop_routes(0).loop_routes(1);
    let west_full = Some((0, 1));
    design.memory_bd(1, 0, Bd { base: 40, length: 32, release: west_full, ..Bd::default() });
    design.start_in(1, 0, 0, 1);
    let own_full = Some((OWN_LOCK, -1));
    design.memory_bd(0, 1, Bd { base: OWN + 40, length: 32, acquire: own_full, ..Bd::default() });
    design.start_out(0, 0, 1, 1);
    let mut stream = Stream::default();
    stream.send(1, 32).take(0, 32);
    let (result, report) = both(&design, &stream, &counting(32), 32).unwrap();
    assert_eq!(result, counting(32));
    assert_eq!(report.groups, 1);
}

#[test]
fn packets_of_two_channels_share_a_stream_and_part_again() {
    // Memory MM2S 0 and 2 send packets 3 and 7 over one stream north; the compute tile above
    // sorts them to its two channels, without headers, and sends both back as circuits.
    let mut design = Design::new(1);
    design.loop_routes(0);
    let words = 40;
    let full = OWN_LOCK + 1;
    design
        .memory_bd(0, 0, Bd { release: Some((full, 2)), ..plain(2 * words) })
        .start_in(0, 0, 0, 1);
    // Out of the way of the loop's route back: channels 2 and 4 send, channel 0 sends to the shim.
    for (channel, bd, half, id) in [(2, 2, 0, 3), (4, 4, 1, 7)] {
        let base = OWN + half * words;
        let acquire = Some((full, -1));
        design.memory_bd(
            0,
            bd,
            Bd { base, length: words, acquire, packet: Some(id), ..Bd::default() },
        );
        design.start_out(0, channel, bd, 1);
        design.admit((0, MEMORY), channel, 0, id, (1, 0));
    }
    design.emit((0, MEMORY), 11, 1, 1, 0); // North 0
    design.admit((0, 2), 5, 0, 3, (0, 0)).emit((0, 2), 1, 0, 1, 1); // South 0 to DMA 0
    design.admit((0, 2), 5, 1, 7, (0, 1)).emit((0, 2), 2, 0, 2, 1); // South 0 to DMA 1
    for channel in 0..2 {
        let base = 100 * channel;
        let bd = Bd { base, length: words, release: Some((channel, 1)), ..Bd::default() };
        design.block(0, 2, 0x1d000 + 0x20 * channel, bd.compute());
        design.set(0, 2, 0x1de04 + 8 * channel, channel);
        let bd = Bd { acquire: Some((channel, -1)), release: None, ..bd };
        design.block(0, 2, 0x1d040 + 0x20 * channel, bd.compute());
        design.set(0, 2, 0x1de14 + 8 * channel, 2 + channel);
        design.connect(0, 2, 1 + channel, 5 + channel); // DMA to South
        design.connect(0, MEMORY, 13 + channel, 1 + 2 * channel); // North to DMA 1 and 3
        let (bd, base) = (24 + channel, OWN + 1000 + words * channel);
        let release = Some((OWN_LOCK + 5, 1));
        design.memory_bd(0, bd, Bd { base, length: words, release, ..Bd::default() });
        design.start_in(0, 1 + 2 * channel, bd, 1);
    }
    let out =
        Bd { base: OWN + 1000, length: 80, acquire: Some((OWN_LOCK + 5, -2)), ..Bd::default() };
    design.memory_bd(0, 1, out).start_out(0, 0, 1, 1);
    let mut stream = Stream::default();
    stream.send(0, 80).take(0, 80);
    for seed in (0..8).map(Some).chain([None]) {
        let options = Options { seed, ..Options::default() };
        let mut array = Array::configure(&design.xclbin(), options).unwrap();
        let (result, _) = run(&mut array, &stream, &counting(80), 80).unwrap();
        assert_eq!(result, counting(80), "seed {seed:?}");
    }
}
