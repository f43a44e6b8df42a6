//! What a plan says about itself: metadata only, every byte of bulk data sits in a segment.

use serde::{Deserialize, Serialize};

use crate::abi::{ArrayRole, CacheForm, KernelId, StorageClass};
use crate::gpu::GpuPlan;

/// The bincode-encoded description of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub provenance: Provenance,
    pub model: ModelInfo,
    pub requirements: Vec<Requirement>,
    /// In file order; offsets ascend.
    pub segments: Vec<Segment>,
    pub memory: Memory,
    pub entries: Vec<Entry>,
    /// Row loops that the entries call.
    pub functions: Vec<Function>,
    /// None, or for each entry, in their order, its twin.
    pub traced: Vec<TracedEntry>,
    /// Kernels that the code calls; the runtime refuses a plan that names one it lacks.
    pub kernels: Vec<KernelId>,
    /// What runs where and reads what, for reports and profiles; in execution order.
    pub regions: Vec<Region>,
    pub weights: Vec<WeightRecord>,
    /// Products that a neural processor can do.
    pub array: Option<ArrayPlan>,
    /// Whole steps that a Vulkan device can do.
    pub gpu: Option<GpuPlan>,
}

/// Where the plan came from. Two compiles of one source with the same options agree in all of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Version of onebitc.
    pub tool: String,
    /// File name of the GGUF, without its folder.
    pub source: String,
    /// BLAKE3 of the whole GGUF.
    pub source_hash: [u8; 32],
    /// Options that change the plan's bytes, as `name=value`, sorted.
    pub options: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    pub name: String,
    /// For people only; nothing in the runtime looks at it.
    pub architecture: String,
    pub parameters: u64,
    pub vocabulary: u32,
    /// Positions that a slot of the cache holds.
    pub context: u32,
    /// Positions the model was trained for.
    pub trained_context: u32,
    pub layers: u32,
}

/// Something the receiving machine must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Requirement {
    /// Instruction set of the code segment: `x86_64` or `aarch64`.
    Architecture(String),
    /// A CPU feature by its `std::is_x86_feature_detected!` name.
    CpuFeature(String),
    /// Bytes for scratch and one cache slot at the plan's context.
    Memory(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SegmentKind {
    /// Packed weights; [`crate::abi::StepContext::weights`] points at its start.
    Weights,
    /// Native code and its constants, mapped read + execute.
    CpuCode,
    /// `onebit-tokenizer` table, chat template included.
    Tokenizer,
    /// xclbin that configures a neural processor's array for all products of the plan.
    ArrayConfiguration,
    /// Instruction streams of the array, one for each [`ArrayCall`].
    ArrayCalls,
    /// SPIR-V modules, see [`crate::gpu::GpuModule`].
    Shaders,
    /// What the plan must compute, see [`crate::golden::Golden`].
    Golden,
}

/// A page-aligned run of bytes in the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    pub kind: SegmentKind,
    /// Bytes from the start of the file, a multiple of 4096.
    pub offset: u64,
    pub length: u64,
    pub hash: [u8; 32],
}

/// Buffers the runtime allocates at load. Bytes, multiples of 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    pub arena: u64,
    /// Per thread.
    pub private: u64,
    /// Cache bytes of one slot.
    pub slot: u64,
    /// Slots the plan was compiled for; the runtime may allocate fewer.
    pub slots: u32,
    /// How slots keep keys and values. Code and shaders have it built in; this is for whoever
    /// judges what they compute.
    pub cache: CacheForm,
}

/// A step program. The runtime takes the entry with the smallest `max_rows` that fits a step.
///
/// Only offset and rows are needed to run it; the rest says which bytes of code and of scratch
/// belong to which region, for whoever looks into a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub name: String,
    /// Bytes from the start of the code segment.
    pub offset: u64,
    pub max_rows: u32,
    /// Bytes of its code.
    pub length: u64,
    /// One for each region, in their order, or none.
    pub steps: Vec<EntryStep>,
    /// Code of the steps: ascending and apart. What lies between belongs to none or to several.
    pub ranges: Vec<CodeRange>,
    pub buffers: Vec<BufferRecord>,
}

/// How an entry runs a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryStep {
    /// Whether the team waits before it.
    pub wait: bool,
    /// The row loop that it calls, an index into [`Manifest::functions`].
    pub function: Option<u32>,
}

/// Bytes of an entry's code that belong to one region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeRange {
    /// From the entry's start.
    pub start: u32,
    pub end: u32,
    /// Index into [`Manifest::regions`].
    pub region: u32,
}

/// Scratch that an entry's steps use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BufferRecord {
    /// What it holds; together with the region `first`, which fills it, a unique name.
    pub name: String,
    pub scope: BufferScope,
    /// Bytes from the start of the arena or of the thread's own memory.
    pub offset: u64,
    pub bytes: u64,
    /// First and last region that touch it.
    pub first: u32,
    pub last: u32,
}

