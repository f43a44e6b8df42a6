//! Results as markdown: medians, ratios, and whether the project's bars are met.

use std::fmt::Write;

use serde::de::DeserializeOwned;

use super::programs::{OurSample, PeerBatch, PeerSample};
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
pub fn report(options: &Options, subjects: &[Subject], store: &Store) -> Report {
    let models: Vec<Model<'_>> =
        subjects.iter().map(|subject| Model::read(options, subject, store)).collect();
    let mut text = heading(options, &models);
    text += "\n| model | figure, medians (least to most) | onebit-rt | llama.cpp | ratio | bar |\n\
             |---|---|---|---|---|---|\n";
    models.iter().for_each(|model| text += &model.speeds(options));
    text += "\n| model | file | weights read a token | onebit-rt | llama.cpp | share of bandwidth, onebit-rt | bar | tokens |\n\
             |---|---|---|---|---|---|---|---|\n";
    models.iter().for_each(|model| text += &model.bytes(options));
    let failures: Vec<String> = models.iter().flat_map(|model| model.failures.clone()).collect();
    if !failures.is_empty() {
        text += "\nFailed:\n\n";
        failures.iter().for_each(|failure| text += &format!("* {failure}\n"));
    }
    let invalid = models.iter().filter(|model| model.fault.is_some()).count();
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
            "* {} processes a side, each with the median of {} runs; prompt {}, generated {}, \
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
            Some(check) => check.fault().or(wrong),
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
        Self { subject, ours, peer, peer_batch, check, fault, failures }
    }

    fn our(&self, figure: impl Fn(&OurSample) -> Option<f64>) -> Vec<f64> {
        self.ours.iter().filter_map(figure).collect()
    }

    fn speeds(&self, options: &Options) -> String {
        let decode = self.our(|sample| sample.decode);
        let batch = self.our(|sample| sample.batch);
        let peer =
            |figure: fn(&PeerSample) -> f64| self.peer.iter().map(figure).collect::<Vec<_>>();
        let peer_all: Vec<f64> = self.peer_batch.iter().map(|sample| sample.all).collect();
        let peer_one: Vec<f64> = self.peer_batch.iter().map(|sample| sample.one).collect();
        let mut text = String::new();
        let mut row = |model: &str, name: &str, ours: String, peer: String, ratio, bar| {
            let (ratio, verdict) = self.verdict(ratio, bar);
            // Writing to a string does not fail.
            let _ = writeln!(text, "| {model} | {name} | {ours} | {peer} | {ratio} | {verdict} |");
        };
        let samples = |samples: &[f64]| self.shown(samples);
        let peers = |samples: &[f64]| if samples.is_empty() { "-".into() } else { spread(samples) };
        let (peer_decode, peer_prefill) =
            (peer(|sample| sample.decode), peer(|sample| sample.prefill));
        row(
            &self.subject.name,
            "decode, tok/s",
            samples(&decode),
            peers(&peer_decode),
            median(&decode) / median(&peer_decode),
            self.subject.decode_bar,
        );
        let prefill = self.our(|sample| sample.prefill);
        row(
            "",
            &format!("prefill {}, tok/s", options.prompt),
            samples(&prefill),
            peers(&peer_prefill),
            median(&prefill) / median(&peer_prefill),
            Some(PREFILL_BAR),
        );
        let sequences = options.sequences;
        row(
            "",
            &format!("{sequences} sequences, tok/s in all"),
            samples(&batch),
            peers(&peer_all),
            median(&batch) / median(&peer_all),
            None,
        );
        let times = |x: f64| if x.is_finite() { format!("{x:.1} times") } else { "-".into() };
        let gain = median(&batch) / median(&decode);
        let shown = if self.fault.is_some() { "INVALID".into() } else { times(gain) };
        row(
            "",
            &format!("{sequences} sequences over one"),
            shown,
            times(median(&peer_all) / median(&peer_one)),
            gain,
            Some(BATCH_BAR),
        );
        text
    }

    /// A figure of ours, unless its tokens are not right.
    fn shown(&self, samples: &[f64]) -> String {
        match (&self.fault, samples) {
            (Some(_), _) => "INVALID".into(),
            (None, []) => "-".into(),
            (None, samples) => spread(samples),
        }
    }

    fn verdict(&self, value: f64, bar: Option<f64>) -> (String, String) {
        if self.fault.is_some() || !value.is_finite() {
            return ("-".into(), bar.map_or("-".into(), |bar| format!("{bar}: MISS, no figure")));
        }
        let verdict = bar.map_or("-".into(), |bar| {
            format!("{bar}: {}", if value >= bar { "pass" } else { "MISS" })
        });
        (format!("{value:.2}"), verdict)
    }

    fn bytes(&self, options: &Options) -> String {
        let step_bytes = self.ours.first().map_or(0, |sample| sample.step_bytes) as f64;
        let decode = median(&self.our(|sample| sample.decode));
        let peer: Vec<f64> = self.peer.iter().map(|sample| sample.decode).collect();
        let rate = |speed: f64| speed * step_bytes / 1e9;
        let gigabytes = |speed: f64| match rate(speed) {
            rate if rate.is_finite() => format!("{rate:.0} GB/s"),
            _ => "-".into(),
        };
        let told =
            self.ours.iter().find_map(|s| Some((s.bandwidth? / 1e9, s.bandwidth_is.as_str())));
        let bandwidth = options.copy_bandwidth.map(|given| (given, "given")).or(told);
        let share = bandwidth.map_or(f64::NAN, |(bandwidth, _)| rate(decode) / bandwidth);
        let (_, verdict) = self.verdict(share, self.subject.bandwidth_bar);
        let share = match bandwidth {
            Some((bandwidth, what)) if share.is_finite() && self.fault.is_none() => {
                format!("{:.0} % of {bandwidth:.0} GB/s ({what})", 100.0 * share)
            }
            Some((bandwidth, what)) => format!("- of {bandwidth:.0} GB/s ({what})"),
            None => "unknown".into(),
        };
        let file = std::fs::metadata(&self.subject.gguf).map_or(0, |metadata| metadata.len());
        let ours = if self.fault.is_some() { "INVALID".into() } else { gigabytes(decode) };
        format!(
            "| {} | {:.0} MiB | {:.0} MB | {ours} | {} | {share} | {verdict} | {} |\n",
            self.subject.name,
            file as f64 / f64::from(1 << 20),
            step_bytes / 1e6,
            gigabytes(median(&peer)),
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
        match (&self.fault, told) {
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
