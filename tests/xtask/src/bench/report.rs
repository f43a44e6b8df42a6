//! Medians, spreads and ratios as markdown.

use std::fs;

use anyhow::Result;

use super::Subject;
use super::programs::{Ours, Peer, Speeds};

/// Samples of one side.
#[derive(Default)]
pub struct Series {
    prefill: Vec<f64>,
    decode: Vec<f64>,
    batch: Vec<f64>,
    bandwidth: Vec<f64>,
    bandwidth_share: Vec<f64>,
}

impl Series {
    pub fn push(&mut self, speeds: &Speeds) {
        self.prefill.push(speeds.prefill);
        self.decode.push(speeds.decode);
        self.batch.push(speeds.batch);
        self.bandwidth.extend(speeds.bandwidth);
        self.bandwidth_share.extend(speeds.bandwidth_share);
    }
}

/// Title, and the command lines behind the figures.
pub fn heading(subject: &Subject, ours: &Ours, peer: &Peer) -> String {
    let lines: Vec<String> = ours.lines().into_iter().chain(peer.lines()).collect();
    format!("\n### {}\n\n```\n{}\n```\n\n", subject.name, lines.join("\n"))
}

/// Both sides' speeds and cold starts.
pub fn table(series: &[Series; 2], cold: &[Vec<f64>; 2]) -> String {
    let [ours, peer] = series;
    let rows = [
        row("decode, 1 sequence, tok/s", &ours.decode, &peer.decode),
        row("prefill 512, tok/s", &ours.prefill, &peer.prefill),
        row("decode, 32 sequences, tok/s in all", &ours.batch, &peer.batch),
        row("process start to first token, ms", &cold[0], &cold[1]),
    ];
    let head = "| median (least to most) | onebit-rt | llama.cpp | ratio |\n|---|---|---|---|\n";
    head.to_owned() + &rows.concat()
}

fn row(name: &str, ours: &[f64], peer: &[f64]) -> String {
    let ratio = median(ours) / median(peer);
    format!("| {name} | {} | {} | {ratio:.2} |\n", spread(ours), spread(peer))
}

/// Decoding against the memory bandwidth measured by the same processes.
pub fn roof(ours: &Series) -> String {
    if ours.bandwidth.is_empty() {
        return String::new();
    }
    let (bandwidth, share) = (median(&ours.bandwidth), median(&ours.bandwidth_share));
    format!(
        "\nDRAM read bandwidth in the same runs: {bandwidth:.1} GB/s; decoding reached {:.0} % of it.\n",
        100.0 * share
    )
}

/// What compiling cost, and sizes.
pub fn footprint(subject: &Subject, ours: &Ours) -> Result<String> {
    let gguf = fs::metadata(&subject.gguf)?.len() as f64;
    let plan = fs::metadata(&subject.plan)?.len() as f64;
    let program = fs::metadata(ours.program())?.len() as f64;
    Ok(format!(
        "\nCompiled in {:.1} s with {:.2} times the GGUF's size as peak memory; plan {:.1} MB from \
         a GGUF of {:.1} MB; onebit-rt itself {:.1} MiB.\n",
        subject.compile_time.as_secs_f64(),
        subject.compile_memory as f64 / gguf,
        plan / 1e6,
        gguf / 1e6,
        program / f64::from(1 << 20),
    ))
}

/// Decoding beside a busy process, as a share of the quiet speed.
pub fn contention(quiet: &[Series; 2], busy: &[Vec<f64>; 2]) -> String {
    let share = |side: usize| 100.0 * median(&busy[side]) / median(&quiet[side].decode);
    format!(
        "\nBeside one foreign busy process decoding keeps: onebit-rt {:.0} % ({} tok/s), llama.cpp \
         {:.0} % ({} tok/s).\n",
        share(0),
        spread(&busy[0]),
        share(1),
        spread(&busy[1]),
    )
}

/// `median (least to most)`
pub fn spread(samples: &[f64]) -> String {
    let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
    let most = samples.iter().copied().fold(0.0, f64::max);
    format!("{:.1} ({least:.1} to {most:.1})", median(samples))
}

/// Middle value; the mean of the two middle ones for an even count, NaN for none.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[half],
        _ => (sorted[half - 1] + sorted[half]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_medians_spreads_and_ratios() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        let text = row("decode", &[200.0, 210.0, 190.0], &[100.0, 90.0, 110.0]);
        assert_eq!(text, "| decode | 200.0 (190.0 to 210.0) | 100.0 (90.0 to 110.0) | 2.00 |\n");
    }
}
