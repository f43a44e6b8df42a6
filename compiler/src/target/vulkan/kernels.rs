//! Which kernel does a dispatch, over how many workgroups, on what.

use std::collections::HashMap;

use onebit_plan::abi::{BLOCK, TILE_ROWS};
use onebit_shaders::attention::{self, KeyValue, MergeOut};
use onebit_shaders::cooperative::{self, Cooperative};
use onebit_shaders::gated::Gated;
use onebit_shaders::gather::Gather;
use onebit_shaders::product::{self, Input as ProductInput, Output, Part};
use onebit_shaders::rows::{self, RowsKind};
use onebit_shaders::{ActivationForm, Kernel, pick};

use super::dispatch::{Operands, Program, place, u32_of};
use super::group::{Fresh, Input, Operand, Unit, Work, rope_table};
use super::matrices::{Arithmetic, PartCounts, cut, is_integer, matrix_rows};
use super::memory::{Accesses, Resource};
use crate::error::CompileError;
use crate::schedule::repack::{WeightId, WeightStore};
use crate::schedule::steps::{
    Binding, BufferId, Contents, Product, RowStep, Rows, Schedule, Scope, ShapeId, View,
};

/// A dispatch without addresses.
#[derive(Debug)]
pub struct Chosen<'s> {
    pub kernel: Kernel,
    pub groups: [u32; 3],
    pub operands: Operands<'s>,
}

/// The kernels of a plan, each once.
#[derive(Debug, Default)]
pub struct KernelSet {
    kernels: Vec<Kernel>,
    numbers: HashMap<String, u32>,
}

impl KernelSet {
    /// Number of `kernel` in the plan.
    pub fn index(&mut self, kernel: &Kernel) -> u32 {
        if let Some(&number) = self.numbers.get(&kernel.name) {
            // A builder whose names do not tell its kernels apart would give a plan that is wrong.
            let is_same = self.kernels[number as usize] == *kernel;
            assert!(is_same, "two kernels have the name {}", kernel.name);
            return number;
        }
        let number = u32_of(self.kernels.len());
        self.numbers.insert(kernel.name.clone(), number);
        self.kernels.push(kernel.clone());
        number
    }

    pub fn into_kernels(self) -> Vec<Kernel> {
        self.kernels
    }
}

/// Workgroups that a product is cut into at most, before each takes several tiles: enough to fill
/// a large device, few enough that starting them costs little.
const PRODUCT_GROUPS: usize = 640;
/// As [`PRODUCT_GROUPS`], of a product of one row with so many outputs that each workgroup has
/// many tiles in turn: two for each processor of a large device, so that they run at once and
/// none computes its activations while others wait for it to begin.
const LONG_GROUPS: usize = 264;
/// Elements of a row beyond which a workgroup of one row does two tiles side by side, where a product has
/// [`MANY_TILES`].
const LONG_ROW: usize = 4096;
/// Tiles of which a large device's processors have two each.
const MANY_TILES: usize = 256;
/// Parts that a row's positions are split into at most.
const SPLITS: u32 = 8;

/// The kernel for `unit`, a dispatch of `schedule`.
pub fn choose<'s>(
    schedule: &'s Schedule,
    store: &WeightStore<'_>,
    unit: &Unit<'s>,
    (arithmetic, parts): (Arithmetic, &PartCounts),
) -> Result<Chosen<'s>, CompileError> {
    let chooser = Chooser { parts, schedule, store, rows: schedule.max_rows, arithmetic };
    match &unit.work {
        Work::Gather { weight, out } => Ok(chooser.gather(*weight, *out)),
        Work::Rows(step) => chooser.rows(step),
        Work::Product { input, parts, rows } => chooser.product(input, parts, *rows),
        Work::Gated { input, gate, up, epilogue } => chooser.gated(input, [gate, up], epilogue),
        Work::CacheWrite { shape, k, v } => chooser.cache_write(*shape, k, v),
        Work::Attention { shape, q, fresh, whole } => {
            chooser.attention(*shape, q, fresh.as_ref(), *whole)
        }
        Work::Merge { shape, out } => chooser.merge(*shape, *out),
    }
}

