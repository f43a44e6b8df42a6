//! `onebit-rt profile`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;

use onebit_plan::trust::AllowedPlan;
use onebit_rt::driver::{Driver, Limits, Row};
use onebit_rt::profile::{
    ArrayTimes, Origin, Piece, Roof, RoofOrigin, StepProfile, chrome, on_processor, on_vulkan,
};
use serde::Serialize;

use super::args::{self, Device};
use super::failure::Failure;
use super::load;

/// Runs whose median is shown, where nothing else is asked for.
const REPETITIONS: usize = 20;

/// What pieces of one kind take together.
#[derive(Debug, PartialEq, Serialize)]
struct Sum {
    /// The region's name without the number of its layer, or the layer's.
    region: String,
    /// The kernel of dispatches.
    kernel: Option<String>,
    dispatches: usize,
    barriers: usize,
    weight_bytes: u64,
    seconds: f64,
    /// Of the pieces that have one; none where no piece has.
    predicted: Option<f64>,
    /// `seconds` of all the pieces over `predicted`. None where nothing is predicted or a piece is
    /// modelled.
    ratio: Option<f64>,
    /// Weight bytes a second. None where there are none or a piece is modelled.
    rate: Option<f64>,
    /// How many of the pieces have the cost model's time.
    modelled: usize,
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
    /// Of a step without a profile.
    seconds: f64,
    /// Of all pieces.
    pieces_seconds: f64,
    roof: Roof,
    sums: Vec<Sum>,
    layers: Vec<Sum>,
    each: &'a [Piece],
}

