//! Each class of operation: old value one word too early, new value in time, for any model.

use onebit_aie_emu::core::{Core, LatencyModel};

use crate::machine::{Tile, ended, finish, load, nops, r, sums};

const SETUP: &str = "movxm p0, #458752\nmovxm p1, #459776\nmovx r0, #3\nmovx r1, #5\nmovx r2, #100\n\
                     movx r10, #1\nvbcst.8 x0, r0\nvbcst.8 x1, r1\nvbcst.8 x2, r10\nmovx r3, #776\n\
                     vclr dm0\nvclr dm1\n";

fn run(model: &LatencyModel, text: &str) -> (Core, Tile) {
    let mut tile = Tile::new().with(0x70000, &[9; 256]);
    let text = format!("{SETUP}{}{text}\n{}", nops(15), nops(15));
    let mut core = load(Core::new(model), &ended(&text));
    finish(&mut core, &mut tile).unwrap_or_else(|fault| panic!("{fault}"));
    (core, tile)
}

/// What `use_it` finds `distance` words after `make_it`, as the word at 0x70400.
fn found(model: &LatencyModel, make_it: &str, distance: u8, use_it: &str) -> u32 {
    let text = format!("{make_it}\n{}{use_it}", nops(usize::from(distance) - 1));
    run(model, &text).1.word(0x70400)
}

/// A class and its latency, an operation of it, what reads its result, and what that finds before
/// and after.
type Case = (&'static str, fn(&LatencyModel) -> u8, &'static str, &'static str, u32, u32);

const CASES: [Case; 9] = [
    ("scalar", |model| model.scalar, "movx r2, #7", "st r2, [p1, #0]", 100, 7),
    ("multiply", |model| model.multiply, "mul r2, r0, r1", "st r2, [p1, #0]", 100, 15),
    ("multiply and add", |model| model.multiply, "mac r2, r2, r0, r1", "st r2, [p1, #0]", 100, 115),
    ("load", |model| model.load, "lda r2, [p0, #0]", "st r2, [p1, #0]", 100, 0x0909_0909),
    (
        "load a vector",
        |model| model.load,
        "vlda x0, [p0, #0]",
        "vst x0, [p1, #0]",
        0x0303_0303,
        0x0909_0909,
    ),
    (
        "load by unit B",
        |model| model.load,
        "vldb x0, [p0, #0]",
        "vst x0, [p1, #0]",
        0x0303_0303,
        0x0909_0909,
    ),
    (
        "load sums",
        |model| model.load,
        "vlda bmll0, [p0, #0]",
        "vst bmll0, [p1, #0]",
        0,
        0x0909_0909,
    ),
    (
        "vector move",
        |model| model.vector_move,
        "vbcst.8 x0, r1",
        "vst x0, [p1, #0]",
        0x0303_0303,
        0x0505_0505,
    ),
    ("product", |model| model.matrix, "vmul dm0, x0, x1, r3", "vst bmll0, [p1, #0]", 0, 120),
];

#[test]
fn results_are_there_in_time_and_not_before() {
    let documented = LatencyModel::documented();
    let other = LatencyModel { multiply: 4, load: 11, vector_move: 3, matrix: 9, ..documented };
    for model in [documented, LatencyModel::minimum(), LatencyModel::maximum(), other] {
        for (class, latency, make_it, use_it, before, after) in CASES {
            let latency = latency(&model);
            assert_eq!(found(&model, make_it, latency, use_it), after, "{class}, {model:?}");
            if latency > 1 {
                assert_eq!(
                    found(&model, make_it, latency - 1, use_it),
                    before,
                    "{class}, {model:?}"
                );
            }
        }
    }
}

/// Vector moves see each other's results one word earlier than stores and products do.
#[test]
fn moves_forward_to_moves() {
    let model = LatencyModel::documented();
    let text = "vbcst.8 x0, r1\nvadd.8 x1, x0, x0";
    let (core, _) = run(&model, text);
    let x1 = crate::machine::vector(&core, onebit_aie::isa::RegisterFile::X, 1);
    assert_eq!(x1, [10; 64]);
    let (core, _) = run(&model, "vbcst.8 x0, r1; nopv\nvmul dm0, x0, x2, r3");
    assert_eq!(sums(&core, 0), [24; 64], "the old vector");
    let (core, _) = run(&model, "vbcst.8 x0, r1\nnop\nvmul dm0, x0, x2, r3");
    assert_eq!(sums(&core, 0), [40; 64], "the new vector");
}

/// Sums follow each other at a distance of two words; at one, the earlier product is lost.
#[test]
fn sums_forward_to_sums() {
    let model = LatencyModel::documented();
    let product = "vmac dm0, dm0, x0, x2, r3\n";
    for (between, expected) in [(0, 24), (1, 48), (2, 48), (5, 48)] {
        let (core, _) = run(&model, &format!("{product}{}{product}", nops(between)));
        assert_eq!(sums(&core, 0), [expected; 64], "{between} words between");
    }
    // Loaded sums are not forwarded: they must have landed when the product reads them.
    for (between, expected) in [(2, 24), (3, 24 + 0x0909_0909)] {
        let text = format!("vlda bmll0, [p0, #0]\n{}{product}", nops(between));
        assert_eq!(sums(&run(&model, &text).0, 0)[0], expected, "{between} words between");
    }
}

/// A vector that changes after a product was issued does not change the product.
#[test]
fn products_read_their_vectors_at_issue() {
    let (core, _) = run(
        &LatencyModel::documented(),
        "vmul dm0, x0, x2, r3\nmovx r3, #0; vbcst.8 x0, r1; vmov.d dm1, dm0\nvmov.d dm2, dm0",
    );
    assert_eq!(sums(&core, 0), [24; 64]);
    assert_eq!(sums(&core, 2), [24; 64]);
    assert_eq!(sums(&core, 1), [0; 64]);
    assert_eq!(r(&core, 3), 0);
}

/// A word that waits for a lock holds what is under way: no result is nearer afterwards.
#[test]
fn waiting_does_not_shorten_latencies() {
    let text = format!(
        "{SETUP}{}movx r5, #-1\nlda r2, [p0, #0]\nacq #48, r5\nnop\nnop\nnop\nnop\nst r2, [p1, #0]\nst r2, [p1, #4]\nst r2, [p1, #8]",
        nops(15)
    );
    let mut core = load(Core::new(&LatencyModel::documented()), &ended(&text));
    let mut tile = Tile::new().with(0x70000, &[9; 256]);
    for _ in 0..100 {
        core.step(&mut tile).expect("runs, then waits");
    }
    tile.locks[48] = 1;
    finish(&mut core, &mut tile).expect("ends");
    assert_eq!(tile.word(0x70400), 100);
    assert_eq!(tile.word(0x70404), 0x0909_0909);
}

/// `mac` reads what it adds to a word after its factors, so sums follow each other at once.
#[test]
fn scalar_sums_follow_each_other() {
    let text = "mac r2, r2, r0, r1\nmac r2, r2, r0, r1\nmsc r2, r2, r0, r0\nmovx r0, #0";
    let (core, _) = run(&LatencyModel::documented(), text);
    assert_eq!(r(&core, 2), 100 + 15 + 15 - 9);
    let (core, _) = run(&LatencyModel::documented(), "mac r2, r2, r0, r1\nnop\nadd r4, r2, #0");
    assert_eq!((r(&core, 4), r(&core, 2)), (115, 115));
}
