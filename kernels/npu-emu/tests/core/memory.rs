//! Loads, stores, and every way to address.

use onebit_aie::isa::RegisterFile;
use onebit_aie_emu::Fault;
use onebit_aie_emu::core::CoreFault;

use crate::machine::{Tile, nops, r, refusal, run, scalar, vector};

const P0: &str = "movxm p0, #458752\n"; // 0x70000

fn numbered() -> Tile {
    let bytes: Vec<u8> = (0..4096u32).map(|index| (index * 7 % 251) as u8).collect();
    Tile::new().with(0x70000, &bytes)
}

#[test]
fn scalar_loads_extend() {
    let mut tile = Tile::new().with(0x70000, &[0x80, 0xff, 0x01, 0x02, 0xfe, 0xca, 0, 0]);
    let text = format!(
        "{P0}lda r0, [p0, #0]\nlda.s8 r1, [p0, #0]\nlda.u8 r2, [p0, #0]\nlda.s16 r3, [p0, #0]\nlda.u16 r4, [p0, #4]\n{}",
        nops(7)
    );
    let core = run(&text, &mut tile);
    let loaded: Vec<u32> = (0..5).map(|index| r(&core, index)).collect();
    assert_eq!(loaded, [0x0201_ff80, 0xffff_ff80, 0x80, 0xffff_ff80, 0xcafe]);
}

#[test]
fn scalar_stores_cut() {
    let mut tile = Tile::new().with(0x70000, &[0xaa; 16]);
    let text = format!(
        "{P0}movxm r0, #305419896\nst r0, [p0, #4]\n{0}st.s8 r0, [p0, #1]\n{0}st.s16 r0, [p0, #2]\n{0}",
        nops(8)
    );
    run(&text, &mut tile);
    assert_eq!(tile.bytes(0x70000, 8), [0xaa, 0x78, 0x78, 0x56, 0x78, 0x56, 0x34, 0x12]);
    assert_eq!(tile.bytes(0x70008, 8), [0xaa; 8]);
}

/// Such a store reads its register six words after its issue, and writes then.
#[test]
fn stores_of_part_of_a_word_are_late() {
    for (between, stored) in [(4, 2), (5, 1), (6, 1)] {
        let text = format!("{P0}movx r0, #1\nst.s8 r0, [p0, #0]\n{}movx r0, #2", nops(between));
        let mut tile = numbered();
        run(&format!("{text}\n{}", nops(8)), &mut tile);
        assert_eq!(tile.bytes(0x70000, 1), [stored], "{between} words between");
    }
    let text = format!("{P0}movx r0, #1\nst.s8 r0, [p0, #0]");
    let mut tile = numbered();
    run(&text, &mut tile);
    assert_eq!(tile.bytes(0x70000, 1), [1], "it lands after the end of the program");
}

/// Where each way to address goes, and where it leaves the pointer.
#[test]
fn ways_to_address() {
    let setup = "movxm m1, #24\nmovxm dj2, #40\n";
    for (address, at, then) in [
        ("[p0, #-4]", 96, 100),
        ("[p0, #28]", 128, 100),
        ("[p0], #-32", 100, 68),
        ("[p0, dj2]", 140, 100),
        ("[p0], m1", 100, 124),
    ] {
        let text = format!("{P0}padda [p0], #64\nmov r5, #36\nmov m0, r5\npadda [p0], m0\n");
        let text = format!("{text}{setup}movx r0, #77\nst r0, {address}\nlda r1, [p0, #0]");
        let mut tile = numbered();
        let core = run(&text, &mut tile);
        assert_eq!(tile.word(0x70000 + at), 77, "{address}");
        assert_eq!(scalar(&core, RegisterFile::P, 0), 0x70000 + then, "{address}");
    }
}

#[test]
fn the_stack_pointer_is_below() {
    let text = "movxm sp, #458752\npaddxm [sp], #128\nmovx r0, #5\nst r0, [sp, #-128]\nlda r1, [sp, #-128]";
    let mut tile = Tile::new();
    let core = run(&format!("{text}\n{}", nops(7)), &mut tile);
    assert_eq!((tile.word(0x70000), r(&core, 1)), (5, 5));
    let text = "movxm sp, #458752\nmovxm m0, #192\npaddxm [sp], m0";
    assert_eq!(scalar(&run(text, &mut tile), RegisterFile::Sp, 0), 0x700c0);
}

