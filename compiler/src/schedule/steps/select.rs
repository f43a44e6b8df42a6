//! Instruction selection: a verified graph to the steps of one entry.
//!
//! Products, gathers and attention become steps where they stand in the graph. Everything
//! element-wise waits until a product or attention needs it; then the whole cone of waiting
//! values that feeds it becomes one row loop (see `cone.rs`).

use std::collections::{BTreeMap, BTreeSet};

use onebit_ir::verify::GraphInfo;
use onebit_ir::{AttentionSpec, Elem, Graph, Op, RopeSpec, ValueId};
use onebit_plan::abi::{Activation, AttentionShape, BLOCK, CacheForm, KEY_TILE};

use super::gates::ArrayGate;
use super::{
    Buffer, BufferId, Contents, Product, RopeTable, RowStep, Rows, Schedule, ScheduledStep, Scope,
    Sharing, Step, View, names,
};
use crate::error::CompileError;
use crate::schedule::repack::WeightStore;

/// What an entry is compiled for.
#[derive(Clone, Copy, Debug)]
pub struct EntryOptions {
    pub name: &'static str,
    pub max_rows: usize,
    /// Positions of a cache slot, a multiple of [`KEY_TILE`].
    pub context: usize,
    /// How the cache keeps keys and values.
    pub cache: CacheForm,
    /// How row-wise work is shared.
    pub sharing: Sharing,
}

/// Lowers `graph` to steps; weights it reads are added to `store`.
pub fn schedule(
    graph: &Graph,
    info: &GraphInfo,
    options: EntryOptions,
    store: &mut WeightStore<'_>,
) -> Result<Schedule, CompileError> {
    let mut selector = Selector::new(graph, options, store);
    selector.find_gated();
    selector.find_array_gates();
    for &value in info.order() {
        selector.select(value)?;
    }
    selector.finish()
}

pub(super) struct Selector<'g, 's, 'm> {
    pub(super) graph: &'g Graph,
    pub(super) options: EntryOptions,
    pub(super) store: &'s mut WeightStore<'m>,
    pub(super) buffers: Vec<Buffer>,
    steps: Vec<ScheduledStep>,
    shapes: Vec<AttentionShape>,
    tables: Vec<RopeTable>,
    /// Buffer of each table, once a step fills it.
    table_views: Vec<View>,
    /// Values that stand in memory as floats.
    pub(super) placed: BTreeMap<ValueId, View>,
    /// Values that stand in memory as quantised activations.
    quantised: BTreeMap<ValueId, BufferId>,
    /// `gated` values whose products and loop become one step.
    gated: BTreeSet<ValueId>,
    /// Products of a gate and what it gates that are made on an array together with the product that
    /// reads them.
    pub(super) array_gates: BTreeSet<ValueId>,
    /// The products that read them.
    pub(super) array_readers: BTreeMap<ValueId, ArrayGate>,
    logits: BufferId,
    cache_bytes: u64,
}

impl<'g, 's, 'm> Selector<'g, 's, 'm> {
    fn new(graph: &'g Graph, options: EntryOptions, store: &'s mut WeightStore<'m>) -> Self {
        let vocabulary = graph.outputs().first().and_then(|&v| graph.row_width(v)).unwrap_or(0);
        let logits = Buffer {
            name: "logits".into(),
            scope: Scope::Logits,
            contents: Contents::F32 { width: vocabulary },
        };
        Self {
            graph,
            options,
            store,
            buffers: vec![logits],
            steps: Vec::new(),
            shapes: Vec::new(),
            tables: Vec::new(),
            table_views: Vec::new(),
            placed: BTreeMap::new(),
            quantised: BTreeMap::new(),
            gated: BTreeSet::new(),
            array_gates: BTreeSet::new(),
            array_readers: BTreeMap::new(),
            logits: BufferId(0),
            cache_bytes: 0,
        }
    }

    fn finish(mut self) -> Result<Schedule, CompileError> {
        for &output in self.graph.outputs() {
            self.view(output)?;
        }
        names::make_unique(&mut self.steps, self.logits);
        for shape in &mut self.shapes {
            shape.slot_bytes = self.cache_bytes;
        }
        let mut values: Vec<(BufferId, ValueId)> =
            self.placed.iter().map(|(&value, view)| (view.buffer, value)).collect();
        values.sort_unstable();
        Ok(Schedule {
            name: self.options.name,
            max_rows: self.options.max_rows,
            buffers: self.buffers,
            steps: self.steps,
            shapes: self.shapes,
            tables: self.tables,
            values,
        })
    }

