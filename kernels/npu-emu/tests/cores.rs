//! Cores in the array: between streams, locks and each other's memories.

mod common;

use common::*;
use onebit_aie::isa::assemble;
use onebit_aie::program::RegisterOp;
use onebit_aie::txn::TxnOp;
use onebit_aie_emu::Fault;
use onebit_aie_emu::array::{Array, Latency, Options, Spans, Unwritten};
use onebit_aie_emu::core::Status;
use onebit_aie_emu::geometry::TileId;
use onebit_aie_emu::tile::Tile;

const COMPUTE: u32 = 2;
const WORDS: u32 = 32;
/// Where a core sees its western neighbour's memory and locks, and its own.
const WEST: (u32, u32) = (0x50000, 16);
const OWN_MEMORY: (u32, u32) = (0x70000, 48);

/// A program that for ever takes 32 words from byte 0 of the memory `from` when its lock 1 says
/// so, adds one to each, puts them at byte 1024 of its own and tells its own lock 3.
fn adds_one(from: (u32, u32)) -> String {
    let (source, target) = (from.0, OWN_MEMORY.0 + 1024);
    let [full, empty] = [from.1 + 1, from.1];
    let [out_empty, out_full] = [OWN_MEMORY.1 + 2, OWN_MEMORY.1 + 3];
    let wait = "nop\n".repeat(10);
    let slots = "nop\n".repeat(5);
    format!(
        "movx r0, #-1\nmovx r1, #1\n\
         top:\n\
         acq #{full}, r0\nnop\nnop\nnop\nacq #{out_empty}, r0\n{wait}\
         movx r2, #{WORDS}\nmovxm p0, #{source}\nmovxm p1, #{target}\n\
         again:\n\
         lda r3, [p0], #4\n{wait}\
         add r3, r3, #1\nst r3, [p1], #4\nadd r2, r2, #-1\n\
         jnz r2, #@again\n{slots}{wait}\
         rel #{empty}, r1\nnop\nnop\nnop\nrel #{out_full}, r1\n\
         j #@top\n{slots}"
    )
}

/// Loads `program` into the core at `column` in the lowest row and lets it run.
fn core(design: &mut Design, column: u32, program: &str) {
    let mut code = assemble(program, 0).expect("a good program");
    code.resize(code.len().next_multiple_of(4), 0);
    design.block(column, COMPUTE, 0x20000, words(&code));
    for control in [2, 0, 1] {
        design.set(column, COMPUTE, 0x32000, control);
    }
}

/// Words from the shim of `column_in` into the memory above its memory tile, and from the memory
/// in `column_out` back to its shim.
fn streams(design: &mut Design, column_in: u32, column_out: u32) {
    design.connect(column_in, SHIM, 5, 12); // South 3 to North 0
    design.connect(column_in, MEMORY, 7, 11); // South 0 to North 0
    design.connect(column_in, COMPUTE, 5, 1); // South 0 to DMA 0
    design.connect(column_out, COMPUTE, 1, 5); // DMA 0 to South 0
    design.connect(column_out, MEMORY, 13, 7); // North 0 to South 0
    design.connect(column_out, SHIM, 14, 4); // North 0 to South 2
    let ring = Some(0);
    let bd = Bd {
        length: WORDS,
        next: ring,
        acquire: Some((0, -1)),
        release: Some((1, 1)),
        ..Bd::default()
    };
    design.set(column_in, COMPUTE, 0x1f000, 1);
    design.block(column_in, COMPUTE, 0x1d000, bd.compute()).set(column_in, COMPUTE, 0x1de04, 0);
    let ring = Some(1);
    let bd = Bd { base: 256, next: ring, acquire: Some((3, -1)), release: Some((2, 1)), ..bd };
    design.set(column_out, COMPUTE, 0x1f020, 1);
    design.block(column_out, COMPUTE, 0x1d020, bd.compute()).set(column_out, COMPUTE, 0x1de14, 1);
}

fn one_core(program: &str) -> Design {
    let mut design = Design::new(1);
    streams(&mut design, 0, 0);
    core(&mut design, 0, program);
    design
}

