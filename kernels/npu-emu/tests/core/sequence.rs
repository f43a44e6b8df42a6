//! Jumps, calls, hardware loops, locks, and a core's life.

use onebit_aie::isa::RegisterFile;
use onebit_aie_emu::core::{Core, CoreFault, LatencyModel, Status};

use crate::machine::{Tile, ended, finish, load, nops, r, refusal, run, scalar};

/// Adds one to r0 in each of seven words after `jump`, then goes on at `target`.
fn counted(jump: &str) -> u32 {
    let count = "add r0, r0, #1\n".repeat(7);
    let text = format!("movx r0, #0\n{jump}\n{count}target:\nnop");
    r(&run(&text, &mut Tile::new()), 0)
}

#[test]
fn five_words_follow_a_jump() {
    assert_eq!(counted("nop"), 7);
    assert_eq!(counted("j #@target"), 5);
    assert_eq!(counted("jnz r0, #@target"), 7);
    assert_eq!(counted("jz r0, #@target"), 5);
    assert_eq!(counted("movx r1, #1\njnz r1, #@target"), 5);
    assert_eq!(counted("movx r1, #1\njz r1, #@target"), 7);
    assert_eq!(counted("movxm p0, #@target\nj p0"), 5);
}

#[test]
fn calls_return_behind_their_delay_slots() {
    let text = "movxm lr, #4660\nmovx r0, #0\njl #@function\nadd r0, r0, #1\nadd r0, r0, #1\nmov r1, lr\nadd r0, r0, #1\nadd r0, r0, #1\n\
                add r0, r0, #16\nj #@end\nnop\nnop\nnop\nnop\nnop\n\
                function:\nmov r2, lr\nret lr\nadd r0, r0, #32\nnop\nnop\nnop\nnop\nadd r0, r0, #63\nend:\nnop";
    let core = run(text, &mut Tile::new());
    assert_eq!(r(&core, 0), 4 + 16 + 32);
    assert_eq!(r(&core, 1), 0x1234, "lr keeps its value in the delay slots");
    assert_eq!(r(&core, 2), scalar(&core, RegisterFile::Lr, 0));
    let indirect = "movx r0, #0\nmovxm p0, #@f\njl p0\nnop\nnop\nnop\nnop\nnop\nadd r0, r0, #1\nj #@end\nnop\nnop\nnop\nnop\nnop\nf:\nret lr\nnop\nnop\nnop\nnop\nadd r0, r0, #2\nend:";
    assert_eq!(r(&run(indirect, &mut Tile::new()), 0), 3);
}

#[test]
fn counting_jumps() {
    let text = "movx r0, #0\nmovx r1, #4\nmovxm p0, #@again\nagain:\nadd r0, r0, #1\njnzd r1, r1, p0\nnop\nnop\nnop\nnop\nnop";
    let core = run(text, &mut Tile::new());
    assert_eq!((r(&core, 0), r(&core, 1)), (4, 0));
}

#[test]
fn jumps_do_not_meet() {
    for text in [
        "j #@a\nj #@a\nnop\nnop\nnop\nnop\nnop\na:",
        "movx r0, #0\nj #@a\nnop\nnop\nnop\nnop\njnz r0, #@a\na:",
    ] {
        assert_eq!(refusal(text, &mut Tile::new()), CoreFault::JumpsMeet, "{text}");
    }
}

/// A hardware loop of `body`, with `gap` words of 16 bytes before it.
fn hardware_loop(count: i32, gap: usize, body: &str) -> String {
    let gap = "nopa\n".repeat(gap);
    let lines: Vec<&str> = body.lines().collect();
    let (last, first) = lines.split_last().expect("a body");
    let first: String = first.iter().map(|line| format!("{line}\n")).collect();
    format!(
        ".full\nmovx r0, #0\nmovxm ls, #@first\nmovxm le, #@last\nmovx r1, #{count}\nadd.nc lc, r1, #0\n\
         {gap}first:\n{first}last:\n{last}\nmovx r9, #1\n.exact"
    )
}

