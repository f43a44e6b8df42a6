//! From a kernel and what it works on to a dispatch: windows and immediates.

use onebit_ir::rows::ArgId;
use onebit_plan::gpu::{GpuDispatch, GpuWindow, WINDOW_ALIGN, binding};
use onebit_shaders::{Immediate, Kernel};

use super::memory::{Arena, Resource};
use crate::schedule::repack::{VectorId, WeightId, WeightStore};
use crate::schedule::steps::{
    Binding, BufferId, Contents, RowStep, Schedule, Scope, ShapeId, View,
};

/// What stands at the place of a row program.
#[derive(Clone, Copy, Debug)]
pub enum Program<'s> {
    Loop(&'s RowStep),
    /// Floats that stand in the arena, as argument 0.
    Floats(View),
}

/// What a kernel's immediates and bindings stand for in one dispatch.
#[derive(Debug, Default)]
pub struct Operands<'s> {
    /// At the bindings `WEIGHTS` and `SECOND`.
    pub weights: Vec<WeightId>,
    /// Rows of the weights that are read, where that is not all.
    pub weight_rows: Option<usize>,
    /// The kernel's row programs, in its order.
    pub programs: Vec<Program<'s>>,
    /// Bytes of the weight segment that the next dispatch reads, where the kernel looks ahead.
    pub next: Option<(u64, u64)>,
    /// Activations that stand in the arena.
    pub input: Option<Resource>,
    /// Results by [`Immediate::Out`]: where, and the first float of a row.
    pub outs: Vec<(Resource, usize)>,
    /// What [`Immediate::Partials`] says the place of.
    pub partials: Option<Resource>,
    /// The attention whose cache is used.
    pub cache: Option<ShapeId>,
    pub rope: Option<usize>,
}

/// What addresses are made from.
pub struct Layout<'a> {
    pub schedule: &'a Schedule,
    pub store: &'a WeightStore<'a>,
    pub arena: &'a Arena,
    /// Offset and length of each attention's cache, for one slot.
    pub caches: &'a [(u64, u64)],
}