fn stream(column_in: u32, column_out: u32, words: u32) -> Stream {
    let mut stream = Stream::default();
    stream.send(column_in, words).take(column_out, words);
    stream
}

#[test]
fn a_core_adds_one_under_every_order_and_latency() {
    let design = one_core(&adds_one(OWN_MEMORY));
    let latencies = [Latency::Documented, Latency::Shortest, Latency::Longest, Latency::Checked];
    for latency in latencies {
        for seed in (0..4).map(Some).chain([None]) {
            let options = Options { latency, seed, ..Options::default() };
            let mut array = Array::configure(&design.xclbin(), options).unwrap();
            // The core is kept from call to call.
            for rounds in [5, 1] {
                let input = counting(WORDS * rounds);
                let stream = stream(0, 0, WORDS * rounds);
                let (result, report) = run(&mut array, &stream, &input, input.len()).unwrap();
                let expected: Vec<u32> = input.iter().map(|word| word + 1).collect();
                assert_eq!(result, expected, "{latency:?}, seed {seed:?}");
                // 20 words a turn of the inner loop, at least.
                assert!(report.core_words > u64::from(WORDS * rounds * 20));
                assert!(report.cycles > report.core_words / 2);
            }
        }
    }
}

#[test]
fn a_core_uses_its_western_neighbours_memory_and_locks() {
    let mut design = Design::new(2);
    streams(&mut design, 0, 1);
    core(&mut design, 1, &adds_one(WEST));
    let mut array = design.array().unwrap();
    for _ in 0..2 {
        let input = counting(WORDS * 3);
        let (result, report) = run(&mut array, &stream(0, 1, WORDS * 3), &input, 96).unwrap();
        assert_eq!(result, input.iter().map(|word| word + 1).collect::<Vec<u32>>());
        assert_eq!(report.groups, 1, "columns that share memory run together");
    }
}

#[test]
fn spans_say_who_worked_when() {
    let design = one_core(&adds_one(OWN_MEMORY));
    let options = Options { spans: Spans::Recorded, ..Options::default() };
    let mut array = Array::configure(&design.xclbin(), options).unwrap();
    let (_, report) = run(&mut array, &stream(0, 0, WORDS), &counting(WORDS), 32).unwrap();
    let of = |who: &str| report.spans.iter().filter(|span| span.who == who).collect::<Vec<_>>();
    let (into, out) = (of("S2MM 0"), of("MM2S 0"));
    assert!(into.iter().all(|span| span.end - span.start == u64::from(WORDS)));
    // The core works after its data came and before its result goes.
    let arrived = into.iter().find(|span| span.tile.row == 2).unwrap().end;
    let leaves = out.iter().find(|span| span.tile.row == 2).unwrap().start;
    let works = of("core").into_iter().find(|span| span.start >= arrived).unwrap();
    assert!(works.end <= leaves, "{works:?} {leaves}");
}

/// The fault of a design with `program` in its core, which the core is to blame for.
#[track_caller]
fn core_fault(program: &str, options: Options) -> Fault {
    let mut array = Array::configure(&one_core(program).xclbin(), options).unwrap();
    let fault = run(&mut array, &stream(0, 0, WORDS), &counting(WORDS), 32).unwrap_err();
    let text = fault.to_string();
    assert!(text.starts_with("core of tile (0,2)"), "{text}");
    fault
}

#[test]
fn what_a_core_must_not_touch() {
    let nops = "nop\n".repeat(8);
    let cases = [
        // The memory tile is no southern neighbour; program memory is no data; beyond all windows.
        ("movxm p0, #262144\nlda r0, [p0, #0]\n", "0x40000"),
        ("movxm p0, #0\nst r0, [p0, #0]\n", "0x0"),
        ("movxm p0, #524288\nlda r0, [p0, #0]\n", "0x80000"),
        // Column 0 has no western neighbour.
        ("movxm p0, #327680\nlda r0, [p0, #0]\n", "0x50000"),
        (
            "movxm p0, #460800\nlda r0, [p0, #0]\n",
            "byte 0x800 of tile (0,2) is loaded, never written",
        ),
        ("movx r0, #-1\nacq #3, r0\n", "no such lock"),
        ("movx r0, #-1\nacq #16, r0\n", "no such lock"),
        ("movx r0, #-1\nnop\n", "outside"),
    ];
    for (program, message) in cases {
        let text = core_fault(&format!("{program}{nops}"), Options::default()).to_string();
        assert!(text.contains(message), "{program}: {text}");
    }
}

