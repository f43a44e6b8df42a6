//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use onebit_plan::abi::CacheForm;
use onebitc::inspect::diff::Section;
use onebitc::target::machine::{Require, Target};
use onebitc::{CompileError, Options, Vulkan};

/// Compile GGUF language models ahead of time to .plan files for onebit-rt.
#[derive(Parser)]
#[command(name = "onebitc", version, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Compile a model to a plan.
    Compile(Compile),
    /// Make a key pair for signing plans; compile does so by itself when there is none.
    Keygen(Keygen),
    /// Sign a plan that exists, which says that you answer for the code in it.
    Sign(Sign),
    /// Print a model's IR at one stage of the compiler.
    Dump(Dump),
    /// Print what a plan holds.
    Inspect(Inspect),
    /// Print what two plans differ in; exit code 0 if in nothing, 1 if in something, 2 on errors.
    Diff(Diff),
    /// Compile a plan again and compare; exit code 0 if all bytes agree, 1 if not, 2 on errors.
    VerifyBuild(VerifyBuild),
    /// Tokenize standard input with a model's vocabulary; ids go to standard output.
    Tokenize(Tokenize),
}

#[derive(Args)]
pub struct Compile {
    /// The model, a .gguf file.
    pub model: PathBuf,
    /// The plan to write.
    #[arg(short, long)]
    pub output: PathBuf,
    #[command(flatten)]
    pub shape: Shape,
    /// Threads that pack weights; all cores when not given.
    #[arg(long)]
    pub jobs: Option<usize>,
    /// Also write graph.oir, fused.oir and schedule.txt to this folder.
    #[arg(long, value_name = "DIR")]
    pub emit: Option<PathBuf>,
    /// Sign with this secret key instead of the machine's own.
    #[arg(long, value_name = "KEY", conflicts_with = "no_sign")]
    pub sign: Option<PathBuf>,
    /// Leave the plan unsigned: no machine runs it unless told to.
    #[arg(long)]
    pub no_sign: bool,
    /// Do not run the plan on this machine's devices before it takes its name.
    #[arg(long)]
    pub no_verify: bool,
    #[command(flatten)]
    pub keys: Keys,
}

/// Where keys lie, the same for all commands that deal with them.
#[derive(Args)]
pub struct Keys {
    /// Folder of keys [default: onebit in the user's folder of configuration]
    #[arg(long, value_name = "DIR")]
    pub keys: Option<PathBuf>,
}

#[derive(Args)]
pub struct Keygen {
    /// File for the secret key, as NAME.key; the public one goes to NAME.pub [default: the machine's
    /// own pair, in the folder of keys]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub keys: Keys,
}

#[derive(Args)]
pub struct Sign {
    /// The plan.
    pub plan: PathBuf,
    /// Secret key, of onebitc or of `minisign -G -W` [default: the machine's own]
    #[arg(long, value_name = "KEY")]
    pub key: Option<PathBuf>,
    /// Write the signed plan here [default: in place of the other]
    #[arg(short, long, value_name = "PLAN")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub keys: Keys,
}

/// What a plan is made for, the same for all commands that lower a model.
#[derive(Args)]
pub struct Shape {
    /// Rows of the largest step, and slots of the cache (1 to 32).
    #[arg(long, default_value_t = 32)]
    pub batch: usize,
    /// Positions a slot holds; the model's own up to 8192 when not given.
    #[arg(long)]
    pub ctx: Option<usize>,
    /// How the cache keeps keys and values.
    #[arg(long, value_enum, default_value = "f16")]
    pub kv: CacheName,
    /// Machine to compile for: host, strix-halo (products also for its neural processor),
    /// x86_64, aarch64, or a description of it that `onebit-rt probe` made.
    #[arg(long, default_value = "host", value_name = "NAME|BOX.SYS")]
    pub target: String,
    /// Fail where the plan could not run there: all products on the npu, whole steps on the gpu,
    /// or products for the cpu.
    #[arg(long, value_enum, value_name = "PLACE")]
    pub require_target: Option<Place>,
    /// Leave out the part for Vulkan devices.
    #[arg(long)]
    pub no_gpu: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum CacheName {
    /// 16-bit floats.
    #[value(name = "f16")]
    F16,
    /// 8-bit codes with a scale for 32: about half the memory.
    #[value(name = "q8_0")]
    Q8,
}

/// Where a plan must be able to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Place {
    /// All products on the neural processor.
    Npu,
    /// Whole steps on a Vulkan device.
    Gpu,
    /// Products in the form that suits the processor.
    Cpu,
}