/// Measures a step and prints where its time goes.
pub fn run(options: &args::Profile) -> Result<ExitCode, Failure> {
    let plan = load::open(&options.machine)?;
    let (profile, device, repetitions) = measure(&plan, options)?;
    let model = &plan.manifest().model.name;
    let pieces = &profile.pieces;
    if let Some(path) = &options.trace {
        write_trace(path, &chrome::trace(&profile, &device, model))?;
    }
    let report = Report {
        device: &device,
        model,
        entry: &profile.entry,
        rows: options.rows.get(),
        depth: options.depth,
        repetitions,
        dispatches: pieces.len(),
        barriers: pieces.iter().filter(|it| it.wait).count(),
        weight_bytes: pieces.iter().map(|it| it.weight_bytes).sum(),
        seconds: profile.seconds,
        pieces_seconds: pieces.iter().map(|it| it.seconds).sum(),
        roof: profile.roof,
        sums: by_kind(pieces),
        layers: by_layer(pieces),
        each: pieces,
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

/// The profile, the device's name and how often the step ran.
fn measure(
    plan: &AllowedPlan,
    options: &args::Profile,
) -> Result<(StepProfile, String, usize), Failure> {
    let manifest = plan.manifest();
    let asked = options.repetitions.map(NonZeroUsize::get);
    let count = options.rows.get();
    if options.machine.device == Device::Vulkan {
        let runs = asked.unwrap_or(REPETITIONS);
        let mut driver = load::vulkan(plan, &options.machine, count)?;
        let rows = rows(driver.limits(), options);
        let profile = on_vulkan(&mut driver, manifest, &rows, runs)?;
        return Ok((profile, load::describe(&driver), runs));
    }
    // An emulated step takes seconds, and its own time is of no interest.
    let (array, usual) = match options.machine.device {
        Device::NpuEmu => (ArrayTimes::Modelled, 1),
        Device::Cpu | Device::Npu | Device::Vulkan => (ArrayTimes::Measured, REPETITIONS),
    };
    let runs = asked.unwrap_or(usual);
    let (mut driver, device) = load::processor(plan, &options.machine, count)?;
    let rows = rows(driver.limits(), options);
    let profile = on_processor(&mut driver, manifest, &rows, runs, array)?;
    Ok((profile, device, runs))
}

/// Sequences of their own where there are slots for them, else the next tokens of each.
fn rows(limits: Limits, options: &args::Profile) -> Vec<Row> {
    let count = options.rows.get();
    let each = count.div_ceil(limits.slots);
    let row = |index| Row {
        token: 0,
        position: options.depth.saturating_add(index % each),
        slot: index / each,
        output: true,
    };
    (0..count).map(row).collect()
}

fn write_trace(path: &Path, trace: &chrome::Trace) -> Result<(), Failure> {
    let file = File::create(path).map_err(Failure::io("create", path))?;
    let mut file = BufWriter::new(file);
    serde_json::to_writer(&mut file, trace)
        .map_err(|error| Failure::io("write", path)(error.into()))?;
    file.flush().map_err(Failure::io("write", path))
}

/// Sums by kind of region and kernel, the longest first.
fn by_kind(pieces: &[Piece]) -> Vec<Sum> {
    let mut sums = sums(pieces, |piece| (kind(&piece.region), piece.kernel.clone()));
    sums.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    sums
}

/// Sums by layer, in the order of layers.
fn by_layer(pieces: &[Piece]) -> Vec<Sum> {
    let name =
        |layer: Option<u32>| layer.map_or("outside layers".into(), |it| format!("layer {it:>3}"));
    sums(pieces, |piece| (name(piece.layer), None))
}

fn sums(pieces: &[Piece], key: impl Fn(&Piece) -> (String, Option<String>)) -> Vec<Sum> {
    let mut groups: BTreeMap<(String, Option<String>), Vec<&Piece>> = BTreeMap::new();
    for piece in pieces {
        groups.entry(key(piece)).or_default().push(piece);
    }
    let sum = |((region, kernel), pieces): ((String, Option<String>), Vec<&Piece>)| {
        let seconds: f64 = pieces.iter().map(|piece| piece.seconds).sum();
        let weight_bytes = pieces.iter().map(|piece| piece.weight_bytes).sum();
        let predicted: f64 = pieces.iter().filter_map(|piece| piece.predicted).sum();
        let modelled = pieces.iter().filter(|piece| piece.origin == Origin::Modelled).count();
        let has = predicted > 0.0;
        Sum {
            region,
            kernel,
            dispatches: pieces.len(),
            barriers: pieces.iter().filter(|piece| piece.wait).count(),
            weight_bytes,
            seconds,
            predicted: has.then_some(predicted),
            ratio: (has && modelled == 0).then(|| seconds / predicted),
            rate: (modelled == 0).then(|| rate(weight_bytes, seconds)).flatten(),
            modelled,
        }
    };
    groups.into_iter().map(sum).collect()
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
    let roof = match report.roof.origin {
        RoofOrigin::SystemMemory => "memory read in this run",
        RoofOrigin::FastestPiece => "the fastest piece of this run",
    };
    let modelled: usize = report.sums.iter().map(|sum| sum.modelled).sum();
    let mut text = format!(
        "{}, {}\nentry {}, {} rows at depth {}: {} pieces, {} waits, {:.1} us a step, {:.1} us in \
         pieces, median of {}\npredicted: weight bytes at {:.1} GB/s, {roof}\n",
        report.model,
        report.device,
        report.entry,
        report.rows,
        report.depth,
        report.dispatches,
        report.barriers,
        report.seconds * 1e6,
        report.pieces_seconds * 1e6,
        report.repetitions,
        report.roof.bytes_per_second / 1e9,
    );
    if modelled > 0 {
        text += &format!(
            "{modelled} pieces, marked ~, are modelled: the array is emulated, and was never \
             measured\n"
        );
    }
    for (title, sums) in [("by region", &report.sums), ("by layer", &report.layers)] {
        text += &format!(
            "\n{:>11} {:>10} {:>6} {:>6} {:>6} {:>6} {:>10} {:>8}  {title}\n",
            "us", "predicted", "ratio", "%", "count", "waits", "MB", "GB/s"
        );
        sums.iter().for_each(|sum| text += &line(report, sum));
    }
    let total = sums(report.each, |_| ("total".into(), None));
    text += "\n";
    total.iter().for_each(|sum| text += &line(report, sum));
    text
}

fn line(report: &Report<'_>, sum: &Sum) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let predicted = or_dash(sum.predicted.map(|it| format!("{:.1}", it * 1e6)));
    let ratio = or_dash(sum.ratio.map(|it| format!("{it:.2}")));
    let rate = or_dash(sum.rate.map(|it| format!("{:.1}", it / 1e9)));
    let all = report.pieces_seconds;
    let share = if all > 0.0 { 100.0 * sum.seconds / all } else { 0.0 };
    let mark = if sum.modelled > 0 { "~" } else { "" };
    let time = format!("{mark}{:.1}", sum.seconds * 1e6);
    let (count, waits, megabytes) = (sum.dispatches, sum.barriers, sum.weight_bytes as f64 / 1e6);
    let kernel = sum.kernel.as_ref().map_or_else(String::new, |kernel| format!(", {kernel}"));
    format!(
        "{time:>11} {predicted:>10} {ratio:>6} {share:>6.1} {count:>6} {waits:>6} {megabytes:>10.2} \
         {rate:>8}  {}{kernel}\n",
        sum.region
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use onebit_rt::profile::Place;

    fn piece(region: &str, layer: Option<u32>, weight_bytes: u64, seconds: f64) -> Piece {
        Piece {
            region: region.into(),
            regions: vec![region.into()],
            ops: Vec::new(),
            layer,
            place: Place::Cpu,
            kernel: None,
            wait: true,
            groups: 0,
            weight_bytes,
            macs: 0,
            origin: Origin::Measured,
            seconds,
            predicted: (weight_bytes > 0).then(|| weight_bytes as f64 / 1e9),
            begin: 0.0,
            end: seconds,
        }
    }

    #[test]
    fn layers_are_summed_and_the_longest_stands_first() {
        let pieces = [
            piece("@embed", None, 0, 1e-6),
            piece("@blk.0.attn_q", Some(0), 1000, 2e-6),
            Piece { wait: false, ..piece("@blk.11.attn_q", Some(11), 1000, 3e-6) },
        ];
        let sums = by_kind(&pieces);
        let names: Vec<&str> = sums.iter().map(|sum| sum.region.as_str()).collect();
        assert_eq!(names, ["@blk.attn_q", "@embed"]);
        assert_eq!((sums[0].dispatches, sums[0].barriers, sums[0].weight_bytes), (2, 1, 2000));
        assert!((sums[0].rate.unwrap() - 4e8).abs() < 1.0);
        assert!((sums[0].ratio.unwrap() - 2.5).abs() < 1e-9);
        assert_eq!((sums[1].rate, sums[1].ratio), (None, None));
        let layers = by_layer(&pieces);
        let names: Vec<&str> = layers.iter().map(|sum| sum.region.as_str()).collect();
        assert_eq!(names, ["layer   0", "layer  11", "outside layers"]);
    }

    #[test]
    fn what_is_modelled_has_no_ratio_and_a_mark() {
        let modelled = Piece { origin: Origin::Modelled, ..piece("@blk.0.q", Some(0), 10, 1e-6) };
        let sums = by_kind(&[modelled]);
        assert_eq!((sums[0].modelled, sums[0].ratio, sums[0].rate), (1, None, None));
    }
}
