//! Causal attention over a cache, with the positions of a row split over workgroups.
//!
//! # Who does what
//! A workgroup has one row, one *split* of the positions that the row sees, and the query heads
//! of one key/value head, or a part of them where there are many. Eight neighbouring invocations
//! have a position at a time; each holds every eighth eight elements of its key and value. They
//! keep a running maximum and sum of their own; all of a workgroup meet at the end only, all
//! splits of a row in a merge.
//!
//! # What a row's result depends on
//! On its position and its slot's cache, bit for bit: which positions an invocation takes, and
//! in which order, follow from the position alone. A key or value that comes fresh from the step
//! is rounded as the cache is first, so that it does not matter either.
//!
//! # The cache
//! Of a layer and slot: keys `[kv_heads][context]`, then values, of records of one head at one
//! position: `f16[key_dim]`, or codes and scales (`form.rs`). Each head ends with as many zeros as make its size an odd multiple of 256 bytes: heads a power of two apart would
//! begin in the same memory channel. Scores are kept in units of log2, for `exp2`.

mod form;
mod merge;
mod operand;
mod reduce;
mod tile;
mod write;

use onebit_ir::rows::RowProgram;
use onebit_plan::abi::{AttentionShape, CacheForm};
use onebit_plan::gpu::{WINDOW_ALIGN, binding, step};

pub use merge::{MergeOut, emit_merge, merge_kernel};
pub use write::cache_write;

use crate::kernel::{Immediate, Kernel, Source};
use crate::rows::{Parts, RowsKind, Unfit, fingerprint};

/// Most floats of an invocation's sums: what its registers hold beside the keys and values under way.
const SUMS: u32 = 64;
/// As [`SUMS`], of several heads: more of them read the cache less often, and are fewer workgroups.
const SHARED_SUMS: u32 = 32;
/// Invocations that share a position.
const TEAM: u32 = 8;
/// Elements that an invocation holds together: in f16, a 16-byte word of the cache.
const WORD: u32 = 8;
/// Fewest positions of a split, unless the row sees fewer: a split costs its merge a read.
const LEAST_SHARE: u32 = 128;

/// What attention is, apart from where its operands are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    pub heads: u32,
    pub kv_heads: u32,
    pub key_dim: u32,
    pub value_dim: u32,
    /// Positions of a slot.
    pub context: u32,
    /// A row at position p sees positions `q` with `p - window < q <= p`; 0 means all `q <= p`.
    pub window: u32,
    /// Factor on each score.
    pub scale: f32,
    /// Scores become `softcap * tanh(score / softcap)`; 0 means off.
    pub softcap: f32,
    /// Floats between two rows of the output.
    pub out_stride: u32,
    /// How the cache keeps keys and values.
    pub form: CacheForm,
}

impl From<&AttentionShape> for Shape {
    fn from(shape: &AttentionShape) -> Self {
        let &AttentionShape { heads, kv_heads, key_dim, value_dim, context, .. } = shape;
        let &AttentionShape { window, scale, softcap, out_stride, .. } = shape;
        let form = shape.cache_form();
        Self {
            heads,
            kv_heads,
            key_dim,
            value_dim,
            context,
            window,
            scale,
            softcap,
            out_stride,
            form,
        }
    }
}

/// Queries, keys or values of a step.
#[derive(Clone, Copy, Debug)]
pub enum Operand<'a> {
    /// Floats in the arena, heads without gaps and rows `stride` floats apart.
    Floats { stride: u32, parts: &'a [Parts] },
    /// What the program's only store gets. It has the operand's heads, or one mini-row of all
    /// heads together without normalisation and rotation.
    Program { program: &'a RowProgram, parts: &'a [Parts] },
}

/// Where the step's own keys and values are.
#[derive(Clone, Copy, Debug)]
pub enum KeyValue<'a> {
    /// In the cache, from an earlier dispatch.
    Cached,
    /// Nowhere yet: computed here and written to the cache on the way. Every row of the step
    /// must have a slot of its own.
    Fresh { k: Operand<'a>, v: Operand<'a> },
}

/// Why attention has no kernel.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AttentionError {
    #[error("heads of {dim} elements; the GPU wants a multiple of 8 from 8 to 512")]
    HeadWidth { dim: u32 },
    #[error("heads of {dim} elements; a cache of 8-bit codes keeps blocks of 32")]
    HeadBlocks { dim: u32 },
    #[error("{heads} query heads over {kv_heads} key/value heads")]
    Heads { heads: u32, kv_heads: u32 },
    #[error("output rows {stride} floats apart; the GPU wants a multiple of 4")]
    Stride { stride: u32 },
    #[error("a program for {operand} has {found} results; attention takes one of floats")]
    Results { operand: &'static str, found: usize },
    #[error(
        "a program for {operand} has {heads} x {width} elements; attention wants {want_heads} x {want_width}"
    )]
    Operand {
        operand: &'static str,
        heads: usize,
        width: usize,
        want_heads: usize,
        want_width: usize,
    },
    #[error("merged rows of {width} elements cannot be quantised; the GPU wants a multiple of 32")]
    Merged { width: u32 },
    #[error(transparent)]
    Program(#[from] Unfit),
}

