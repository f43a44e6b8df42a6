//! The CPU driver on real machine code, without a model.
#![cfg(target_arch = "x86_64")]

mod common;

use std::num::NonZeroUsize;

use common::{END, VOCABULARY, counting_plan};
use onebit_plan::PlanFile;
use onebit_plan::trust::AllowedPlan;
use onebit_rt::Error;
use onebit_rt::driver::cpu::{CpuDriver, CpuOptions};
use onebit_rt::driver::{Driver, Row};
use onebit_rt::sampler::greedy;

fn driver(threads: usize, slots: u32) -> CpuDriver {
    let folder = tempfile::tempdir().unwrap();
    let plan = PlanFile::open(counting_plan(folder.path(), 64, Some(END))).unwrap();
    let threads = NonZeroUsize::new(threads);
    CpuDriver::load(AllowedPlan::untrusted(plan), CpuOptions { threads, slots }).unwrap()
}

#[test]
fn code_runs_on_every_size_of_team() {
    for threads in [1, 2, 5] {
        let mut driver = driver(threads, 4);
        assert_eq!((driver.threads(), driver.limits().slots), (threads, 4));
        assert_eq!(driver.limits().max_rows, 8);
        let row = |token, slot, output| Row { token, position: 0, slot, output };
        let rows = [row(5, 0, true), row(6, 1, false), row(97, 3, true)];
        let mut logits = vec![-1.0; 2 * VOCABULARY as usize];
        driver.step(&rows, &mut logits).unwrap();
        let (first, second) = logits.split_at(VOCABULARY as usize);
        assert_eq!((greedy(first), greedy(second)), (6, 0));
        assert_eq!(logits.iter().sum::<f32>(), 20.0);
    }
}

#[test]
fn rows_are_checked_before_the_code_sees_them() {
    let mut driver = driver(1, 100);
    assert_eq!(driver.limits().slots, 8, "no more than the plan has");
    let row = Row { token: 0, position: 0, slot: 0, output: true };
    let mut logits = vec![0.0; VOCABULARY as usize];
    let mut step = |row| driver.step(&[row], &mut logits);
    assert!(matches!(step(Row { token: VOCABULARY, ..row }), Err(Error::Token { .. })));
    assert!(matches!(step(Row { position: 64, ..row }), Err(Error::ContextFull { .. })));
    assert!(matches!(step(Row { slot: 8, ..row }), Err(Error::Slot { .. })));
    assert!(step(row).is_ok());
    assert!(matches!(driver.step(&[row], &mut []), Err(Error::Logits { .. })));
}
