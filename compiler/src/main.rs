//! The `onebitc` command line.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use onebit_models::gguf::{GgufError, GgufFile};
use onebit_models::{Model, ModelError};
use onebit_plan::{PlanError, PlanFile};
use onebit_tokenizer::{EncodeOptions, Tokenizer};
use onebitc::schedule::repack::Placement;
use onebitc::{CompileError, Options, Stage, Vulkan};

/// Compile GGUF language models ahead of time to .plan files for onebit-rt.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compile a model to a plan.
    Compile(CompileArgs),
    /// Print a model's IR at one stage of the compiler.
    Dump(DumpArgs),
    /// Print what a plan holds.
    Inspect {
        /// The plan.
        plan: PathBuf,
    },
    /// Tokenize standard input with a model's vocabulary; ids go to standard output.
    Tokenize(TokenizeArgs),
}

#[derive(Args)]
struct CompileArgs {
    /// The model, a .gguf file.
    model: PathBuf,
    /// The plan to write.
    #[arg(short, long)]
    output: PathBuf,
    #[command(flatten)]
    shape: ShapeArgs,
    /// Threads that pack weights; all cores when not given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Also write graph.oir, fused.oir and schedule.txt to this folder.
    #[arg(long, value_name = "DIR")]
    emit: Option<PathBuf>,
}

#[derive(Args)]
struct ShapeArgs {
    /// Rows of the largest step, and slots of the cache (1 to 32).
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Positions a slot holds; the model's own up to 8192 when not given.
    #[arg(long)]
    ctx: Option<usize>,
    /// Machine to compile for: host, strix-halo (products also for its neural processor),
    /// x86_64 or aarch64.
    #[arg(long, default_value = "host")]
    target: String,
    /// Leave out the part for Vulkan devices.
    #[arg(long)]
    no_gpu: bool,
}

#[derive(Args)]
struct DumpArgs {
    /// The model, a .gguf file.
    model: PathBuf,
    /// What to print.
    #[arg(long, value_enum, default_value = "fused")]
    stage: StageArg,
    #[command(flatten)]
    shape: ShapeArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum StageArg {
    /// The graph as built from the model.
    Graph,
    /// The graph after all passes.
    Fused,
    /// The steps of each entry with their buffers and barriers.
    Schedule,
}

#[derive(Args)]
struct TokenizeArgs {
    /// The model, a .gguf file; a vocabulary alone is enough.
    model: PathBuf,
    /// Leave out the token that starts a text.
    #[arg(long)]
    no_bos: bool,
    /// Read the names of special tokens as plain text.
    #[arg(long)]
    no_special: bool,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Compile(args) => compile(&args),
        Command::Dump(args) => dump(&args),
        Command::Inspect { plan } => inspect(&plan),
        Command::Tokenize(args) => tokenize(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::ClosedPipe) => ExitCode::SUCCESS,
        Err(Failure::Error { message, help }) => {
            eprintln!("error: {message}");
            if let Some(help) = help {
                eprintln!("help: {help}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Why a command ends early.
enum Failure {
    /// The reader of our output has gone; nothing is wrong.
    ClosedPipe,
    Error {
        message: String,
        help: Option<String>,
    },
}

impl Failure {
    fn new(message: impl ToString) -> Self {
        Self::Error { message: message.to_string(), help: None }
    }
}

impl From<CompileError> for Failure {
    fn from(error: CompileError) -> Self {
        match error {
            CompileError::Plan(error) => error.into(),
            error => Self::new(error),
        }
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        Self::Error { message: error.to_string(), help: Some(error.help()) }
    }
}

/// Opens a model; what is wrong inside the file is said with the file's name.
fn open_model(path: &Path) -> Result<Model, Failure> {
    Model::open(path).map_err(|error| match error {
        ModelError::Gguf(GgufError::Open { .. }) => Failure::new(error),
        error => Failure::new(format!("{}: {error}", path.display())),
    })
}

fn compile(args: &CompileArgs) -> Result<(), Failure> {
    if let Some(jobs) = args.jobs {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs).build_global();
        pool.map_err(|error| Failure::new(format!("--jobs {jobs}: {error}")))?;
    }
    let model = open_model(&args.model)?;
    let options = args.shape.options();
    if let Some(folder) = &args.emit {
        emit_stages(&model, &options, folder)?;
    }
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("packing weights {wide_bar} {bytes}/{total_bytes}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let mut progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let report = onebitc::compile(&model, &args.model, &args.output, &options, &mut progress)?;
    bar.finish_and_clear();
    let size = std::fs::metadata(&args.output).map_or(0, |meta| meta.len());
    print(&format!("{report}wrote {} ({})\n", args.output.display(), HumanBytes(size)))
}

fn emit_stages(model: &Model, options: &Options, folder: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(format!("cannot write to {}: {error}", folder.display()))
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    for (stage, file) in [
        (Stage::Graph, "graph.oir"),
        (Stage::Fused, "fused.oir"),
        (Stage::Schedule, "schedule.txt"),
    ] {
        let text = onebitc::dump(model, options, stage)?;
        std::fs::write(folder.join(file), text).map_err(failed)?;
    }
    Ok(())
}

fn dump(args: &DumpArgs) -> Result<(), Failure> {
    let model = open_model(&args.model)?;
    let stage = match args.stage {
        StageArg::Graph => Stage::Graph,
        StageArg::Fused => Stage::Fused,
        StageArg::Schedule => Stage::Schedule,
    };
    print(&onebitc::dump(&model, &args.shape.options(), stage)?)
}

fn inspect(path: &Path) -> Result<(), Failure> {
    print(&PlanFile::open(path)?.dump())
}

fn tokenize(args: &TokenizeArgs) -> Result<(), Failure> {
    let file = GgufFile::open(&args.model).map_err(Failure::new)?;
    let spec = onebit_models::tokenizer_spec(&file).map_err(Failure::new)?;
    let table = onebit_tokenizer::build(&spec).map_err(CompileError::from)?;
    let tokenizer = Tokenizer::from_bytes(&table).map_err(Failure::new)?;
    let mut bytes = Vec::new();
    std::io::stdin()
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new(format!("cannot read standard input: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::new(format!("standard input is not UTF-8 at byte {at}; convert it first"))
    })?;
    let options = EncodeOptions { add_special: !args.no_bos, parse_special: !args.no_special };
    let ids: Vec<String> =
        tokenizer.encode(&text, options).iter().map(ToString::to_string).collect();
    print(&format!("{}\n", ids.join(" ")))
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
        _ => Failure::new(format!("cannot write to standard output: {error}")),
    })
}

impl ShapeArgs {
    fn options(&self) -> Options {
        let (architecture, placement) = match self.target.as_str() {
            "host" => (std::env::consts::ARCH, Placement::Cpu),
            "strix-halo" => ("x86_64", Placement::Array),
            other => (other, Placement::Cpu),
        };
        Options {
            batch: self.batch,
            context: self.ctx,
            architecture: architecture.to_owned(),
            placement,
            vulkan: if self.no_gpu { Vulkan::Without } else { Vulkan::WherePossible },
            ..Options::default()
        }
    }
}
