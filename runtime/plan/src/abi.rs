//! The contract between CPU code in a plan and the runtime that calls it.
//!
//! A CPU entry is a function `extern "C" fn(*const StepContext)`. Every thread of the team runs
//! the same entry at the same time (single program, multiple data) and the entry calls the
//! microkernels through [`StepContext::kernels`], indexed by [`KernelId`], with the signatures
//! of this file. Everything here is part of the plan format: a change of meaning needs a new
//! [`crate::FORMAT_VERSION`].
//!
//! This file knows no model, no architecture and no GGUF.

use serde::{Deserialize, Serialize};

/// Output rows that one weight tile interleaves: one 32-bit lane of a 512-bit register each.
pub const TILE_ROWS: usize = 16;
/// Elements that share one activation scale.
pub const BLOCK: usize = 32;
/// Positions that one tile of the key cache interleaves.
pub const KEY_TILE: usize = 16;
/// Alignment in bytes of every weight tensor, arena buffer and cache region.
pub const BUFFER_ALIGN: usize = 64;

/// How a weight matrix `[n, k]` is laid out in a plan. Bits per weight, scales included.
///
/// The byte layout of each class stands in docs/plan-format.md; `onebit-cpu` packs and reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum StorageClass {
    /// 1-bit codes standing for -1 and 1, f16 scale per 128 (1.125 bits).
    B1D,
    /// 2-bit codes standing for -1..=2, f16 scale per 128 (2.125 bits): ternary formats.
    T2D,
    /// 2-bit codes, u8 sub-scale and sub-minimum per 16, f16 scales per 256 (3.125 bits).
    Q2K,
    /// 3-bit codes standing for -4..=3, i8 sub-scale per 16, f16 scale per 256 (3.625 bits).
    Q3K,
    /// 4-bit codes standing for the levels of E2M1, a power of two per 32 (4.25 bits).
    M4E,
    /// 4-bit codes standing for the levels of IQ4_NL, i8 sub-scale per 32, f16 scale per 256
    /// (4.375 bits).
    N4K,
    /// 4-bit codes standing for the levels of IQ4_NL, f16 scale per 32 (4.5 bits).
    N4D,
    /// 4-bit codes 0..=15 standing for -8..=7, f16 scale per 32 (4.5 bits).
    Q4D,
    /// 4-bit codes, f16 scale and f16 minimum per 32 (5 bits).
    Q4DM,
    /// 5-bit codes standing for -16..=15, f16 scale per 32 (5.5 bits).
    Q5D,
    /// 5-bit codes, f16 scale and f16 minimum per 32 (6 bits).
    Q5DM,
    /// 8-bit codes stored as q + 128, f16 scale per 32 (8.5 bits).
    Q8D,
    /// 4-bit codes, u8 sub-scale and sub-minimum per 32, f16 scales per 256 (4.625 bits).
    Q4K,
    /// 5-bit codes, scales as in `Q4K` (5.625 bits).
    Q5K,
    /// 6-bit codes standing for -32..=31, i8 sub-scale per 16, f16 scale per 256 (6.625 bits).
    Q6K,
    /// 8-bit codes stored as q + 128, f32 scale per 16 (10 bits): any format without a minimum.
    I8G16,
    /// 8-bit codes stored as q + 128, f32 scale and minimum per 16 (12 bits): any format.
    I8G16M,
    F16,
    BF16,
    F32,
}

impl StorageClass {
    pub const ALL: [Self; 20] = [
        Self::B1D,
        Self::T2D,
        Self::Q2K,
        Self::Q3K,
        Self::M4E,
        Self::N4K,
        Self::N4D,
        Self::Q4D,
        Self::Q4DM,
        Self::Q5D,
        Self::Q5DM,
        Self::Q8D,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::I8G16,
        Self::I8G16M,
        Self::F16,
        Self::BF16,
        Self::F32,
    ];

    /// What the class's matrix product reads on its activation side.
    pub fn activation(self) -> Activation {
        match self {
            Self::F16 | Self::BF16 | Self::F32 => Activation::F32,
            _ => Activation::Q8,
        }
    }
}

