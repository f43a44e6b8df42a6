//! What can be typed.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Runs language models that onebitc compiled.
#[derive(Parser)]
#[command(name = "onebit-rt", version, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Continue prompts, printing tokens as they come
    Run(Run),
    /// Measure prompt, decode and batch speed; figures are printed only for checked tokens
    Bench(Bench),
    /// Perplexity of a text file, by the method of llama.cpp's llama-perplexity
    Perplexity(Perplexity),
    /// Write the logits of a token sequence as a NumPy file
    Logits(Logits),
    /// Token ids of the text on standard input, on one line
    Tokenize(Tokenize),
    /// Measure a step piece by piece: dispatches of a Vulkan device, regions of the processor
    Profile(Profile),
    /// Check that a plan computes here what its compiler said: hashes, integer sums, and the values
    /// of a short text on each device; exit code 3 and the first node of the graph that differs if not
    Verify(Verify),
    /// Say whose plans may run on this machine
    Trust(Trust),
    /// Tell, from its header alone, whether a plan runs here: exit code 0 if it does, 3 if slower
    /// than it could, 4 if it cannot
    Check(Check),
    /// Describe this machine for `onebitc compile --target box.sys`, on standard output
    Probe(Probe),
    /// Tell what this machine has of what plans need; exit code 0 if they run on its CPU
    Doctor(Doctor),
}

/// Where steps run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// The processor
    Cpu,
    /// The processor, and AMD's neural processor for the products of a plan made for it
    Npu,
    /// As npu, on an emulated array, in programs built with the feature npu-emu: seconds a step
    /// for a model of 100 million weights
    NpuEmu,
    /// A graphics processor, by Vulkan, for whole steps of a plan made for it
    Vulkan,
}

/// Where to run what the device of choice cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fallback {
    /// The processor
    Cpu,
}

/// Whether a graphics processor's matrix units multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Matrices {
    /// Where the device has them and a trial at load shows that they are right, for steps of more
    /// than 8 tokens: in half precision, so that a sequence's logits depend a little on how many others share its steps
    Auto,
    /// A sequence gives the same logits, bit for bit, alone and among others
    Never,
}

/// Plan and machine, the same for all commands that run steps.
#[derive(Args)]
pub struct Machine {
    /// Plan made by `onebitc compile`
    pub plan: PathBuf,
    /// Threads [default: one for each physical core]
    #[arg(short, long)]
    pub threads: Option<NonZeroUsize>,
    /// Where to run
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    pub device: Device,
    /// Vulkan device, by its number in `onebit-rt doctor` or a part of its name [default: a card
    /// before a part of the processor, that before software]
    #[arg(long, value_name = "NAME|INDEX")]
    pub gpu: Option<String>,
    /// Where to run when the Vulkan device cannot, which is then said [default: nowhere]
    #[arg(long, value_enum)]
    pub fallback: Option<Fallback>,
    /// Whether the Vulkan device's matrix units multiply [default: auto]
    #[arg(long, value_enum)]
    pub matrices: Option<Matrices>,
    #[command(flatten)]
    pub keys: Keys,
    /// Run the plan's code though no trusted key signed it
    #[arg(long)]
    pub allow_untrusted: bool,
    /// Hash the weights before the first step, which reads the whole file
    #[arg(long)]
    pub check_weights: bool,
}

/// Where keys lie, the same for all commands that ask whom to trust.
#[derive(Args)]
pub struct Keys {
    /// Folder of keys [default: onebit in the user's folder of configuration]
    #[arg(long, global = true, value_name = "DIR")]
    pub keys: Option<PathBuf>,
}

#[derive(Args)]
pub struct Trust {
    #[command(subcommand)]
    pub action: TrustAction,
    #[command(flatten)]
    pub keys: Keys,
}

#[derive(Subcommand)]
pub enum TrustAction {
    /// Trust a key: its plans run from now on
    Add {
        /// Public key, as a file or as the line in it that begins with RW
        #[arg(value_name = "KEYFILE|BASE64")]
        key: String,
    },
    /// List the trusted keys
    List,
    /// Trust a key no more
    Remove {
        /// Its id, 16 digits
        id: String,
    },
}

#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    pub machine: Machine,
    /// Prompt; may be given several times [default: standard input]
    #[arg(short, long, value_name = "TEXT")]
    pub prompt: Vec<String>,
    /// File with one prompt a line
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub prompts: Option<PathBuf>,
    /// Most new tokens for each prompt [default: to the end of the text or of the context]
    #[arg(short, long, value_name = "N")]
    pub n_predict: Option<usize>,
    /// Answer N prompts at once; one prompt is answered N times with successive seeds
    #[arg(long, value_name = "N")]
    pub parallel: Option<NonZeroU32>,
    /// Wrap each prompt as a user's message in the model's chat template
    #[arg(long)]
    pub chat: bool,
    /// System message for --chat
    #[arg(long, value_name = "TEXT", requires = "chat")]
    pub system: Option<String>,
    #[command(flatten)]
    pub sampling: SamplingOptions,
    /// Print no statistics on standard error
    #[arg(long)]
    pub no_stats: bool,
}