#[test]
fn a_hardware_loop_runs_its_count() {
    for count in [1, 2, 3, 17] {
        let text = hardware_loop(count, 5, "add r0, r0, #1\nadd r0, r0, #1");
        let core = run(&text, &mut Tile::new());
        assert_eq!(r(&core, 0), 2 * count as u32, "{count}");
        assert_eq!(scalar(&core, RegisterFile::Lc, 0), 0);
        assert_eq!(r(&core, 9), 1);
    }
    let one_word = hardware_loop(5, 6, "add r0, r0, #1");
    assert_eq!(r(&run(&one_word, &mut Tile::new()), 0), 5);
    // With a count of zero there is no loop.
    let none = hardware_loop(0, 6, "add r0, r0, #1");
    assert_eq!(r(&run(&none, &mut Tile::new()), 0), 1);
}

#[test]
fn a_hardware_loop_is_set_up_112_bytes_before_its_end() {
    let text = |gap| hardware_loop(3, gap, "add r0, r0, #1\nadd r0, r0, #1");
    run(&text(5), &mut Tile::new());
    let cause = refusal(&text(4), &mut Tile::new());
    assert!(matches!(cause, CoreFault::Loop { what, .. } if what.contains("112")), "{cause}");
}

/// Words between the first and the last may be of any size; compilers fill them up only as far as
/// alignment needs.
#[test]
fn a_hardware_loop_starts_and_ends_aligned() {
    let inner = ".exact\nadd r0, r0, #1; nopm; nopa; nopb\nnop\nnop\n.full\nadd r0, r0, #1";
    let core = run(&hardware_loop(3, 6, inner), &mut Tile::new());
    assert_eq!(r(&core, 0), 6);
    let unaligned = hardware_loop(3, 6, ".exact\nadd r0, r0, #1\n.full\nadd r0, r0, #1");
    let cause = refusal(&unaligned, &mut Tile::new());
    assert!(matches!(cause, CoreFault::Loop { what, .. } if what.contains("aligned")), "{cause}");
    let short = hardware_loop(3, 6, "add r0, r0, #1\n.exact\nadd r0, r0, #1");
    let cause = refusal(&short, &mut Tile::new());
    assert!(matches!(cause, CoreFault::Loop { what, .. } if what.contains("16 bytes")), "{cause}");
    let shifted = format!("nop\n{}", hardware_loop(3, 6, "add r0, r0, #1\nadd r0, r0, #1"));
    let cause = refusal(&shifted, &mut Tile::new());
    assert!(matches!(cause, CoreFault::Loop { what, .. } if what.contains("aligned")), "{cause}");
}

#[test]
fn a_jump_does_not_meet_the_end_of_a_loop() {
    let text = hardware_loop(3, 6, "j #@first\nadd r0, r0, #1");
    assert_eq!(refusal(&text, &mut Tile::new()), CoreFault::JumpsMeet);
}

#[test]
fn a_lock_is_waited_for() {
    let text = "movx r0, #-1\nmovx r1, #1\nmovx r2, #2\nacq #48, r0\nnop\nnop\nnop\nrel #49, r1\nnop\nnop\nnop\nadd r1, r1, #1; rel #50, r2";
    let mut core = load(
        Core::new(&LatencyModel::documented()),
        &ended(&text.replace("add r1, r1, #1; rel", "rel")),
    );
    let mut tile = Tile::new();
    for _ in 0..3 {
        assert_eq!(core.step(&mut tile), Ok(Status::Ran));
    }
    let (pc, words) = (core.pc(), core.words());
    for _ in 0..5 {
        assert_eq!(core.step(&mut tile), Ok(Status::WaitsForLock { lock: 48, value: -1 }));
    }
    assert_eq!((core.pc(), core.words(), core.cycle()), (pc, words, 8));
    tile.locks[48] = 2;
    finish(&mut core, &mut tile).expect("ends");
    assert_eq!((tile.locks[48], tile.locks[49], tile.locks[50]), (1, 1, 2));
}

