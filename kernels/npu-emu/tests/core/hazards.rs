//! What a checked core finds: each case is wrong, and right when it waits as long as it should.

use onebit_aie_emu::core::{Core, CoreFault, LatencyModel};

use crate::machine::{Tile, ended, finish, load, nops, refusal_of};

fn checked() -> Core {
    Core::checked(&LatencyModel::minimum(), &LatencyModel::maximum())
}

fn tile() -> Tile {
    let mut tile = Tile::new().with(0x70000, &[1; 1024]);
    tile.locks = [1; 64];
    tile
}

const SETUP: &str = "movxm p0, #458752\nmovx r0, #1\nmovx r1, #5\nmovx r2, #100\nmovx r3, #776\nvbcst.8 x0, r0\nvbcst.8 x1, r0\nvclr dm0\nvclr dm1\n\
                     nop\nnop\nnop\nnop\nnop\nnop\nnop\nnop\nnop\nnop\n";

/// First operation, second operation, words between them that are needed and enough.
const CASES: [(&str, &str, usize, &str); 15] = [
    ("mac r2, r2, r0, r1", "add r4, r2, #0", 7, "r2"),
    ("lda r2, [p0, #0]", "add r4, r2, #0", 7, "r2"),
    ("lda r2, [p0, #0]", "st r2, [p0, #4]", 7, "r2"),
    ("lda r2, [p0, #0]", "movx r2, #1", 7, "r2"),
    ("lda r2, [p0, #0]", "jnz r2, #0", 7, "r2"),
    ("lda p1, [p0, #0]", "padda [p1], #64", 7, "p1"),
    ("mul r2, r0, r1", "add r4, r2, #0", 7, "r2"),
    ("vlda x0, [p0, #0]", "vmul dm0, x0, x1, r3", 7, "wl0"),
    ("vldb x0, [p0, #0]", "vst x0, [p0, #0]", 7, "wl0"),
    ("vlda wh1, [p0, #0]", "vmov x2, x1", 7, "wh1"),
    ("vlda bmhl0, [p0, #0]", "vst bmhl0, [p0, #0]", 7, "bmhl0"),
    ("vmul dm0, x0, x1, r3", "vst bmlh0, [p0, #0]", 7, "bmlh0"),
    ("vmul dm0, x0, x1, r3", "vlda bmhh0, [p0, #0]", 7, "bmhh0"),
    ("vbcst.8 x2, r0", "vst x2, [p0, #0]", 7, "wl2"),
    ("vmul dm0, x0, x1, r3", "vmov bmll0, x0", 7, "bmll0"),
];

#[test]
fn every_word_of_waiting_is_needed() {
    for (first, second, needed, register) in CASES {
        let text = |between| format!("{SETUP}{first}\n{}{second}\n{}", nops(between), nops(8));
        for between in 0..needed {
            let cause = refusal_of(checked(), &text(between), &mut tile());
            let found = match &cause {
                CoreFault::Uncertain { register } | CoreFault::WritesMeet { register } => register,
                other => panic!("{first}; {second} at {between}: {other}"),
            };
            assert_eq!(found, register, "{first}; {second} at {between}");
        }
        if second.starts_with('j') {
            continue; // Begins over, and never ends.
        }
        let mut core = load(checked(), &ended(&text(needed)));
        finish(&mut core, &mut tile()).unwrap_or_else(|fault| panic!("{first}; {second}: {fault}"));
    }
}

/// Under the documented latencies alone, a program may use a register until its new value is there.
#[test]
fn exact_latencies_leave_no_uncertainty() {
    let documented = LatencyModel::documented();
    let text = format!(
        "{SETUP}lda r2, [p0, #0]\nadd r4, r2, #0\nadd r5, r2, #0\n{}add r6, r2, #0",
        nops(4)
    );
    let mut core = load(Core::checked(&documented, &documented), &ended(&text));
    finish(&mut core, &mut tile()).unwrap_or_else(|fault| panic!("{fault}"));
    let values = [4, 5, 6].map(|index| crate::machine::r(&core, index));
    assert_eq!(values, [100, 100, 0x0101_0101]);
}

#[test]
fn two_writes_in_one_cycle_are_refused_by_any_core() {
    let documented = LatencyModel::documented();
    for text in [
        "movx r5, #1; mov r5, #2".to_owned(),
        format!("lda r5, [p0, #0]\n{}movx r5, #1", nops(5)),
        format!("vlda bmll0, [p0, #0]\n{}vmul dm0, x0, x1, r3", nops(0)),
        "vlda x2, [p0], #64; padds [p0], #64".to_owned(),
    ] {
        let core = Core::new(&documented);
        let cause = refusal_of(core, &format!("{SETUP}{text}"), &mut tile());
        assert!(matches!(cause, CoreFault::WritesMeet { .. }), "{text}: {cause}");
    }
    // A cycle sooner or later there is nothing wrong with it.
    for between in [4, 6] {
        let text = format!("{SETUP}lda r5, [p0, #0]\n{}movx r5, #1\n{}", nops(between), nops(8));
        let mut core = load(Core::new(&documented), &ended(&text));
        finish(&mut core, &mut tile()).unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!(crate::machine::r(&core, 5), if between == 4 { 0x0101_0101 } else { 1 });
    }
}