#[test]
fn a_core_may_be_given_zeros_for_what_nobody_wrote() {
    let from_zeros = adds_one((OWN_MEMORY.0 + 0x8000, OWN_MEMORY.1));
    core_fault(&from_zeros, Options::default());
    let options = Options { unwritten: Unwritten::ZerosForCores, ..Options::default() };
    let mut array = Array::configure(&one_core(&from_zeros).xclbin(), options).unwrap();
    let (result, _) = run(&mut array, &stream(0, 0, WORDS), &counting(WORDS), 32).unwrap();
    assert_eq!(result, vec![1; 32]);
}

#[test]
fn a_core_that_never_waits() {
    let program = format!("top:\nj #@top\n{}", "nop\n".repeat(5));
    let options = Options { longest_turn: 10_000, ..Options::default() };
    let fault = core_fault(&program, options);
    assert!(matches!(fault, Fault::Runaway { steps: 10_001, .. }), "{fault:?}");
}

/// Its locks are always free: it takes 0 from a lock of exactly 0, and it never comes to rest.
#[test]
fn a_core_that_goes_round_on_free_locks() {
    let program = format!("movx r0, #0\nnop\ntop:\nacq #53, r0\nj #@top\n{}", "nop\n".repeat(5));
    let options = Options { longest_settle: 100_000, ..Options::default() };
    let fault = core_fault(&program, options);
    assert!(fault.to_string().contains("without coming to rest"), "{fault}");
}

#[test]
fn a_core_that_waits_for_nothing_that_comes_is_named() {
    let design = one_core("movx r0, #-1\nnop\nacq #53, r0\nnop\nnop\nnop\n");
    let found = fault(&design, &stream(0, 0, WORDS), &counting(WORDS), 32);
    let text = found.to_string();
    assert!(matches!(found, Fault::Deadlock { .. }), "{text}");
    assert!(
        text.contains("tile (0,2) core waits for tile (0,2) lock 5 to be at least 1"),
        "{text}"
    );
}

#[test]
fn a_lock_that_a_core_gives_too_much() {
    let program = format!(
        "movx r1, #63\nnop\nrel #53, r1\nnop\nnop\nnop\nrel #53, r1\n{}done\n",
        "nop\n".repeat(8)
    );
    let design = one_core(&program);
    let found = fault(&design, &stream(0, 0, WORDS), &counting(WORDS), 32);
    assert!(matches!(found, Fault::LockRange { value: 126, .. }), "{found:?}");
}

#[test]
fn a_program_that_forgets_a_lock_or_a_wait_is_found() {
    let good = adds_one(OWN_MEMORY);
    // Without giving its input back, the second round never starts.
    let broken = good.replacen("rel #48, r1\n", "nop\n", 1);
    let found = fault(&one_core(&broken), &stream(0, 0, 3 * WORDS), &counting(3 * WORDS), 96);
    assert!(matches!(found, Fault::Deadlock { .. }), "{found:?}");
    // Without waiting for a load, the documented latency gives another result; a checked core says
    // that it is not certain.
    let broken = good.replacen(&"nop\n".repeat(10), "", 2);
    assert_ne!(broken, good);
    let options = Options { latency: Latency::Checked, ..Options::default() };
    core_fault(&broken, options);
}

/// A lock's operations have values of seven bits; a register may hold anything.
#[test]
fn a_value_that_no_lock_takes() {
    let nops = "nop\n".repeat(8);
    for value in [i32::MIN, i32::MAX, -65, 64] {
        for operation in ["acq", "rel"] {
            let program = format!("movxm r1, #{value}\n{nops}{operation} #53, r1\n{nops}done\n");
            let found = fault(&one_core(&program), &stream(0, 0, WORDS), &counting(WORDS), 32);
            let text = found.to_string();
            let expected = format!("tile (0,2) lock 5: an operation with {value},");
            assert!(text.contains(&expected), "{operation} {value}: {text}");
        }
    }
}