/// Form of the activations a kernel reads.
///
/// * `F32`: row-major `f32[m][k]`.
/// * `Q8`: int8 with one scale per 32 elements, in panels of [`panel_rows`]`(m)` = P rows. A
///   panel is its block records, then its refinements.
///
///   Block record b, `48 * P` bytes: `q: i8[P][32]`, `d: f32[P]`, `s: f32[P]`, `n32: i32[P]`,
///   `n16: i32[P]`, where `d = max|x| / 127`, `q = round_ties_even(x * (127 / max|x|))` (all 0
///   when max|x| is 0), `n32 = -sum(q)` over the block, `n16 = -sum(q)` over its first 16
///   elements and `s = d * sum(q)`. Rows of the last panel beyond m may hold anything.
///
///   Refinements of a row, [`refinement_bytes`]: a count in the first u32 of 64 bytes, then so
///   many entries of 64 bytes, blocks ascending: a record for P = 1 of what is left of the block,
///   `x - q * d` (one rounding), then the block's index as u32. A block is refined when
///   `d * d > `[`refinement_limit`]: one large element makes the other 31 coarse, and a few such
///   blocks carry most of a row's rounding error. Rows that are quantised column by column are
///   not refined: their count is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Activation {
    F32,
    Q8,
}

/// Bytes that one activation row takes in one block record of [`Activation::Q8`].
pub const RECORD_ROW_BYTES: usize = 48;

/// Rows of one activation panel for a step of `m` rows: 1, 2, 4 or 8.
pub const fn panel_rows(m: usize) -> usize {
    match m {
        0 | 1 => 1,
        2 => 2,
        3 | 4 => 4,
        _ => 8,
    }
}

/// Bytes of one entry, and of the count before the entries, in a row's refinements.
pub const REFINEMENT_BYTES: usize = 64;
/// Where a refinement's block index stands.
pub const REFINEMENT_BLOCK_AT: usize = RECORD_ROW_BYTES;
/// A block is refined when its largest element's square is above so many times the row's mean.
const REFINEMENT_FACTOR: f64 = 64.0;

/// Bytes of the refinements of one row of `k` elements.
pub const fn refinement_bytes(k: usize) -> usize {
    REFINEMENT_BYTES * (1 + k / BLOCK)
}

/// What a row's sum of squares is multiplied by to give the limit of `d * d`.
///
/// The sum runs over eight accumulators, element i in number `i % 8`, each by fma; then number
/// l + 4 is added to number l, and the result is `(0 + 2) + (1 + 3)`.
pub fn refinement_limit(k: usize) -> f32 {
    (REFINEMENT_FACTOR / (127.0 * 127.0 * k as f64)) as f32
}

/// Bytes of one panel of `panel` rows of `k` elements.
pub const fn panel_bytes(panel: usize, k: usize) -> usize {
    panel * (k / BLOCK * RECORD_ROW_BYTES + refinement_bytes(k))
}

/// Bytes of a [`Activation::Q8`] buffer for `m` rows of `k` elements (k a multiple of 32).
pub const fn q8_bytes(m: usize, k: usize) -> usize {
    let panel = panel_rows(m);
    m.div_ceil(panel) * panel_bytes(panel, k)
}

/// Which microkernel a slot of the kernel table holds. The number is [`KernelId::slot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum KernelId {
    /// [`BarrierFn`]
    Barrier,
    /// [`RopeTableFn`]
    RopeTable,
    /// [`KvWriteFn`]
    KvWrite,
    /// [`AttentionFn`]
    Attention,
    /// [`MatmulFn`]
    Matmul(StorageClass),
    /// [`GatherFn`]
    Gather(StorageClass),
    /// [`ArrayFn`]
    Array,
    /// [`TraceFn`]
    Trace,
}

impl KernelId {
    /// Slots of the kernel table.
    pub const COUNT: usize = 6 + 2 * StorageClass::ALL.len();