#[test]
fn registers_that_nobody_wrote_are_not_read() {
    for (text, register) in [
        ("add r5, r6, #1", "r6"),
        ("jnz r6, #0", "r6"),
        ("lda r5, [p3, #0]", "p3"),
        ("vmul dm2, x0, x5, r3", "wl5"),
        ("vst bmhl3, [p0, #0]", "bmhl3"),
        ("vmac dm3, dm3, x0, x1, r3\nnop\nnop\nnop", "bmll3"),
        ("vlda.2d x2, [p0], d1", "dc1"),
        ("rel #48, r6", "r6"),
    ] {
        let cause = refusal_of(checked(), &format!("{SETUP}{text}"), &mut tile());
        assert_eq!(cause, CoreFault::Unwritten { register: register.to_owned() }, "{text}");
    }
    // Functions save registers that they do not know to be written.
    let text = format!("{SETUP}st r6, [p0, #0]\nvmul dm3, x0, x1, r3");
    let mut core = load(checked(), &ended(&text));
    finish(&mut core, &mut tile()).unwrap_or_else(|fault| panic!("{fault}"));
    // A product that starts from zero reads no accumulator.
    let text =
        format!("{SETUP}movx r3, #777\nvmac dm3, dm3, x0, x1, r3\n{}vst bmll3, [p0, #0]", nops(8));
    let mut core = load(checked(), &ended(&text));
    finish(&mut core, &mut tile()).unwrap_or_else(|fault| panic!("{fault}"));
}

#[test]
fn memory_and_locks_keep_their_distance() {
    let shifted = "movxm s0, #0\nmovxm crrnd, #0\nmovxm crsat, #1\nmovxm crsrsmode, #0\nmovxm srssign1, #1\nvst.srs.4x dm0, s0, srssign1, [p0, #0]";
    for (first, second, between) in [
        ("movx r4, #-1\nacq #48, r4", "lda r5, [p0, #0]", 3),
        ("movx r4, #-1\nacq #48, r4", "vst x0, [p0, #0]", 3),
        ("lda r5, [p0, #0]", "rel #48, r0", 3),
        ("vst x0, [p0, #0]", "rel #48, r0", 3),
        ("st.s8 r0, [p0, #0]", "lda r5, [p0, #28]", 6),
        ("st.s16 r0, [p0, #0]", "st.s16 r0, [p0, #2]", 6),
        ("st.s8 r0, [p0, #0]", "rel #48, r0", 9),
        (shifted, "rel #48, r0", 5),
        (shifted, "vlda x5, [p0, #0]", 2),
    ] {
        let text = |between| format!("{SETUP}{first}\n{}{second}", nops(between));
        for between in 0..between {
            let cause = refusal_of(checked(), &text(between), &mut tile());
            assert!(
                matches!(cause, CoreFault::LockTooClose { .. } | CoreFault::StoreUnderWay),
                "{first}; {second} at {between}: {cause}"
            );
        }
        let mut core = load(checked(), &ended(&text(between)));
        finish(&mut core, &mut tile()).unwrap_or_else(|fault| panic!("{first}; {second}: {fault}"));
    }
}

#[test]
fn lock_operations_keep_the_lock_unit_for_four_words() {
    let operations = [
        ("rel #48, r0", "rel #49, r0"),
        ("acq #48, r0", "rel #48, r0"),
        ("rel #48, r0", "acq #49, r0"),
        ("acq #48, r0", "acq #49, r0"),
        // One whose condition does not hold does nothing, but is under way.
        ("acq.cond #48, r0, r26", "rel.cond #49, r0, r26"),
    ];
    let documented = LatencyModel::documented();
    for (first, second) in operations {
        for core in [checked(), Core::new(&documented)] {
            let text = |between| format!("{SETUP}movx r26, #0\n{first}\n{}{second}", nops(between));
            for between in 0..3 {
                let cause = refusal_of(core.clone(), &text(between), &mut tile());
                let missing = 3 - between as u32;
                assert_eq!(cause, CoreFault::LocksTooClose { missing }, "{first}; {second}");
            }
            let mut core = load(core, &ended(&text(3)));
            finish(&mut core, &mut tile()).unwrap_or_else(|fault| panic!("{first}: {fault}"));
        }
    }
}

/// A product adds to the sum of one four words before, whatever the latency is from one to eight:
/// it reads its accumulator three words after its issue, or less if there is less time.
#[test]
fn sums_follow_each_other_after_four_words() {
    let product = "vmac dm0, dm0, x0, x1, r3";
    let text = |between| format!("{SETUP}{product}\n{}{product}\n{}", nops(between), nops(8));
    for between in 0..3 {
        let cause = refusal_of(checked(), &text(between), &mut tile());
        assert!(matches!(cause, CoreFault::Uncertain { .. }), "{between}: {cause}");
    }
    let mut sums = Vec::new();
    for core in [
        checked(),
        Core::new(&LatencyModel::minimum()),
        Core::new(&LatencyModel::maximum()),
        Core::new(&LatencyModel::documented()),
    ] {
        let mut core = load(core, &ended(&text(3)));
        finish(&mut core, &mut tile()).unwrap_or_else(|fault| panic!("{fault}"));
        sums.push(crate::machine::sums(&core, 0));
    }
    assert!(sums.iter().all(|sums| sums == &[16; 64]), "{sums:?}");
    // Until the last sum is there, a store may find an older one.
    for between in 0..7 {
        let text =
            format!("{SETUP}{product}\n{}{product}\n{}vst bmlh0, [p0, #0]", nops(3), nops(between));
        let cause = refusal_of(checked(), &text, &mut tile());
        assert!(matches!(cause, CoreFault::Uncertain { .. }), "store after {between}: {cause}");
    }
}
