//! Which steps share a dispatch.
//!
//! A dispatch is a step, with row loops drawn into the step that reads them: every workgroup of a
//! product computes the activations that it multiplies, and every workgroup of an attention
//! rotates the heads that it needs. That repeats work and saves a wait, so it is done where rows
//! are few.

use std::collections::{BTreeSet, HashMap, HashSet};

use onebit_ir::rows::{Expr, RowProgram, Store};

use super::matrices::splits_positions;
use crate::schedule::repack::WeightId;
use crate::schedule::steps::{
    Binding, BufferId, Product, RowStep, Rows, Schedule, ShapeId, Step, View, uses,
};

/// Products of one dispatch at most: a kernel binds two matrices.
const PARTS: usize = 2;
/// Widest rows whose activations every workgroup computes for itself: their records, 20 KiB, stand
/// in workgroup memory beside a product's sums, and devices may have 32 KiB.
const WIDEST_PROLOGUE: usize = 8192;

/// One dispatch, before it has a kernel and addresses.
#[derive(Clone, Debug)]
pub struct Unit<'s> {
    /// Region: the step that gives the dispatch its name.
    pub name: &'s str,
    /// Steps that it is, by index; what is drawn into it is not counted.
    pub steps: Vec<usize>,
    pub work: Work<'s>,
}

/// What a dispatch does.
#[derive(Clone, Debug)]
pub enum Work<'s> {
    Gather {
        weight: WeightId,
        out: View,
    },
    Rows(&'s RowStep),
    Product {
        input: Input<'s>,
        parts: Vec<Product>,
        rows: Rows,
    },
    Gated {
        input: Input<'s>,
        gate: Product,
        up: Product,
        epilogue: &'s RowStep,
    },
    CacheWrite {
        shape: ShapeId,
        k: Operand<'s>,
        v: Operand<'s>,
    },
    Attention {
        shape: ShapeId,
        q: Operand<'s>,
        fresh: Option<Fresh<'s>>,
        /// Where its results go; partial results without.
        whole: Option<View>,
    },
    /// Partial results of an attention to a buffer of floats or of records.
    Merge {
        shape: ShapeId,
        out: View,
    },
}

/// Where a product's activations come from.
#[derive(Clone, Copy, Debug)]
pub enum Input<'s> {
    /// They stand in memory.
    Buffer(BufferId),
    /// Each workgroup computes them. `stores` is false where an earlier dispatch of the same loop
    /// has stored its other results.
    Rows { step: &'s RowStep, stores: bool },
    /// Each workgroup merges the partial results of an attention.
    Merge { shape: ShapeId },
}

/// Query, key or value heads of an attention.
#[derive(Clone, Copy, Debug)]
pub enum Operand<'s> {
    Floats(View),
    /// The workgroup computes the heads that it needs.
    Rows(&'s RowStep),
}

/// Keys and values of the step itself, which its attention stores.
#[derive(Clone, Copy, Debug)]
pub struct Fresh<'s> {
    pub k: Operand<'s>,
    pub v: Operand<'s>,
}

/// How far row loops are drawn into their readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fusion {
    /// Into products and attention, and the cache is written by the attention: for one row.
    Whole,
    /// Into attention only.
    Heads,
    /// As [`Fusion::Heads`], and every product is a dispatch of its own. Attention does not split a
    /// row's positions where there are heads and rows enough.
    Apart,
}

/// The dispatches of `schedule`, in order.
pub fn group(schedule: &Schedule, fusion: Fusion) -> Vec<Unit<'_>> {
    let mut grouper = Grouper {
        schedule,
        fusion,
        readers: readers(schedule),
        units: Vec::new(),
        current: 0,
        held: HashMap::new(),
        stored: Vec::new(),
        fresh: None,
        partial: None,
    };
    for index in 0..schedule.steps.len() {
        grouper.step(index);
    }
    grouper.units
}

struct Grouper<'s> {
    schedule: &'s Schedule,
    fusion: Fusion,
    /// Steps that read each buffer.
    readers: HashMap<BufferId, Vec<usize>>,
    units: Vec<Unit<'s>>,
    /// The step that is being grouped.
    current: usize,
    /// Row loops that their readers take over, by the buffer that is read.
    held: HashMap<BufferId, &'s RowStep>,
    /// Held loops whose other results have been stored.
    stored: Vec<BufferId>,
    /// Keys and values that wait for their attention.
    fresh: Option<Fresh<'s>>,
    /// An attention whose partial results wait for their reader, by its output.
    partial: Option<(BufferId, ShapeId, View)>,
}