    /// Index in [`StepContext::kernels`].
    pub fn slot(self) -> usize {
        match self {
            Self::Barrier => 0,
            Self::RopeTable => 1,
            Self::KvWrite => 2,
            Self::Attention => 3,
            Self::Matmul(class) => 4 + class as usize,
            Self::Gather(class) => 4 + StorageClass::ALL.len() + class as usize,
            Self::Array => 4 + 2 * StorageClass::ALL.len(),
            Self::Trace => 5 + 2 * StorageClass::ALL.len(),
        }
    }
}

/// Everything an entry may touch during one step. Built by the runtime once per thread.
///
/// Pointers stay valid for the whole step. `tokens`, `positions` and `slots` hold `rows`
/// entries, `outputs` holds `output_rows` row indices in ascending order.
#[repr(C)]
pub struct StepContext {
    /// `KernelId::COUNT` function addresses.
    pub kernels: *const *const u8,
    /// Start of the mapped code segment; code finds its constants and functions from here, so a
    /// plan needs no relocation.
    pub code: *const u8,
    /// Start of the plan's weight segment.
    pub weights: *const u8,
    /// Scratch buffers, shared by the team. Offsets are fixed by the plan.
    pub arena: *mut u8,
    /// Scratch of this thread alone.
    pub private: *mut u8,
    /// Key/value cache; slot s starts at `s * slot_bytes`, see [`AttentionShape`].
    pub cache: *mut u8,
    pub tokens: *const i32,
    pub positions: *const i32,
    pub slots: *const i32,
    pub outputs: *const i32,
    /// `f32[output_rows][vocabulary]`, row i belongs to `outputs[i]`.
    pub logits: *mut f32,
    /// Team barrier, opaque to entries; handed to [`BarrierFn`].
    pub barrier: *const u8,
    /// The runtime's hold on a neural processor, opaque to entries; null when the plan's array
    /// products run on the CPU.
    pub array: *const u8,
    /// What notes the steps of a traced entry, opaque to entries; null when nothing does.
    pub trace: *const u8,
    pub rows: u32,
    pub output_rows: u32,
    /// Index of this thread in the team, `0..threads`.
    pub thread: u32,
    pub threads: u32,
}

/// One step of a plan on one thread of the team.
pub type EntryFn = unsafe extern "C" fn(context: *const StepContext);

/// Waits until every thread of the team has arrived. Writes before it are visible after it.
pub type BarrierFn = unsafe extern "C" fn(context: *const StepContext);

/// `step` of [`TraceFn`] before the first step of a traced entry.
pub const TRACE_START: u32 = u32::MAX;

/// Tells the runtime that the whole team has done step `step` of a traced entry, and that what
/// the step wrote is visible; [`TRACE_START`] before the first. Every thread calls it, after a
/// barrier. Buffers of the step stay as they are until the thread has come to the next barrier.
pub type TraceFn = unsafe extern "C" fn(context: *const StepContext, step: u32);

/// `out[r][n] = sum_k weights[n][k] * activations[r][k]` for `n0 <= n < n1`, `r < m`.
///
/// `weights` points at the whole packed matrix (row tile 0); `n0` is a multiple of
/// [`TILE_ROWS`]; `n1` is one too or the true row count. `out` row r starts at
/// `out + r * out_stride` floats. For every output the sum's order is fixed and does not depend
/// on m, n0, n1, the instruction set or the thread.
pub type MatmulFn = unsafe extern "C" fn(
    weights: *const u8,
    activations: *const u8,
    out: *mut f32,
    k: u32,
    n0: u32,
    n1: u32,
    m: u32,
    out_stride: u32,
);

/// Copies matrix row `ids[r]` as f32 to `out + r * out_stride`, for `r0 <= r < r1`.
///
/// Each id is below the matrix's row count (the runtime checks tokens before a step).
pub type GatherFn = unsafe extern "C" fn(
    weights: *const u8,
    ids: *const i32,
    out: *mut f32,
    k: u32,
    r0: u32,
    r1: u32,
    out_stride: u32,
);

