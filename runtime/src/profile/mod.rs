//! Where the time of a step goes, piece by piece, on any device.
//!
//! A piece is a dispatch of a Vulkan device or a region of the CPU's traced entry. Its times are
//! measured, but for the pieces of an emulated neural processor: emulation takes as long as it takes,
//! so those have the cost model's times, and say so. What is predicted is the time that memory alone
//! would take, by a bandwidth of the same run; the model of a neural processor predicts its own.

pub mod chrome;

use std::time::Instant;

use onebit_plan::layer_of;
use onebit_plan::manifest::{ArrayPlan, Manifest, Region};
use serde::Serialize;

use crate::Error;
use crate::bandwidth::measure_read;
use crate::driver::cpu::{CpuDriver, Keep, TracedRegion, physical_cores};
use crate::driver::vulkan::VulkanDriver;
use crate::driver::vulkan::api::DeviceKind;
use crate::driver::{Driver, Row};

/// A step's time.
#[derive(Clone, Debug, PartialEq)]
pub struct StepProfile {
    /// Name of the entry that ran.
    pub entry: String,
    /// Rows of the step.
    pub rows: u32,
    /// In the order in which they run.
    pub pieces: Vec<Piece>,
    /// Seconds of a step as it runs without a profile: the median of all runs.
    pub seconds: f64,
    /// What predictions rest on.
    pub roof: Roof,
}

/// How fast weights can be read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Roof {
    /// 0 where it is not known.
    pub bytes_per_second: f64,
    pub origin: RoofOrigin,
}

/// Where a [`Roof`] comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoofOrigin {
    /// The processors' memory, measured after the steps.
    SystemMemory,
    /// The piece that read fastest: of a card's own memory nothing else is known.
    FastestPiece,
}

/// Who does a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    Cpu,
    Vulkan,
    Npu,
}

/// How a piece's time was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    Measured,
    /// By the cost model in the plan; never measured.
    Modelled,
}

/// A part of a step that has a time of its own.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Piece {
    /// `@blk.0.attn_q`
    pub region: String,
    /// All regions of the model that it does, those drawn into it too.
    pub regions: Vec<String>,
    /// IR ops of them.
    pub ops: Vec<String>,
    /// Layer of the model; none before the first and after the last.
    pub layer: Option<u32>,
    pub place: Place,
    /// The kernel of a dispatch.
    pub kernel: Option<String>,
    /// Whether it waited for all before it.
    pub wait: bool,
    /// Workgroups of a dispatch.
    pub groups: u64,
    pub weight_bytes: u64,
    /// Multiply-accumulates of all rows.
    pub macs: u64,
    pub origin: Origin,
    /// The median of all runs. Dispatches that do not wait overlap, so that one may seem to take
    /// none.
    pub seconds: f64,
    /// The time that memory alone would take, or the cost model's for a neural processor.
    pub predicted: Option<f64>,
    /// When it began and ended in one run, the one of median length.
    pub begin: f64,
    pub end: f64,
}

/// How the products of a neural processor are timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArrayTimes {
    /// There is none, or a real one.
    Measured,
    /// By the cost model: the array is emulated.
    Modelled,
}

/// Runs a step of these rows through the traced entry `runs` times, after one that warms up, and as
/// often as it runs otherwise. The cache of their slots is written.
///
/// # Errors
/// Rows outside the limits; a plan without traced entries.
pub fn on_processor(
    driver: &mut CpuDriver,
    manifest: &Manifest,
    rows: &[Row],
    runs: usize,
    array: ArrayTimes,
) -> Result<StepProfile, Error> {
    let width = driver.limits().vocabulary as usize;
    let mut logits = vec![0.0; rows.iter().filter(|row| row.output).count() * width];
    let mut traces = Vec::new();
    for run in 0..=runs.max(1) {
        let trace = driver.trace(rows, &mut logits, Keep::Times)?;
        if run > 0 || array == ArrayTimes::Modelled {
            traces.push(trace);
        }
        if array == ArrayTimes::Modelled && traces.len() >= runs.max(1) {
            break;
        }
    }
    let seconds = match array {
        ArrayTimes::Measured => ordinary(driver, rows, &mut logits, runs)?,
        ArrayTimes::Modelled => 0.0,
    };
    let entry = manifest.traced.iter().filter(|entry| entry.max_rows as usize >= rows.len());
    let entry = entry.min_by_key(|entry| entry.max_rows).map(|entry| entry.name.clone());
    let mut pieces = regions(manifest, rows.len(), &traces);
    if array == ArrayTimes::Modelled {
        pieces.iter_mut().for_each(|piece| model(piece, manifest));
    }
    shift(&mut pieces);
    name_layers(&mut pieces);
    let seconds = match array {
        ArrayTimes::Measured => seconds,
        ArrayTimes::Modelled => pieces.iter().map(|piece| piece.seconds).sum(),
    };
    let bytes_per_second = measure_read(driver.threads()).best();
    let roof = Roof { bytes_per_second, origin: RoofOrigin::SystemMemory };
    let (entry, rows) = (entry.unwrap_or_default(), rows.len() as u32);
    Ok(StepProfile { entry, rows, pieces, seconds, roof }.with_predictions(manifest))
}

