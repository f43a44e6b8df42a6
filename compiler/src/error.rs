//! Why a compile failed.

use std::path::PathBuf;

use thiserror::Error;

use crate::target::machine::Require;

#[derive(Debug, Error)]
pub enum CompileError {
    #[error(transparent)]
    Model(#[from] onebit_models::ModelError),
    #[error(transparent)]
    Gguf(#[from] onebit_models::gguf::GgufError),
    #[error("the vocabulary cannot be laid out: {0}")]
    Tokenizer(#[from] onebit_tokenizer::BuildError),
    #[error(transparent)]
    Plan(#[from] onebit_plan::PlanError),
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("tensor \"{name}\" is missing from the model file; download the file again")]
    MissingTensor { name: String },
    #[error("tensor \"{name}\": {reason}")]
    Tensor { name: String, reason: String },
    #[error("pass {pass}: {reason}")]
    Pass { pass: &'static str, reason: String },
    #[error("{op} ({value}) has no CPU lowering where it stands in this graph")]
    Unsupported { op: &'static str, value: String },
    #[error("layer {layer}: heads of {found} elements; the CPU attention takes at most {limit}")]
    HeadTooWide { layer: u32, found: usize, limit: usize },
    #[error(
        "layer {layer}: heads of {found} elements; --kv q8_0 keeps blocks of 32: compile with --kv f16"
    )]
    HeadBlocks { layer: u32, found: usize },
    #[error("rotary embedding of {dims} elements; the CPU backend needs a multiple of 8")]
    RopeWidth { dims: usize },
    #[error("rows of {width} floats; the CPU backend needs a multiple of 4")]
    RowWidth { width: usize },
    #[error("no code generator for target \"{target}\": {reason}")]
    Target { target: String, reason: String },
    #[error("the neural processor's part: {reason}")]
    Array { reason: String },
    #[error("golden vectors: {reason}")]
    Golden { reason: String },
    #[error("a loop over rows does not fit the GPU: {0}")]
    GpuRows(#[from] onebit_shaders::rows::Unfit),
    #[error("an attention does not fit the GPU: {0}")]
    GpuAttention(#[from] onebit_shaders::attention::AttentionError),
    #[error(transparent)]
    Shader(#[from] onebit_shaders::ShaderError),
    #[error("code generation of {function} failed: {reason}")]
    Codegen { function: String, reason: String },
    #[error("{path}: {source}")]
    Box { path: PathBuf, source: onebit_plan::box_sys::BoxError },
    #[error("--require-target {require}: {reason}")]
    Require { require: Require, reason: String },
    #[error("the code needs CPU features that the box has not: {lacks}")]
    Features { lacks: String },
    #[error("--{option} {value}: {reason}")]
    Option { option: &'static str, value: String, reason: String },
}
