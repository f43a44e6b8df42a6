//! Golden vectors: what the plan must compute, by the interpreter and by plain integer sums.
//!
//! Everything here is made from the model file by `onebit-ir` alone: neither packed weights nor
//! kernels take part, so that a mistake in those cannot hide.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::ops::Range;

use onebit_ir::interp::{
    CacheKind, Interp, InterpError, InterpOptions, Row, WeightError, WeightSource,
};
use onebit_ir::quant::Unpacked;
use onebit_ir::verify::GraphInfo;
use onebit_ir::{Graph, Op, ValueId};
use onebit_models::Model;
use onebit_plan::abi::{Activation, BLOCK, CacheForm, StorageClass, TILE_ROWS};
use onebit_plan::golden::{
    Distance, GOLDEN_GROUP, GOLDEN_GROUPS, GOLDEN_TOP, Golden, GoldenSum, GoldenSums, GoldenValue,
    Sketch, TopLogit, activations, mix,
};
use onebit_plan::manifest::TracedEntry;
use onebit_tokenizer::{EncodeOptions, Tokenizer};

use crate::error::CompileError;
use crate::schedule::repack::{Matrix, TensorSource, WeightStore};
use crate::target::cpu::CpuOptions;

/// Begins with a capital and holds a common word, a rare one and signs.
const TEXT: &str = "The quick brown fox, 1 lazy dog";
/// Positions: enough for attention to choose among, few enough that an 8-billion-weight model
/// takes seconds on a few cores, and as many as the GPU's third entry has rows.
const POSITIONS: usize = 8;

/// What is looked at in a plan for `graph`, whose tapped values are those of `traced`.
pub fn golden(
    model: &Model,
    (graph, info): (&Graph, &GraphInfo),
    store: &WeightStore<'_>,
    (tokenizer, cpu): (&[u8], &CpuOptions),
    traced: &[TracedEntry],
) -> Result<Golden, CompileError> {
    let tokens = tokens(model, tokenizer, cpu.context.min(POSITIONS))?;
    let cache = match cpu.cache {
        CacheForm::F16 => CacheKind::F16,
        CacheForm::Q8 => CacheKind::Q8,
    };
    let (values, logits) = run(model, (graph, info), cache, &tokens, &tapped(traced))?;
    Ok(Golden { tokens, top: top(&logits), values, sums: all_sums(store)? })
}

/// The first tokens of the text; at least one.
fn tokens(model: &Model, tokenizer: &[u8], most: usize) -> Result<Vec<u32>, CompileError> {
    let failed = |reason: String| CompileError::Golden { reason };
    let tokenizer = Tokenizer::from_bytes(tokenizer).map_err(|error| failed(error.to_string()))?;
    let mut tokens = tokenizer.encode(TEXT, EncodeOptions::default());
    tokens.retain(|&token| (token as usize) < model.vocabulary());
    if tokens.is_empty() {
        tokens.push(0);
    }
    tokens.truncate(most);
    Ok(tokens)
}

fn tapped(traced: &[TracedEntry]) -> BTreeSet<&str> {
    let steps = traced.iter().flat_map(|entry| &entry.steps);
    steps.flat_map(|step| &step.taps).map(|tap| tap.value.as_str()).collect()
}

/// The model's file as the interpreter reads it: each matrix is given back to the system once its
/// last rows were read, so that all of it is never resident.
struct Released<'m>(&'m Model, HashMap<&'m str, usize>);

impl WeightSource for Released<'_> {
    fn rows(&self, name: &str, rows: Range<usize>, out: &mut [f32]) -> Result<(), WeightError> {
        let last = self.1.get(name).is_some_and(|&count| rows.end == count);
        self.0.rows(name, rows, out)?;
        if last {
            self.0.release(name);
        }
        Ok(())
    }
}