    /// Finds `gated(linear(x, a), linear(x, b))` that can run column by column: nothing else uses
    /// the linears, and every user of the result is a product that reads int8.
    fn find_gated(&mut self) {
        for value in self.graph.values() {
            if matches!(self.graph.op(value), Op::Gated(_)) && self.runs_by_columns(value) {
                self.gated.insert(value);
            }
        }
    }

    fn runs_by_columns(&self, value: ValueId) -> bool {
        let inputs = self.graph.inputs(value);
        let linear = |v: ValueId| {
            let args = self.graph.inputs(v);
            let plain = *self.graph.op(v) == Op::Linear && args.len() == 2;
            let single = self.graph.users(v).len() == 1 && !self.graph.outputs().contains(&v);
            (plain && single && self.activation_of(v) == Activation::Q8).then(|| args[0])
        };
        let same_input = match (linear(inputs[0]), linear(inputs[1])) {
            (Some(a), Some(b)) => a == b,
            _ => false,
        };
        let int8_users = self.graph.users(value).iter().all(|&user| {
            self.graph.op(user) == &Op::Linear && self.activation_of(user) == Activation::Q8
        });
        let width = self.graph.row_width(value).unwrap_or(1);
        let output = self.graph.outputs().contains(&value);
        same_input && int8_users && width.is_multiple_of(32) && !output
    }

    /// What the product `value` reads.
    pub(super) fn activation_of(&self, value: ValueId) -> Activation {
        let inputs = self.graph.inputs(value);
        if self.store.goes_to_array(self.graph, &inputs[1..]) {
            return Activation::F32;
        }
        self.store.activation_of(self.graph, inputs[1])
    }

    fn select(&mut self, value: ValueId) -> Result<(), CompileError> {
        match self.graph.op(value) {
            Op::Embed => self.select_embed(value),
            Op::Linear | Op::StackedLinear => self.select_product(value),
            Op::Gated(_) if self.gated.contains(&value) => self.select_gated(value),
            Op::Attention(spec) => self.select_attention(value, *spec),
            _ => Ok(()),
        }
    }

    fn select_embed(&mut self, value: ValueId) -> Result<(), CompileError> {
        let table = self.graph.inputs(value)[0];
        let weight = self.store.matrix(self.graph, &[table])?;
        let width = self.width(value);
        let sharing = self.options.sharing;
        let out = self.row_buffer("embed", width, sharing);
        self.placed.insert(value, out);
        self.push(value, Step::Gather { weight, out, sharing });
        Ok(())
    }

    fn select_product(&mut self, value: ValueId) -> Result<(), CompileError> {
        let feeds_gated = self.graph.users(value).iter().any(|user| self.gated.contains(user));
        if feeds_gated || self.array_gates.contains(&value) {
            return Ok(());
        }
        if let Some(&gate) = self.array_readers.get(&value) {
            return self.select_array_gate(value, gate);
        }
        let out = if self.graph.outputs().contains(&value) {
            self.logits_view()
        } else {
            let width = self.width(value);
            self.buffer("product", Scope::Shared, width)
        };
        let rows = self.rows(value);
        let inputs = self.graph.inputs(value);
        let step = if self.store.goes_to_array(self.graph, &inputs[1..]) {
            let weight = self.store.array(self.graph, &inputs[1..])?;
            let activation = self.contiguous(inputs[0])?;
            Step::Array { weight, activation, out, rows }
        } else {
            Step::Matmul { product: self.product(value, out)?, rows }
        };
        self.placed.insert(value, out);
        self.push(value, step);
        Ok(())
    }

    /// Packs the weight of product `value` and brings its input in the form it reads.
    fn product(&mut self, value: ValueId, out: View) -> Result<Product, CompileError> {
        let inputs = self.graph.inputs(value);
        let weight = self.store.matrix(self.graph, &inputs[1..])?;
        let activation = match self.activation_of(value) {
            Activation::Q8 => self.quantised(inputs[0])?,
            Activation::F32 => self.contiguous(inputs[0])?,
        };
        Ok(Product { weight, activation, out })
    }

    fn select_gated(&mut self, value: ValueId) -> Result<(), CompileError> {
        let inputs = self.graph.inputs(value);
        let width = self.width(value);
        let gate_view = self.buffer("gate", Scope::Shared, width);
        let up_view = self.buffer("up", Scope::Shared, width);
        let gate = self.product(inputs[0], gate_view)?;
        let up = self.product(inputs[1], up_view)?;
        self.placed.insert(inputs[0], gate_view);
        self.placed.insert(inputs[1], up_view);
        let epilogue = self.column_loop(value)?;
        self.push(value, Step::Gated { gate, up, epilogue });
        Ok(())
    }

