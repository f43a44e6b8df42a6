//! The barrier of a team of threads.
//!
//! Waiting spins for some ten microseconds, as long as one thread is usually late, and then
//! sleeps on a futex: when a foreign process holds a core, the waiting threads leave theirs free
//! for the team member that lost it.
//!
//! A long wait means that a member has lost its core, or waits for a device. For a while after it,
//! threads spin less and sleep sooner: a scheduler owes time to those who sleep, and a woken thread
//! takes its core back from a process that never does.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use onebit_plan::abi::StepContext;
use rustix::thread::futex;

/// Spins before sleep if every thread of the team can have a CPU of its own.
const SPINS: u32 = 600;
/// Spins before sleep for some time after a member of the team lost its core.
const SPINS_CONTENDED: u32 = 150;
/// A wait from which on a member has probably lost its core: decoding shares its steps more evenly.
const LOST_CORE: Duration = Duration::from_micros(300);
/// Rounds for which that is remembered: several tokens, several time slices of a scheduler.
const MEMORY: u32 = 1024;
/// Spins before sleep if the team is larger than the machine: those awaited need this CPU.
const SPINS_CROWDED: u32 = 8;

/// Keeps a counter on a cache line of its own (two, since lines are fetched in pairs).
#[repr(align(128))]
struct Apart(AtomicU32);

/// Lets a fixed number of threads wait for each other, again and again.
pub struct Barrier {
    threads: u32,
    spins: u32,
    /// Threads that have reached the current round.
    arrived: Apart,
    /// Number of the round, wrapping; sleepers wait for it to change.
    round: Apart,
    /// Threads asleep or about to be.
    sleepers: Apart,
    /// The round of the last wait in which a member had lost its core, and whether there was one.
    lost_core: AtomicU32,
    contended: AtomicBool,
}

impl Barrier {
    /// A barrier for so many threads. Zero counts as one.
    pub fn new(threads: u32) -> Self {
        let cpus = available_parallelism().map_or(1, NonZero::get);
        let spins = if threads as usize <= cpus { SPINS } else { SPINS_CROWDED };
        let counter = || Apart(AtomicU32::new(0));
        Self {
            threads,
            spins,
            arrived: counter(),
            round: counter(),
            sleepers: counter(),
            lost_core: AtomicU32::new(0),
            contended: AtomicBool::new(false),
        }
    }

    /// Returns once all threads have called it. What each wrote before, all see after.
    ///
    /// At most [`Barrier::new`]'s number of threads may wait at a time.
    #[inline]
    pub fn wait(&self) {
        if self.threads <= 1 {
            return;
        }
        // The round cannot end before this thread arrives, so this reads the current one.
        let round = self.round.0.load(Ordering::Relaxed);
        // Acquire and release: the last to arrive sees what all others wrote, and passes it on.
        if self.arrived.0.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.release(round);
        } else if !self.spin(round) {
            self.sleep(round);
        }
    }

    /// Begins the next round.
    fn release(&self, round: u32) {
        // Those who see the new round see this zero too.
        self.arrived.0.store(0, Ordering::Relaxed);
        // Sequentially consistent, as is the load below: either that load sees a sleeper's
        // count, or the sleeper, which counts first and looks second, sees the new round.
        self.round.0.store(round.wrapping_add(1), Ordering::SeqCst);
        if self.sleepers.0.load(Ordering::SeqCst) != 0 {
            // A failed wake cannot happen on a mapped, aligned word; sleepers look again anyway.
            let _ = futex::wake(&self.round.0, futex::Flags::PRIVATE, i32::MAX as u32);
        }
    }

    /// Looks for the round's end for a while; true if it came.
    fn spin(&self, round: u32) -> bool {
        for _ in 0..self.patience(round) {
            if self.round.0.load(Ordering::Acquire) != round {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    /// Spins before sleep in this round. What it goes by is advice, so that no order is needed.
    fn patience(&self, round: u32) -> u32 {
        if !self.contended.load(Ordering::Relaxed) {
            return self.spins;
        }
        if round.wrapping_sub(self.lost_core.load(Ordering::Relaxed)) > MEMORY {
            self.contended.store(false, Ordering::Relaxed);
        }
        self.spins.min(SPINS_CONTENDED)
    }

    #[cold]
    fn sleep(&self, round: u32) {
        let start = Instant::now();
        self.sleepers.0.fetch_add(1, Ordering::SeqCst);
        while self.round.0.load(Ordering::SeqCst) == round {
            // Returns at once if the round has changed; a signal ends it early, hence the loop.
            let _ = futex::wait(&self.round.0, futex::Flags::PRIVATE, round, None);
        }
        self.sleepers.0.fetch_sub(1, Ordering::Relaxed);
        if start.elapsed() >= LOST_CORE {
            self.lost_core.store(round, Ordering::Relaxed);
            self.contended.store(true, Ordering::Relaxed);
        }
    }
}

/// [`onebit_plan::abi::BarrierFn`] over the [`Barrier`] at `StepContext::barrier`.
///
/// # Safety
/// `context` is valid and its `barrier` points at a [`Barrier`] made for `threads` threads.
pub unsafe extern "C" fn barrier(context: *const StepContext) {
    // SAFETY: valid by the contract.
    let barrier = unsafe { (*context).barrier }.cast::<Barrier>();
    // SAFETY: a barrier by the contract.
    unsafe { &*barrier }.wait();
}

/// [`onebit_plan::abi::TraceFn`] where nobody listens.
///
/// # Safety
/// None is needed: nothing is touched.
pub unsafe extern "C" fn trace(_: *const StepContext, _: u32) {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::UnsafeCell;

    /// A plain counter, kept sound by the barrier alone.
    struct Shared(UnsafeCell<u64>);
    // SAFETY: the tests write between barriers, one thread at a time.
    unsafe impl Sync for Shared {}

    /// In round i thread `i % threads` adds one, and all others must see it.
    fn stress(threads: u32, rounds: u64) {
        let barrier = Barrier::new(threads);
        let shared = Shared(UnsafeCell::new(0));
        let (barrier, shared) = (&barrier, &shared);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                scope.spawn(move || {
                    for round in 0..rounds {
                        if round % u64::from(threads) == u64::from(thread) {
                            // SAFETY: only this thread touches the counter until the barrier.
                            unsafe { *shared.0.get() += 1 };
                        }
                        barrier.wait();
                        // SAFETY: nobody writes between these two barriers.
                        assert_eq!(unsafe { *shared.0.get() }, round + 1);
                        barrier.wait();
                    }
                });
            }
        });
    }

    #[test]
    fn one_thread_never_waits() {
        stress(1, 1000);
        Barrier::new(0).wait();
    }

    #[test]
    fn a_team_agrees() {
        stress(2, 20_000);
    }

    #[test]
    fn a_team_larger_than_the_machine_agrees() {
        let cpus = available_parallelism().map_or(1, NonZero::get) as u32;
        stress(4 * cpus + 1, 500);
    }

    #[test]
    fn rounds_wrap() {
        let barrier = Barrier::new(2);
        barrier.round.0.store(u32::MAX - 1, Ordering::Relaxed);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..8).for_each(|_| barrier.wait()));
            }
        });
        assert_eq!(barrier.round.0.load(Ordering::Relaxed), 6);
    }
}
