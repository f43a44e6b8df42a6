//! Results as markdown: medians, ratios, and whether the project's bars are met.

use std::fmt;

use serde::de::DeserializeOwned;

use super::programs::{OurSample, PeerBatch, PeerSample, Programs};
use super::results::Store;
use super::subject::{BATCH_BAR, PREFILL_BAR, Subject};
use super::tokens::TokenCheck;
use super::{Options, Place};
use crate::bench::{median, spread};

/// The text, and how many items failed or are invalid.
pub struct Report {
    pub text: String,
    pub broken: usize,
}

/// A report of everything that is in the store.
pub fn report(
    options: &Options,
    programs: &Programs<'_>,
    subjects: &[Subject],
    store: &Store,
) -> Report {
    let models: Vec<Model<'_>> =
        subjects.iter().map(|subject| Model::read(options, subject, store)).collect();
    let mut text = heading(options, &models);
    let lines: Vec<String> = subjects.iter().flat_map(|subject| programs.lines(subject)).collect();
    text += &format!("\n```\n{}\n```\n", lines.join("\n"));
    text += "\n| model | figure, medians (least to most) | onebit-rt | llama.cpp | ratio | bar |\n\
             |---|---|---|---|---|---|\n";
    models.iter().for_each(|model| text += &model.speeds(options));
    text += "\n| model | file | weights of a token | onebit-rt, GB/s | llama.cpp, GB/s | onebit-rt's share of the bandwidth | bar | tokens |\n\
             |---|---|---|---|---|---|---|---|\n";
    models.iter().for_each(|model| text += &model.bytes(options));
    let failures: Vec<String> = models.iter().flat_map(|model| model.failures.clone()).collect();
    if !failures.is_empty() {
        text += "\nFailed:\n\n";
        failures.iter().for_each(|failure| text += &format!("* {failure}\n"));
    }
    let invalid =
        models.iter().filter(|model| model.fault.is_some() || model.wrong.is_some()).count();
    Report { text, broken: failures.len() + invalid }
}

fn heading(options: &Options, models: &[Model<'_>]) -> String {
    let ours = models.iter().find_map(|model| model.ours.first());
    let peer = models.iter().find_map(|model| model.peer.first());
    let unknown = || "unknown".to_owned();
    let mut text = match options.place() {
        Place::Vulkan => "### Vulkan, files of real shapes with random weights\n\n".to_owned(),
        Place::Cpu => "### A rehearsal on the processor: says nothing about a GPU\n\n".to_owned(),
    };
    let lines = [
        format!("* onebit-rt on {}", ours.map_or_else(unknown, |sample| sample.device.clone())),
        format!(
            "* llama.cpp {} on {}",
            peer.map_or_else(unknown, |sample| sample.commit.clone()),
            peer.map_or_else(unknown, |sample| format!("{} ({})", sample.device, sample.backends))
        ),
        format!(
            "* {} processes a side, each with the median of {} runs, after one of llama.cpp's that compiles \
             its pipelines and is not counted; prompt {}, generated {}, \
                 sequences {}",
            options.reps, options.runs, options.prompt, options.generate, options.sequences
        ),
    ];
    lines.iter().for_each(|line| text += &format!("{line}\n"));
    text
}

/// What is known of one model.
struct Model<'a> {
    subject: &'a Subject,
    ours: Vec<OurSample>,
    peer: Vec<PeerSample>,
    peer_batch: Vec<PeerBatch>,
    check: Option<TokenCheck>,
    /// What a test of ours says of its own tokens.
    wrong: Option<String>,
    /// Why no figure of ours counts.
    fault: Option<String>,
    failures: Vec<String>,
}