/// Fills `out[r] = { cos(p * f[i]) * scale ; i < half } ++ { sin(p * f[i]) * scale ; i < half }`
/// with p = `positions[r]`, for `r0 <= r < r1`. Angles are taken in f64.
pub type RopeTableFn = unsafe extern "C" fn(
    positions: *const i32,
    frequencies: *const f32,
    out: *mut f32,
    half: u32,
    r0: u32,
    r1: u32,
    scale: f32,
);

/// How a cache keeps keys and values.
///
/// * `F16`: each rounded to f16, ties to even.
/// * `Q8`: i8 codes, and one f16 scale for the [`BLOCK`] elements of a block of one head at one
///   position. With `m` the block's largest magnitude, infinite if an element is no number,
///   `d` = the least f16 that is not below `m * (1 / 127)`, `code = round_ties_even(x * (1 / d))`,
///   0 where that product is no number or infinite. An element is `f32(code) * f32(d)`, exactly: in
///   a block with an infinite `d` none is a number. Dimensions of heads are multiples of [`BLOCK`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CacheForm {
    #[default]
    F16,
    Q8,
}

impl CacheForm {
    /// All forms.
    pub const ALL: [Self; 2] = [Self::F16, Self::Q8];

    /// What the command line and a plan's provenance call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Q8 => "q8_0",
        }
    }

    /// Its number in [`AttentionShape::form`].
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// Bytes of the keys, or of the values, of one head at `positions` positions.
    pub const fn head_bytes(self, positions: usize, dim: usize) -> usize {
        match self {
            Self::F16 => positions * dim * 2,
            Self::Q8 => positions * (dim + dim / BLOCK * 2),
        }
    }
}

/// Shape of one layer's attention and the place of its cache. Lives in the plan's constants.
///
/// Cache of slot s: keys at `s * slot_bytes + key_offset`, values at `s * slot_bytes +
/// value_offset`. In the form F16 keys are f16 `[kv_heads][context / 16][key_dim][16]` and values
/// f16 `[kv_heads][context][value_dim]`. In the form Q8 codes are i8 in the same orders; behind the
/// codes of all heads are the scales, of keys f16 `[kv_heads][context / 16][key_dim / 32][16]`, of
/// values f16 `[kv_heads][context][value_dim / 32]`. `context` is a multiple of [`KEY_TILE`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct AttentionShape {
    pub slot_bytes: u64,
    pub key_offset: u64,
    pub value_offset: u64,
    pub heads: u32,
    pub kv_heads: u32,
    pub key_dim: u32,
    pub value_dim: u32,
    /// Positions a slot holds.
    pub context: u32,
    /// A row at position p sees positions `q` with `p - window < q <= p`; 0 means all `q <= p`.
    pub window: u32,
    /// Factor on each score.
    pub scale: f32,
    /// Scores become `softcap * tanh(score / softcap)`; 0 means off.
    pub softcap: f32,
    /// Floats between two rows of q, of k, of v and of the output.
    pub q_stride: u32,
    pub k_stride: u32,
    pub v_stride: u32,
    pub out_stride: u32,
    /// [`CacheForm::number`].
    pub form: u32,
    /// 0.
    pub reserved: u32,
}

impl AttentionShape {
    /// The form of the cache.
    pub const fn cache_form(&self) -> CacheForm {
        if self.form == CacheForm::Q8.number() { CacheForm::Q8 } else { CacheForm::F16 }
    }
}

/// Stores keys and values of rows `r0 <= r < r1` at their slot and position.
/// k is `f32[rows][k_stride]` with heads contiguous, v likewise.
pub type KvWriteFn = unsafe extern "C" fn(
    context: *const StepContext,
    shape: *const AttentionShape,
    k: *const f32,
    v: *const f32,
    r0: u32,
    r1: u32,
);

/// Causal attention of every row of the step over its slot's cache, which already holds the
/// step's own keys and values. Splits the work over the team by itself. A row's result depends
/// on its own query and cache only, bit for bit.
pub type AttentionFn = unsafe extern "C" fn(
    context: *const StepContext,
    shape: *const AttentionShape,
    q: *const f32,
    out: *mut f32,
);