/// Values of the last position and the logits.
fn run(
    model: &Model,
    (graph, info): (&Graph, &GraphInfo),
    cache: CacheKind,
    tokens: &[u32],
    tapped: &BTreeSet<&str>,
) -> Result<(Vec<GoldenValue>, Vec<f32>), CompileError> {
    let tensors = model.file().tensors().iter();
    let counts = tensors.filter_map(|tensor| match *tensor.shape.as_slice() {
        [rows, _] => Some((tensor.name.as_str(), rows)),
        _ => None,
    });
    let source = Released(model, counts.collect());
    let positions = NonZeroU32::new(tokens.len() as u32).unwrap_or(NonZeroU32::MIN);
    let options = InterpOptions {
        context: positions,
        slots: NonZeroU32::MIN.saturating_add(1),
        cache,
        weight_memory: 0,
    };
    // The same tokens twice: as they are, and with rounded activations.
    let row = |slot, position: u32, token| {
        let output = position + 1 == positions.get();
        Row { token, position, slot, output }
    };
    let sequence = |slot| (0u32..).zip(tokens).map(move |(at, &token)| row(slot, at, token));
    let rows: Vec<Row> = sequence(EXACT).chain(sequence(ROUNDED)).collect();
    let mut values = Vec::new();
    let output = graph.outputs()[0];
    let mut logits = {
        let mut interp = Interp::new(graph, info, &source, options);
        interp.round(ROUNDED, round_to_int8);
        interp.observe(|value, all| {
            let name = value.to_string();
            if value == output || tapped.contains(name.as_str()) {
                values.push(golden_value(graph, value, all));
            }
        });
        interp.step(&rows).map_err(interpreter_error)?
    };
    logits.truncate(width(graph, output));
    // The logits stand last even where something else of the graph is computed after them.
    values.sort_by_key(|it| it.value == output.to_string());
    share_noise(&mut values);
    Ok((values, logits))
}

/// Gives each value the largest noise of its likes in all layers: one row of one layer is too few
/// draws to go by.
fn share_noise(values: &mut [GoldenValue]) {
    let role = |value: &GoldenValue| {
        let name: String = value.node.chars().filter(|it| !it.is_ascii_digit()).collect();
        (name, value.columns)
    };
    let mut most: HashMap<(String, u32), Distance> = HashMap::new();
    for value in values.iter() {
        let noise = most.entry(role(value)).or_default();
        noise.row = noise.row.max(value.noise.row);
        noise.group = noise.group.max(value.noise.group);
    }
    for value in values {
        value.noise = most[&role(value)];
    }
}

/// Slot of the sequence that is computed in f32.
const EXACT: u32 = 0;
/// Slot of the sequence whose activations are rounded.
const ROUNDED: u32 = 1;

/// A value of the last position, given the rows of both sequences, one behind the other.
fn golden_value(graph: &Graph, value: ValueId, all: &[f32]) -> GoldenValue {
    let width = width(graph, value);
    let (exact, rounded) = all.split_at(all.len() / 2);
    let [sketch, other] = [exact, rounded].map(|rows| Sketch::of(&rows[rows.len() - width..]));
    let (noise, _) = Distance::between(&sketch, &other, width);
    let columns = u32::try_from(width).expect("row sizes fit u32");
    GoldenValue { value: value.to_string(), node: node(graph, value), columns, sketch, noise }
}

/// What the CPU's kernels read of a row, as `Activation::Q8` says, without refinements: rows that
/// are quantised column by column have none.
fn round_to_int8(row: &mut [f32]) {
    for block in row.chunks_mut(BLOCK) {
        let largest = block.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let d = largest / 127.0;
        if d > 0.0 && d.is_finite() {
            block.iter_mut().for_each(|x| *x = (*x / d).round_ties_even() * d);
        }
    }
}

fn interpreter_error(error: InterpError) -> CompileError {
    CompileError::Golden { reason: error.to_string() }
}

/// Floats of a row, heads together.
fn width(graph: &Graph, value: ValueId) -> usize {
    let ty = graph.ty(value);
    (1..ty.shape.len()).filter_map(|axis| ty.size(axis)).product()
}

