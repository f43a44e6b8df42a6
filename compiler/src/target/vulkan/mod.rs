//! The Vulkan backend: the schedule's steps as dispatches of kernels from `onebit-shaders`.
//!
//! The GPU runs the same steps as the CPU, over the same weights. A workgroup takes the place of
//! a thread, the end of a dispatch that of a barrier, and workgroup memory that of memory of a
//! thread's own.

mod accesses;
mod dispatch;
mod group;
mod kernels;
mod matrices;
mod memory;
pub mod predict;
mod prune;

use onebit_ir::Graph;
use onebit_ir::verify::GraphInfo;
use onebit_plan::abi::{BLOCK, CacheForm};
use onebit_plan::gpu::{
    GPU_ROWS, GpuDispatch, GpuEntry, GpuFeature, GpuKernel, GpuModule, GpuPlan, GpuRopeTable,
    WINDOW_ALIGN, record,
};
use onebit_plan::manifest::{Scratch, Tap};
use onebit_shaders::{ActivationForm, Kernel, Module, attention};
use rayon::prelude::*;

use crate::error::CompileError;
use crate::schedule::repack::WeightStore;
use crate::schedule::steps::select::{self, EntryOptions};
use crate::schedule::steps::{BufferId, Contents, Schedule, Sharing};
use dispatch::Layout;
use group::{Fusion, Unit};
use kernels::{Chosen, KernelSet};
use matrices::{Arithmetic, PartCounts};
use memory::{Accesses, Arena, Resource};

pub use prune::prune;

/// What to compile for.
#[derive(Clone, Copy, Debug)]
pub struct GpuOptions {
    /// Rows of the largest step.
    pub batch: usize,
    /// Positions of a cache slot, a multiple of 16.
    pub context: usize,
    /// How the cache keeps keys and values.
    pub cache: CacheForm,
}

/// A graph compiled for Vulkan.
pub struct GpuProgram {
    pub plan: GpuPlan,
    /// Bytes of the segment of shaders.
    pub shaders: Vec<u8>,
}

/// Rows of entries, as far as the batch goes.
const ENTRY_ROWS: [usize; 5] = [1, 4, 8, 16, GPU_ROWS];
/// Rows from which on a step has an entry of matrices, too: as many as a matrix has.
const MATRIX_ROWS: usize = 16;

/// Compiles `graph` for Vulkan; it reads weights that are in `store` already.
pub fn lower(
    graph: &Graph,
    info: &GraphInfo,
    options: GpuOptions,
    store: &mut WeightStore<'_>,
) -> Result<GpuProgram, CompileError> {
    let mut set = KernelSet::default();
    let mut entries = Vec::new();
    let (mut arena, mut slot, mut tables) = (0, 0, Vec::new());
    for rows in entry_rows(options.batch) {
        let name = if rows == 1 { "gpu" } else { "gpu-batch" };
        let entry = EntryOptions {
            name,
            max_rows: rows,
            context: options.context,
            cache: options.cache,
            sharing: Sharing::Split,
        };
        let schedule = select::schedule(graph, info, entry, store)?;
        if rows >= MATRIX_ROWS && matrices::multiplies_integers(&schedule, store) {
            let lowered = entry_of((graph, &schedule), store, &mut set, Arithmetic::Matrices)?;
            arena = arena.max(lowered.arena);
            entries.push(lowered.entry);
        }
        let lowered = entry_of((graph, &schedule), store, &mut set, Arithmetic::Dots)?;
        arena = arena.max(lowered.arena);
        slot = lowered.slot;
        tables = rope_tables(&schedule);
        entries.push(lowered.entry);
    }
    let (kernels, shaders) = modules(set.into_kernels())?;
    let plan = GpuPlan { kernels, entries, arena, slot, tables };
    Ok(GpuProgram { plan, shaders })
}

/// The entries of a plan for steps of up to `batch` rows.
fn entry_rows(batch: usize) -> impl Iterator<Item = usize> {
    let smaller = ENTRY_ROWS.into_iter().filter(move |&rows| rows < batch);
    smaller.chain([batch])
}

struct Lowered {
    entry: GpuEntry,
    arena: u64,
    slot: u64,
}