impl<'a> Model<'a> {
    fn read(options: &Options, subject: &'a Subject, store: &Store) -> Self {
        let key = |item: &str| format!("{}/{item}", subject.name);
        let check: Option<TokenCheck> = store.get(&key("tokens"));
        let ours: Vec<OurSample> = all(options, store, &key("ours"));
        let wrong = ours.iter().flat_map(|sample| &sample.wrong).next().cloned();
        let fault = match &check {
            Some(check) => check.fault(),
            None => Some("tokens were not checked".to_owned()),
        };
        let repeated = ["ours", "peer", "peer-batch"].into_iter().flat_map(|side| {
            (0..options.reps).map(move |repetition| format!("{side}/{repetition}"))
        });
        let items = ["file", "plan", "tokens"].into_iter().map(str::to_owned).chain(repeated);
        let failures = items
            .filter_map(|item| Some(format!("{}: {}", key(&item), store.error(&key(&item))?)))
            .collect();
        let (peer, peer_batch) =
            (all(options, store, &key("peer")), all(options, store, &key("peer-batch")));
        Self { subject, ours, peer, peer_batch, check, wrong, fault, failures }
    }

    /// One figure of all our processes, or why there is none.
    fn our(&self, figure: impl Fn(&OurSample) -> Option<f64>) -> Figure {
        if self.fault.is_some() {
            return Figure::Invalid;
        }
        let samples: Option<Vec<f64>> = self.ours.iter().map(figure).collect();
        samples.map_or(Figure::Invalid, Figure::Samples)
    }

    fn peer(&self, figure: impl Fn(&PeerSample) -> f64) -> Figure {
        Figure::Samples(self.peer.iter().map(figure).collect())
    }

    fn peer_batch(&self, figure: impl Fn(&PeerBatch) -> f64) -> Figure {
        Figure::Samples(self.peer_batch.iter().map(figure).collect())
    }

    fn speeds(&self, options: &Options) -> String {
        let sequences = options.sequences;
        let (decode, batch) = (self.our(|s| s.decode), self.our(|s| s.batch));
        let (all, one) = (self.peer_batch(|s| s.all), self.peer_batch(|s| s.one));
        let rows = [
            (
                "decode, tok/s".to_owned(),
                &decode,
                &self.peer(|s| s.decode),
                self.subject.decode_bar,
            ),
            (
                format!("prefill {}, tok/s", options.prompt),
                &self.our(|s| s.prefill),
                &self.peer(|s| s.prefill),
                Some(PREFILL_BAR),
            ),
            (format!("{sequences} sequences, tok/s in all"), &batch, &all, None),
        ];
        let mut text = String::new();
        let mut model = self.subject.name.as_str();
        for (name, ours, peer, bar) in rows {
            let (ratio, verdict) = verdict(ours.median() / peer.median(), bar);
            text += &format!("| {model} | {name} | {ours} | {peer} | {ratio} | {verdict} |\n");
            model = "";
        }
        let (ours, verdict) = verdict(batch.median() / decode.median(), Some(BATCH_BAR));
        let peer = ratio(all.median() / one.median());
        text + &format!(
            "| | {sequences} sequences over one, times | {ours} | {peer} | | {verdict} |\n"
        )
    }

