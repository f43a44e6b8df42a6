//! One watched run of a program: its output, how long it took, its memory, and how much of the
//! cores anything else used meanwhile. Reads Linux's /proc.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::describe;

/// Ticks of /proc/stat per second: USER_HZ, 100 on every Linux architecture Rust runs on.
const TICKS: f64 = 100.0;
/// Share of one core that other processes may use during a sample.
const FOREIGN_LIMIT: f64 = 0.05;
/// Both tick counters are sampled; a short run may be off by this much without meaning anything.
const TICK_ERROR: f64 = 0.03;
/// Tries before the machine counts as too busy to measure on.
const TRIES: usize = 20;

/// What one run gave.
pub struct Finished {
    pub stdout: String,
    pub stderr: String,
    pub wall: Duration,
    /// From before the process was made to its first byte on standard output.
    pub first_output: Option<Duration>,
    /// Largest resident set seen, in bytes; polled, so an upper peak of a few ms may be missed.
    pub peak_memory: u64,
    /// CPU seconds that other processes used during the run.
    foreign: f64,
}

/// How samples are taken.
#[derive(Clone, Copy)]
pub struct Watch {
    pub allow_noise: bool,
}

impl Watch {
    /// Runs what `make` builds until a run had the machine to itself.
    pub fn run(&self, make: impl Fn() -> Command) -> Result<Finished> {
        for attempt in 0..TRIES {
            let finished = run_once(make())?;
            let limit = FOREIGN_LIMIT * finished.wall.as_secs_f64() + TICK_ERROR;
            if self.allow_noise || finished.foreign <= limit {
                return Ok(finished);
            }
            eprintln!(
                "sample thrown away: other processes used {:.0} % of a core",
                100.0 * finished.foreign / finished.wall.as_secs_f64()
            );
            std::thread::sleep(Duration::from_secs(1 + attempt as u64));
        }
        bail!(
            "the machine is too busy to measure: {TRIES} runs of `{}` were disturbed",
            describe(&make())
        )
    }
}

/// Runs `command` once and watches it.
pub fn run_once(mut command: Command) -> Result<Finished> {
    let line = describe(&command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let before = CpuTime::now()?;
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start `{line}`"))?;
    let id = child.id();
    let mut stdout = child.stdout.take().expect("standard output is piped");
    let mut stderr = child.stderr.take().expect("standard error is piped");
    let ended = AtomicBool::new(false);
    let (output, first_output, errors, peak_memory) = std::thread::scope(|scope| {
        let errors = scope.spawn(move || read_all(&mut stderr, start));
        let memory = scope.spawn(|| poll_memory(id, &ended));
        let (output, first) = read_all(&mut stdout, start);
        let (errors, _) = errors.join().expect("the reader does not panic");
        ended.store(true, Ordering::Relaxed);
        (output, first, errors, memory.join().expect("the poller does not panic"))
    });
    let status = child.wait()?;
    let wall = start.elapsed();
    let foreign = CpuTime::now()?.foreign_since(&before);
    if !status.success() {
        bail!("`{line}` failed: {status}\n{}", errors.trim_end());
    }
    Ok(Finished { stdout: output, stderr: errors, wall, first_output, peak_memory, foreign })
}

/// All of a pipe as text, and when its first byte came.
fn read_all(pipe: &mut impl Read, start: Instant) -> (String, Option<Duration>) {
    let mut bytes = Vec::new();
    let mut first = [0];
    let mut first_output = None;
    if pipe.read_exact(&mut first).is_ok() {
        first_output = Some(start.elapsed());
        bytes.push(first[0]);
        // A pipe that breaks ends the text; the exit status tells why.
        let _ = pipe.read_to_end(&mut bytes);
    }
    (String::from_utf8_lossy(&bytes).into_owned(), first_output)
}

fn poll_memory(id: u32, ended: &AtomicBool) -> u64 {
    let mut peak = 0;
    while !ended.load(Ordering::Relaxed) {
        peak = peak.max(high_water_mark(id).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(5));
    }
    peak
}

/// VmHWM of a process in bytes; `None` once it has ended.
fn high_water_mark(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// CPU seconds used so far, by everything and by us with the children we waited for.
struct CpuTime {
    machine: f64,
    own: f64,
}

impl CpuTime {
    fn now() -> Result<Self> {
        let machine = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        let own = fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
        let parsed = machine_seconds(&machine).zip(own_seconds(&own));
        let (machine, own) = parsed.context("/proc/stat has an unknown form")?;
        Ok(Self { machine, own })
    }

    fn foreign_since(&self, before: &Self) -> f64 {
        (self.machine - before.machine) - (self.own - before.own)
    }
}

/// Busy seconds of all cores: user, nice, system, irq, softirq and steal (proc(5)).
fn machine_seconds(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let busy: f64 =
        [0, 1, 2, 5, 6, 7].iter().map(|&field| ticks.get(field)).sum::<Option<f64>>()?;
    Some(busy / TICKS)
}

/// utime, stime, cutime and cstime: fields 14 to 17 of proc(5), counted after the bracketed name.
fn own_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: Option<f64> =
        fields.split_whitespace().skip(11).take(4).map(|word| word.parse::<f64>().ok()).sum();
    Some(ticks? / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_busy_time_without_idle_and_guest() {
        let stat = "cpu  100 20 30 4000 500 6 7 8 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        assert_eq!(machine_seconds(stat), Some(1.71));
    }

    #[test]
    fn reads_own_time_after_a_name_with_brackets() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 100 20 3 4 0 0";
        assert_eq!(own_seconds(stat), Some(1.27));
    }

    #[test]
    fn watches_output_and_failure() {
        let finished = run_once(command("printf ab; printf c >&2")).unwrap();
        assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("ab", "c"));
        assert!(finished.first_output.unwrap() <= finished.wall);
        let error = run_once(command("echo why >&2; exit 3")).err().unwrap().to_string();
        assert!(error.contains("exit status: 3") && error.contains("why"), "{error}");
    }

    fn command(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }
}
