//! `xtask bench-gpu`: onebit-rt and llama.cpp over Vulkan on files of real shapes that are made
//! where it runs, by turns, tokens checked in the same run.
//!
//! Needs no network, no cargo and no compiler: a copied xtask, the two programs beside it and
//! llama.cpp's. Every finished item is in a file before the next begins, so a run that is cut off
//! goes on where it stopped with `--resume`.

mod programs;
mod report;
mod results;
mod subject;
mod tokens;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use programs::Programs;
use results::Store;
use subject::Subject;

/// Device of our side, and how much the peer puts on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Place {
    Vulkan,
    Cpu,
}

#[derive(clap::Args)]
pub struct Options {
    /// Folder that holds llama-bench, llama-batched-bench and llama-completion, made with Vulkan
    #[arg(long, value_name = "FOLDER")]
    peer: PathBuf,
    /// Folder that holds onebitc and onebit-rt [default: this program's own]
    #[arg(long, value_name = "FOLDER")]
    our: Option<PathBuf>,
    /// Separated by commas: SHAPE, SHAPE:FORMAT (as make-model takes them) or the path of a GGUF
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "LIST",
        default_value = "smollm2-135m,qwen3-1.7b,bonsai-1.7b,qwen3-8b"
    )]
    models: Vec<String>,
    /// Fresh processes per side
    #[arg(short, long, default_value_t = 3, value_name = "N")]
    reps: usize,
    /// Runs of each test inside a process; the process counts with their median
    #[arg(long, default_value_t = 3, value_name = "N")]
    runs: usize,
    /// Folder of files, plans and results
    #[arg(long, default_value = "bench-gpu", value_name = "FOLDER")]
    work: PathBuf,
    /// Part of the device's name: picks llama.cpp's device, and ours must have it
    #[arg(long, value_name = "TEXT")]
    device_name: Option<String>,
    /// Go on with the results in the work folder
    #[arg(long)]
    resume: bool,
    /// Begin nothing new after so many seconds
    #[arg(long, value_name = "SECONDS")]
    budget: Option<u64>,
    /// Seconds after which a process is ended and its item counts as failed
    #[arg(long, default_value_t = 240, value_name = "SECONDS")]
    limit: u64,
    /// Rehearse on the processor: our --device cpu, llama.cpp's -ngl 0
    #[arg(long)]
    cpu: bool,
    /// Make only the first N layers of each shape
    #[arg(long, value_name = "N")]
    layers: Option<usize>,
    /// onebitc's --target
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Positions a sequence can hold (onebitc's --ctx)
    #[arg(long, default_value_t = 1024, value_name = "N")]
    ctx: usize,
    /// Tokens of the prompt test
    #[arg(long, default_value_t = 512, value_name = "N")]
    prompt: usize,
    /// Tokens that each sequence generates
    #[arg(long, default_value_t = 128, value_name = "N")]
    generate: usize,
    /// Sequences of the batch test
    #[arg(long, default_value_t = 32, value_name = "N")]
    sequences: usize,
    /// Threads of both sides [default: their own]
    #[arg(short, long, value_name = "N")]
    threads: Option<usize>,
    /// The device's copy bandwidth in GB/s, read and write counted, where onebit-rt does not tell
    #[arg(long, value_name = "GB/S")]
    copy_bandwidth: Option<f64>,
}

impl Options {
    fn place(&self) -> Place {
        if self.cpu { Place::Cpu } else { Place::Vulkan }
    }
}

/// Seed of all weights.
const SEED: u64 = 1;

/// Measures what is not yet measured and prints the report.
pub fn bench(options: &Options) -> Result<()> {
    if options.reps == 0 || options.runs == 0 {
        bail!("--reps and --runs count from 1");
    }
    std::fs::create_dir_all(&options.work)
        .with_context(|| format!("cannot make the folder {}", options.work.display()))?;
    let programs = Programs::find(options)?;
    let subjects: Vec<Subject> =
        options.models.iter().map(|name| Subject::new(name, options)).collect::<Result<_>>()?;
    let path = options.work.join("results.jsonl");
    let mut store = Store::open(&path, programs.fingerprint()?, options.resume)?;
    let clock = Clock { start: Instant::now(), budget: options.budget.map(Duration::from_secs) };
    let ended = measure(options, &programs, &subjects, &mut store, &clock)?;
    let report = report::report(options, &programs, &subjects, &store);
    println!("{}", report.text);
    std::fs::write(options.work.join("report.md"), &report.text)?;
    if ended == Ended::Early {
        eprintln!("the time is up: run the same command again with --resume");
    } else if report.broken > 0 {
        bail!("{} of the items failed or are invalid; see the report", report.broken);
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum Ended {
    Done,
    Early,
}

struct Clock {
    start: Instant,
    budget: Option<Duration>,
}

impl Clock {
    fn is_up(&self) -> bool {
        self.budget.is_some_and(|budget| self.start.elapsed() >= budget)
    }
}

fn measure(
    options: &Options,
    programs: &Programs,
    subjects: &[Subject],
    store: &mut Store,
    clock: &Clock,
) -> Result<Ended> {
    for subject in subjects {
        let key = |item: &str| format!("{}/{item}", subject.name);
        if clock.is_up() {
            return Ok(Ended::Early);
        }
        // Files may be gone although their items are not: results outlive machines.
        let made =
            if subject.gguf.exists() { Ok(()) } else { store.put(&key("file"), subject.make()) };
        let plan = programs.plan_of(subject, options);
        let compiled = made.and_then(|()| match plan.exists() {
            true => Ok(()),
            false => store.put(&key("plan"), programs.compile(subject, &plan)),
        });
        if compiled.is_err() {
            continue;
        }
        if store.lacks(&key("tokens")) {
            if clock.is_up() {
                return Ok(Ended::Early);
            }
            // A failure is in the store and in the report.
            let _ = store.put(&key("tokens"), tokens::check(programs, subject, &plan, options));
        }
        // llama.cpp's first process compiles pipelines that the driver keeps; ours has run for the tokens.
        if store.lacks(&key("peer-first")) {
            if clock.is_up() {
                return Ok(Ended::Early);
            }
            let _ = store.put(&key("peer-first"), programs.peer(subject));
        }
        for repetition in 0..options.reps {
            let mut items = [
                (format!("ours/{repetition}"), Side::Ours),
                (format!("peer/{repetition}"), Side::Peer),
                (format!("peer-batch/{repetition}"), Side::PeerBatch),
            ];
            if repetition % 2 == 1 {
                items.reverse();
            }
            for (item, side) in items {
                if !store.lacks(&key(&item)) {
                    continue;
                }
                if clock.is_up() {
                    return Ok(Ended::Early);
                }
                let _ = match side {
                    Side::Ours => store.put(&key(&item), programs.ours(&plan)),
                    Side::Peer => store.put(&key(&item), programs.peer(subject)),
                    Side::PeerBatch => store.put(&key(&item), programs.peer_batch(subject)),
                };
            }
        }
    }
    Ok(Ended::Done)
}

#[derive(Clone, Copy)]
enum Side {
    Ours,
    Peer,
    PeerBatch,
}
