//! Roofline of the work: multiply-accumulates for each byte of weights, and what rate the models
//! of the machine predict for it.

use std::fmt::Write;

use onebit_aie::gemm::cost;
use onebit_plan::manifest::Manifest;

use super::chart::Logarithmic;
use super::{count, escape, table, time};
use crate::inspect::predict::{self, Work};
use crate::target::vulkan::predict::BYTES_PER_SECOND;

/// Plot and room for labels, in pixels.
const PLOT: (f64, f64) = (640.0, 300.0);
const LEFT: f64 = 84.0;
const TOP: f64 = 12.0;

/// Work of one device at one number of rows.
struct Series {
    title: String,
    class: &'static str,
    rows: u32,
    work: Vec<Work>,
}

/// The chart and a table of its series.
pub(super) fn section(manifest: &Manifest) -> String {
    let series = series(manifest);
    if series.is_empty() {
        return "<p>The plan has CPU code only, whose time the compiler has no model of. The table of \
                all regions has bytes, MACs and intensity.</p>\n"
            .into();
    }
    let legend: String = series
        .iter()
        .map(|one| format!("<span class=\"key {}\">{}</span> ", one.class, escape(&one.title)))
        .collect();
    let rows: Vec<Vec<String>> = series.iter().map(totals).collect();
    let titles =
        ["work", "#rows", "#pieces", "#MACs", "#weights read", "#MACs a byte", "#predicted time"];
    format!(
        "<p>All times are <em>predicted</em> for a Strix Halo, from bytes, waits and workgroups; none was \
         measured there. The lines are what memory alone would allow: {} GB/s for the GPU, {} GB/s for the \
         NPU.</p>\n<p class=\"legend\">{legend}</p>\n{}{}",
        BYTES_PER_SECOND / 1e9,
        cost::DDR_BYTES_PER_SECOND / 1e9,
        chart(&series),
        table(&titles, &rows)
    )
}

fn series(manifest: &Manifest) -> Vec<Series> {
    let mut all = Vec::new();
    let multiplies = |work: Vec<Work>| -> Vec<Work> {
        work.into_iter().filter(|work| work.intensity().is_some() && work.seconds > 0.0).collect()
    };
    let entries = manifest.gpu.as_ref().map_or(&[][..], |gpu| &gpu.entries);
    for (place, entry) in [("first", entries.first()), ("last", entries.last())] {
        let Some(entry) = entry else { continue };
        if place == "last" && entries.len() == 1 {
            continue;
        }
        let title = format!("{}, {} rows", entry.name, entry.max_rows);
        let class = if place == "first" { "gpu" } else { "batch" };
        all.push(Series {
            title,
            class,
            rows: entry.max_rows,
            work: multiplies(predict::gpu(manifest, entry)),
        });
    }
    let array = multiplies(predict::array(manifest));
    if !array.is_empty() {
        let rows = onebit_plan::abi::ARRAY_ROWS as u32;
        all.push(Series { title: format!("npu, {rows} rows"), class: "npu", rows, work: array });
    }
    all
}

fn totals(series: &Series) -> Vec<String> {
    let macs: u64 = series.work.iter().map(|work| work.macs).fold(0, u64::saturating_add);
    let read: u64 = series.work.iter().map(|work| work.bytes).fold(0, u64::saturating_add);
    let seconds: f64 = series.work.iter().map(|work| work.seconds).sum();
    vec![
        escape(&series.title),
        series.rows.to_string(),
        series.work.len().to_string(),
        count(macs),
        super::bytes(read),
        format!("{:.2}", macs as f64 / read.max(1) as f64),
        time(seconds),
    ]
}

fn chart(series: &[Series]) -> String {
    let points = || series.iter().flat_map(|one| &one.work);
    let rate = |work: &Work| work.macs as f64 / work.seconds;
    let x = Logarithmic::around(points().filter_map(Work::intensity), PLOT.0);
    let y = Logarithmic::around(points().map(rate), PLOT.1);
    let (width, height) = (LEFT + PLOT.0 + 16.0, TOP + PLOT.1 + 48.0);
    let mut text = format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Roofline\">\n\
         <svg class=\"roofline\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" aria-label=\"Roofline\">\n"
    );
    let bottom = TOP + PLOT.1;
    for decade in x.decades() {
        let at = LEFT + x.place(decade);
        let _ = writeln!(
            text,
            "<path class=\"grid\" d=\"M{at:.1} {TOP}V{bottom}\"/><text class=\"axis middle\" x=\"{at:.1}\" y=\"{}\">{decade}</text>",
            bottom + 16.0
        );
    }
    for decade in y.decades() {
        let at = bottom - y.place(decade);
        let _ = writeln!(
            text,
            "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{}\"/><text class=\"axis end\" x=\"{}\" y=\"{:.1}\">{}MAC/s</text>",
            LEFT + PLOT.0,
            LEFT - 6.0,
            at + 4.0,
            unit(decade)
        );
    }
    let _ = writeln!(
        text,
        "<text class=\"axis middle\" x=\"{}\" y=\"{}\">MACs for each byte of weights</text>",
        LEFT + PLOT.0 / 2.0,
        bottom + 36.0
    );
    for (class, bandwidth) in [("gpu", BYTES_PER_SECOND), ("npu", cost::DDR_BYTES_PER_SECOND)] {
        if series.iter().any(|one| one.class == class) {
            text.push_str(&roof(&x, &y, class, bandwidth));
        }
    }
    for one in series {
        for work in &one.work {
            let Some(intensity) = work.intensity() else { continue };
            let _ = writeln!(
                text,
                "<circle class=\"{}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"><title>{}, {}: {} MACs, {:.2} a byte, predicted {}</title></circle>",
                one.class,
                LEFT + x.place(intensity),
                bottom - y.place(rate(work)),
                escape(&work.region),
                escape(&one.title),
                count(work.macs),
                intensity,
                time(work.seconds)
            );
        }
    }
    text.push_str("</svg>\n</div>\n");
    text
}

/// What `bandwidth` bytes a second allow, inside the plot.
fn roof(x: &Logarithmic, y: &Logarithmic, class: &str, bandwidth: f64) -> String {
    let from = x.from.max(y.from / bandwidth);
    let to = x.to.min(y.to / bandwidth);
    if from >= to {
        return String::new();
    }
    let bottom = TOP + PLOT.1;
    let point =
        |at: f64| format!("{:.1} {:.1}", LEFT + x.place(at), bottom - y.place(at * bandwidth));
    format!("<path class=\"roof {class}\" d=\"M{}L{}\"/>\n", point(from), point(to))
}

/// `10 G` and the like, for powers of ten.
fn unit(decade: f64) -> String {
    let units = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    match units.iter().find(|(size, _)| decade >= *size) {
        Some((size, unit)) => format!("{} {unit}", decade / size),
        None => format!("{decade} "),
    }
}
