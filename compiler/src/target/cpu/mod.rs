//! The CPU backend: step programs and fused row loops by Cranelift, which call the microkernels
//! of `onebit-cpu` in the runtime.

mod arena;
mod barriers;
mod clif;
mod code;
mod facts;
mod listing;
mod trace;

use std::collections::{BTreeSet, HashMap};

use onebit_ir::Graph;
use onebit_ir::rows::RowProgram;
use onebit_ir::verify::GraphInfo;
use onebit_plan::abi::{CacheForm, KernelId};
use onebit_plan::manifest::{Entry, EntryStep, Function, Memory, Region, TracedEntry};

use crate::error::CompileError;
use crate::schedule::repack::WeightStore;
use crate::schedule::steps::select::{self, EntryOptions};
use crate::schedule::steps::{Schedule, ScheduledStep, Sharing, Step, uses};
use arena::Arena;
use clif::{EntryInput, Machine, Tracing, entry_function, row_function};
use code::CodeSegment;

/// Rows up to which repeating row-wise work on every thread beats a barrier.
const REPEAT_ROWS: usize = 4;

/// What to compile for.
#[derive(Clone, Debug)]
pub struct CpuOptions {
    /// `x86_64` or `aarch64`.
    pub architecture: String,
    /// Rows of the largest step.
    pub batch: usize,
    /// Positions of a cache slot, a multiple of 16.
    pub context: usize,
    /// How the cache keeps keys and values.
    pub cache: CacheForm,
}

/// A graph compiled for the CPU.
pub struct CpuProgram {
    /// Bytes of the code segment.
    pub code: Vec<u8>,
    pub entries: Vec<Entry>,
    pub functions: Vec<Function>,
    /// A twin of each entry, in their order.
    pub traced: Vec<TracedEntry>,
    pub kernels: Vec<KernelId>,
    pub memory: Memory,
    /// Of the entry for the fewest rows.
    pub regions: Vec<Region>,
    /// CPU features that the code needs.
    pub features: Vec<String>,
}

/// Compiles `graph` for the CPU; the weights it reads are added to `store`.
pub fn lower(
    graph: &Graph,
    info: &GraphInfo,
    options: &CpuOptions,
    store: &mut WeightStore<'_>,
) -> Result<CpuProgram, CompileError> {
    let schedules = schedules(graph, info, options, store)?;
    let mut builder = ProgramBuilder::new(&options.architecture)?;
    for schedule in &schedules {
        builder.entry(graph, schedule, store)?;
    }
    let slot = schedules[0].shapes.first().map_or(0, |shape| shape.slot_bytes);
    let kernels = kernels(&schedules, store);
    Ok(CpuProgram {
        features: builder.machine.required_features(),
        code: builder.code.finish(),
        entries: builder.entries,
        functions: builder.functions.into_iter().map(|(_, function)| function).collect(),
        traced: builder.traced,
        kernels: kernels.into_iter().collect(),
        memory: Memory {
            slot,
            slots: u32_of(options.batch),
            cache: options.cache,
            ..builder.memory
        },
        regions: regions(&schedules[0], store),
    })
}

/// One schedule for few rows, one for the whole batch.
fn schedules(
    graph: &Graph,
    info: &GraphInfo,
    options: &CpuOptions,
    store: &mut WeightStore<'_>,
) -> Result<Vec<Schedule>, CompileError> {
    let few = EntryOptions {
        name: "decode",
        max_rows: options.batch.min(REPEAT_ROWS),
        context: options.context,
        cache: options.cache,
        sharing: Sharing::Repeat,
    };
    let mut all = vec![select::schedule(graph, info, few, store)?];
    if options.batch > REPEAT_ROWS {
        let name = "batch";
        let many = EntryOptions { name, max_rows: options.batch, sharing: Sharing::Split, ..few };
        all.push(select::schedule(graph, info, many, store)?);
    }
    Ok(all)
}

/// The schedule of every entry as text.
pub fn schedule_listing(
    graph: &Graph,
    info: &GraphInfo,
    options: &CpuOptions,
    store: &mut WeightStore<'_>,
) -> Result<String, CompileError> {
    let schedules = schedules(graph, info, options, store)?;
    let listing = |schedule: &Schedule| {
        let arena = Arena::plan(schedule);
        let barriers = barriers::place(schedule, &arena);
        listing::listing(schedule, &arena, &barriers, store)
    };
    Ok(schedules.iter().map(listing).collect())
}

struct ProgramBuilder {
    machine: Machine,
    code: CodeSegment,
    /// Row functions so far, with their place in the code segment.
    functions: Vec<(RowProgram, Function)>,
    entries: Vec<Entry>,
    traced: Vec<TracedEntry>,
    memory: Memory,
}

impl ProgramBuilder {
    fn new(architecture: &str) -> Result<Self, CompileError> {
        Ok(Self {
            machine: Machine::new(architecture)?,
            code: CodeSegment::default(),
            functions: Vec::new(),
            entries: Vec::new(),
            traced: Vec::new(),
            memory: Memory::default(),
        })
    }