    fn bytes(&self, options: &Options) -> String {
        let step_bytes = self.ours.first().map(|sample| sample.step_bytes);
        // What has to be read: a plan that holds wider weights gets nothing for them.
        let needed = self.subject.bytes_per_token.or(step_bytes).map_or(f64::NAN, |x| x as f64);
        let rate = |figure: Figure| figure.median() * needed / 1e9;
        let (ours, peer) = (rate(self.our(|s| s.decode)), rate(self.peer(|s| s.decode)));
        let told: Vec<f64> = self.ours.iter().filter_map(|sample| sample.bandwidth).collect();
        let bandwidth = options.copy_bandwidth.unwrap_or(median(&told) / 1e9);
        let what = match (options.copy_bandwidth, options.place()) {
            (Some(_), _) => "given",
            (None, Place::Vulkan) => "copying, as onebit-rt measured it",
            (None, Place::Cpu) => "reading, as onebit-rt measured it",
        };
        let share = ours / bandwidth;
        let (_, verdict) = verdict(share, self.subject.bandwidth_bar);
        let of = match (bandwidth.is_finite(), share.is_finite()) {
            (false, _) => "unknown".to_owned(),
            (true, false) => format!("- of {bandwidth:.0} GB/s ({what})"),
            (true, true) => format!("{:.0} % of {bandwidth:.0} GB/s ({what})", 100.0 * share),
        };
        let whole = |x: f64| if x.is_finite() { format!("{x:.0}") } else { "-".into() };
        let file = std::fs::metadata(&self.subject.gguf).map_or(0, |metadata| metadata.len());
        format!(
            "| {} | {:.0} MiB | {:.0} MB ({:.0} MB in the plan) | {} | {} | {of} | {verdict} | {} |\n",
            self.subject.name,
            file as f64 / f64::from(1 << 20),
            needed / 1e6,
            step_bytes.unwrap_or(0) as f64 / 1e6,
            whole(ours),
            whole(peer),
            self.tokens(),
        )
    }

    fn tokens(&self) -> String {
        let told = self.check.as_ref().map(|check| {
            let peer = match check.peer_words {
                Some(words) => format!(", {words} of them llama.cpp's"),
                None => String::new(),
            };
            format!(
                "top 1 of {} positions same at {}, wrong at {}; logits {:.1e} apart (worst {:.1e}); \
                 greedy text: first {} of {} words same{peer}",
                check.positions, check.same, check.wrong, check.median_error, check.largest_error,
                check.words.0, check.words.1,
            )
        });
        match (self.fault.as_ref().or(self.wrong.as_ref()), told) {
            (None, told) => told.unwrap_or_default(),
            (Some(fault), Some(told)) => format!("INVALID: {fault} ({told})"),
            (Some(fault), None) => format!("INVALID: {fault}"),
        }
    }
}

/// The samples of a side that are there.
fn all<T: DeserializeOwned>(options: &Options, store: &Store, side: &str) -> Vec<T> {
    (0..options.reps).filter_map(|repetition| store.get(&format!("{side}/{repetition}"))).collect()
}

/// Samples of one figure.
enum Figure {
    /// Tokens were wrong or not checked.
    Invalid,
    Samples(Vec<f64>),
}

impl Figure {
    /// Not a number where there is none.
    fn median(&self) -> f64 {
        match self {
            Self::Invalid => f64::NAN,
            Self::Samples(samples) => median(samples),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid => f.write_str("INVALID"),
            Self::Samples(samples) if samples.is_empty() => f.write_str("-"),
            Self::Samples(samples) => f.write_str(&spread(samples)),
        }
    }
}

fn ratio(value: f64) -> String {
    if value.is_finite() { format!("{value:.2}") } else { "-".into() }
}

/// A ratio, and whether it reaches its bar. No figure is a miss.
fn verdict(value: f64, bar: Option<f64>) -> (String, String) {
    let verdict = match bar {
        None => "-".into(),
        Some(bar) if value >= bar => format!("{bar}: pass"),
        Some(bar) => format!("{bar}: MISS"),
    };
    (ratio(value), verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_a_miss() {
        assert_eq!(verdict(2.5, Some(2.5)), ("2.50".into(), "2.5: pass".into()));
        assert_eq!(verdict(2.49, Some(2.5)), ("2.49".into(), "2.5: MISS".into()));
        assert_eq!(verdict(f64::NAN, Some(2.5)), ("-".into(), "2.5: MISS".into()));
        assert_eq!(verdict(3.0, None), ("3.00".into(), "-".into()));
        assert_eq!(Figure::Invalid.to_string(), "INVALID");
        assert_eq!(Figure::Samples(vec![2.0, 1.0, 4.0]).to_string(), "2.0 (1.0 to 4.0)");
        assert_eq!(Figure::Samples(Vec::new()).to_string(), "-");
    }
}