/// Rows that one array product takes at most.
pub const ARRAY_ROWS: usize = 32;
/// Columns of a neural processor's array; each has its own part of the weights and the results.
pub const ARRAY_COLUMNS: usize = 8;
/// Output columns and k of the blocks that array products are cut into.
pub const ARRAY_BLOCK: usize = 8;
/// k of a brick: what the k of a group is filled up to with zeros.
pub const ARRAY_BRICK: usize = 64;
/// Bytes of a tile's shifts.
pub const ARRAY_SHIFTS: usize = 256;
/// k of a piece: what the activations of 8 rows lie together of.
pub const ARRAY_PIECE: usize = 16;
/// Bytes that the weights of one array column are a multiple of.
pub const ARRAY_GRANULE: usize = 2048;
/// Largest group of k that shares a sum: 2^14 * 127 * 1024 < 2^31.
pub const ARRAY_GROUP: usize = 1024;
/// Magnitude of the largest activation code: two planes, `high * 128 + low`, 0 <= low < 128.
pub const ARRAY_LEVELS: f32 = 16383.0;

/// One product of a neural processor's array. Lives in the plan's constants; all its numbers
/// follow from n, k and group, except those that say where things are.
///
/// Groups of k follow each other; the last of several may be shorter, and counts as if zeros
/// followed it.
///
/// Weights are int8, in the order column of the array, pass, segment, unit of 8 outputs, brick of
/// 64 k, 8 k, k, output; each column ends with zeros up to [`ARRAY_GRANULE`]. Column c has the
/// outputs from `c * passes * units * 8` on. Scales are `f32[groups][n]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ArrayProduct {
    /// Bytes from the start of the weight segment.
    pub weights: u64,
    /// Bytes from the start of the weight segment.
    pub scales: u64,
    /// Index among the manifest's array products.
    pub index: u32,
    /// Outputs.
    pub n: u32,
    /// Elements of a row of activations.
    pub k: u32,
    /// k that share a sum and a scale: all of k, or a multiple of [`ARRAY_BRICK`]; at most
    /// [`ARRAY_GROUP`].
    pub group: u32,
    /// How often the activations go by.
    pub passes: u32,
    /// Units of 8 outputs of a pass.
    pub units: u32,
    /// Bricks of a segment.
    pub bricks: u32,
    /// Floats between rows of the output.
    pub out_stride: u32,
    /// An [`ArrayRole`], by its number.
    pub role: u32,
    /// Zero.
    pub reserved: u32,
}

/// What becomes of a product's sums, and where its activations are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ArrayRole {
    /// Floats come in, floats go out.
    Plain,
    /// Outputs are those of a gate and of what it gates, by turns of [`ARRAY_BLOCK`]: of n outputs n / 2
    /// go out, as codes. The gate goes through SiLU.
    Silu,
    /// The same, through GELU by tanh.
    GeluTanh,
    /// Activations are the codes of the gated product before it.
    Gated,
}

impl ArrayRole {
    /// All of them, by their numbers.
    pub const ALL: [Self; 4] = [Self::Plain, Self::Silu, Self::GeluTanh, Self::Gated];

    /// Whether codes go out.
    pub const fn is_gate(self) -> bool {
        matches!(self, Self::Silu | Self::GeluTanh)
    }
}

impl ArrayProduct {
    /// What becomes of it; none for a number that stands for nothing.
    pub fn role(&self) -> Option<ArrayRole> {
        ArrayRole::ALL.get(self.role as usize).copied()
    }

    /// Whether codes go out.
    pub fn is_gate(&self) -> bool {
        self.role().is_some_and(ArrayRole::is_gate)
    }

    /// Outputs of a gate in one array column.
    pub const fn gated_width(&self) -> usize {
        self.width() / 2
    }

    /// Bytes of the codes of a gate in one array column: int8, in the order of activations.
    pub const fn code_bytes(&self) -> usize {
        2 * ARRAY_ROWS * self.gated_width()
    }