fn entry_of(
    (graph, schedule): (&Graph, &Schedule),
    store: &WeightStore<'_>,
    set: &mut KernelSet,
    arithmetic: Arithmetic,
) -> Result<Lowered, CompileError> {
    let rows = schedule.max_rows;
    let (fusion, suffix) = match arithmetic {
        Arithmetic::Dots if rows == 1 => (Fusion::Whole, ""),
        Arithmetic::Dots => (Fusion::Heads, ""),
        Arithmetic::Matrices => (Fusion::Apart, "-matrices"),
    };
    let units = group::group(schedule, fusion);
    let parts = match arithmetic {
        Arithmetic::Dots => PartCounts::new(),
        Arithmetic::Matrices => matrices::part_counts(schedule, store, &units),
    };
    let mut chosen: Vec<Chosen<'_>> = Vec::new();
    let mut accesses: Vec<Accesses> = Vec::new();
    for unit in &units {
        chosen.push(kernels::choose(schedule, store, unit, (arithmetic, &parts))?);
        accesses.push(accesses::of(schedule, unit));
    }
    for (pick, touched) in kernels::picks(schedule) {
        chosen.push(pick);
        accesses.push(touched);
    }
    if rows == 1 || arithmetic == Arithmetic::Matrices {
        look_ahead(store, &mut chosen);
    }
    let waits = memory::waits(&accesses);
    let arena = Arena::plan(&accesses, &waits, |resource| {
        bytes_of(schedule, (arithmetic, &parts), resource)
    });
    let caches = caches(schedule);
    let layout = Layout { schedule, store, arena: &arena, caches: &caches };
    let covered = group::covered(schedule, &units).into_iter().map(|steps| numbers(&steps));
    let names = units.iter().map(|unit: &Unit<'_>| unit.name).zip(covered);
    let names = names.chain(std::iter::repeat(("pick", Vec::new())));
    let dispatches = chosen.into_iter().zip(&waits).zip(names).zip(&accesses).map(
        |(((chosen, &wait), (name, regions)), touched)| {
            let index = set.index(&chosen.kernel);
            let Chosen { kernel, groups, operands } = chosen;
            let dispatch = layout.dispatch((index, &kernel), (name, wait), groups, &operands);
            GpuDispatch {
                regions,
                taps: taps((graph, schedule), &arena, &parts, touched),
                ..dispatch
            }
        },
    );
    let entry = GpuEntry {
        name: format!("{}-{rows}{suffix}", schedule.name),
        max_rows: dispatch::u32_of(rows),
        dispatches: dispatches.collect(),
    };
    let slot = caches.iter().map(|&(_, length)| length).sum();
    Ok(Lowered { entry, arena: arena.bytes, slot })
}

/// Most bytes of weights that the dispatch before brings into the cache: of one so short that it does
/// not hide the time that memory takes. On an H200 larger ones only delay the dispatch before.
const AHEAD_BYTES: u64 = 2 << 20;

/// Lets each dispatch fetch the weights of the one behind it, which nothing that it computes
/// stands in the way of.
fn look_ahead(store: &WeightStore<'_>, chosen: &mut [Chosen<'_>]) {
    for index in 1..chosen.len() {
        let (before, from) = chosen.split_at_mut(index);
        let (Some(dispatch), Some(next)) = (before.last_mut(), from.first()) else { continue };
        let matrices = || next.operands.weights.iter().map(|&id| store.matrix_at(id));
        let start = matrices().map(|matrix| matrix.offset).min();
        let end = matrices().map(|matrix| matrix.offset + matrix.bytes).max();
        let (Some(start), Some(end)) = (start, end) else { continue };
        let ([_, _, 1], None) = (dispatch.groups, next.operands.weight_rows) else { continue };
        if end - start > AHEAD_BYTES {
            continue;
        }
        let words = dispatch::u32_of((end - start) as usize / 16);
        (dispatch.kernel, dispatch.groups) =
            dispatch.kernel.clone().looking_ahead(dispatch.groups, words);
        dispatch.operands.next = Some((start, end));
    }
}