/// Bytes of a slot's keys and values of one layer, a multiple of [`WINDOW_ALIGN`].
pub fn cache_bytes(shape: &Shape) -> u64 {
    let heads = u64::from(shape.kv_heads);
    heads * (head_bytes(shape, shape.key_dim) + head_bytes(shape, shape.value_dim))
}

/// Bytes from one head of the cache to the next: an odd multiple of [`WINDOW_ALIGN`].
fn head_bytes(shape: &Shape, dim: u32) -> u64 {
    let bytes = u64::from(shape.context) * u64::from(form::record_words(shape, dim)) * 16;
    let lines = bytes.div_ceil(WINDOW_ALIGN);
    (lines + u64::from(lines % 2 == 0)) * WINDOW_ALIGN
}

/// Bytes of the partial results of `rows` rows: `f32[rows][heads][splits][value_dim + 4]`, the
/// last four the maximum in log2, the sum, and two zeros. A split without positions has the
/// maximum -inf and the sum 0, and its other floats mean nothing.
pub fn partial_bytes(shape: &Shape, splits: u32, rows: u32) -> u64 {
    let each = u64::from(partial_words(shape)) * 16;
    u64::from(rows) * u64::from(shape.heads) * u64::from(splits) * each
}

/// 16-byte words of a split's partial result.
fn partial_words(shape: &Shape) -> u32 {
    shape.value_dim / 4 + 1
}

/// Workgroups of [`kernel`] for `rows` rows.
pub fn groups(shape: &Shape, splits: u32, rows: u32) -> [u32; 3] {
    let tiling = Tiling::of(shape);
    [splits, shape.kv_heads * tiling.parts, rows]
}

/// Attention of every row of the step. Dispatch [`groups`] workgroups.
///
/// Programs of the kernel: 0 is `q`, 1 is `k`, 2 is `v`; an operand of floats has the argument 0.
/// Results go to `Out { index: 0 }`, a multiple of 4: floats with one split, else
/// [`partial_bytes`].
///
/// # Errors
/// Shapes and programs that the kernel cannot have.
pub fn kernel(
    shape: &Shape,
    splits: u32,
    q: Operand<'_>,
    kv: KeyValue<'_>,
) -> Result<Kernel, AttentionError> {
    build(shape, (splits, MergeOut::Floats), q, kv)
}

/// As [`kernel`] with one split, whose results are activations in f16, at `Out { index: 0 }` in
/// 16-byte words.
///
/// # Errors
/// Shapes and programs that the kernel cannot have.
pub fn kernel_leaving_halves(
    shape: &Shape,
    q: Operand<'_>,
    kv: KeyValue<'_>,
) -> Result<Kernel, AttentionError> {
    merge::quantised_width(shape)?;
    build(shape, (1, MergeOut::Halves), q, kv)
}

fn build(
    shape: &Shape,
    (splits, out): (u32, MergeOut),
    q: Operand<'_>,
    kv: KeyValue<'_>,
) -> Result<Kernel, AttentionError> {
    check(shape)?;
    let tiling = Tiling::of(shape);
    let tile = tile::Tile { shape, tiling, splits, kv };
    let Tiling { group, heads, workgroup, .. } = tiling;
    let first = format!("kv * {group}u + part * {heads}u");
    let queries = operand::queries(shape, first, heads).bring(q, workgroup)?;
    let mut fresh = Vec::new();
    if let KeyValue::Fresh { k, v } = kv {
        fresh.push(operand::keys(shape).bring(k, workgroup)?);
        fresh.push(operand::values(shape).bring(v, workgroup)?);
    }
    let mut source = Source::default();
    tile.place(&mut source);
    // All that is read is asked for before the first wait.
    let operands = || std::iter::once(&queries).chain(&fresh);
    operands().for_each(|operand| operand.read(&mut source));
    tile.begin(&mut source);
    tile.load_first(&mut source);
    operands().for_each(|operand| operand.read_rotation(&mut source));
    queries.emit(&mut source);
    if let KeyValue::Fresh { .. } = kv {
        source.line("if own {");
        fresh.iter().for_each(|operand| operand.emit(&mut source));
        form::quantise(&mut source, shape);
        source.line("if part == 0u {");
        write::store(&mut source, shape);
        source.line("}\n}");
    }
    tile.run(&mut source);
    reduce::emit(&mut source, &tile, out);
    let form = match kv {
        KeyValue::Cached => "cached",
        KeyValue::Fresh { .. } => "fresh",
    };
    let digest = fingerprint(&format!("{shape:?} {q:?} {kv:?}"));
    let Shape { heads, kv_heads, key_dim, value_dim, .. } = shape;
    let end = if out == MergeOut::Halves { "-halves" } else { "" };
    let name = format!(
        "attention-{form}-{heads}x{kv_heads}x{key_dim}x{value_dim}-s{splits}-{digest:016x}{end}"
    );
    Ok(source.finish(name, workgroup))
}

