//! When the process began.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The start of the process as an [`Instant`].
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Called first in `main`. What came before (the loader) was busy on one thread, so that the
    /// processor time used so far is the time since the process began.
    pub fn start() -> Self {
        let now = Instant::now();
        let used = clock_gettime(ClockId::ProcessCPUTime);
        let seconds = u64::try_from(used.tv_sec).unwrap_or(0);
        let used = Duration::from_secs(seconds) + Duration::from_nanos(used.tv_nsec as u64);
        Self { start: now.checked_sub(used).unwrap_or(now) }
    }

    /// Time from the process's start to `instant`.
    pub fn until(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.start)
    }
}