/// Values of the graph that a dispatch leaves in the arena as floats.
fn taps(
    (graph, schedule): (&Graph, &Schedule),
    arena: &Arena,
    parts: &PartCounts,
    touched: &Accesses,
) -> Vec<Tap> {
    let tap = |resource: &Resource| {
        let &Resource::Buffer(buffer) = resource else { return None };
        if parts.contains_key(&buffer) {
            return None;
        }
        let offset = arena.offset(*resource);
        crate::schedule::taps::tap(graph, schedule, buffer, (Scratch::Arena, offset))
    };
    touched.writes.iter().filter_map(tap).collect()
}

/// Steps as the plan counts them: they are its regions, in the same order in every entry.
fn numbers(steps: &[usize]) -> Vec<u32> {
    steps.iter().copied().map(dispatch::u32_of).collect()
}

/// Bytes of what lies in the arena.
fn bytes_of(
    schedule: &Schedule,
    (arithmetic, parts): (Arithmetic, &PartCounts),
    resource: Resource,
) -> usize {
    let rows = schedule.max_rows;
    match resource {
        Resource::Buffer(BufferId(id)) => match schedule.buffers[id].contents {
            Contents::F32 { width } => match parts.get(&BufferId(id)) {
                Some(count) => count * matrices::matrix_rows(rows) * width * 4,
                None => rows * width * 4,
            },
            Contents::Q8 { width } => match arithmetic.form() {
                ActivationForm::Records => rows * width.div_ceil(BLOCK) * record::BYTES,
                ActivationForm::Halves => rows * width * 2,
            },
        },
        Resource::Partial(shape) => kernels::partial_bytes(schedule, shape),
        Resource::Candidates => kernels::candidate_bytes(schedule),
        Resource::Cache(_) | Resource::Logits | Resource::Step => 0,
    }
}

/// Offset and length of every attention's cache, for one slot.
fn caches(schedule: &Schedule) -> Vec<(u64, u64)> {
    let mut offset = 0;
    let place = |shape| {
        let length = attention::cache_bytes(&attention::Shape::from(shape));
        debug_assert_eq!(length % WINDOW_ALIGN, 0);
        offset += length;
        (offset - length, length)
    };
    schedule.shapes.iter().map(place).collect()
}

fn rope_tables(schedule: &Schedule) -> Vec<GpuRopeTable> {
    let tables = schedule.tables.iter();
    let table = |table: &crate::schedule::steps::RopeTable| GpuRopeTable {
        frequencies: table.frequencies.clone(),
        magnitude: table.magnitude,
    };
    tables.map(table).collect()
}

/// Compiles every kernel; modules stand in the segment in the order of kernels.
fn modules(kernels: Vec<Kernel>) -> Result<(Vec<GpuKernel>, Vec<u8>), CompileError> {
    let compiled: Vec<Module> =
        kernels.par_iter().map(onebit_shaders::compile).collect::<Result<_, _>>()?;
    let mut segment: Vec<u8> = Vec::new();
    let mut records = Vec::new();
    for (kernel, module) in kernels.into_iter().zip(compiled) {
        let offset = segment.len() as u64;
        segment.extend(module.words.iter().flat_map(|word| word.to_le_bytes()));
        let length = segment.len() as u64 - offset;
        let form = |subgroup| GpuModule {
            offset,
            length,
            subgroup,
            shared: module.shared,
            features: module.features.clone(),
        };
        records.push(GpuKernel {
            modules: subgroups(&module.features).iter().copied().map(form).collect(),
            immediates: 4 * dispatch::u32_of(kernel.immediates.len()),
            workgroup: kernel.workgroup,
            bindings: kernel.slots,
            name: kernel.name,
        });
    }
    Ok((records, segment))
}

/// Subgroup sizes in order of preference: 32 lets RDNA issue two operations at once, and is what
/// other devices have anyway.
const SUBGROUPS: [Option<u32>; 2] = [Some(32), None];

/// The sizes that a module with these features can run with: a kernel of matrices has as many
/// invocations as its subgroups of 32.
fn subgroups(features: &[GpuFeature]) -> &'static [Option<u32>] {
    let matrices = [GpuFeature::CooperativeF16, GpuFeature::CooperativeI8];
    match features.iter().any(|feature| matrices.contains(feature)) {
        true => &SUBGROUPS[..1],
        false => &SUBGROUPS,
    }
}