    fn select_attention(
        &mut self,
        value: ValueId,
        spec: AttentionSpec,
    ) -> Result<(), CompileError> {
        let inputs = self.graph.inputs(value);
        let q = self.view(inputs[0])?;
        let k = self.view(inputs[1])?;
        let v = self.view(inputs[2])?;
        let (heads, key_dim) = self.heads(inputs[0]);
        let (kv_heads, value_dim) = self.heads(inputs[2]);
        let limit = onebit_cpu::attention::MAX_HEAD_DIM;
        if key_dim > limit || value_dim > limit {
            let found = key_dim.max(value_dim);
            return Err(CompileError::HeadTooWide { layer: spec.layer, found, limit });
        }
        let EntryOptions { cache: form, context, .. } = self.options;
        let odd = [key_dim, value_dim].into_iter().find(|dim| !dim.is_multiple_of(BLOCK));
        if let (CacheForm::Q8, Some(found)) = (form, odd) {
            return Err(CompileError::HeadBlocks { layer: spec.layer, found });
        }
        let out = self.buffer("attention", Scope::Shared, heads * value_dim);
        let cache = |dim: usize| {
            let bytes = kv_heads * form.head_bytes(context, dim);
            bytes.next_multiple_of(onebit_plan::abi::BUFFER_ALIGN) as u64
        };
        let key_offset = self.cache_bytes;
        let value_offset = key_offset + cache(key_dim);
        self.cache_bytes = value_offset + cache(value_dim);
        debug_assert_eq!(context % KEY_TILE, 0);
        let shape = self.shapes.len();
        self.shapes.push(AttentionShape {
            slot_bytes: 0,
            key_offset,
            value_offset,
            heads: small(heads),
            kv_heads: small(kv_heads),
            key_dim: small(key_dim),
            value_dim: small(value_dim),
            context: small(context),
            window: spec.window.unwrap_or(0),
            scale: spec.scale,
            softcap: spec.softcap.unwrap_or(0.0),
            q_stride: small(q.stride),
            k_stride: small(k.stride),
            v_stride: small(v.stride),
            out_stride: small(out.stride),
            form: form.number(),
            reserved: 0,
        });
        self.placed.insert(value, out);
        let (step, name) = (Step::KvWrite { shape, k, v }, format!("blk.{}.kv_write", spec.layer));
        self.steps.push(ScheduledStep { step, name, ops: vec!["kv_write"] });
        self.push(value, Step::Attention { shape, q, out });
        Ok(())
    }

    /// `value` as floats in memory, computing it if it still waits.
    pub(super) fn view(&mut self, value: ValueId) -> Result<View, CompileError> {
        if let Some(view) = self.existing_view(value) {
            return Ok(view);
        }
        match self.graph.op(value) {
            Op::Slice { .. } | Op::SplitHeads { .. } | Op::MergeHeads => {
                let input = self.graph.inputs(value)[0];
                self.view(input)?;
            }
            _ => self.row_loop(value)?,
        }
        self.existing_view(value).ok_or_else(|| self.unplaced(value))
    }

    /// `value` as floats in memory if it, or what it is a view of, is there already.
    pub(super) fn existing_view(&self, value: ValueId) -> Option<View> {
        if let Some(view) = self.placed.get(&value) {
            return Some(*view);
        }
        let input = || self.existing_view(self.graph.inputs(value)[0]);
        match self.graph.op(value) {
            Op::Slice { start, .. } => {
                let base = input()?;
                Some(View { column: base.column + start, ..base })
            }
            Op::SplitHeads { .. } | Op::MergeHeads => input(),
            _ => None,
        }
    }

    /// `value` as quantised activations.
    fn quantised(&mut self, value: ValueId) -> Result<BufferId, CompileError> {
        if !self.quantised.contains_key(&value) {
            self.row_loop(value)?;
        }
        self.quantised.get(&value).copied().ok_or_else(|| self.unplaced(value))
    }

    /// `value` as rows of floats without gaps.
    pub(super) fn contiguous(&mut self, value: ValueId) -> Result<BufferId, CompileError> {
        let view = self.view(value)?;
        let width = self.width(value);
        if view.column == 0 && view.stride == width {
            return Ok(view.buffer);
        }
        self.placed.remove(&value);
        let copy = self.copy_loop(value, view)?;
        Ok(copy.buffer)
    }

