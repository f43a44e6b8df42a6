//! Scalar operations, by example and against 64-bit arithmetic.

use onebit_aie::isa::RegisterFile;
use onebit_aie_emu::core::{Core, CoreFault, LatencyModel};
use proptest::prelude::*;

use crate::machine::{Tile, load, nops, r, refusal, run, scalar};

/// `r2` after `text` with r0 and r1 set, and r3 to r5 10, 20 and 30.
fn result(text: &str, a: u32, b: u32) -> u32 {
    let text = format!(
        "movxm r0, #{}\nmovxm r1, #{}\nmovx r3, #10\nmovx r4, #20\nmovx r5, #30\nmovx r2, #7\n{text}\n{}",
        a as i32,
        b as i32,
        nops(8)
    );
    r(&run(&text, &mut Tile::new()), 2)
}

#[test]
fn scalar_operations() {
    let m1 = u32::MAX;
    let cases: &[(&str, u32, u32, u32)] = &[
        ("add r2, r0, r1", 5, m1, 4),
        ("add r2, r0, #-3", 1, 0, m1 - 1),
        ("sub r2, r0, r1", 3, 5, m1 - 1),
        ("and r2, r0, r1", 0b1100, 0b1010, 0b1000),
        ("or r2, r0, r1", 0b1100, 0b1010, 0b1110),
        ("xor r2, r0, r1", 0b1100, 0b1010, 0b0110),
        ("eq r2, r0, r1", 4, 4, 1),
        ("ne r2, r0, r1", 4, 4, 0),
        ("ge r2, r0, r1", m1, 0, 0),
        ("geu r2, r0, r1", m1, 0, 1),
        ("lt r2, r0, r1", m1, 0, 1),
        ("ltu r2, r0, r1", m1, 0, 0),
        ("lshl r2, r0, r1", 3, 4, 48),
        ("lshl r2, r0, r1", 0x8000_0000, -31i32 as u32, 1),
        ("ashl r2, r0, r1", 0x8000_0000, -31i32 as u32, m1),
        ("clz r2, r0", 1, 0, 31),
        ("extend.s8 r2, r0", 0x180, 0, m1 - 0x7f),
        ("extend.u8 r2, r0", 0x180, 0, 0x80),
        ("extend.s16 r2, r0", 0x18000, 0, m1 - 0x7fff),
        ("extend.u16 r2, r0", 0x18000, 0, 0x8000),
        ("eqz r2, r0", 0, 0, 1),
        ("nez r2, r0", 0, 0, 0),
        ("abs r2, r0", m1, 0, 1),
        ("popcount r2, r0", 0xff00_0001, 0, 9),
        ("mul r2, r0, r1", 0x1_0001, 0x1_0003, 0x4_0003),
        ("mac r2, r2, r0, r1", 3, 4, 19),
        ("msc r2, r2, r0, r1", 3, 4, m1 - 4),
        ("add.nc r2, r0, r1", 5, m1, 4),
        ("add.nc r2, r0, #-128", 0, 0, m1 - 127),
        ("mov r2, r1", 0, 9, 9),
        ("mov r2, #-1024", 0, 0, m1 - 1023),
        ("mova r2, #1023", 0, 0, 1023),
        ("movx r2, #-1024", 0, 0, m1 - 1023),
        ("movxm r2, #-2147483648", 0, 0, 0x8000_0000),
        ("movs m1, r0\nmov r2, m1", 77, 0, 77),
        ("mov p1, r0\nmov m3, p1\nmov r2, m3", 0x7_1234, 0, 0x7_1234),
        // A carry goes from a sum to the next.
        ("add r3, r0, r1\nadc r2, r4, r5", m1, 1, 51),
        ("add r3, r0, r1\nadc r2, r4, r5", m1, 0, 50),
        ("sub r3, r0, r1\nsbc r2, r4, r3", 5, 2, 17),
        ("sub r3, r0, r1\nsbc r2, r4, r5", 1, 2, m1 - 10),
        // `add.nc` leaves the carry alone.
        ("add r3, r0, r1\nadd.nc r3, r3, #1\nadc r2, r4, r5", m1, 1, 51),
    ];
    for (text, a, b, expected) in cases {
        assert_eq!(result(text, *a, *b), *expected, "{text} of {a:#x}, {b:#x}");
    }
}

