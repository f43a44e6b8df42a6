//! `onebit-aie-emu`: runs an npu4 xclbin and an instruction stream, or shows what is in them.
//!
//! All work is the library's; here are files, flags and text.
#![forbid(unsafe_code)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use onebit_aie::txn::Txn;
use onebit_aie_emu::array::{Latency, Leftover, Spans, UnknownRegisters, Unwritten};
use onebit_aie_emu::report::{Report, Span};
use onebit_aie_emu::{Array, Fault, Options, dump};
use serde_json::json;

/// Emulates AMD's XDNA 2 array (npu4) from the bytes of a design.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs an instruction stream on a configured array.
    Run(RunArguments),
    /// Shows every tile of a design: program, routes, descriptors, locks.
    Dump {
        /// The design.
        xclbin: PathBuf,
    },
    /// Shows the operations of an instruction stream, or a raw program of a core.
    Disasm {
        /// The stream or the program.
        file: PathBuf,
        /// The file is a core's program and not an instruction stream.
        #[arg(long)]
        core: bool,
    },
}

#[derive(clap::Args)]
struct RunArguments {
    /// The design.
    #[arg(long)]
    xclbin: PathBuf,
    /// The instruction stream; several run one after the other on the kept array.
    #[arg(long, required = true)]
    txn: Vec<PathBuf>,
    /// A file for the next of the kernel's arguments.
    #[arg(long = "arg", value_name = "FILE")]
    inputs: Vec<PathBuf>,
    /// A zeroed argument behind the others, written to a file at the end: FILE:BYTES.
    #[arg(long = "arg-out", value_name = "FILE:BYTES", value_parser = output)]
    outputs: Vec<(PathBuf, usize)>,
    /// Where to write who worked when, for a viewer of Chrome traces. Times are modelled.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Draws the order of what happens at once.
    #[arg(long)]
    seed: Option<u64>,
    /// How long the results of cores take.
    #[arg(long, value_enum, default_value = "documented")]
    latency: LatencyName,
    /// Refuses registers that nothing is known of.
    #[arg(long)]
    strict: bool,
    /// Gives cores zeros for memory that nobody wrote, instead of a fault.
    #[arg(long)]
    zeros: bool,
    /// Allows data to be under way at the end.
    #[arg(long)]
    keep_leftover: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum LatencyName {
    Min,
    Max,
    Documented,
    Checked,
}

/// Bytes of the largest argument. The array's own addresses go further, machines do not.
const LARGEST_OUTPUT: u64 = 1 << 40;

fn output(text: &str) -> Result<(PathBuf, usize), String> {
    let (file, bytes) = text.rsplit_once(':').ok_or("expected FILE:BYTES")?;
    if PathBuf::from(file).file_name().is_none() {
        return Err(format!("`{file}` has no file name: expected FILE:BYTES"));
    }
    let bytes: u64 = bytes.parse().map_err(|error| format!("bytes: {error}"))?;
    let most = format!("at most {LARGEST_OUTPUT} bytes");
    let bytes = Some(bytes).filter(|&bytes| bytes <= LARGEST_OUTPUT).ok_or_else(|| most.clone())?;
    let bytes = usize::try_from(bytes).map_err(|_| most)?;
    Ok((PathBuf::from(file), bytes))
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run(arguments) => run(&arguments),
        Command::Dump { xclbin } => dump_design(&xclbin),
        Command::Disasm { file, core } => disassemble(&file, core),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { message, help }) => {
            eprintln!("error: {message}\nhelp: {help}");
            ExitCode::FAILURE
        }
    }
}

/// Why a command ends early, and what to do.
struct Failure {
    message: String,
    help: &'static str,
}

impl Failure {
    fn of_fault(path: &Path, fault: &Fault) -> Self {
        Failure { message: format!("{}: {fault}", path.display()), help: fault.help() }
    }

    fn of_file(path: &Path, error: impl std::fmt::Display, help: &'static str) -> Self {
        Failure { message: format!("{}: {error}", path.display()), help }
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, Failure> {
    let help = "give a file that exists and that you may read";
    std::fs::read(path).map_err(|error| Failure::of_file(path, error, help))
}

/// Writes a file whole: under another name first, so that what was there stays until then.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let written = std::fs::write(&part, bytes).and_then(|()| std::fs::rename(&part, path));
    written.map_err(|error| {
        // The first failure is the one to tell.
        let _ = std::fs::remove_file(&part);
        Failure::of_file(
            path,
            error,
            "give a file in a folder that exists and that you may write to",
        )
    })
}

/// An argument of zeros for the file at `path`.
fn zeros(path: &Path, bytes: usize) -> Result<Vec<u8>, Failure> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(bytes).map_err(|error| Failure {
        message: format!("{}: {bytes} bytes: {error}", path.display()),
        help: "ask for fewer bytes than this machine has memory",
    })?;
    buffer.resize(bytes, 0);
    Ok(buffer)
}

