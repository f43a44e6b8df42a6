//! `onebit-rt profile`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;

use onebit_rt::driver::vulkan::{Measured, Profile};
use onebit_rt::driver::{Driver, Row};
use serde::Serialize;

use super::args::{self, Device};
use super::failure::Failure;
use super::load;

/// What dispatches of one kind of region and one kernel take together.
#[derive(Debug, PartialEq, Serialize)]
struct Sum {
    /// The region's name without the number of its layer.
    region: String,
    kernel: String,
    dispatches: usize,
    barriers: usize,
    groups: u64,
    weight_bytes: u64,
    seconds: f64,
    /// Weight bytes a second.
    rate: Option<f64>,
}

/// All of it, for programs.
#[derive(Serialize)]
struct Report<'a> {
    device: &'a str,
    model: &'a str,
    entry: &'a str,
    rows: u32,
    depth: u32,
    repetitions: usize,
    dispatches: usize,
    barriers: usize,
    weight_bytes: u64,
    seconds: f64,
    sums: Vec<Sum>,
    each: Vec<Each<'a>>,
}

#[derive(Serialize)]
struct Each<'a> {
    region: &'a str,
    kernel: &'a str,
    wait: bool,
    groups: u64,
    weight_bytes: u64,
    seconds: f64,
}

/// Measures a step and prints where its time goes.
pub fn run(options: &args::Profile) -> Result<ExitCode, Failure> {
    if options.machine.device != Device::Vulkan {
        let message = "only steps on Vulkan devices can be profiled";
        return Err(Failure::other(message, "add `--device vulkan`"));
    }
    let plan = load::open(&options.machine)?;
    let rows = options.rows.get();
    let mut driver = load::vulkan(&plan, &options.machine, rows)?;
    // Sequences of their own where there are slots for them, else the next tokens of each.
    let slots = driver.limits().slots;
    let row = |index| Row {
        token: 0,
        position: options.depth.saturating_add(index % (rows.div_ceil(slots))),
        slot: index / rows.div_ceil(slots),
        output: true,
    };
    let rows: Vec<Row> = (0..rows).map(row).collect();
    let profile = driver.profile(&rows, options.repetitions.get())?;
    let report = Report {
        device: &load::describe(&driver),
        model: &plan.manifest().model.name,
        entry: &profile.entry,
        rows: options.rows.get(),
        depth: options.depth,
        repetitions: options.repetitions.get(),
        dispatches: profile.dispatches.len(),
        barriers: profile.dispatches.iter().filter(|it| it.wait).count(),
        weight_bytes: profile.dispatches.iter().map(|it| it.weight_bytes).sum(),
        seconds: profile.seconds,
        sums: sums(&profile),
        each: profile.dispatches.iter().map(each).collect(),
    };
    let mut out = io::stdout().lock();
    if options.json {
        serde_json::to_writer_pretty(&mut out, &report)
            .map_err(|error| Failure::output(error.into()))?;
        writeln!(out).map_err(Failure::output)?;
    } else {
        out.write_all(table(&report).as_bytes()).map_err(Failure::output)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn each(measured: &Measured) -> Each<'_> {
    Each {
        region: &measured.region,
        kernel: &measured.kernel,
        wait: measured.wait,
        groups: measured.groups,
        weight_bytes: measured.weight_bytes,
        seconds: measured.seconds,
    }
}

/// Sums by kind of region and kernel, the longest first.
fn sums(profile: &Profile) -> Vec<Sum> {
    let mut sums: BTreeMap<(String, &str), Sum> = BTreeMap::new();
    for measured in &profile.dispatches {
        let region = kind(&measured.region);
        let sum = sums.entry((region.clone(), &measured.kernel)).or_insert_with(|| Sum {
            region,
            kernel: measured.kernel.clone(),
            dispatches: 0,
            barriers: 0,
            groups: 0,
            weight_bytes: 0,
            seconds: 0.0,
            rate: None,
        });
        sum.dispatches += 1;
        sum.barriers += usize::from(measured.wait);
        sum.groups += measured.groups;
        sum.weight_bytes += measured.weight_bytes;
        sum.seconds += measured.seconds;
    }
    let mut sums: Vec<Sum> = sums.into_values().collect();
    for sum in &mut sums {
        sum.rate = rate(sum.weight_bytes, sum.seconds);
    }
    sums.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    sums
}

/// `@blk.12.attn_q` is an `@blk.attn_q`.
fn kind(region: &str) -> String {
    let parts = region.split('.').filter(|part| part.parse::<u32>().is_err());
    parts.collect::<Vec<_>>().join(".")
}

fn rate(bytes: u64, seconds: f64) -> Option<f64> {
    (bytes > 0 && seconds > 0.0).then(|| bytes as f64 / seconds)
}

fn table(report: &Report<'_>) -> String {
    let mut text = format!(
        "{}, {}\nentry {}, {} rows at depth {}: {} dispatches, {} barriers, {:.1} us a step, \
         median of {}\n\n{:>10} {:>6} {:>6} {:>8} {:>10} {:>8}  region, kernel\n",
        report.model,
        report.device,
        report.entry,
        report.rows,
        report.depth,
        report.dispatches,
        report.barriers,
        report.seconds * 1e6,
        report.repetitions,
        "us",
        "%",
        "count",
        "barriers",
        "MB",
        "GB/s"
    );
    for sum in &report.sums {
        let (count, barriers) = (sum.dispatches, sum.barriers);
        let name = format!("{}, {}", sum.region, sum.kernel);
        text += &line(report, (sum.seconds, count, barriers, sum.weight_bytes), &name);
    }
    let all = (report.seconds, report.dispatches, report.barriers, report.weight_bytes);
    text + &line(report, all, "total")
}

fn line(
    report: &Report<'_>,
    (seconds, count, barriers, bytes): (f64, usize, usize, u64),
    name: &str,
) -> String {
    let rate = rate(bytes, seconds).map_or("-".into(), |rate| format!("{:.1}", rate / 1e9));
    let (time, megabytes) = (seconds * 1e6, bytes as f64 / 1e6);
    let part = if report.seconds > 0.0 { 100.0 * seconds / report.seconds } else { 0.0 };
    format!(
        "{time:>10.1} {part:>6.1} {count:>6} {barriers:>8} {megabytes:>10.2} {rate:>8}  {name}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_summed_and_the_longest_stands_first() {
        let measured = |region: &str, kernel: &str, wait, weight_bytes, seconds| Measured {
            kernel: kernel.into(),
            region: region.into(),
            wait,
            groups: 3,
            weight_bytes,
            seconds,
        };
        let profile = Profile {
            entry: "one".into(),
            max_rows: 1,
            dispatches: vec![
                measured("@embed", "gather", false, 0, 1e-6),
                measured("@blk.0.attn_q", "product", true, 1000, 2e-6),
                measured("@blk.11.attn_q", "product", false, 1000, 3e-6),
            ],
            seconds: 6e-6,
        };
        let sums = sums(&profile);
        let names: Vec<&str> = sums.iter().map(|sum| sum.region.as_str()).collect();
        assert_eq!(names, ["@blk.attn_q", "@embed"]);
        assert_eq!((sums[0].dispatches, sums[0].barriers, sums[0].weight_bytes), (2, 1, 2000));
        assert!((sums[0].rate.unwrap() - 4e8).abs() < 1.0);
        assert_eq!(sums[1].rate, None);
    }
}