/// Three words, then back two and on by 100: dn is the size less one.
#[test]
fn two_dimensions() {
    let text = format!(
        "{P0}movx r0, #9\nmovxm dn0, #2\nmovxm dj0, #4\nmovxm dc0, #0\nmovxm m0, #100\n{}",
        "st.2d r0, [p0], d0\n".repeat(7)
    );
    let mut tile = Tile::new().with(0x70000, &[0; 512]);
    let core = run(&text, &mut tile);
    let written: Vec<u32> = (0..512).step_by(4).filter(|at| tile.word(0x70000 + at) == 9).collect();
    assert_eq!(written, [0, 4, 8, 108, 112, 116, 216]);
    assert_eq!(scalar(&core, RegisterFile::Dc, 0), 1);
}

#[test]
fn three_dimensions() {
    let text = format!(
        "{P0}movx r0, #9\nmovxm dn1, #1\nmovxm dj1, #4\nmovxm dc1, #0\nmovxm m1, #200\n\
         movxm dn5, #2\nmovxm dj5, #32\nmovxm dc5, #0\n{}",
        "st.3d r0, [p0], d1\n".repeat(8)
    );
    let mut tile = Tile::new().with(0x70000, &[0; 512]);
    let core = run(&text, &mut tile);
    let written: Vec<u32> = (0..512).step_by(4).filter(|at| tile.word(0x70000 + at) == 9).collect();
    assert_eq!(written, [0, 4, 36, 40, 72, 76, 276, 280]);
    assert_eq!(scalar(&core, RegisterFile::Dc, 1), 0);
    assert_eq!(scalar(&core, RegisterFile::Dc, 5), 1);
}

#[test]
fn pointers_move_in_all_three_units() {
    let text = format!("{P0}movxm m0, #12\npadda [p0], #64\npaddb [p0], m0\npadds [p0], #-128");
    let core = run(&text, &mut Tile::new());
    assert_eq!(scalar(&core, RegisterFile::P, 0), 0x70000 + 64 + 12 - 128);
}

#[test]
fn vectors_halves_and_quarters() {
    let mut tile = numbered();
    let text = format!(
        "{P0}movxm p1, #462848\nvlda x1, [p0], #64\nvldb x2, [p0], #64\nvlda wl3, [p0], #32\nvldb wh3, [p0], #32\n\
         vlda bmhl2, [p0, #0]\n{}vst x1, [p1], #64\nvst wh3, [p1], #32\nvst wl3, [p1], #32\nvst bmhl2, [p1, #0]",
        nops(7)
    );
    let core = run(&text, &mut tile);
    assert_eq!(vector(&core, RegisterFile::X, 2), tile.bytes(0x70040, 64));
    assert_eq!(vector(&core, RegisterFile::Wl, 3), tile.bytes(0x70080, 32));
    assert_eq!(tile.bytes(0x71000, 64), tile.bytes(0x70000, 64));
    assert_eq!(tile.bytes(0x71040, 32), tile.bytes(0x700a0, 32));
    assert_eq!(tile.bytes(0x71060, 32), tile.bytes(0x70080, 32));
    assert_eq!(tile.bytes(0x71080, 64), tile.bytes(0x700c0, 64));
}

#[test]
fn accesses_are_aligned_and_inside() {
    for (text, bytes) in [
        ("lda r0, [p0, #0]", 4),
        ("lda.s16 r0, [p0, #0]", 2),
        ("vlda x0, [p0, #0]", 64),
        ("vlda wl0, [p0, #0]", 32),
        ("vst x0, [p0, #0]", 64),
    ] {
        let cause = refusal(&format!("movxm p0, #458753\n{text}"), &mut numbered());
        assert_eq!(cause, CoreFault::Misaligned { address: 0x70001, bytes }, "{text}");
    }
    let cause = refusal("movxm p0, #256\nlda r0, [p0, #0]", &mut numbered());
    assert_eq!(cause, CoreFault::Bus(Box::new(Fault::NoSuchAddress { address: 256 })));
}