/// `linear blk.3.ffn_down.weight`
fn node(graph: &Graph, value: ValueId) -> String {
    let mut text = graph.op(value).name().to_owned();
    for input in graph.inputs(value) {
        if let Op::Weight(name) = graph.op(input) {
            text.push(' ');
            text.push_str(name);
        }
    }
    if let Op::Attention(spec) = graph.op(value) {
        text.push_str(&format!(" of layer {}", spec.layer));
    }
    text
}

/// The largest logits, equal ones by token.
fn top(logits: &[f32]) -> Vec<TopLogit> {
    let mut all: Vec<TopLogit> =
        (0u32..).zip(logits).map(|(token, &logit)| TopLogit { token, logit }).collect();
    all.sort_by(|a, b| b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token)));
    all.truncate(GOLDEN_TOP);
    all
}

/// Exact sums of the first and the last whole tile of one matrix of every class.
fn all_sums(store: &WeightStore<'_>) -> Result<Vec<GoldenSums>, CompileError> {
    let mut all = Vec::new();
    for class in StorageClass::ALL {
        let fits = |matrix: &Matrix| matrix.class == class && matrix.columns >= GOLDEN_GROUP;
        let Some(index) = store.matrices().iter().position(fits) else { continue };
        let matrix = &store.matrices()[index];
        let last = (matrix.rows / TILE_ROWS).saturating_sub(1);
        all.push(tile_sums(store, index, 0)?);
        if last > 0 {
            all.push(tile_sums(store, index, last)?);
        }
    }
    Ok(all)
}

fn tile_sums(
    store: &WeightStore<'_>,
    index: usize,
    tile: usize,
) -> Result<GoldenSums, CompileError> {
    let matrix = &store.matrices()[index];
    let seed = mix(((index as u64) << 32) + tile as u64);
    let groups = (matrix.columns / GOLDEN_GROUP) as u64;
    let groups: Vec<u32> =
        (0..GOLDEN_GROUPS as u64).map(|row| (mix(seed ^ row) % groups) as u32).collect();
    let rows = tile * TILE_ROWS..matrix.rows.min((tile + 1) * TILE_ROWS);
    let mut sums = Vec::with_capacity(groups.len() * rows.len());
    for (at, &group) in groups.iter().enumerate() {
        for row in rows.clone() {
            sums.push(sum(store, matrix, row, group as usize, activations(seed, at))?);
        }
    }
    let small = |value: usize| u32::try_from(value).expect("checked by the GGUF reader");
    Ok(GoldenSums { weight: small(index), tile: small(tile), seed, groups, sums })
}

/// One weight row's part of a sum: its group of elements by the integers that the file holds.
fn sum(
    store: &WeightStore<'_>,
    matrix: &Matrix,
    row: usize,
    group: usize,
    activations: [i8; GOLDEN_GROUP],
) -> Result<GoldenSum, CompileError> {
    let format = matrix.format;
    let failed = |error: onebit_ir::quant::DecodeError| CompileError::Tensor {
        name: matrix.tensors.join(" + "),
        reason: error.to_string(),
    };
    let bytes = store.row(matrix, row)?;
    let start = group * GOLDEN_GROUP;
    let length = format.block_len().max(GOLDEN_GROUP);
    let first = start / length * length;
    let block_bytes = format.row_bytes(length).unwrap_or(0);
    let block = &bytes[first / length * block_bytes..][..block_bytes];
    if matrix.class.activation() == Activation::F32 {
        let mut floats = vec![0.0; length];
        format.decode(block, &mut floats).map_err(failed)?;
        return Ok(GoldenSum { sum: 1, scale: floats[start - first], min: -0.0 });
    }
    let mut unpacked = Unpacked::new();
    format.unpack(block, &mut unpacked).map_err(failed)?;
    let codes = unpacked.q[start - first..][..GOLDEN_GROUP].iter();
    let place = (start - first) / GOLDEN_GROUP;
    Ok(GoldenSum {
        sum: codes.zip(activations).map(|(&q, a)| i32::from(q) * i32::from(a)).sum(),
        scale: unpacked.scale[place],
        min: unpacked.min[place],
    })
}