impl Layout<'_> {
    /// The dispatch of `kernel`, number `index` of the plan, over `groups` workgroups.
    pub fn dispatch(
        &self,
        (index, kernel): (u32, &Kernel),
        (region, wait): (&str, bool),
        groups: [u32; 3],
        operands: &Operands<'_>,
    ) -> GpuDispatch {
        let slots = kernel.slots.iter();
        let words = kernel.immediates.iter();
        let read = |&id: &WeightId| {
            let matrix = self.store.matrix_at(id);
            let rows = matrix.rows as u64;
            let read = operands.weight_rows.map_or(rows, |count| rows.min(count as u64));
            matrix.bytes * read / rows
        };
        GpuDispatch {
            taps: Vec::new(),
            kernel: index,
            region: format!("@{region}"),
            regions: Vec::new(),
            wait,
            groups,
            windows: slots.map(|slot| self.window(slot.binding, operands)).collect(),
            immediates: words.map(|&word| self.immediate(word, operands)).collect(),
            weight_bytes: operands.weights.iter().map(read).sum(),
        }
    }

    fn window(&self, number: u32, operands: &Operands<'_>) -> GpuWindow {
        match number {
            binding::WEIGHTS => self.matrix_window(operands.weights[0]),
            binding::SECOND => self.matrix_window(operands.weights[1]),
            binding::NEXT => {
                let (start, end) = operands.next.expect("a kernel that looks ahead");
                weight_window(start, end)
            }
            binding::VECTORS => {
                let (start, end) = self.vector_range(operands);
                weight_window(start, end)
            }
            binding::CACHE => {
                let shape = operands.cache.expect("a kernel with a cache is an attention's");
                let (offset, length) = self.caches[shape];
                GpuWindow::Cache { offset, length }
            }
            binding::STEP => GpuWindow::Step,
            binding::LOGITS => GpuWindow::Logits,
            binding::ROPE => {
                let table = operands.rope.expect("a kernel that rotates has a table");
                GpuWindow::Rope { table: u32_of(table) }
            }
            _ => GpuWindow::Arena { offset: 0, length: self.arena.bytes },
        }
    }

    fn matrix_window(&self, id: WeightId) -> GpuWindow {
        let matrix = self.store.matrix_at(id);
        weight_window(matrix.offset, matrix.offset + matrix.bytes)
    }

    /// First and last byte of the vectors that the programs read.
    fn vector_range(&self, operands: &Operands<'_>) -> (u64, u64) {
        let vectors = operands.programs.iter().flat_map(vectors);
        let ranges = vectors.map(|id| {
            let vector = self.store.vector_at(id);
            (vector.offset, vector.offset + 4 * vector.len as u64)
        });
        ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).expect("a program reads a vector")
    }

    fn immediate(&self, word: Immediate, operands: &Operands<'_>) -> u32 {
        let words = match word {
            Immediate::Weights { binding } => {
                let id = operands.weights[usize::from(binding != binding::WEIGHTS)];
                self.store.matrix_at(id).offset % WINDOW_ALIGN / 16
            }
            Immediate::Next => {
                let (start, _) = operands.next.expect("a kernel that looks ahead");
                start % WINDOW_ALIGN / 16
            }
            Immediate::Arg { program, arg } => self.argument(operands, program, arg),
            Immediate::Records => self.input(operands) / 16,
            Immediate::Floats => self.input(operands) / 4,
            Immediate::Partials => {
                self.out(operands.partials.expect("a kernel that reads partial results"), 0)
            }
            Immediate::Out { index } => {
                let (resource, column) = operands.outs[index];
                self.out(resource, column)
            }
        };
        u32::try_from(words).expect("windows are below 16 GiB")
    }

    fn input(&self, operands: &Operands<'_>) -> u64 {
        self.arena.offset(operands.input.expect("a kernel that reads its input from memory"))
    }

    /// First word of a buffer in the arena, as kernels count them.
    fn out(&self, resource: Resource, column: usize) -> u64 {
        if resource == Resource::Logits {
            return column as u64;
        }
        let unit = if self.holds_records(resource) { 16 } else { 4 };
        self.arena.offset(resource) / unit + column as u64
    }

    fn holds_records(&self, resource: Resource) -> bool {
        match resource {
            Resource::Buffer(BufferId(id)) => {
                matches!(self.schedule.buffers[id].contents, Contents::Q8 { .. })
            }
            _ => false,
        }
    }

    fn argument(&self, operands: &Operands<'_>, program: usize, arg: ArgId) -> u64 {
        let view = match operands.programs[program] {
            Program::Floats(view) => view,
            Program::Loop(step) => match step.bindings[arg] {
                Binding::Vector(id) => {
                    let window = self.vector_range(operands).0 / WINDOW_ALIGN * WINDOW_ALIGN;
                    return (self.store.vector_at(id).offset - window) / 4;
                }
                Binding::Read(view) | Binding::Write(view) => view,
            },
        };
        let (resource, column) = place(self.schedule, view);
        self.out(resource, column)
    }
}

/// Where a view is, and its first float in a row.
pub fn place(schedule: &Schedule, view: View) -> (Resource, usize) {
    match schedule.buffers[view.buffer.0].scope {
        Scope::Logits => (Resource::Logits, view.column),
        Scope::Shared | Scope::Private => (Resource::Buffer(view.buffer), view.column),
    }
}

/// The window around bytes `start..end` of the weight segment.
fn weight_window(start: u64, end: u64) -> GpuWindow {
    let offset = start / WINDOW_ALIGN * WINDOW_ALIGN;
    GpuWindow::Weights { offset, length: (end - offset).next_multiple_of(16) }
}

fn vectors<'p>(program: &'p Program<'_>) -> impl Iterator<Item = VectorId> + 'p {
    let bindings = match program {
        Program::Loop(step) => &step.bindings[..],
        Program::Floats(_) => &[],
    };
    bindings.iter().filter_map(|binding| match binding {
        Binding::Vector(id) => Some(*id),
        _ => None,
    })
}

pub fn u32_of(value: usize) -> u32 {
    u32::try_from(value).expect("shapes are below 2^32")
}