/// Measures the dispatches of a step, as [`VulkanDriver::profile`] does.
///
/// # Errors
/// Those of that.
pub fn on_vulkan(
    driver: &mut VulkanDriver,
    manifest: &Manifest,
    rows: &[Row],
    runs: usize,
) -> Result<StepProfile, Error> {
    let profile = driver.profile(rows, runs)?;
    let mut begin = 0.0;
    let mut pieces = Vec::new();
    let entries = manifest.gpu.iter().flat_map(|gpu| &gpu.entries);
    let entry = entries.into_iter().find(|entry| entry.name == profile.entry);
    let dispatches = entry.into_iter().flat_map(|entry| &entry.dispatches);
    let measured = profile.dispatches.into_iter().zip(&profile.ends);
    for ((measured, &end), dispatch) in measured.zip(dispatches) {
        let done = || dispatch.regions.iter().map(|&it| &manifest.regions[it as usize]);
        pieces.push(Piece {
            layer: None,
            ops: done().flat_map(|region| region.ops.iter().cloned()).collect(),
            regions: done().map(|region| region.name.clone()).collect(),
            region: measured.region,
            place: Place::Vulkan,
            kernel: Some(measured.kernel),
            wait: measured.wait,
            groups: measured.groups,
            weight_bytes: measured.weight_bytes,
            macs: done().map(|region| region.macs * rows.len() as u64).sum(),
            origin: Origin::Measured,
            seconds: measured.seconds,
            predicted: None,
            begin,
            end: end.max(begin),
        });
        begin = end.max(begin);
    }
    name_layers(&mut pieces);
    let roof = match driver.device().kind {
        DeviceKind::Integrated | DeviceKind::Cpu => {
            let threads = physical_cores().get();
            let bytes_per_second = measure_read(threads).best();
            Roof { bytes_per_second, origin: RoofOrigin::SystemMemory }
        }
        DeviceKind::Discrete | DeviceKind::Virtual | DeviceKind::Other => fastest(&pieces),
    };
    let (entry, seconds) = (profile.entry, profile.seconds);
    let profile = StepProfile { entry, rows: rows.len() as u32, pieces, seconds, roof };
    Ok(profile.with_predictions(manifest))
}

impl StepProfile {
    fn with_predictions(mut self, manifest: &Manifest) -> Self {
        let rate = self.roof.bytes_per_second;
        for piece in &mut self.pieces {
            piece.predicted = match piece.place {
                Place::Npu => modelled(manifest, &piece.region),
                Place::Cpu | Place::Vulkan if piece.weight_bytes > 0 && rate > 0.0 => {
                    Some(piece.weight_bytes as f64 / rate)
                }
                Place::Cpu | Place::Vulkan => None,
            };
        }
        self
    }
}