impl<'s> Grouper<'s> {
    fn step(&mut self, index: usize) {
        let schedule = self.schedule;
        self.current = index;
        let scheduled = &schedule.steps[index];
        let name = scheduled.name.as_str();
        match &scheduled.step {
            // The runtime fills rotation tables at load.
            Step::RopeTable { .. } => {}
            Step::Gather { weight, out, .. } => {
                self.push(name, Work::Gather { weight: *weight, out: *out });
            }
            Step::Rows(step) => self.rows(name, index, step),
            Step::Matmul { product, rows } => self.product(name, *product, *rows),
            Step::Gated { gate, up, epilogue } => {
                let input = self.input(gate.activation);
                self.push(name, Work::Gated { input, gate: *gate, up: *up, epilogue });
            }
            Step::KvWrite { shape, k, v } => {
                let (k, v) = (self.operand(*k), self.operand(*v));
                match self.fusion {
                    Fusion::Whole => self.fresh = Some(Fresh { k, v }),
                    Fusion::Heads | Fusion::Apart => {
                        self.push(name, Work::CacheWrite { shape: *shape, k, v });
                    }
                }
            }
            Step::Attention { shape, q, out } => {
                let (q, fresh) = (self.operand(*q), self.fresh.take());
                self.push(name, Work::Attention { shape: *shape, q, fresh, whole: None });
                self.partial = Some((out.buffer, *shape, *out));
            }
            Step::ArrayGate { .. } | Step::Array { .. } => {
                unreachable!("a plan for an array has no Vulkan part")
            }
        }
    }

    fn rows(&mut self, name: &'s str, index: usize, step: &'s RowStep) {
        if let Some(buffer) = self.fusible(index, step) {
            self.held.insert(buffer, step);
            return;
        }
        if let Some((buffer, shape, _)) = self.partial
            && let Some(out) = copies(step, buffer)
        {
            if self.complete(out, Some(index)) {
                self.partial = None;
            } else {
                self.push(name, Work::Merge { shape, out });
            }
            return;
        }
        self.materialise(name, |buffer| reads_buffer(step, buffer));
        self.push(name, Work::Rows(step));
    }

    /// The buffer of a row loop's result that its only reader can compute by itself.
    fn fusible(&self, index: usize, step: &RowStep) -> Option<BufferId> {
        let (buffer, quantised) = main_result(step)?;
        let readers = self.readers.get(&buffer)?;
        let narrow = step.program.width <= WIDEST_PROLOGUE;
        let by_products = quantised && self.fusion == Fusion::Whole && narrow;
        let reads = |&reader: &usize| match &self.schedule.steps[reader].step {
            Step::Matmul { .. } | Step::Gated { .. } => by_products,
            Step::KvWrite { .. } | Step::Attention { .. } => !quantised,
            _ => false,
        };
        // Nothing but its readers and other loops may come between, so that the loop's other
        // results are there when they are read.
        let last = *readers.iter().max()?;
        let between = (index + 1..last).all(|i| match &self.schedule.steps[i].step {
            Step::Rows(other) => !reads_of(&step.bindings, other),
            _ => true,
        });
        (readers.iter().all(reads) && between).then_some(buffer)
    }

    fn product(&mut self, name: &'s str, product: Product, rows: Rows) {
        let most = match self.fusion {
            Fusion::Whole | Fusion::Heads => PARTS,
            Fusion::Apart => 1,
        };
        if let Some(Unit { work: Work::Product { parts, rows: known, .. }, steps, .. }) =
            self.units.last_mut()
            && parts.len() < most
            && parts[0].activation == product.activation
            && *known == rows
        {
            parts.push(product);
            steps.push(self.current);
            return;
        }
        self.materialise(name, |buffer| buffer == product.activation);
        let input = self.input(product.activation);
        self.push(name, Work::Product { input, parts: vec![product], rows });
    }

    /// How a product gets its activations from `buffer`.
    fn input(&mut self, buffer: BufferId) -> Input<'s> {
        let Some(&step) = self.held.get(&buffer) else { return Input::Buffer(buffer) };
        if let Some((attended, shape, _)) = self.partial
            && copies(step, attended).is_some()
        {
            return Input::Merge { shape };
        }
        let stores = !self.stored.contains(&buffer);
        self.stored.push(buffer);
        Input::Rows { step, stores }
    }

    fn operand(&self, view: View) -> Operand<'s> {
        match self.held.get(&view.buffer) {
            Some(step) => Operand::Rows(step),
            None => Operand::Floats(view),
        }
    }

    /// Merges partial results that are read as they stand in memory.
    fn materialise(&mut self, name: &'s str, is_read: impl Fn(BufferId) -> bool) {
        if let Some((buffer, shape, out)) = self.partial
            && is_read(buffer)
        {
            self.partial = None;
            if self.complete(out, None) {
                return;
            }
            let (steps, work) = (Vec::new(), Work::Merge { shape, out });
            self.units.push(Unit { name, steps, work });
        }
    }

    /// Lets the attention before, where it does not split positions, leave its results at `out`, and
    /// do the step `copy` with that.
    fn complete(&mut self, out: View, copy: Option<usize>) -> bool {
        if self.fusion != Fusion::Apart {
            return false;
        }
        let attention = self.units.iter_mut().rev().find_map(|unit| match &mut unit.work {
            Work::Attention { shape, whole, .. } => Some((*shape, whole, &mut unit.steps)),
            _ => None,
        });
        match attention {
            Some((shape, whole, steps)) if !splits_positions(self.schedule, shape) => {
                *whole = Some(out);
                steps.extend(copy);
                true
            }
            _ => false,
        }
    }

    fn push(&mut self, name: &'s str, work: Work<'s>) {
        // A loop drawn into this dispatch may need merged results, too.
        if let Work::Product { input: Input::Rows { step, .. }, .. }
        | Work::Gated { input: Input::Rows { step, .. }, .. } = &work
        {
            self.materialise(name, |buffer| reads_buffer(step, buffer));
        }
        self.units.push(Unit { name, steps: vec![self.current], work });
    }
}

