//! Damage and accidents: no changed bit goes unnoticed, and no killed compile leaves half a plan.

use onebit_e2e::programs::programs;
use onebit_e2e::{flips, kill, tiny_plans};

/// `cargo xtask flip-bits` does many more.
#[test]
fn every_flipped_bit_is_noticed() {
    for compiled in tiny_plans() {
        let path = compiled.folder.path().join("copy.plan");
        let keys = flips::signed_copy(compiled.plan.path(), &path).expect("the plan can be signed");
        let tallies = flips::flip(&path, &keys, 4000).expect("the file can be changed");
        let report = flips::report(&tallies);
        assert!(tallies.iter().all(|tally| tally.missed.is_empty()), "{report}");
        for tally in &tallies {
            let by = |check: &str| tally.noticed.keys().any(|name| name.starts_with(check));
            match tally.part.as_str() {
                "Weights" => assert!(by("--check-weights: hash of Weights"), "{report}"),
                "signature" => assert!(by("signature: not of this plan"), "{report}"),
                _ => {
                    assert!(tally.noticed.keys().all(|name| name.starts_with("open: ")), "{report}")
                }
            }
        }
    }
}

/// `cargo xtask kill-compiles` does many more.
#[test]
fn killed_compiles_leave_the_old_plan_or_the_new_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let kills = kill::kill_compiles(&programs().join("onebitc"), folder.path(), 12)
        .expect("the system lets us write and kill");
    assert!(kills.killed > 0, "{kills:?}");
}