/// Seconds of a step as it runs without notes of its regions.
fn ordinary(
    driver: &mut CpuDriver,
    rows: &[Row],
    logits: &mut [f32],
    runs: usize,
) -> Result<f64, Error> {
    let mut times = Vec::new();
    for run in 0..=runs.max(1) {
        let start = Instant::now();
        driver.step(rows, logits)?;
        if run > 0 {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    Ok(median(times))
}

/// Regions with the medians of all runs, and begin and end of the run of median length.
fn regions(manifest: &Manifest, rows: usize, traces: &[Vec<TracedRegion>]) -> Vec<Piece> {
    let length = |trace: &Vec<TracedRegion>| -> f64 {
        trace.iter().map(|region| region.time.as_secs_f64()).sum()
    };
    let middle = median(traces.iter().map(length).collect());
    let Some(shown) = traces.iter().find(|trace| length(trace) >= middle) else {
        return Vec::new();
    };
    let piece = |(place, traced): (usize, &TracedRegion)| {
        let Region { name, ops, target, weight_bytes, macs, .. } = &manifest.regions[traced.region];
        let times = traces.iter().filter_map(|trace| trace.get(place));
        Piece {
            layer: None,
            region: name.clone(),
            regions: vec![name.clone()],
            ops: ops.clone(),
            place: if target == "npu" { Place::Npu } else { Place::Cpu },
            kernel: None,
            wait: true,
            groups: 0,
            weight_bytes: *weight_bytes,
            macs: macs * rows as u64,
            origin: Origin::Measured,
            seconds: median(times.map(|it| it.time.as_secs_f64()).collect()),
            predicted: None,
            begin: 0.0,
            end: traced.time.as_secs_f64(),
        }
    };
    shown.iter().enumerate().map(piece).collect()
}

/// Gives a piece of an emulated array the cost model's time.
fn model(piece: &mut Piece, manifest: &Manifest) {
    if piece.place == Place::Npu {
        let seconds = modelled(manifest, &piece.region).unwrap_or(0.0);
        (piece.seconds, piece.end) = (seconds, seconds);
        piece.origin = Origin::Modelled;
    }
}

/// Puts pieces whose `end` is their length one behind the other.
fn shift(pieces: &mut [Piece]) {
    let mut now = 0.0;
    for piece in pieces {
        piece.begin = now;
        now += piece.end;
        piece.end = now;
    }
}

/// Seconds of a region's calls by the plan's cost model.
fn modelled(manifest: &Manifest, region: &str) -> Option<f64> {
    let ArrayPlan { products, calls, .. } = manifest.array.as_ref()?;
    let all = products.iter().zip(manifest.product_regions());
    let mine = all.filter(|(_, name)| *name == region);
    mine.map(|(product, _)| calls[product.call as usize].modelled_seconds).reduce(|a, b| a + b)
}

/// The roof that the fastest piece of some size reaches.
fn fastest(pieces: &[Piece]) -> Roof {
    let reads = pieces.iter().filter(|piece| piece.weight_bytes > 0 && piece.seconds > 0.0);
    let rates = reads.map(|piece| piece.weight_bytes as f64 / piece.seconds);
    Roof { bytes_per_second: rates.fold(0.0, f64::max), origin: RoofOrigin::FastestPiece }
}

/// Gives each piece the layer in its region's name, and those that no layer names, between two
/// of one layer, that one.
fn name_layers(pieces: &mut [Piece]) {
    let own: Vec<Option<u32>> =
        pieces.iter().map(|piece| Some(layer_of(&piece.region)?.0)).collect();
    for (place, piece) in pieces.iter_mut().enumerate() {
        let before = own[..place].iter().rev().find_map(|layer| *layer);
        let after = own[place..].iter().find_map(|layer| *layer);
        piece.layer = own[place].or(before.filter(|_| before == after));
    }
}

/// The middle of the values, the lower of two; 0 of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get((values.len().max(1) - 1) / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_between_two_of_a_layer_belong_to_it() {
        let names = [
            ("@token_embd", None),
            ("@blk.0.attn_norm", Some(0)),
            ("@rope_table", Some(0)),
            ("@blk.0.attn_q.rope", Some(0)),
            ("@between", None),
            ("@blk.11.attn_q", Some(11)),
            ("@output_norm", None),
            ("pick", None),
        ];
        let piece = |(name, _): &(&str, Option<u32>)| Piece {
            region: (*name).into(),
            regions: Vec::new(),
            ops: Vec::new(),
            layer: None,
            place: Place::Cpu,
            kernel: None,
            wait: true,
            groups: 0,
            weight_bytes: 0,
            macs: 0,
            origin: Origin::Measured,
            seconds: 0.0,
            predicted: None,
            begin: 0.0,
            end: 0.0,
        };
        let mut pieces: Vec<Piece> = names.iter().map(piece).collect();
        name_layers(&mut pieces);
        for (piece, (name, layer)) in pieces.iter().zip(names) {
            assert_eq!(piece.layer, layer, "{name}");
        }
    }

    #[test]
    fn the_median_is_one_of_the_values() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.0);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