/// Where scratch lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BufferScope {
    /// In the arena, which all threads see.
    Shared,
    /// In each thread's own memory.
    Private,
}

/// Compiled code of a row loop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// The region that it was made for; others may call it, too.
    pub name: String,
    /// Bytes from the start of the code segment.
    pub offset: u64,
    pub length: u64,
}

/// A twin of an [`Entry`] for measuring and checking: the same steps in the same order, with a
/// barrier and a call of [`crate::abi::TraceFn`] after each. Gives the same bits, more slowly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedEntry {
    pub name: String,
    /// Bytes from the start of the code segment.
    pub offset: u64,
    pub max_rows: u32,
    /// By the number that the code gives to [`crate::abi::TraceFn`].
    pub steps: Vec<TracedStep>,
}

/// One step of a traced entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedStep {
    /// Index among the regions.
    pub region: u32,
    /// Values of the IR that the step leaves in memory, all of it: not what a loop keeps in
    /// registers, nor quantised activations, nor logits.
    pub taps: Vec<Tap>,
}

/// A value of the IR as `f32[rows][columns]` in memory, without gaps between rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tap {
    /// `%57`, as the graph after all passes prints it.
    pub value: String,
    /// The operation that makes it: `linear`.
    pub op: String,
    pub scratch: Scratch,
    /// Bytes from the start of that memory, a multiple of 64.
    pub offset: u64,
    /// Floats of a row, heads together.
    pub columns: u32,
    pub rows: TapRows,
}

/// Which memory a tapped value stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scratch {
    /// [`crate::abi::StepContext::arena`].
    Arena,
    /// [`crate::abi::StepContext::private`]: every thread has all rows.
    Private,
}

/// Which rows of the step a tapped value has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TapRows {
    All,
    /// Rows whose logits are wanted, in their order.
    Outputs,
}

/// One dispatch of the step program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// `@blk.0.attn_in`; unique in the plan.
    pub name: String,
    /// `cpu` or `npu`. What a Vulkan device does of it, [`Manifest::gpu`] says.
    pub target: String,
    /// Names of the IR ops it runs.
    pub ops: Vec<String>,
    /// Weight bytes read by one step.
    pub weight_bytes: u64,
    /// Multiply-accumulates per row.
    pub macs: u64,
    /// Regions before it whose results it reads: indices, ascending.
    pub reads: Vec<u32>,
}

/// One packed weight tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeightRecord {
    /// Source tensors, stacked by rows.
    pub tensors: Vec<String>,
    /// Block format in the GGUF, e.g. `q4_1`.
    pub format: String,
    pub class: StorageClass,
    pub rows: u32,
    pub columns: u32,
    /// Bytes from the start of the weight segment.
    pub offset: u64,
    pub bytes: u64,
}

/// What a neural processor does of the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArrayPlan {
    /// One for each shape of a product.
    pub calls: Vec<ArrayCall>,
    /// By [`crate::abi::ArrayProduct::index`].
    pub products: Vec<ArrayWeights>,
    /// What is submitted at once, in the order of the products.
    pub groups: Vec<ArrayGroup>,
    /// Modelled seconds that the calls of a group take together at most, unless it is one call.
    pub group_seconds: f64,
}

/// One submission: consecutive products of one stack of weights, which read the same activations; or a
/// gate and the product that reads its codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrayGroup {
    /// Index among the products.
    pub first: u32,
    /// How many there are.
    pub count: u32,
}

/// The instruction stream of products of one shape, for 32 rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArrayCall {
    /// Bytes from the start of the segment of instruction streams.
    pub offset: u64,
    pub length: u64,
    /// Bytes of each buffer: packed activations, packed weights, packed results.
    pub activations: u64,
    pub weights: u64,
    pub results: u64,
    /// Seconds of one call by the compiler's cost model; never measured.
    pub modelled_seconds: f64,
    /// Seconds that the machine's memory alone would take by the same model.
    pub modelled_bound: f64,
}

/// A matrix in the form that the array reads, see [`crate::abi::ArrayProduct`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArrayWeights {
    /// Source tensors, stacked by rows.
    pub tensors: Vec<String>,
    /// Block formats in the GGUF, without repetition: `q4_k + q6_k`.
    pub format: String,
    /// Where its rows begin in the stack: 0 but for a stack that takes several calls.
    pub first_row: u32,
    pub rows: u32,
    pub columns: u32,
    /// k that share a scale; the last of several groups may be shorter.
    pub group: u32,
    /// What becomes of its sums, and where its activations are from.
    pub role: ArrayRole,
    /// Index among the calls.
    pub call: u32,
    /// Bytes from the start of the weight segment.
    pub offset: u64,
    pub bytes: u64,
    /// Root of the mean square of what rounding to int8 changed, relative to that of the weights.
    pub rounding: f32,
    /// Expected |error| of an output, for activations of mean square 1: what the roundings of
    /// weights and activations change, averaged over outputs. The formula stands in
    /// docs/npu-gemm.md.
    pub expected_error: f32,
}