/// The dispatches that take the largest logit of every output.
pub fn picks(schedule: &Schedule) -> [(Chosen<'_>, Accesses); 2] {
    let (vocabulary, rows) = (vocabulary(schedule), u32_of(schedule.max_rows));
    let [step, logits, candidates] = [Resource::Step, Resource::Logits, Resource::Candidates];
    let first = Chosen {
        kernel: pick::candidates(vocabulary),
        groups: pick::candidate_groups(vocabulary, rows),
        operands: Operands { outs: vec![(candidates, 0)], ..Operands::default() },
    };
    let last = Chosen {
        kernel: pick::winners(vocabulary),
        groups: [1, 1, 1],
        operands: Operands { partials: Some(candidates), ..Operands::default() },
    };
    [
        (first, Accesses { reads: vec![step, logits], writes: vec![candidates] }),
        (last, Accesses { reads: vec![candidates], writes: vec![step] }),
    ]
}

/// Bytes of the partial results of an attention.
pub fn partial_bytes(schedule: &Schedule, shape: ShapeId) -> usize {
    let shape = attention::Shape::from(&schedule.shapes[shape]);
    size(attention::partial_bytes(&shape, SPLITS, u32_of(schedule.max_rows)))
}

/// Bytes of the candidates for the next tokens.
pub fn candidate_bytes(schedule: &Schedule) -> usize {
    size(pick::candidate_bytes(vocabulary(schedule), u32_of(schedule.max_rows)))
}

fn vocabulary(schedule: &Schedule) -> u32 {
    match schedule.buffers[0].contents {
        Contents::F32 { width } | Contents::Q8 { width } => u32_of(width),
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a step's scratch is small")
}

struct Chooser<'s, 'm> {
    parts: &'m PartCounts,
    schedule: &'s Schedule,
    store: &'m WeightStore<'m>,
    rows: usize,
    arithmetic: Arithmetic,
}

impl<'s> Chooser<'s, '_> {
    fn gather(&self, id: WeightId, out: View) -> Chosen<'s> {
        let matrix = self.store.matrix_at(id);
        let gather =
            Gather { class: matrix.class, n: matrix.rows, k: matrix.columns, stride: out.stride };
        let outs = vec![(Resource::Buffer(out.buffer), out.column)];
        let weight_rows = Some(self.rows);
        let operands = Operands { weights: vec![id], weight_rows, outs, ..Operands::default() };
        Chosen { kernel: gather.kernel(), groups: self.by_row(), operands }
    }

    fn rows(&self, step: &'s RowStep) -> Result<Chosen<'s>, CompileError> {
        let logits = step.bindings.iter().position(
            |binding| matches!(binding, Binding::Write(view) if self.is_logits(view.buffer)),
        );
        let parts = self.parts_of(step);
        let ends = rows::Ends { logits, form: self.arithmetic.form(), parts: &parts };
        let kernel = rows::kernel_with(&step.program, kind(step.rows), ends)?;
        let rope = self.rope(step);
        let programs = vec![Program::Loop(step)];
        let operands = Operands { programs, rope, ..Operands::default() };
        Ok(Chosen { kernel, groups: self.by_row(), operands })
    }

    /// What a row loop reads that is the sum of several.
    fn parts_of(&self, step: &RowStep) -> Vec<rows::Parts> {
        let bindings = step.bindings.iter().enumerate();
        let parts = bindings.filter_map(|(arg, binding)| match binding {
            Binding::Read(view) => self.parts_at(arg, *view),
            Binding::Write(_) | Binding::Vector(_) => None,
        });
        parts.collect()
    }

    fn parts_at(&self, arg: usize, view: View) -> Option<rows::Parts> {
        let count = *self.parts.get(&view.buffer)?;
        Some(rows::Parts { arg, count, pitch: matrix_rows(self.rows) * view.stride })
    }

    /// As [`Chooser::parts_of`], of an operand of an attention.
    fn operand_parts(&self, operand: &Operand<'s>) -> Vec<rows::Parts> {
        match operand {
            Operand::Floats(view) => self.parts_at(0, *view).into_iter().collect(),
            Operand::Rows(step) => self.parts_of(step),
        }
    }

    fn product(
        &self,
        input: &Input<'s>,
        parts: &[Product],
        rows: Rows,
    ) -> Result<Chosen<'s>, CompileError> {
        let matrix = |part: &Product| self.store.matrix_at(part.weight);
        let part = |part: &Product| Part {
            class: matrix(part).class,
            n: matrix(part).rows,
            output: self.output(part),
        };
        let outputs: usize = parts.iter().map(|part| matrix(part).rows).sum();
        let k = matrix(&parts[0]).columns;
        let (source, mut operands) = self.input(input)?;
        operands.weights = parts.iter().map(|part| part.weight).collect();
        operands.outs = parts.iter().map(|part| place(self.schedule, part.out)).collect();
        if let (Arithmetic::Matrices, [part]) = (self.arithmetic, parts)
            && is_integer(self.store, part)
        {
            let (class, n) = (matrix(part).class, matrix(part).rows);
            let work = cooperative::Work::Product { class, n, output: self.output(part) };
            let count = self.parts.get(&part.out.buffer).copied().unwrap_or(1);
            return Ok(self.cooperative(k, (work, count), &source, rows, operands));
        }
        let product = product::Product {
            k,
            parts: parts.iter().map(part).collect(),
            input: source,
            rows: kind(rows),
            m: rows_a_group(self.rows),
            tiles: tiles_a_group((outputs, k), self.rows),
        };
        Ok(Chosen { kernel: product.kernel(), groups: product.groups(self.rows), operands })
    }

    fn gated(
        &self,
        input: &Input<'s>,
        [gate, up]: [&Product; 2],
        epilogue: &'s RowStep,
    ) -> Result<Chosen<'s>, CompileError> {
        let [first, second] = [gate, up].map(|part| self.store.matrix_at(part.weight));
        let (source, mut operands) = self.input(input)?;
        let written = epilogue.bindings.iter().find_map(|binding| match binding {
            Binding::Write(view) => Some(*view),
            _ => None,
        });
        operands.weights = vec![gate.weight, up.weight];
        operands.outs = written.iter().map(|&view| place(self.schedule, view)).collect();
        let (k, n, classes) = (first.columns, first.rows, [first.class, second.class]);
        if self.arithmetic == Arithmetic::Matrices {
            let work = cooperative::Work::Gated { classes, n, epilogue: &epilogue.program };
            return Ok(self.cooperative(k, (work, 1), &source, Rows::All, operands));
        }
        let mut gated = Gated {
            k,
            n,
            classes,
            input: source,
            m: rows_a_group(self.rows),
            blocks: 1,
            epilogue: &epilogue.program,
        };
        gated.blocks = blocks_a_group(&gated);
        Ok(Chosen { kernel: gated.kernel(), groups: gated.groups(self.rows), operands })
    }

    fn output(&self, part: &Product) -> Output {
        let stride = part.out.stride;
        match self.is_logits(part.out.buffer) {
            true => Output::Logits { stride },
            false => Output::Arena { stride },
        }
    }

    /// A dispatch of matrices. Its input stands in the arena: nothing is drawn into products of so
    /// many rows.
    fn cooperative(
        &self,
        k: usize,
        (work, parts): (cooperative::Work<'_>, usize),
        source: &ProductInput<'_>,
        rows: Rows,
        operands: Operands<'s>,
    ) -> Chosen<'s> {
        debug_assert_eq!(*source, ProductInput::Records);
        let m = matrix_rows(self.rows);
        let outputs = match work {
            cooperative::Work::Product { n, .. } => n,
            cooperative::Work::Gated { n, .. } => 2 * n,
        };
        let (turn, _) = cut(outputs, k, parts..=parts);
        let cooperative = Cooperative { k, work, rows: kind(rows), m, turn, parts };
        Chosen { kernel: cooperative.kernel(), groups: cooperative.groups(self.rows), operands }
    }

    fn cache_write(
        &self,
        shape: ShapeId,
        k: &Operand<'s>,
        v: &Operand<'s>,
    ) -> Result<Chosen<'s>, CompileError> {
        let heads = self.shape(shape);
        let [k_parts, v_parts] = [k, v].map(|it| self.operand_parts(it));
        let kernel = attention::cache_write(&heads, operand(k, &k_parts), operand(v, &v_parts))?;
        // The programs of keys and values are 1 and 2; there are no queries.
        let programs = vec![program(k), program(k), program(v)];
        let rope = self.rope_of(k);
        let operands = Operands { programs, rope, cache: Some(shape), ..Operands::default() };
        Ok(Chosen { kernel, groups: [heads.kv_heads, u32_of(self.rows), 1], operands })
    }

    fn attention(
        &self,
        shape: ShapeId,
        q: &Operand<'s>,
        fresh: Option<&Fresh<'s>>,
        whole: Option<View>,
    ) -> Result<Chosen<'s>, CompileError> {
        let heads = self.shape(shape);
        let mut programs = vec![program(q)];
        let parts = self.operand_parts(q);
        let fresh_parts = fresh.map(|Fresh { k, v }| [k, v].map(|it| self.operand_parts(it)));
        let key_value = match (fresh, &fresh_parts) {
            (Some(Fresh { k, v }), Some([k_parts, v_parts])) => {
                programs.extend([program(k), program(v)]);
                KeyValue::Fresh { k: operand(k, k_parts), v: operand(v, v_parts) }
            }
            _ => KeyValue::Cached,
        };
        let queries = operand(q, &parts);
        let contents = |view: View| self.schedule.buffers[view.buffer.0].contents;
        let (kernel, splits) = match whole.map(contents) {
            None => (attention::kernel(&heads, SPLITS, queries, key_value)?, SPLITS),
            Some(Contents::F32 { .. }) => (attention::kernel(&heads, 1, queries, key_value)?, 1),
            Some(Contents::Q8 { .. }) => {
                (attention::kernel_leaving_halves(&heads, queries, key_value)?, 1)
            }
        };
        let out = whole.map_or((Resource::Partial(shape), 0), |out| place(self.schedule, out));
        let operands = Operands {
            programs,
            outs: vec![out],
            rope: self.rope_of(q),
            cache: Some(shape),
            ..Operands::default()
        };
        Ok(Chosen {
            kernel,
            groups: attention::groups(&heads, splits, u32_of(self.rows)),
            operands,
        })
    }

    fn merge(&self, shape: ShapeId, out: View) -> Result<Chosen<'s>, CompileError> {
        let form = match self.schedule.buffers[out.buffer.0].contents {
            Contents::F32 { .. } => MergeOut::Floats,
            Contents::Q8 { .. } => match self.arithmetic.form() {
                ActivationForm::Records => MergeOut::Records,
                ActivationForm::Halves => MergeOut::Halves,
            },
        };
        let operands = Operands {
            outs: vec![place(self.schedule, out)],
            partials: Some(Resource::Partial(shape)),
            ..Operands::default()
        };
        let kernel = attention::merge_kernel(&self.shape(shape), SPLITS, form)?;
        Ok(Chosen { kernel, groups: self.by_row(), operands })
    }

    /// How a product's kernel gets its activations, and the operands that this takes.
    fn input(&self, input: &Input<'s>) -> Result<(ProductInput<'s>, Operands<'s>), CompileError> {
        Ok(match *input {
            Input::Buffer(buffer) => {
                let operands =
                    Operands { input: Some(Resource::Buffer(buffer)), ..Operands::default() };
                let source = match self.schedule.buffers[buffer.0].contents {
                    Contents::Q8 { .. } => ProductInput::Records,
                    Contents::F32 { width } => ProductInput::Floats { stride: width },
                };
                (source, operands)
            }
            Input::Rows { step, .. } => {
                let programs = vec![Program::Loop(step)];
                let operands = Operands { programs, ..Operands::default() };
                (ProductInput::Prologue(&step.program), operands)
            }
            Input::Merge { shape } => {
                let operands =
                    Operands { partials: Some(Resource::Partial(shape)), ..Operands::default() };
                (ProductInput::Merge { shape: self.shape(shape), splits: SPLITS }, operands)
            }
        })
    }

    fn shape(&self, shape: ShapeId) -> attention::Shape {
        attention::Shape::from(&self.schedule.shapes[shape])
    }

    fn is_logits(&self, buffer: BufferId) -> bool {
        self.schedule.buffers[buffer.0].scope == Scope::Logits
    }

    /// One workgroup for each row.
    fn by_row(&self) -> [u32; 3] {
        [u32_of(self.rows), 1, 1]
    }

    fn rope_of(&self, operand: &Operand<'_>) -> Option<usize> {
        match operand {
            Operand::Rows(step) => self.rope(step),
            Operand::Floats(_) => None,
        }
    }

    /// The table of a loop that rotates.
    fn rope(&self, step: &RowStep) -> Option<usize> {
        let rotate = step.program.rotate?;
        match step.bindings[rotate.table] {
            Binding::Read(view) => rope_table(self.schedule, view.buffer),
            _ => None,
        }
    }
}