    pub(super) fn place_quantised(&mut self, value: ValueId, scope: Scope) -> View {
        let width = self.width(value);
        let buffer = self.push_buffer("activation", scope, Contents::Q8 { width });
        self.quantised.insert(value, buffer);
        View { buffer, column: 0, stride: width }
    }

    /// The buffer that a row loop's floats of `value` go to.
    pub(super) fn place_floats(&mut self, value: ValueId, sharing: Sharing) -> View {
        let view = if self.graph.outputs().contains(&value) {
            self.logits_view()
        } else {
            self.row_buffer("rows", self.width(value), sharing)
        };
        self.placed.insert(value, view);
        view
    }

    /// The table of cos and sin rows for a rope op, filled once per step.
    pub(super) fn rope_table(
        &mut self,
        value: ValueId,
        spec: RopeSpec,
    ) -> Result<View, CompileError> {
        let inputs = self.graph.inputs(value);
        let factors = inputs.get(2).map(|&v| self.store.floats(self.graph, v)).transpose()?;
        let (frequencies, magnitude) = spec.frequencies(factors.as_deref());
        let table = RopeTable { frequencies, magnitude };
        if let Some(found) = self.tables.iter().position(|t| *t == table) {
            return Ok(self.table_views[found]);
        }
        let sharing = self.options.sharing;
        let out = self.row_buffer("rope", spec.dims, sharing);
        let index = self.tables.len();
        self.tables.push(table);
        self.table_views.push(out);
        let step = Step::RopeTable { table: index, out, sharing };
        let ops = vec!["rope_table"];
        self.steps.push(ScheduledStep { step, name: "rope_table".into(), ops });
        Ok(out)
    }

    pub(super) fn push_rows(&mut self, value: ValueId, step: RowStep, ops: Vec<&'static str>) {
        let name = names::name(self.graph, value);
        self.steps.push(ScheduledStep { step: Step::Rows(step), name, ops });
    }

    pub(super) fn push(&mut self, value: ValueId, step: Step) {
        let name = names::name(self.graph, value);
        self.steps.push(ScheduledStep { step, name, ops: vec![self.graph.op(value).name()] });
    }

    pub(super) fn buffer(&mut self, name: &str, scope: Scope, width: usize) -> View {
        let buffer = self.push_buffer(name, scope, Contents::F32 { width });
        View { buffer, column: 0, stride: width }
    }

    fn row_buffer(&mut self, name: &str, width: usize, sharing: Sharing) -> View {
        self.buffer(name, scope_of(sharing), width)
    }

    fn push_buffer(&mut self, name: &str, scope: Scope, contents: Contents) -> BufferId {
        let id = BufferId(self.buffers.len());
        self.buffers.push(Buffer { name: name.to_owned(), scope, contents });
        id
    }

    fn logits_view(&self) -> View {
        let Contents::F32 { width } = self.buffers[self.logits.0].contents else {
            unreachable!("logits are floats");
        };
        View { buffer: self.logits, column: 0, stride: width }
    }

    pub(super) fn rows(&self, value: ValueId) -> Rows {
        Rows::of(self.graph.ty(value).shape[0])
    }

    /// Floats per row of `value`, heads together.
    pub(super) fn width(&self, value: ValueId) -> usize {
        let shape = &self.graph.ty(value).shape;
        (1..shape.len()).filter_map(|axis| self.graph.ty(value).size(axis)).product()
    }

    /// Heads and elements per head of `value`; one head for plain rows.
    pub(super) fn heads(&self, value: ValueId) -> (usize, usize) {
        let ty = self.graph.ty(value);
        match (ty.shape.len(), ty.size(1), ty.size(2)) {
            (3, Some(heads), Some(dim)) => (heads, dim),
            _ => (1, self.width(value)),
        }
    }

    pub(super) fn is_vector(&self, value: ValueId) -> bool {
        let ty = self.graph.ty(value);
        matches!(ty.elem, Elem::Block(_)) && ty.shape.len() == 1
    }

    pub(super) fn unplaced(&self, value: ValueId) -> CompileError {
        let op = self.graph.op(value).name();
        CompileError::Unsupported { op, value: value.to_string() }
    }
}

/// Scope of buffers that row-wise steps write.
pub(super) fn scope_of(sharing: Sharing) -> Scope {
    match sharing {
        Sharing::Split => Scope::Shared,
        Sharing::Repeat => Scope::Private,
    }
}

/// Sizes that came through a verified graph fit u32: GGUF dimensions of a row are far below it.
fn small(size: usize) -> u32 {
    u32::try_from(size).expect("row sizes fit u32")
}