fn check(shape: &Shape) -> Result<(), AttentionError> {
    let &Shape { heads, kv_heads, key_dim, value_dim, out_stride, .. } = shape;
    for dim in [key_dim, value_dim] {
        if !dim.is_multiple_of(WORD) || dim == 0 || dim > SUMS * TEAM {
            return Err(AttentionError::HeadWidth { dim });
        }
        if !form::takes(shape.form, dim) {
            return Err(AttentionError::HeadBlocks { dim });
        }
    }
    if kv_heads == 0 || heads == 0 || !heads.is_multiple_of(kv_heads) {
        return Err(AttentionError::Heads { heads, kv_heads });
    }
    if !out_stride.is_multiple_of(4) {
        return Err(AttentionError::Stride { stride: out_stride });
    }
    Ok(())
}

/// How a workgroup goes over heads and positions.
#[derive(Clone, Copy, Debug)]
struct Tiling {
    /// Query heads of a key/value head.
    group: u32,
    /// Workgroups that share them.
    parts: u32,
    /// Query heads of a workgroup; those behind the last are copies of it.
    heads: u32,
    workgroup: u32,
    /// Positions that eight invocations take at a time.
    each: u32,
}

impl Tiling {
    fn of(shape: &Shape) -> Self {
        let group = shape.heads / shape.kv_heads;
        let most = (SHARED_SUMS * TEAM / shape.value_dim).max(1);
        let parts = group.div_ceil(most);
        let heads = group.div_ceil(parts);
        // Sums of all teams meet in 16 KiB of workgroup memory.
        let workgroup = if heads * shape.value_dim <= 256 { 128 } else { 64 };
        let each = (256 / shape.key_dim.max(shape.value_dim)).clamp(1, 4);
        Self { group, parts, heads, workgroup, each }
    }

    /// Eights of invocations.
    fn teams(self) -> u32 {
        self.workgroup / TEAM
    }

    /// Positions of a tile: what a workgroup takes at a time.
    fn positions(self) -> u32 {
        self.teams() * self.each
    }
}

/// Statements that say which tiles a row at `position` sees: the first, `low_tile`, how many,
/// `tiles`, and how many of them a split has, `share`. They depend on the position alone.
fn declare_shares(source: &mut Source, shape: &Shape, splits: u32) {
    let tile = Tiling::of(shape).positions();
    let low = match shape.window {
        0 => "0u".to_owned(),
        window => format!("select(0u, position + 1u - {window}u, position >= {window}u)"),
    };
    source.line(format!("let low = {low};"));
    source.line(format!("let low_tile = low / {tile}u;"));
    source.line(format!("let tiles = position / {tile}u + 1u - low_tile;"));
    let least = LEAST_SHARE.div_ceil(tile);
    source.line(format!("let share = max((tiles + {}u) / {splits}u, {least}u);", splits - 1));
}

/// A score that no query and key have; finite, so that the difference of two is 0.
const LOWEST: &str = "-1.0e30";

/// Names word 0 of the row's slot in the layer's cache, and the first words of the keys and the
/// values of head `kv`.
fn declare_bases(source: &mut Source, shape: &Shape) {
    let words = |bytes: u64| bytes / 16;
    let key_head = words(head_bytes(shape, shape.key_dim));
    let value_head = words(head_bytes(shape, shape.value_dim));
    let slot = words(cache_bytes(shape));
    let values = key_head * u64::from(shape.kv_heads);
    source.line(format!("let slot = slot_of_row * {slot}u;"));
    source.line(format!("let keys = slot + kv * {key_head}u;"));
    source.line(format!("let values = slot + {values}u + kv * {value_head}u;"));
}

/// Eights of a head's elements: in f16, the 16-byte words of a position.
fn words(dim: u32) -> u32 {
    dim / WORD
}

/// Reads `position` and `slot_of_row` of row `row`; the workgroup ends where the step lacks it.
fn declare_row(source: &mut Source) {
    let step = source.read(binding::STEP);
    source.line(format!(
        "let rows = {step}[{}];
let position = {step}[{}u + row];
let slot_of_row = {step}[{}u + row];
if row >= rows {{ return; }}",
        RowsKind::All.count_word(),
        step::POSITIONS,
        step::SLOTS
    ));
}

/// The first 16-byte word of a result.
fn out_word(source: &mut Source) -> String {
    format!("{} / 4u", source.immediate(Immediate::Out { index: 0 }))
}
