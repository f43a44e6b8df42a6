//! Where the time of a step goes, by the device's own clock.

use onebit_vulkan::VulkanError;

use super::record::Clock;
use super::{GpuError, VulkanDriver};
use crate::Error;
use crate::driver::{Driver, Row};

/// A step's time.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Name of the entry that ran.
    pub entry: String,
    pub max_rows: u32,
    /// In the order in which they run.
    pub dispatches: Vec<Measured>,
    /// Seconds of the whole step on the device: the median of all runs.
    pub seconds: f64,
    /// When each dispatch ended in the run that took just so long: seconds from its begin.
    pub ends: Vec<f64>,
}

/// A dispatch's time.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    pub kernel: String,
    pub region: String,
    /// Whether it waited for all before it.
    pub wait: bool,
    pub groups: u64,
    pub weight_bytes: u64,
    /// From the end of all dispatches before it to its own: the median of all runs. Dispatches
    /// that do not wait overlap, so that one may seem to take none.
    pub seconds: f64,
}

impl VulkanDriver {
    /// Runs a step of these rows `runs` times, after one that warms up. The cache of their slots
    /// is written.
    ///
    /// # Errors
    /// Rows outside the limits; a device without timestamps; what the driver refuses.
    pub fn profile(&mut self, rows: &[Row], runs: usize) -> Result<Profile, Error> {
        let outputs = rows.iter().filter(|row| row.output).count();
        self.check.check(rows, outputs * self.limits().vocabulary as usize)?;
        Ok(self.measure(rows, runs.max(1))?)
    }

    fn measure(&mut self, rows: &[Row], runs: usize) -> Result<Profile, GpuError> {
        let index = self.fitting(rows.len()).index;
        let entry = &self.gpu_plan()?.entries[index];
        let commands = self.buffers.record(&self.device, entry, &self.pipelines, Clock::Each)?;
        let mut times = Vec::new();
        for run in 0..=runs {
            self.fill_step(rows)?;
            self.run(&[&commands])?;
            if run > 0 {
                times.push(commands.times()?);
            }
        }
        let entry = &self.gpu_plan()?.entries[index];
        let mut dispatches = Vec::new();
        for (place, dispatch) in entry.dispatches.iter().enumerate() {
            let took = times.iter().map(|times| times[place + 1] - times[place]).collect();
            dispatches.push(Measured {
                kernel: self.gpu_plan()?.kernels[dispatch.kernel as usize].name.clone(),
                region: dispatch.region.clone(),
                wait: dispatch.wait,
                groups: dispatch.groups.iter().map(|&count| u64::from(count)).product(),
                weight_bytes: dispatch.weight_bytes,
                seconds: median(took)? / 1e9,
            });
        }
        let whole = times.iter().filter_map(|times| times.last().copied()).collect();
        let whole = median(whole)?;
        let run = times.iter().find(|times| times.last() == Some(&whole));
        let ends = run.into_iter().flatten().skip(1).map(|end| end / 1e9).collect();
        let (name, max_rows) = (entry.name.clone(), entry.max_rows);
        Ok(Profile { entry: name, max_rows, dispatches, seconds: whole / 1e9, ends })
    }
}

/// The middle of the values; the lower of two.
fn median(mut values: Vec<f64>) -> Result<f64, VulkanError> {
    values.sort_by(f64::total_cmp);
    values.get((values.len().max(1) - 1) / 2).copied().ok_or_else(|| VulkanError::Limit {
        what: "the number of timed runs".into(),
        found: 0,
        allowed: "at least one".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_one_of_the_values() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]).unwrap(), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]).unwrap(), 2.0);
        assert!(median(Vec::new()).is_err());
    }
}