    fn entry(
        &mut self,
        graph: &Graph,
        schedule: &Schedule,
        store: &WeightStore<'_>,
    ) -> Result<(), CompileError> {
        let arena = Arena::plan(schedule);
        let barriers = barriers::place(schedule, &arena);
        let shapes: Vec<u64> =
            schedule.shapes.iter().map(|shape| self.code.push(bytemuck::bytes_of(shape))).collect();
        let tables: Vec<u64> = schedule
            .tables
            .iter()
            .map(|table| self.code.push(bytemuck::cast_slice(&table.frequencies)))
            .collect();
        let mut row_functions = HashMap::new();
        for (index, scheduled) in schedule.steps.iter().enumerate() {
            let (Step::Rows(step) | Step::Gated { epilogue: step, .. }) = &scheduled.step else {
                continue;
            };
            row_functions.insert(index, self.row_function(&scheduled.name, &step.program)?);
        }
        let mut array_products = HashMap::new();
        for (index, scheduled) in schedule.steps.iter().enumerate() {
            if let Step::Array { weight, out, .. } | Step::ArrayGate { weight, out, .. } =
                &scheduled.step
            {
                let products = store.array_at(*weight).products(out.stride)?;
                let offset = self.code.push(bytemuck::cast_slice(&products));
                array_products.insert(index, (offset, products.len()));
            }
        }
        let input = EntryInput {
            schedule,
            arena: &arena,
            barriers: &barriers,
            store,
            row_functions: &row_functions,
            shapes: &shapes,
            array_products: &array_products,
            tables: &tables,
            tracing: Tracing::Off,
        };
        let code = entry_function(&mut self.machine, &input)?;
        let step = |(index, &wait): (usize, &bool)| EntryStep {
            wait,
            function: row_functions.get(&index).map(|offset| self.function_at(*offset)),
        };
        let steps = barriers.iter().enumerate().map(step).collect();
        self.entries.push(Entry {
            name: schedule.name.into(),
            offset: self.code.push(&code.bytes),
            max_rows: u32_of(schedule.max_rows),
            length: code.bytes.len() as u64,
            steps,
            ranges: facts::ranges(&code.places),
            buffers: facts::buffers(schedule, &arena),
        });
        let twin = EntryInput { tracing: Tracing::EachStep, ..input };
        let code = entry_function(&mut self.machine, &twin)?;
        let traced = TracedEntry {
            name: schedule.name.into(),
            offset: self.code.push(&code.bytes),
            max_rows: u32_of(schedule.max_rows),
            steps: trace::steps(graph, schedule, &arena),
        };
        self.traced.push(traced);
        self.memory.arena = self.memory.arena.max(arena.shared_bytes as u64);
        self.memory.private = self.memory.private.max(arena.private_bytes as u64);
        Ok(())
    }

    /// Code-segment offset of `program`'s function, compiling it if it is new.
    fn row_function(&mut self, name: &str, program: &RowProgram) -> Result<u64, CompileError> {
        if let Some((_, known)) = self.functions.iter().find(|(known, _)| known == program) {
            return Ok(known.offset);
        }
        let code = row_function(&mut self.machine, name, program)?.bytes;
        let offset = self.code.push(&code);
        let function = Function { name: format!("@{name}"), offset, length: code.len() as u64 };
        self.functions.push((program.clone(), function));
        Ok(offset)
    }

    /// Index of the row function at `offset`.
    fn function_at(&self, offset: u64) -> u32 {
        let found = self.functions.iter().position(|(_, function)| function.offset == offset);
        u32_of(found.expect("its offset came from here"))
    }
}

/// Every kernel that the schedules call.
fn kernels(schedules: &[Schedule], store: &WeightStore<'_>) -> BTreeSet<KernelId> {
    let mut kernels = BTreeSet::from([KernelId::Barrier, KernelId::Trace]);
    for scheduled in schedules.iter().flat_map(|schedule| &schedule.steps) {
        match &scheduled.step {
            Step::Gather { weight, .. } => {
                kernels.insert(KernelId::Gather(store.matrix_at(*weight).class));
            }
            Step::RopeTable { .. } => {
                kernels.insert(KernelId::RopeTable);
            }
            Step::Rows(_) => {}
            Step::Matmul { product, .. } => {
                kernels.insert(KernelId::Matmul(store.matrix_at(product.weight).class));
            }
            Step::Array { .. } | Step::ArrayGate { .. } => {
                kernels.insert(KernelId::Array);
            }
            Step::Gated { gate, up, .. } => {
                for product in [gate, up] {
                    kernels.insert(KernelId::Matmul(store.matrix_at(product.weight).class));
                }
            }
            Step::KvWrite { .. } => {
                kernels.insert(KernelId::KvWrite);
            }
            Step::Attention { .. } => {
                kernels.insert(KernelId::Attention);
            }
        }
    }
    kernels
}

/// What each step reads and multiplies, for reports.
fn regions(schedule: &Schedule, store: &WeightStore<'_>) -> Vec<Region> {
    let describe = |(scheduled, reads): (&ScheduledStep, Vec<usize>)| {
        let products = match &scheduled.step {
            Step::Matmul { product, .. } => vec![product.weight],
            Step::Gated { gate, up, .. } => vec![gate.weight, up.weight],
            _ => Vec::new(),
        };
        let matrices = products.iter().map(|&id| store.matrix_at(id));
        let mut sizes: Vec<(u64, usize, usize)> =
            matrices.map(|m| (m.bytes, m.rows, m.columns)).collect();
        let mut target = "cpu";
        if let Step::Array { weight, .. } | Step::ArrayGate { weight, .. } = &scheduled.step {
            let m = store.array_at(*weight);
            sizes.push((m.weight_bytes(), m.rows, m.columns));
            target = "npu";
        }
        Region {
            name: format!("@{}", scheduled.name),
            target: target.into(),
            ops: scheduled.ops.iter().map(|op| (*op).to_owned()).collect(),
            weight_bytes: sizes.iter().map(|size| size.0).sum(),
            macs: sizes.iter().map(|size| size.1 as u64 * size.2 as u64).sum(),
            reads: reads.into_iter().map(u32_of).collect(),
        }
    };
    schedule.steps.iter().zip(uses::edges(schedule)).map(describe).collect()
}

fn u32_of(value: usize) -> u32 {
    u32::try_from(value).expect("counts of rows and steps fit u32")
}