    /// Bytes of what goes out of a gate in one array column: codes, then for each tile of 8 rows 256
    /// bytes, which start with 8 u32, by how many bits each row's results were shifted down.
    pub const fn gate_bytes(&self) -> usize {
        self.code_bytes() + ARRAY_ROWS / ARRAY_BLOCK * ARRAY_SHIFTS
    }

    /// Bytes of a gate's weights and scales in one array column: each pass ends with a granule of the
    /// scales of its outputs, an i32 each.
    pub const fn gate_column_bytes(&self) -> usize {
        self.width() * self.depth() + self.passes as usize * ARRAY_GRANULE
    }

    /// Groups of k.
    pub const fn groups(&self) -> usize {
        self.k.div_ceil(self.group) as usize
    }

    /// The k of group `group`.
    pub const fn group_range(&self, group: usize) -> std::ops::Range<usize> {
        let (start, k) = (group * self.group as usize, self.k as usize);
        let end = start + self.group as usize;
        start..if end < k { end } else { k }
    }

    /// Bricks of a group.
    pub const fn group_bricks(&self) -> usize {
        (self.group as usize).div_ceil(ARRAY_BRICK)
    }

    /// Elements of a row with the zeros behind each group.
    pub const fn depth(&self) -> usize {
        self.groups() * self.group_bricks() * ARRAY_BRICK
    }

    /// Outputs of one array column, those of zero weights included.
    pub const fn width(&self) -> usize {
        self.passes as usize * self.units as usize * ARRAY_BLOCK
    }

    /// Bytes of the weights of one array column.
    pub const fn column_bytes(&self) -> usize {
        (self.width() * self.depth()).next_multiple_of(ARRAY_GRANULE)
    }

    /// Bytes of the packed activations: int8, in the order piece of 16 k, tile of 8 rows, 8 k, plane
    /// (high first), row, k.
    pub const fn activation_bytes(&self) -> usize {
        2 * ARRAY_ROWS * self.depth()
    }

    /// Bytes of the results of all columns: int32, in the order column of the array, pass, group,
    /// unit of 8 outputs, tile of 8 rows, row, output.
    pub const fn result_bytes(&self) -> usize {
        4 * ARRAY_ROWS * ARRAY_COLUMNS * self.width() * self.groups()
    }
}

/// `out[r][n] = sum_g f32(sum_{k in g} code[r][k] * weights[n][k]) * d[r][g] * scales[g][n]` for
/// `r < m`, the groups in ascending order: `out = fma(f32(sum) * d, scale, out)`, `out` starting
/// at 0.
///
/// `x` is `f32[m][k]`. For each row and group `d = max|x| / `[`ARRAY_LEVELS`] and `code =
/// round_ties_even(x * (`[`ARRAY_LEVELS`]` / max|x|))`, all 0 when that quotient is not finite: max|x|
/// is 0, or so small that the group counts as 0, or not a number, which d then is too. Sums are
/// exact, so that the array and the CPU give the same bits. Splits the work over the team by itself.
///
/// A gate ([`ArrayRole::Silu`], [`ArrayRole::GeluTanh`]) is one product of one group. Its arithmetic stands in
/// docs/npu-gemm.md ("Gates"); behind its weights are, instead of scales, four words: the powers of two
/// of the scales of gate and up as i32, and the largest sums of the squares of a row's weights as u32. Row r of `out`
/// has n / 2 codes as floats, then [`ARRAY_COLUMNS`] scales, one for each array column. The array
/// keeps these to itself, and leaves `out` as it is.
///
/// A product of role [`ArrayRole::Gated`] reads such rows, each of k + [`ARRAY_COLUMNS`] floats; its groups are the
/// gate's array columns, and codes and scales are taken as they are.
///
/// `products` points at `count` products, at least one, of the same k, group and output stride.
/// They read the same activations, and the outputs of each follow those of the one before: row r of
/// product i starts at `out + r * out_stride` and the n of all products before i.
pub type ArrayFn = unsafe extern "C" fn(
    context: *const StepContext,
    products: *const ArrayProduct,
    count: u32,
    x: *const f32,
    out: *mut f32,
    m: u32,
);