#[test]
fn a_reset_core_is_not_done_any_more() {
    const CONTROL: u32 = 0x32000;
    const STATUS: u32 = 0x32004;
    const DONE: u32 = 1 << 20;
    let mut tile = Tile::new(TileId { column: 0, row: 2 });
    tile.write(CONTROL, u32::MAX, 1, 0).unwrap();
    tile.core_status = Status::Done;
    assert_eq!(tile.read(STATUS), DONE | 1);
    tile.write(CONTROL, u32::MAX, 2, 0).unwrap();
    assert_eq!(tile.read(STATUS), 2);
    tile.write(CONTROL, u32::MAX, 1, 0).unwrap();
    assert_eq!(tile.read(STATUS), 1);
}

/// The channel into byte 0 has its lock from the start on, or takes it while the core has run ahead.
#[test]
fn a_core_that_stores_where_a_channel_works() {
    let store = |at: u32, wait: usize| {
        let (p, nops) = (OWN_MEMORY.0 + at, "nop\n".repeat(wait));
        format!("movxm p0, #{p}\nmovx r0, #7\n{nops}st r0, [p0, #0]\n{}done\n", "nop\n".repeat(8))
    };
    let outcome = |program: &str, seed| {
        let options = Options { seed, ..Options::default() };
        let mut array = Array::configure(&one_core(program).xclbin(), options).unwrap();
        run(&mut array, &stream(0, 0, WORDS), &counting(WORDS), 32).unwrap_err().to_string()
    };
    for seed in (0..16).map(Some).chain([None]) {
        for (at, byte) in [(0, "0x0"), (124, "0x7c")] {
            let text = outcome(&store(at, 100), seed);
            let expected = format!(
                "tile (0,2) core stores to byte {byte} of tile (0,2) while tile (0,2) S2MM 0"
            );
            assert!(text.contains(&expected), "seed {seed:?}: {text}");
        }
        // Beside it, it is only that nothing comes out.
        let text = outcome(&store(128, 100), seed);
        assert!(text.contains("waits for"), "seed {seed:?}: {text}");
    }
}

/// Adds to its words how often it has been round, and forgets it when it starts over.
fn adds_rounds() -> String {
    let program = adds_one(OWN_MEMORY).replacen("movx r1, #1\n", "movx r1, #1\nmovx r5, #0\n", 1);
    let program = program.replacen("movx r2,", "add r5, r5, #1\nmovx r2,", 1);
    program.replacen("add r3, r3, #1\n", "add r3, r3, r5\n", 1)
}

#[test]
fn a_program_written_while_it_runs_goes_on() {
    let code = |program: &str| words(&assemble(program, 0).unwrap());
    let (once, thrice) =
        (adds_rounds(), adds_rounds().replacen("add r5, r5, #1", "add r5, r5, #3", 1));
    let (old, new) = (code(&once), code(&thrice));
    let changed = (0..old.len()).find(|&at| old[at] != new[at]).unwrap();
    let mut array = one_core(&once).array().unwrap();
    // A word that stays what it is, then one that is another: neither starts the core over.
    for (at, word, expected) in [(0, old[0], 1), (0, old[0], 2), (changed, new[changed], 5)] {
        let mut stream = stream(0, 0, WORDS);
        let register = address(0, COMPUTE, 0x20000 + 4 * at as u32);
        let write = RegisterOp::BlockWrite { address: register, data: vec![word] };
        stream.ops.insert(0, TxnOp::Register(write));
        let (result, _) = run(&mut array, &stream, &[0; 32], 32).unwrap();
        assert_eq!(result, vec![expected; 32], "word {at}");
    }
}

#[test]
fn a_core_knows_where_it_is() {
    for column in [0, 1] {
        let mut design = Design::new(2);
        streams(&mut design, column, column);
        let program = adds_one(OWN_MEMORY).replacen("add r3, r3, #1", "mov r3, core_id", 1);
        core(&mut design, column, &program);
        let mut array = design.array().unwrap();
        let stream = stream(column, column, WORDS);
        let (result, _) = run(&mut array, &stream, &counting(WORDS), 32).unwrap();
        assert_eq!(result, vec![column << 16 | 2; 32]);
    }
}