/// For each unit, the steps that it does: its own, and those drawn into it.
pub fn covered(schedule: &Schedule, units: &[Unit<'_>]) -> Vec<Vec<usize>> {
    let edges = uses::edges(schedule);
    let own: HashSet<usize> = units.iter().flat_map(|unit| &unit.steps).copied().collect();
    let cover = |unit: &Unit<'_>| {
        let mut all: BTreeSet<usize> = BTreeSet::new();
        let mut open = unit.steps.clone();
        while let Some(step) = open.pop() {
            // The runtime fills rotation tables at load.
            let table = matches!(schedule.steps[step].step, Step::RopeTable { .. });
            if !table && all.insert(step) {
                open.extend(edges[step].iter().filter(|from| !own.contains(from)));
            }
        }
        all.into_iter().collect()
    };
    units.iter().map(cover).collect()
}

/// What a loop is for: its quantised result, or its only result.
fn main_result(step: &RowStep) -> Option<(BufferId, bool)> {
    let written = |arg: usize| match step.bindings[arg] {
        Binding::Write(view) => Some(view.buffer),
        _ => None,
    };
    let quantised = step.program.stores.iter().find_map(|store| match store {
        Store::Q8 { arg, .. } => written(*arg),
        Store::F32 { .. } => None,
    });
    match (quantised, step.program.stores.as_slice()) {
        (Some(buffer), _) => Some((buffer, true)),
        (None, [Store::F32 { arg, .. }]) => Some((written(*arg)?, false)),
        _ => None,
    }
}

/// Buffers of the results of a loop that is drawn into its reader, besides the one it is for.
pub fn other_results(step: &RowStep) -> Vec<BufferId> {
    let main = main_result(step).map(|(buffer, _)| buffer);
    let written = step.bindings.iter().filter_map(|binding| match binding {
        Binding::Write(view) => Some(view.buffer),
        _ => None,
    });
    written.filter(|&buffer| Some(buffer) != main).collect()
}

/// The rotation table that `buffer` stands for.
pub fn rope_table(schedule: &Schedule, buffer: BufferId) -> Option<usize> {
    schedule.steps.iter().find_map(|scheduled| match &scheduled.step {
        Step::RopeTable { table, out, .. } if out.buffer == buffer => Some(*table),
        _ => None,
    })
}

/// Where a loop goes that does nothing but copy `buffer`, quantised or not.
fn copies(step: &RowStep, buffer: BufferId) -> Option<View> {
    let RowProgram { exprs, stores, heads, .. } = &step.program;
    let (Store::Q8 { arg, .. } | Store::F32 { arg, .. }) = stores.first()?;
    let plain = matches!(exprs[..], [Expr::Load(_)]) && stores.len() == 1 && *heads == 1;
    match step.bindings[*arg] {
        Binding::Write(view) if plain && reads_buffer(step, buffer) => Some(view),
        _ => None,
    }
}

fn reads_buffer(step: &RowStep, buffer: BufferId) -> bool {
    step.bindings.iter().any(|b| matches!(b, Binding::Read(view) if view.buffer == buffer))
}

/// Whether `other` reads what a loop with the bindings `first` writes.
fn reads_of(first: &[Binding], other: &RowStep) -> bool {
    first.iter().any(|b| matches!(b, Binding::Write(view) if reads_buffer(other, view.buffer)))
}

fn readers(schedule: &Schedule) -> HashMap<BufferId, Vec<usize>> {
    let mut readers: HashMap<BufferId, Vec<usize>> = HashMap::new();
    for (index, scheduled) in schedule.steps.iter().enumerate() {
        let read = match &scheduled.step {
            Step::Gather { .. } | Step::RopeTable { .. } => Vec::new(),
            Step::Rows(step) => read_by(step),
            Step::Matmul { product, .. } => vec![product.activation],
            Step::ArrayGate { activation, .. } | Step::Array { activation, .. } => {
                vec![*activation]
            }
            Step::Gated { gate, up, .. } => vec![gate.activation, up.activation],
            Step::KvWrite { k, v, .. } => vec![k.buffer, v.buffer],
            Step::Attention { q, .. } => vec![q.buffer],
        };
        for buffer in read {
            readers.entry(buffer).or_default().push(index);
        }
    }
    readers
}

fn read_by(step: &RowStep) -> Vec<BufferId> {
    let reads = step.bindings.iter().filter_map(|binding| match binding {
        Binding::Read(view) => Some(view.buffer),
        _ => None,
    });
    reads.collect()
}