#[test]
fn select_depends_on_r27() {
    for (operation, test, expected) in
        [("sel.eqz", 0, 10), ("sel.eqz", 1, 20), ("sel.nez", 0, 20), ("sel.nez", -1, 10)]
    {
        let text = format!("movx r27, #{test}\n{operation} r2, r3, r4, r27");
        assert_eq!(result(&text, 0, 0), expected, "{text}");
    }
}

#[test]
fn a_word_reads_before_it_writes() {
    let swap = "movx r0, #1\nmovx r1, #2\nmov r0, r1; add r1, r0, #0";
    let core = run(swap, &mut Tile::new());
    assert_eq!((r(&core, 0), r(&core, 1)), (2, 1));
}

#[test]
fn pointers_and_modifiers_have_20_bits() {
    let text = "movxm p0, #2097152\nmovxm m0, #-1\nmovxm s0, #65\nmovxm p1, #-4";
    let core = run(text, &mut Tile::new());
    let file = |file, index| scalar(&core, file, index);
    assert_eq!(file(RegisterFile::P, 0), 0);
    assert_eq!(file(RegisterFile::P, 1), 0xf_fffc);
    assert_eq!(file(RegisterFile::M, 0), 0xf_ffff);
    assert_eq!(file(RegisterFile::S, 0), 1);
}

#[test]
fn undocumented_cases_are_refused() {
    for text in [
        "movx r0, #32\nlshl r1, r0, r0",
        "movx r0, #-32\nashl r1, r0, r0",
        "movxm m0, #-4\nmov r0, m0",
        "add r0, r0, r1\nsbc r0, r0, r1",
        "sub r0, r0, r1\nadc r0, r0, r1",
        "mov r0, srcarry",
    ] {
        let cause = refusal(text, &mut Tile::new());
        assert!(matches!(cause, CoreFault::Undocumented { .. }), "{text}: {cause}");
    }
}

#[test]
fn what_is_not_modelled_is_a_fault_when_reached() {
    let text = "j #@on\nnop\nnop\nnop\nnop\nnop\nvmac.f dm0, dm0, x0, x1, r0\non:";
    run(text, &mut Tile::new());
    let text = "movx r0, #1\nmovx r1, #1; vmac.f dm0, dm0, x0, x1, r0";
    let mut core = load(Core::new(&LatencyModel::documented()), text);
    let mut tile = Tile::new();
    core.step(&mut tile).expect("the first word");
    let message = core.step(&mut tile).expect_err("the second word").to_string();
    assert_eq!(
        message,
        "program address 0x4, `movx r1, #1; vmac.f dm0, dm0, x0, x1, r0`: \
         `vmac.f dm0, dm0, x0, x1, r0` is not modelled"
    );
}

proptest! {
    #[test]
    fn sums_of_64_bits(a in any::<u64>(), b in any::<u64>()) {
        for (low, high, expected) in
            [("add", "adc", a.wrapping_add(b)), ("sub", "sbc", a.wrapping_sub(b))]
        {
            let parts = [a as i32, (a >> 32) as i32, b as i32, (b >> 32) as i32];
            let mut text = String::new();
            for (index, part) in parts.iter().enumerate() {
                text.push_str(&format!("movxm r{index}, #{part}\n"));
            }
            text.push_str(&format!("{low} r4, r0, r2\n{high} r5, r1, r3"));
            let core = run(&text, &mut Tile::new());
            prop_assert_eq!(u64::from(r(&core, 5)) << 32 | u64::from(r(&core, 4)), expected);
        }
    }
}
