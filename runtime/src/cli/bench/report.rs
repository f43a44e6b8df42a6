//! Figures as a table or as JSON.

use std::io::{self, Write};

use onebit_plan::PlanFile;
use serde::Serialize;

use super::super::failure::Failure;
use super::measure::Test;

/// All that was measured.
pub struct Report<'a> {
    pub plan: &'a PlanFile,
    pub device: String,
    pub threads: usize,
    /// Bytes per second; of the processor's threads only.
    pub read_bandwidth: Option<f64>,
    pub tests: Vec<Test>,
}

/// One test. The first fields have llama-bench's names and units; figures of a test whose tokens
/// are wrong are null.
#[derive(Serialize)]
struct Record<'a> {
    model_filename: String,
    model_type: &'a str,
    model_size: u64,
    model_n_params: u64,
    n_threads: usize,
    n_prompt: usize,
    n_gen: usize,
    avg_ns: Option<f64>,
    stddev_ns: Option<f64>,
    avg_ts: Option<f64>,
    stddev_ts: Option<f64>,
    samples_ns: Vec<u64>,
    samples_ts: Vec<f64>,
    n_sequences: usize,
    median_ts: Option<f64>,
    min_ts: Option<f64>,
    max_ts: Option<f64>,
    device: &'a str,
    weight_bytes_per_step: u64,
    read_bandwidth_bytes_per_second: Option<f64>,
    /// Weight bytes read per second as a part of the read bandwidth; for decode tests.
    bandwidth_fraction: Option<f64>,
    checked: Option<&'a str>,
    wrong: Option<&'a str>,
}

impl Report<'_> {
    /// Names of the tests whose tokens were wrong.
    pub fn wrong(&self) -> impl Iterator<Item = &str> {
        self.tests.iter().filter(|test| test.check.is_err()).map(|test| test.name.as_str())
    }

    /// A JSON array with one object a test.
    pub fn print_json(&self) -> Result<(), Failure> {
        let records: Vec<Record<'_>> = self.tests.iter().map(|test| self.record(test)).collect();
        let mut out = io::stdout().lock();
        serde_json::to_writer_pretty(&mut out, &records)
            .map_err(|error| Failure::output(error.into()))?;
        writeln!(out).map_err(Failure::output)
    }

    /// A table for people.
    pub fn print_table(&self) -> Result<(), Failure> {
        let mut text = format!(
            "{}, {}, {}weights read per step {:.1} MB\n\n",
            self.plan.manifest().model.name,
            self.device,
            self.read_bandwidth
                .map_or_else(String::new, |rate| format!("memory read {:.1} GB/s, ", rate / 1e9)),
            self.weight_bytes() as f64 / 1e6,
        );
        text += "test            median tok/s      mean +/- stddev          min..max   bandwidth  checked\n";
        for test in &self.tests {
            text += &self.line(test);
        }
        io::stdout().write_all(text.as_bytes()).map_err(Failure::output)
    }

    fn line(&self, test: &Test) -> String {
        let record = self.record(test);
        let (Some(median), Some(mean), Some(spread), Some(min), Some(max), Ok(check)) = (
            record.median_ts,
            record.avg_ts,
            record.stddev_ts,
            record.min_ts,
            record.max_ts,
            &test.check,
        ) else {
            let wrong = record.wrong.unwrap_or("no run");
            return format!("{:<15} no figure: {wrong}\n", test.name);
        };
        let mean = format!("{mean:.1} +/- {spread:.1}");
        let range = format!("{min:.1}..{max:.1}");
        let fraction = record
            .bandwidth_fraction
            .map_or_else(|| "-".to_owned(), |fraction| format!("{:.0} %", fraction * 100.0));
        let name = &test.name;
        format!("{name:<15} {median:>12.1} {mean:>20} {range:>17} {fraction:>11}  {check}\n")
    }

    fn record<'a>(&'a self, test: &'a Test) -> Record<'a> {
        let model = &self.plan.manifest().model;
        let right = test.check.is_ok();
        let rates = if right { test.rates() } else { Vec::new() };
        let nanoseconds: Vec<f64> =
            test.samples.iter().map(|time| time.as_nanos() as f64).filter(|_| right).collect();
        let median_ts = median(&rates);
        let steps = |rate: f64| rate / test.sequences as f64;
        let fraction = |rate| Some(steps(rate) * self.weight_bytes() as f64 / self.read_bandwidth?);
        Record {
            model_filename: self.plan.path().display().to_string(),
            model_type: &model.name,
            model_size: self.plan.file_length(),
            model_n_params: model.parameters,
            n_threads: self.threads,
            n_prompt: test.prompt,
            n_gen: test.generate,
            avg_ns: mean(&nanoseconds),
            stddev_ns: deviation(&nanoseconds),
            avg_ts: mean(&rates),
            stddev_ts: deviation(&rates),
            samples_ns: nanoseconds.iter().map(|&time| time as u64).collect(),
            n_sequences: test.sequences,
            median_ts,
            min_ts: rates.iter().copied().reduce(f64::min),
            max_ts: rates.iter().copied().reduce(f64::max),
            samples_ts: rates,
            device: &self.device,
            weight_bytes_per_step: self.weight_bytes(),
            read_bandwidth_bytes_per_second: self.read_bandwidth,
            bandwidth_fraction: median_ts.filter(|_| test.generate > 0).and_then(fraction),
            checked: test.check.as_ref().ok().map(String::as_str),
            wrong: test.check.as_ref().err().map(String::as_str),
        }
    }

    /// Weight bytes that one step reads, as the plan's regions say.
    fn weight_bytes(&self) -> u64 {
        self.plan.manifest().regions.iter().map(|region| region.weight_bytes).sum()
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Sample standard deviation; 0 for one value, as llama-bench prints it.
fn deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / (values.len() - 1).max(1) as f64).sqrt())
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) =
        (sorted.get(sorted.len().wrapping_sub(1) / 2)?, sorted.get(sorted.len() / 2)?);
    Some((low + high) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_are_the_usual_ones() {
        let values = [4.0, 1.0, 7.0, 2.0];
        assert_eq!((mean(&values), median(&values)), (Some(3.5), Some(3.0)));
        assert!((deviation(&values).unwrap() - 7.0_f64.sqrt()).abs() < 1e-12);
        assert_eq!((median(&[5.0]), deviation(&[5.0])), (Some(5.0), Some(0.0)));
        assert_eq!((median(&[]), mean(&[]), deviation(&[])), (None, None, None));
    }
}