#[derive(Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingOptions {
    /// Temperature; 0 always takes the most likely token
    #[arg(long, default_value_t = 0.8, value_name = "T", allow_negative_numbers = true)]
    pub temp: f32,
    /// Keep the K most likely tokens; 0 keeps all
    #[arg(long, default_value_t = 40, value_name = "K")]
    pub top_k: u32,
    /// Keep the most likely tokens that together reach probability P; 1 keeps all
    #[arg(long, default_value_t = 0.95, value_name = "P", allow_negative_numbers = true)]
    pub top_p: f32,
    /// Keep tokens at least P times as likely as the most likely one; 0 keeps all
    #[arg(long, default_value_t = 0.05, value_name = "P", allow_negative_numbers = true)]
    pub min_p: f32,
    /// Make recent tokens less likely by this factor; 1 is off
    #[arg(long, default_value_t = 1.0, value_name = "X", allow_negative_numbers = true)]
    pub repeat_penalty: f32,
    /// How many recent tokens the penalty sees
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub repeat_last_n: u32,
    /// Start of the random sequence [default: from the clock]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

#[derive(Args)]
pub struct Bench {
    #[command(flatten)]
    pub machine: Machine,
    /// Tokens of the prompt test; 0 leaves it out
    #[arg(short = 'p', long, default_value_t = 512, value_name = "N")]
    pub n_prompt: usize,
    /// Tokens that the decode tests generate for each sequence; 0 leaves them out
    #[arg(short = 'n', long, default_value_t = 128, value_name = "N")]
    pub n_gen: usize,
    /// Sequences of the batch test; 0 leaves it out
    #[arg(short, long, default_value_t = 32, value_name = "N")]
    pub batch: u32,
    /// Runs of each test, after one that warms up
    #[arg(short, long, default_value = "5", value_name = "N")]
    pub repetitions: NonZeroUsize,
    /// Print JSON with llama-bench's field names
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct Perplexity {
    #[command(flatten)]
    pub machine: Machine,
    /// Text file in UTF-8
    pub file: PathBuf,
    /// Tokens of a chunk
    #[arg(long, default_value = "512", value_name = "N",
        value_parser = RangedU64ValueParser::<usize>::new().range(4..))]
    pub ctx: usize,
}

#[derive(Args)]
pub struct Logits {
    #[command(flatten)]
    pub machine: Machine,
    /// Token ids, separated by commas
    #[arg(long, required = true, value_delimiter = ',', value_name = "IDS")]
    pub tokens: Vec<u32>,
    /// File to write: f32, one row for each position, one column for each token of the vocabulary
    #[arg(short, long, value_name = "FILE.npy")]
    pub output: PathBuf,
}

#[derive(Args)]
pub struct Profile {
    #[command(flatten)]
    pub machine: Machine,
    /// Rows of the step, one token each of as many sequences
    #[arg(long, default_value = "1", value_name = "N")]
    pub rows: NonZeroU32,
    /// Tokens that each sequence holds already
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub depth: u32,
    /// Timed runs, after one that warms up; figures are medians [default: 20; 1 with npu-emu]
    #[arg(short, long, value_name = "N")]
    pub repetitions: Option<NonZeroUsize>,
    /// Also write the run of median length as a trace that Perfetto and chrome://tracing open
    #[arg(long, value_name = "FILE.json")]
    pub trace: Option<PathBuf>,
    /// Print JSON, with every piece
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct Verify {
    /// Plan made by `onebitc compile`
    pub plan: PathBuf,
    /// Where to run the steps; may be given several times [default: the processor, all Vulkan
    /// devices that can run the plan, and a neural processor if the plan is made for one]
    #[arg(long, value_enum)]
    pub device: Vec<Device>,
    /// Vulkan device, by its number in `onebit-rt doctor` or a part of its name
    #[arg(long, value_name = "NAME|INDEX")]
    pub gpu: Option<String>,
    /// Leave out Vulkan devices made of software, unless one is asked for
    #[arg(long)]
    pub hardware: bool,
    /// Threads [default: one for each physical core]
    #[arg(short, long)]
    pub threads: Option<NonZeroUsize>,
    #[command(flatten)]
    pub keys: Keys,
    /// Run the plan's code though no trusted key signed it
    #[arg(long)]
    pub allow_untrusted: bool,
}

#[derive(Args)]
pub struct Check {
    /// Plan made by `onebitc compile`
    pub plan: PathBuf,
    /// Positions that each sequence will have [default: the plan's]
    #[arg(long, value_name = "N")]
    pub ctx: Option<NonZeroU32>,
    /// Sequences at once
    #[arg(long, default_value = "1", value_name = "N")]
    pub slots: NonZeroU32,
    /// Threads [default: one for each physical core]
    #[arg(short, long)]
    pub threads: Option<NonZeroUsize>,
    /// Where to run; the best counts [default: cpu, vulkan and npu]
    #[arg(long, value_enum)]
    pub device: Option<Device>,
    /// Vulkan device, by its number in `onebit-rt doctor` or a part of its name [default: the one
    /// that run takes]
    #[arg(long, value_name = "NAME|INDEX")]
    pub gpu: Option<String>,
    /// Whether the Vulkan device's matrix units multiply [default: auto]
    #[arg(long, value_enum)]
    pub matrices: Option<Matrices>,
    #[command(flatten)]
    pub keys: Keys,
    /// Do not ask who signed the plan
    #[arg(long)]
    pub allow_untrusted: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct Probe {
    /// Do not measure how fast memory is read, which takes seconds and 256 MiB a core
    #[arg(long)]
    pub no_measure: bool,
}

#[derive(Args)]
pub struct Doctor {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct Tokenize {
    /// Plan made by `onebitc compile`
    pub plan: PathBuf,
    /// Do not add the tokens that begin and end a text
    #[arg(long)]
    pub no_bos: bool,
    /// Read markers such as <|im_end|> as plain text
    #[arg(long)]
    pub no_special: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