fn configure(path: &PathBuf, options: Options) -> Result<Array, Failure> {
    Array::configure(&read(path)?, options).map_err(|fault| Failure::of_fault(path, &fault))
}

fn options(arguments: &RunArguments) -> Options {
    let mut options = Options { seed: arguments.seed, ..Options::default() };
    options.latency = match arguments.latency {
        LatencyName::Min => Latency::Shortest,
        LatencyName::Max => Latency::Longest,
        LatencyName::Documented => Latency::Documented,
        LatencyName::Checked => Latency::Checked,
    };
    if arguments.strict {
        options.unknown_registers = UnknownRegisters::Refused;
    }
    if arguments.zeros {
        options.unwritten = Unwritten::ZerosForCores;
    }
    if arguments.keep_leftover {
        options.leftover = Leftover::Kept;
    }
    if arguments.trace.is_some() {
        options.spans = Spans::Recorded;
    }
    options
}

fn run(arguments: &RunArguments) -> Result<(), Failure> {
    let mut array = configure(&arguments.xclbin, options(arguments))?;
    let mut buffers: Vec<Vec<u8>> = arguments.inputs.iter().map(read).collect::<Result<_, _>>()?;
    for (path, bytes) in &arguments.outputs {
        buffers.push(zeros(path, *bytes)?);
    }
    let mut spans = Vec::new();
    for txn in &arguments.txn {
        let report =
            array.run(&read(txn)?, &mut buffers).map_err(|fault| Failure::of_fault(txn, &fault))?;
        print(&report_text(&report))?;
        spans.extend(report.spans);
    }
    for ((path, _), bytes) in arguments.outputs.iter().zip(&buffers[arguments.inputs.len()..]) {
        write(path, bytes)?;
    }
    match &arguments.trace {
        Some(path) => write(path, trace(&spans).to_string().as_bytes()),
        None => Ok(()),
    }
}

fn report_text(report: &Report) -> String {
    let mut text = format!(
        "operations      {} ({} syncs)\n\
         modelled cycles {} ({:.1} us at 1.8 GHz)\n  \
         of which the machine's memory is the limit: {}\n\
         bytes           {} read, {} written\n\
         core words      {}\n\
         groups          {}\n",
        report.operations,
        report.syncs,
        report.cycles,
        report.microseconds(),
        report.memory_cycles,
        report.bytes_read,
        report.bytes_written,
        report.core_words,
        report.groups
    );
    for (tile, offset) in &report.unknown_registers {
        text.push_str(&format!("unknown register {offset:#x} of {tile}\n"));
    }
    for waits in &report.waiting {
        text.push_str(&format!("at the end: {waits}\n"));
    }
    text
}

/// Prints `text`; that nobody reads it to its end is no error.
fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure {
            message: format!("cannot write to standard output: {error}"),
            help: "give it a place that takes what is written",
        }),
        _ => Ok(()),
    }
}

/// Spans in the format of Chrome's trace viewer, with cycles in the place of microseconds.
fn trace(spans: &[Span]) -> serde_json::Value {
    let events: Vec<serde_json::Value> = spans
        .iter()
        .map(|span| {
            json!({
                "ph": "X",
                "name": span.what,
                "pid": span.tile.to_string(),
                "tid": span.who,
                "ts": span.start,
                "dur": span.end - span.start,
            })
        })
        .collect();
    json!({ "traceEvents": events, "otherData": { "times": "modelled cycles" } })
}

fn dump_design(path: &PathBuf) -> Result<(), Failure> {
    print(&dump::array(&configure(path, Options::default())?))
}

fn disassemble(path: &PathBuf, core: bool) -> Result<(), Failure> {
    let bytes = read(path)?;
    if core {
        return print(&dump::program(&bytes));
    }
    let help = "give an instruction stream, or a core's program with --core";
    let txn = Txn::parse(&bytes).map_err(|error| Failure::of_file(path, error, help))?;
    let mut text = format!("{:?}\n", txn.header);
    for (index, op) in txn.ops.iter().enumerate() {
        text.push_str(&format!("{index:6}  {op:x?}\n"));
    }
    print(&text)
}