fn kind(rows: Rows) -> RowsKind {
    match rows {
        Rows::All => RowsKind::All,
        Rows::Outputs => RowsKind::Outputs,
    }
}

fn operand<'a>(operand: &Operand<'a>, parts: &'a [rows::Parts]) -> attention::Operand<'a> {
    match operand {
        Operand::Floats(view) => attention::Operand::Floats { stride: u32_of(view.stride), parts },
        Operand::Rows(step) => attention::Operand::Program { program: &step.program, parts },
    }
}

fn program<'s>(operand: &Operand<'s>) -> Program<'s> {
    match *operand {
        Operand::Floats(view) => Program::Floats(view),
        Operand::Rows(step) => Program::Loop(step),
    }
}

/// Rows of the step that a workgroup of a product does.
fn rows_a_group(rows: usize) -> usize {
    match rows {
        1 => 1,
        2..=4 => 4,
        _ => 8,
    }
}

/// Blocks of 32 results that a workgroup of a gated product does.
fn blocks_a_group(gated: &Gated<'_>) -> usize {
    if gated.m == 1 && gated.classes[0] == gated.classes[1] {
        // A processor has two workgroups at once, or a large one.
        let groups = LONG_GROUPS / if gated.row_invocations() > 512 { 2 } else { 1 };
        return (gated.n / BLOCK).div_ceil(groups);
    }
    gated.n.div_ceil(TILE_ROWS).div_ceil(PRODUCT_GROUPS)
}

/// Tiles of 16 outputs that a workgroup of a product does.
fn tiles_a_group((outputs, k): (usize, usize), rows: usize) -> usize {
    let tiles = outputs.div_ceil(TILE_ROWS);
    match tiles.div_ceil(PRODUCT_GROUPS) {
        // Two are done side by side.
        few if rows == 1 && few > 2 => tiles.div_ceil(LONG_GROUPS).next_multiple_of(2),
        1 if rows == 1 && k > LONG_ROW && tiles >= MANY_TILES => 2,
        few => few,
    }
}
