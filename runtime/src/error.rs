//! What can go wrong between a plan and its tokens, with the remedy.

use std::io;

use onebit_plan::PlanError;
use onebit_plan::abi::StorageClass;
use onebit_plan::trust::TrustError;

use crate::driver::npu::NpuError;
use crate::driver::vulkan::GpuError;

/// Any failure of the runtime. [`Error::help`] says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The plan file itself.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Whose plan it is.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The NPU, or the way to it.
    #[error(transparent)]
    Npu(#[from] NpuError),
    /// The Vulkan device, or the way to it.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// The plan needs something that this machine has not.
    #[error("the plan needs {needs}, this machine has {has}")]
    Requirement { needs: String, has: String, remedy: String },
    /// A neural processor was asked for, and the plan has nothing for it.
    #[error("the plan has no products for a neural processor")]
    NoArrayProducts,
    /// The plan's code and its manifest do not agree.
    #[error("array product {index} is not what the plan's manifest says of it")]
    ArrayProduct { index: u32 },
    /// The system hides what was asked.
    #[error("the system does not tell {what}")]
    Unknown { what: &'static str },
    /// What was measured is not what was to be measured.
    #[error("the measurement of {what} read something else than was written")]
    Measurement { what: &'static str },
    /// Regions were to be traced, and the plan has no code for that.
    #[error("the plan has no traced entries")]
    NotTraced,
    /// A weight whose record and bytes do not agree.
    #[error("weight \"{weight}\": {rows} rows of {columns} do not fit its bytes as {class:?}")]
    WeightShape { weight: String, class: StorageClass, rows: u32, columns: u32 },
    /// The system gave no memory.
    #[error("cannot get {bytes} bytes for the {what}: {source}")]
    Memory { what: &'static str, bytes: u64, source: io::Error },
    /// The team of threads could not be started.
    #[error("cannot start {threads} threads: {reason}")]
    Threads { threads: usize, reason: String },
    /// The tokenizer segment does not hold a tokenizer of this release.
    #[error("the plan's tokenizer: {reason}")]
    Tokenizer { reason: String },
    /// A step with no row or more rows than the plan has an entry for.
    #[error("a step of {rows} rows: the plan has entries for 1..={max_rows}")]
    Rows { rows: usize, max_rows: usize },
    /// A token that the model does not have.
    #[error("token {token} is outside the vocabulary of {vocabulary}")]
    Token { token: u32, vocabulary: u32 },
    /// A slot that was not allocated or not opened.
    #[error("slot {slot} is not one of the {slots} that are open to this session")]
    Slot { slot: u32, slots: u32 },
    /// All slots are in use.
    #[error("all {slots} slots are in use")]
    NoSlot { slots: u32 },
    /// The slot's cache cannot hold the tokens.
    #[error("context full: {held} + {adding} tokens do not fit the plan's context of {context}")]
    ContextFull { held: u32, adding: usize, context: u32 },
    /// Rows of one slot that do not follow each other.
    #[error("slot {slot}: expected position {expected}, found {found}")]
    Position { slot: u32, expected: u32, found: u32 },
    /// A logits buffer of the wrong size.
    #[error("a logits buffer of {found} floats, expected {expected}")]
    Logits { expected: usize, found: usize },
    /// Room for too few tokens, or rows without outputs.
    #[error("room for {found} tokens ahead, expected {expected}, all of rows with outputs")]
    Picks { expected: usize, found: usize },
    /// Sampling where the last step gave no logits.
    #[error("slot {slot} has no logits: its last token was not in the last step")]
    NoLogits { slot: u32 },
    /// The model's arithmetic left the range of floats.
    #[error("slot {slot}: the logit of token {token} is not a number")]
    NotFinite { slot: u32, token: u32 },
    /// A prompt without a token.
    #[error("prompt {index} is empty")]
    EmptyPrompt { index: usize },
    /// A sampling option outside its range.
    #[error("{option} is {found}, expected {expected}")]
    Sampling { option: &'static str, found: String, expected: &'static str },
}

impl Error {
    /// What the person at the terminal can do: one sentence without a final full stop.
    pub fn help(&self) -> String {
        match self {
            Self::Plan(error) => error.help(),
            Self::Trust(error) => error.help(),
            Self::Npu(error) => error.help(),
            Self::Gpu(error) => error.help(),
            Self::Requirement { remedy, .. } => remedy.clone(),
            Self::NoArrayProducts => {
                "compile the GGUF with `--target strix-halo`, or run with `--device cpu`".into()
            }
            Self::ArrayProduct { .. } | Self::WeightShape { .. } => "compile the GGUF again".into(),
            Self::Tokenizer { .. } => {
                "use onebitc and onebit-rt of the same release: compile the GGUF again".into()
            }
            Self::Memory { .. } => {
                "close other programs, or compile with a smaller `--ctx` or `--batch`".into()
            }
            Self::Unknown { .. } => "see that /proc and /sys are there, as in a container".into(),
            Self::Measurement { .. } => {
                "run it again; if that fails, too, test the machine's memory".into()
            }
            Self::Threads { .. } => "ask for fewer with `-t`".into(),
            Self::ContextFull { .. } => {
                "shorten the prompt, or compile with a larger `--ctx`".into()
            }
            Self::EmptyPrompt { .. } => "give some text with `-p` or on standard input".into(),
            Self::NotTraced => "compile the model again with this release's onebitc".into(),
            Self::Sampling { .. } => "see `onebit-rt run --help`".into(),
            Self::NotFinite { .. } => {
                "check the plan with `onebit-rt perplexity`; compile the GGUF again if it is off"
                    .into()
            }
            Self::NoSlot { .. } => "release a slot first".into(),
            Self::Rows { .. }
            | Self::Token { .. }
            | Self::Slot { .. }
            | Self::Position { .. }
            | Self::Logits { .. }
            | Self::Picks { .. }
            | Self::NoLogits { .. } => "see the contract of onebit_rt::driver::Driver".into(),
        }
    }
}
