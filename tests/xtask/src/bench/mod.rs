//! `cargo xtask bench`: onebit-rt and llama.cpp on the same files, by turns, on a quiet machine.
//!
//! Every sample is a fresh process and the sides alternate, so that drift of the machine hits
//! both. A sample during which other processes used the cores is thrown away and taken again.
//! No speed is printed before the tokens behind it were compared.

mod machine;
mod programs;
mod report;
mod sample;
mod subject;

use std::process::{Child, Command};

use anyhow::{Context, Result, bail};

use programs::{Ours, Peer};
use report::Series;
pub use report::{median, spread};
pub use subject::Subject;

use crate::Comparison;
use crate::process::build_release;

#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    comparison: Comparison,
    /// Fresh processes per side and figure
    #[arg(short, long, default_value_t = 5)]
    reps: usize,
    /// Also measure decoding beside one foreign busy process
    #[arg(long)]
    busy: bool,
    /// Accept samples taken while other processes were using the cores
    #[arg(long)]
    allow_noise: bool,
}

/// Prompt of the token check and of the cold start: five tokens or so in every vocabulary.
const PROMPT: &str = "The history of measurement is";

/// Measures every model of the options and prints one report each.
pub fn bench(options: &Options) -> Result<()> {
    let programs = build_release()?;
    println!("{}", machine::describe(&options.comparison.peer)?);
    for name in &options.comparison.models {
        let subject = Subject::prepare(name, &programs, &options.comparison.peer)?;
        let ours = Ours::new(&programs, &subject, options.comparison.threads);
        let peer = Peer::new(&options.comparison.peer, &subject, options.comparison.threads);
        print!("{}", measure(options, &subject, &ours, &peer)?);
    }
    Ok(())
}

/// One model's report.
fn measure(options: &Options, subject: &Subject, ours: &Ours, peer: &Peer) -> Result<String> {
    let mut text = report::heading(subject, ours, peer);
    check_tokens(ours, options.comparison.threads)?;
    text += "Greedy text is the same with 1 thread, with all threads and from run to run.\n\n";

    let watch = sample::Watch { allow_noise: options.allow_noise };
    let mut quiet = [Series::default(), Series::default()];
    let mut cold = [Vec::new(), Vec::new()];
    ours.first_token(&watch)?;
    peer.first_token(&watch)?;
    for repetition in 0..options.reps {
        let turns = if repetition % 2 == 0 { [0, 1] } else { [1, 0] };
        for side in turns {
            let speeds = if side == 0 { ours.speeds(&watch)? } else { peer.speeds(&watch)? };
            quiet[side].push(&speeds);
            let first =
                if side == 0 { ours.first_token(&watch)? } else { peer.first_token(&watch)? };
            cold[side].push(first.as_secs_f64() * 1e3);
            eprintln!("{} {}/{}", ["onebit-rt", "llama.cpp"][side], repetition + 1, options.reps);
        }
    }
    text += &report::table(&quiet, &cold);
    text += &report::roof(&quiet[0]);
    text += &report::footprint(subject, ours)?;
    if options.busy {
        let busy = beside_a_busy_process(options, ours, peer)?;
        text += &report::contention(&quiet, &busy);
    }
    Ok(text)
}

/// Greedy text must not depend on the thread count or the run.
fn check_tokens(ours: &Ours, threads: usize) -> Result<()> {
    let expected = ours.greedy_text(1)?;
    for threads in [threads, threads] {
        let found = ours.greedy_text(threads)?;
        if found != expected {
            bail!("greedy text differs between 1 and {threads} threads:\n{expected}\n---\n{found}");
        }
    }
    Ok(())
}

/// Decoding speeds of both sides with one core taken by another process.
fn beside_a_busy_process(options: &Options, ours: &Ours, peer: &Peer) -> Result<[Vec<f64>; 2]> {
    let spinner = Spinner::start()?;
    let mut decode = [Vec::new(), Vec::new()];
    for _ in 0..options.reps {
        decode[0].push(ours.busy_decode()?);
        decode[1].push(peer.busy_decode()?);
    }
    drop(spinner);
    Ok(decode)
}

/// A process that keeps one core busy while it lives.
struct Spinner(Child);

impl Spinner {
    fn start() -> Result<Self> {
        let program = std::env::current_exe().context("cannot find the path of xtask itself")?;
        Ok(Self(Command::new(program).arg("spin").spawn()?))
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        // It never ends by itself; a failure here means that it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The busy process itself.
pub fn spin() -> Result<()> {
    loop {
        std::hint::spin_loop();
    }
}
