//! The contract between the Vulkan part of a plan and the runtime that dispatches it.
//!
//! An entry is a list of dispatches, recorded once and submitted for every step. Nothing in it
//! depends on a device: modules say what they need, and the runtime takes the first that fits.
//! Everything that changes from step to step stands in the *step buffer*, which the host fills
//! and the last dispatch advances by one token, so that an entry can be submitted several times
//! without a look at its results.
//!
//! Weights are the same bytes that the CPU's kernels read, in the layouts of [`crate::layout`].

use serde::{Deserialize, Serialize};

use crate::manifest::Tap;

/// Rows of the largest GPU entry.
pub const GPU_ROWS: usize = 32;
/// Steps that can be submitted before their tokens are read.
pub const GPU_AHEAD: usize = 16;
/// Bytes of immediates (push constants) that every Vulkan device has.
pub const IMMEDIATE_BYTES: usize = 128;
/// Offsets of windows into buffers are multiples of this many bytes, the most that Vulkan lets a
/// device ask for.
pub const WINDOW_ALIGN: u64 = 256;

/// What a Vulkan device does of the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GpuPlan {
    pub kernels: Vec<GpuKernel>,
    /// Ascending by `max_rows`; of several with equal rows the runtime takes the first that fits.
    pub entries: Vec<GpuEntry>,
    /// Bytes of the arena, a multiple of [`WINDOW_ALIGN`]. The largest of all entries.
    pub arena: u64,
    /// Bytes of one slot of the key/value cache, all layers, a multiple of [`WINDOW_ALIGN`].
    pub slot: u64,
    /// Rotation tables, by the index in [`GpuBuffer::Rope`].
    pub tables: Vec<GpuRopeTable>,
}

/// A compute kernel in all its forms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GpuKernel {
    /// `product-q4d-576x576-m1`; unique in the plan.
    pub name: String,
    /// In order of preference. All compute the same.
    pub modules: Vec<GpuModule>,
    /// Storage-buffer bindings of descriptor set 0 that the kernel has, ascending; see [`binding`].
    pub bindings: Vec<GpuSlot>,
    /// Bytes of immediates, a multiple of 4 up to [`IMMEDIATE_BYTES`].
    pub immediates: u32,
    /// Invocations of a workgroup: `[x, 1, 1]`.
    pub workgroup: u32,
}

/// One binding of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuSlot {
    pub binding: u32,
    pub writes: bool,
}

/// A SPIR-V module with the entry point `main`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GpuModule {
    /// Bytes from the start of the segment of shaders, a multiple of 4.
    pub offset: u64,
    pub length: u64,
    /// Subgroup size to ask for; `None` takes the device's own.
    pub subgroup: Option<u32>,
    /// Bytes that a workgroup shares, at most.
    pub shared: u32,
    /// What the device must have, besides Vulkan 1.3 with subgroup basic, vote, arithmetic, ballot
    /// and shuffle operations in compute shaders; sorted.
    pub features: Vec<GpuFeature>,
}

/// What a module may need of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum GpuFeature {
    /// `shaderIntegerDotProduct`
    IntegerDot,
    /// `shaderFloat16`
    Float16,
    /// `storageBuffer16BitAccess` and `uniformAndStorageBuffer16BitAccess`
    Storage16,
    /// `shaderInt8`
    Int8,
    /// `vulkanMemoryModel` and `vulkanMemoryModelDeviceScope`
    MemoryModel,
    /// `VK_KHR_cooperative_matrix` with 16x16x16 f16 x f16 + f32 in subgroup scope
    CooperativeF16,
    /// `VK_KHR_cooperative_matrix` with 16x16x16 i8 x i8 + i32 in subgroup scope
    CooperativeI8,
}

/// A step of up to `max_rows` rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GpuEntry {
    pub name: String,
    pub max_rows: u32,
    pub dispatches: Vec<GpuDispatch>,
}

/// One dispatch of an entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GpuDispatch {
    /// Index among the kernels.
    pub kernel: u32,
    /// `@blk.0.attn_q`
    pub region: String,
    /// All regions that it does, by their place in the manifest, ascending: those drawn into it,
    /// too, and none for what only picks tokens.
    pub regions: Vec<u32>,
    /// Whether everything before must have finished, its writes visible.
    pub wait: bool,
    pub groups: [u32; 3],
    /// One for each of the kernel's bindings, in their order.
    pub windows: Vec<GpuWindow>,
    /// As many words as the kernel has immediates.
    pub immediates: Vec<u32>,
    /// Weight bytes read, for reports.
    pub weight_bytes: u64,
    /// Values of the IR that it leaves in the arena, for checks.
    pub taps: Vec<Tap>,
}