/// Nothing of a word that waits is done: its other operations come once.
#[test]
fn a_waiting_word_is_done_once() {
    let text =
        "movxm p0, #458752\nmovx r0, #-1\nmovx r1, #0\nacq #48, r0; st r1, [p0], #4; mov r2, p0";
    let mut core = load(Core::new(&LatencyModel::documented()), &ended(text));
    let mut tile = Tile::new();
    for _ in 0..20 {
        core.step(&mut tile).expect("waits");
    }
    tile.locks[48] = 1;
    finish(&mut core, &mut tile).expect("ends");
    assert_eq!(scalar(&core, RegisterFile::P, 0), 0x70004);
    assert_eq!(tile.locks[48], 0);
}

#[test]
fn locks_by_register_and_on_condition() {
    let text = "movx r0, #49\nmovx r1, #1\nrel r0, r1\nmovx r26, #0\nnop\nnop\nrel.cond #50, r1, r26\nnop\nnop\nnop\nacq.cond #51, r1, r26\nmovx r26, #1\nnop\nnop\nrel.cond r0, r1, r26\nnop\nnop\nnop\nacq.cond r0, r3, r26";
    let mut tile = Tile::new();
    tile.locks[49] = 3;
    run(&format!("movx r3, #5\n{text}"), &mut tile);
    assert_eq!((tile.locks[49], tile.locks[50], tile.locks[51]), (0, 0, 0));
    let cause = refusal("movx r0, #64\nrel r0, r0", &mut tile);
    assert_eq!(cause, CoreFault::NoSuchLock { lock: 64 });
}

#[test]
fn a_core_starts_stops_and_starts_over() {
    let mut core = Core::new(&LatencyModel::documented());
    let mut tile = Tile::new();
    assert_eq!(core.step(&mut tile), Ok(Status::Disabled));
    let mut core = load(core, &ended("movx r0, #1\nmovx r1, #2"));
    assert_eq!(core.step(&mut tile), Ok(Status::Ran));
    core.disable();
    assert_eq!(core.step(&mut tile), Ok(Status::Disabled));
    core.enable();
    finish(&mut core, &mut tile).expect("ends");
    assert_eq!(core.step(&mut tile), Ok(Status::Done));
    assert_eq!(core.words(), 3);
    core.reset();
    assert_eq!((core.pc(), core.cycle()), (0, 0));
    assert_eq!(core.step(&mut tile), Ok(Status::Disabled));
    core.enable();
    finish(&mut core, &mut tile).expect("ends again");
}

#[test]
fn programs_stay_in_their_memory() {
    let mut core = Core::new(&LatencyModel::documented());
    assert_eq!(core.write_program(16 * 1024 - 4, &[0; 8]), Err(CoreFault::OutsideProgram));
    assert_eq!(core.write_program(u32::MAX, &[0; 8]), Err(CoreFault::OutsideProgram));
    assert_eq!(
        refusal("j #16384\nnop\nnop\nnop\nnop\nnop", &mut Tile::new()),
        CoreFault::OutsideProgram
    );
    core.enable();
    // Memory that nobody wrote is a run of words without operations, up to its end.
    let mut tile = Tile::new();
    let fault = (0..9000).find_map(|_| core.step(&mut tile).err()).expect("the end");
    assert!(fault.to_string().contains("outside the 16 KiB"), "{fault}");
}

/// Code is what memory holds when it is reached, not what it held when it was first reached.
#[test]
fn rewritten_programs_are_decoded_again() {
    let mut tile = Tile::new();
    let mut core = load(Core::new(&LatencyModel::documented()), &ended("movx r0, #1"));
    finish(&mut core, &mut tile).expect("ends");
    core.reset();
    let mut core = load(core, &ended("movx r0, #2"));
    finish(&mut core, &mut tile).expect("ends");
    core.reset();
    let mut core = load(core, &ended(&nops(1)));
    core.step(&mut tile).expect("runs");
    assert_eq!(r(&core, 0), 0);
}

/// A word that was executed before is not found again at the odd address inside it.
#[test]
fn odd_addresses_hold_no_words() {
    let text = "nop\nnop\nmovxm p0, #1\nnop\nnop\njl p0\nnop\nnop\nnop\nnop\nnop";
    let cause = refusal(text, &mut Tile::new()).to_string();
    assert!(cause.contains("odd"), "{cause}");
}