#[derive(Args)]
pub struct Dump {
    /// The model, a .gguf file.
    pub model: PathBuf,
    /// What to print.
    #[arg(long, value_enum, default_value = "fused")]
    pub stage: StageName,
    #[command(flatten)]
    pub shape: Shape,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum StageName {
    /// The graph as built from the model.
    Graph,
    /// The graph after all passes.
    Fused,
    /// The steps of each entry with their buffers and barriers.
    Schedule,
}

#[derive(Args)]
pub struct Inspect {
    /// The plan.
    pub plan: PathBuf,
    /// Print all of it as JSON.
    #[arg(long, conflicts_with_all = ["listing", "dot", "html"])]
    pub json: bool,
    /// Print the code of a region, or of `all`; can be given several times.
    #[arg(long, value_name = "REGION", conflicts_with_all = ["dot", "html"])]
    pub listing: Vec<String>,
    /// Print the regions as a graph in the language of Graphviz.
    #[arg(long, conflicts_with = "html")]
    pub dot: bool,
    /// Write one page of HTML that needs nothing else.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    #[command(flatten)]
    pub keys: Keys,
}

#[derive(Args)]
pub struct Diff {
    /// The first plan.
    pub a: PathBuf,
    /// The second.
    pub b: PathBuf,
    /// Print all differences as JSON.
    #[arg(long)]
    pub json: bool,
    /// Leave out a section, such as provenance, segments or weights; can be given several times.
    #[arg(long, value_name = "SECTION", value_parser = section)]
    pub ignore: Vec<Section>,
    /// Differences of a section that the text has at most.
    #[arg(long, default_value_t = 20)]
    pub most: usize,
}

#[derive(Args)]
pub struct VerifyBuild {
    /// The plan.
    pub plan: PathBuf,
    /// The model that it was made from, a .gguf file.
    pub model: PathBuf,
    /// Folder for the second plan, as large as the first; that of the plan when not given.
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Description of the machine that the plan was made for, where it was made for one.
    #[arg(long = "box", value_name = "BOX.SYS")]
    pub machine: Option<PathBuf>,
}

fn section(name: &str) -> Result<Section, String> {
    let found = Section::ALL.into_iter().find(|(_, known)| *known == name);
    found.map(|(section, _)| section).ok_or_else(|| {
        let names = Section::ALL.map(|(_, name)| name);
        format!("there are {}", names.join(", "))
    })
}

#[derive(Args)]
pub struct Tokenize {
    /// The model, a .gguf file; a vocabulary alone is enough.
    pub model: PathBuf,
    /// Leave out the token that starts a text.
    #[arg(long)]
    pub no_bos: bool,
    /// Read the names of special tokens as plain text.
    #[arg(long)]
    pub no_special: bool,
}

impl Shape {
    /// The compiler's options for what was typed.
    ///
    /// # Errors
    /// A description that cannot be read; a place that the target does not have.
    pub fn options(&self) -> Result<Options, CompileError> {
        let options = Options {
            batch: self.batch,
            context: self.ctx,
            kv: match self.kv {
                CacheName::F16 => CacheForm::F16,
                CacheName::Q8 => CacheForm::Q8,
            },
            vulkan: if self.no_gpu { Vulkan::Without } else { Vulkan::WherePossible },
            ..Options::default()
        };
        options.for_target(Target::parse(&self.target)?, self.require_target.map(Place::require))
    }
}

impl Place {
    fn require(self) -> Require {
        match self {
            Self::Npu => Require::Npu,
            Self::Gpu => Require::Gpu,
            Self::Cpu => Require::Cpu,
        }
    }
}