/// Part of a buffer that a kernel sees. Offsets are multiples of [`WINDOW_ALIGN`]; lengths are not
/// zero and multiples of 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GpuWindow {
    /// Of the weight segment. The end may lie up to [`WINDOW_ALIGN`] behind the segment's, where
    /// the runtime has zeros.
    Weights { offset: u64, length: u64 },
    /// Of the arena.
    Arena { offset: u64, length: u64 },
    /// Of the cache. Both are for one slot; a runtime with s slots multiplies both by s, so that
    /// slot i of the window starts at `i * length`.
    Cache { offset: u64, length: u64 },
    /// All of a rotation table.
    Rope { table: u32 },
    /// All of the step buffer, see [`step`].
    Step,
    /// All logits: `f32[max_rows][vocabulary]`, row i belongs to output i.
    Logits,
}

/// Rotation by position: `f32[context][2][half]`, for each position `cos(p * f) * magnitude` of
/// all frequencies, then the sines. The runtime fills it at load, with angles in f64.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GpuRopeTable {
    /// Radians a position.
    pub frequencies: Vec<f32>,
    pub magnitude: f32,
}

/// Bindings of descriptor set 0. A kernel has those that it uses.
pub mod binding {
    /// First weight matrix, as 16-byte words. Read.
    pub const WEIGHTS: u32 = 0;
    /// Second weight matrix, as 16-byte words. Read.
    pub const SECOND: u32 = 1;
    /// Constant vectors, as floats: a window of the weight segment. Read.
    pub const VECTORS: u32 = 2;
    /// The arena as 4-byte words. Read and written.
    pub const ARENA: u32 = 3;
    /// The arena as 16-byte words. Read and written.
    pub const RECORDS: u32 = 4;
    /// One layer's keys and values, as 16-byte words. Read and written.
    pub const CACHE: u32 = 5;
    /// The step buffer, as 4-byte words. Read, and written by what picks tokens.
    pub const STEP: u32 = 6;
    /// The logits, as floats. Read and written.
    pub const LOGITS: u32 = 7;
    /// A rotation table, as floats. Read.
    pub const ROPE: u32 = 8;
    /// Weights that the next dispatch reads, as 16-byte words. Read, to have them in a cache.
    pub const NEXT: u32 = 9;
    /// How many there are.
    pub const COUNT: u32 = 10;
}

/// Words of the step buffer.
pub mod step {
    use super::{GPU_AHEAD, GPU_ROWS};

    /// Rows of the step.
    pub const ROWS: usize = 0;
    /// Rows whose logits are wanted.
    pub const OUTPUT_ROWS: usize = 1;
    /// Steps done since the host filled the buffer.
    pub const CYCLE: usize = 2;
    /// Token of each row.
    pub const TOKENS: usize = 4;
    /// Position of each row.
    pub const POSITIONS: usize = TOKENS + GPU_ROWS;
    /// Cache slot of each row.
    pub const SLOTS: usize = POSITIONS + GPU_ROWS;
    /// Row of each output, ascending.
    pub const OUTPUTS: usize = SLOTS + GPU_ROWS;
    /// `[GPU_AHEAD][GPU_ROWS]`: the token with the largest logit, by cycle modulo `GPU_AHEAD` and
    /// output; the lowest of several, and `u32::MAX` when no logit is a number.
    pub const PICKS: usize = OUTPUTS + GPU_ROWS;
    /// How many there are, a multiple of 4.
    pub const COUNT: usize = PICKS + GPU_AHEAD * GPU_ROWS;
}

/// Quantised activations as GPU kernels read them.
///
/// A row of `k` elements (a multiple of 32) is `k / 32` records of five 16-byte words. For each
/// block of 32 elements `d = max|x| / `[`LEVELS`], `code = round_ties_even(x * (LEVELS / max|x|))`
/// and `code = 128 * high + low` with `0 <= low < 128`; all are 0 when that quotient is not finite.
/// Word w < 4 holds four u32 of four elements each, in order of bytes: `high` of elements `4w..`,
/// `high` of elements `16 + 4w..`, `low` of elements `4w..`, `low` of elements `16 + 4w..`.
/// Word 4 holds the floats `d`, `d * sum(code)` over elements 0..16, the same over elements
/// 16..32, and 0. Rows follow each other.
pub mod record {
    /// Largest magnitude of a code.
    pub const LEVELS: f32 = 16383.0;
    /// 16-byte words of a record.
    pub const WORDS: usize = 5;
    /// Bytes of a record.
    pub const BYTES: usize = 16 * WORDS;
}
