//! From a model to a plan file.

use std::path::Path;
use std::sync::Arc;

use onebit_ir::Graph;
use onebit_ir::quant::Format;
use onebit_ir::verify::GraphInfo;
use onebit_models::Model;
use onebit_plan::abi::{CacheForm, KEY_TILE};
use onebit_plan::fit::Scale;
use onebit_plan::manifest::{
    Manifest, ModelInfo, Provenance, Requirement, SegmentKind, WeightRecord,
};
use onebit_plan::trust::Signer;
use onebit_plan::{CompletePlan, PlanWriter};

use crate::error::CompileError;
use crate::golden;
use crate::pipeline;
use crate::provenance;
use crate::report::Report;
use crate::schedule::array::ArrayLimits;
use crate::schedule::repack::{Placement, TensorSource, WeightStore};
use crate::sign::SecretKey;
use crate::target::cpu::{self, CpuOptions, CpuProgram};
use crate::target::machine::{Machine, Require};
use crate::target::npu::{self, NpuProgram};
use crate::target::vulkan::{self, GpuOptions, GpuProgram};

/// What a compile is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rows of the largest step and slots of the cache, 1..=32.
    pub batch: usize,
    /// Positions of a cache slot; `None` takes the model's own, at most [`DEFAULT_CONTEXT`].
    pub context: Option<usize>,
    /// How the cache keeps keys and values.
    pub kv: CacheForm,
    /// Instruction set of the code, by Rust's name.
    pub architecture: String,
    /// Where products run.
    pub placement: Placement,
    /// How products of a neural processor are cut.
    pub array_limits: ArrayLimits,
    /// Whether the plan has a part for Vulkan devices.
    pub vulkan: Vulkan,
    /// Who signs the plan; nobody where there is none.
    pub signer: Option<Arc<SecretKey>>,
    /// The machine that the plan is for, where it is known.
    pub machine: Option<Machine>,
    /// Where the plan must be able to run.
    pub require: Option<Require>,
}

/// Whether a plan can run on Vulkan devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Vulkan {
    /// Where the model's shapes allow it; the report says where they do not.
    #[default]
    WherePossible,
    /// A model that does not fit is an error.
    Required,
    /// Leave that part out.
    Without,
}

/// Positions of a slot when nothing is asked for and the model could do more.
pub const DEFAULT_CONTEXT: usize = 8192;

impl Default for Options {
    fn default() -> Self {
        let architecture = std::env::consts::ARCH.into();
        Self {
            batch: 32,
            context: None,
            kv: CacheForm::default(),
            architecture,
            placement: Placement::Cpu,
            array_limits: ArrayLimits::default(),
            vulkan: Vulkan::default(),
            signer: None,
            machine: None,
            require: None,
        }
    }
}

/// Told of weight bytes as they are packed: done so far, and all.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

impl TensorSource for Model {
    fn tensor(&self, name: &str) -> Option<(Format, &[u8])> {
        let tensor = self.file().tensor(name)?;
        Some((tensor.format, self.file().data(tensor)))
    }

    fn release(&self, name: &str) {
        if let Some(tensor) = self.file().tensor(name) {
            self.file().advise_dont_need(tensor.data.clone());
        }
    }
}

/// A plan that is complete and has not taken its name. Dropping it leaves nothing behind.
pub struct Compiled {
    plan: CompletePlan,
    off_gpu: Option<String>,
    /// Why gates are not made on the array.
    apart: Vec<String>,
    options: Options,
}

impl Compiled {
    /// Where the plan lies until it is published.
    pub fn path(&self) -> &Path {
        self.plan.path()
    }

    /// Gives the plan its name.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn publish(self) -> Result<Report, CompileError> {
        let manifest = self.plan.publish()?;
        Ok(Report::new(manifest, self.off_gpu)
            .with_apart(self.apart)
            .for_machine(self.options.machine))
    }
}

/// Compiles `model`, whose file is `source`, to a plan at `target`.
///
/// Nothing stands at `target` until the plan is complete.
pub fn compile(
    model: &Model,
    source: &Path,
    target: &Path,
    options: &Options,
    progress: Progress<'_>,
) -> Result<Report, CompileError> {
    prepare(model, source, target, options, progress)?.publish()
}

/// As [`compile`], up to the moment when the plan would take its name.
pub fn prepare(
    model: &Model,
    source: &Path,
    target: &Path,
    options: &Options,
    progress: Progress<'_>,
) -> Result<Compiled, CompileError> {
    let cpu_options = cpu_options(model, options)?;
    let mut graph: Graph = model.graph().clone();
    let info = pipeline::run(&mut graph, options.placement)?;
    let mut store =
        WeightStore::new(model, options.placement).with_array_limits(options.array_limits);
    let program = cpu::lower(&graph, &info, &cpu_options, &mut store)?;
    required(options, &program)?;
    let array = npu::lower(&store)?;
    let (gpu, off_gpu) = vulkan_part(&graph, &info, options, &cpu_options, (model, &mut store))?;
    let tokenizer = onebit_tokenizer::build(&model.tokenizer_spec()?)?;
    let mut manifest = manifest(model, source, options, &cpu_options, &program, &store)?;
    let text = (&tokenizer[..], &cpu_options);
    let golden = golden::golden(model, (&graph, &info), &store, text, &program.traced)?;

    let mut writer = PlanWriter::create(target)?;
    small_segments(&mut writer, (&program.code, &tokenizer), array.as_ref(), gpu.as_ref())?;
    writer.write_golden(&golden)?;
    writer.begin_segment(SegmentKind::Weights)?;
    let total = store.bytes();
    let mut done = 0;
    let roundings = store.pack(|bytes| {
        writer.write(bytes)?;
        done += bytes.len() as u64;
        progress(done, total);
        Ok(())
    })?;
    writer.end_segment()?;
    manifest.array = array.map(|program| program.plan(&store, &roundings));
    manifest.gpu = gpu.map(|program| program.plan);
    let signer = options.signer.as_deref().map(|key| key as &dyn Signer);
    let plan = writer.complete(manifest, signer)?;
    let apart = store.apart().iter().cloned().collect();
    Ok(Compiled { plan, off_gpu, apart, options: options.clone() })
}

/// Writes all segments but the golden vectors and the weights.
fn small_segments(
    writer: &mut PlanWriter,
    (code, tokenizer): (&[u8], &[u8]),
    array: Option<&NpuProgram>,
    gpu: Option<&GpuProgram>,
) -> Result<(), CompileError> {
    let mut segments = vec![(SegmentKind::CpuCode, code), (SegmentKind::Tokenizer, tokenizer)];
    if let Some(NpuProgram { configuration, calls, .. }) = array {
        segments.push((SegmentKind::ArrayConfiguration, configuration));
        segments.push((SegmentKind::ArrayCalls, calls));
    }
    if let Some(GpuProgram { shaders, .. }) = gpu {
        segments.push((SegmentKind::Shaders, shaders));
    }
    for (kind, bytes) in segments {
        writer.begin_segment(kind)?;
        writer.write(bytes)?;
        writer.end_segment()?;
    }
    Ok(())
}

/// Whether the machine runs the processor's part, and products are where they must be.
fn required(options: &Options, program: &CpuProgram) -> Result<(), CompileError> {
    if let Some(machine) = &options.machine {
        machine.runs(&program.features)?;
    }
    if options.require != Some(Require::Npu) {
        return Ok(());
    }
    let left = program.regions.iter().filter(|region| region.macs > 0 && region.target == "cpu");
    let left: Vec<&str> = left.map(|region| region.name.as_str()).collect();
    if left.is_empty() {
        return Ok(());
    }
    let reason = format!("the npu has no way to do the shapes of {}", left.join(", "));
    Err(CompileError::Require { require: Require::Npu, reason })
}

/// The part for Vulkan devices, cut to what those of a known machine take, or why there is none.
fn vulkan_part(
    graph: &Graph,
    info: &GraphInfo,
    options: &Options,
    cpu: &CpuOptions,
    (model, store): (&Model, &mut WeightStore<'_>),
) -> Result<(Option<GpuProgram>, Option<String>), CompileError> {
    let devices = match &options.machine {
        None => return any_vulkan_part(graph, info, options, cpu, store),
        Some(machine) => &machine.description.gpus,
    };
    if devices.is_empty() && options.vulkan == Vulkan::WherePossible {
        return Ok((None, Some("the box has no Vulkan device that runs plans".into())));
    }
    let (program, reason) = any_vulkan_part(graph, info, options, cpu, store)?;
    let Some(program) = program else { return Ok((None, reason)) };
    let scale =
        Scale { slots: 1, context: cpu.context as u64, vocabulary: model.vocabulary() as u64 };
    match (vulkan::prune(program, devices, scale), options.vulkan) {
        (Some(program), _) => Ok((Some(program), None)),
        (None, Vulkan::Required) => {
            let reason = String::from("no step of the model fits a Vulkan device of the box");
            Err(CompileError::Require { require: Require::Gpu, reason })
        }
        (None, _) => Ok((None, Some("no step fits a Vulkan device of the box".into()))),
    }
}

/// The part for any Vulkan device, or why there is none.
fn any_vulkan_part(
    graph: &Graph,
    info: &GraphInfo,
    options: &Options,
    cpu: &CpuOptions,
    store: &mut WeightStore<'_>,
) -> Result<(Option<GpuProgram>, Option<String>), CompileError> {
    let array = options.placement == Placement::Array;
    let gpu_options = GpuOptions { batch: cpu.batch, context: cpu.context, cache: cpu.cache };
    match options.vulkan {
        Vulkan::Without => Ok((None, None)),
        _ if array => Ok((None, Some("its weights are in the form of the npu".into()))),
        Vulkan::Required => Ok((Some(vulkan::lower(graph, info, gpu_options, store)?), None)),
        Vulkan::WherePossible => match vulkan::lower(graph, info, gpu_options, store) {
            Ok(program) => Ok((Some(program), None)),
            Err(error @ (CompileError::GpuRows(_) | CompileError::GpuAttention(_))) => {
                Ok((None, Some(error.to_string())))
            }
            Err(error) => Err(error),
        },
    }
}

pub(crate) fn cpu_options(model: &Model, options: &Options) -> Result<CpuOptions, CompileError> {
    let error = |option, value: usize, reason: &str| CompileError::Option {
        option,
        value: value.to_string(),
        reason: reason.into(),
    };
    if !(1..=32).contains(&options.batch) {
        return Err(error("batch", options.batch, "a step takes 1 to 32 rows"));
    }
    let trained = model.trained_context() as usize;
    let context = options.context.unwrap_or(trained.min(DEFAULT_CONTEXT));
    if context == 0 || context > 1 << 24 {
        return Err(error("ctx", context, "give 1 to 16777216 positions"));
    }
    options.array_limits.check()?;
    Ok(CpuOptions {
        architecture: options.architecture.clone(),
        batch: options.batch,
        context: context.next_multiple_of(KEY_TILE),
        cache: options.kv,
    })
}

fn manifest(
    model: &Model,
    source: &Path,
    options: &Options,
    cpu: &CpuOptions,
    program: &CpuProgram,
    store: &WeightStore<'_>,
) -> Result<Manifest, CompileError> {
    let small = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    let mut requirements = vec![Requirement::Architecture(options.architecture.clone())];
    requirements.extend(program.features.iter().cloned().map(Requirement::CpuFeature));
    requirements.push(Requirement::Memory(program.memory.arena + program.memory.slot));
    let file_name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Manifest {
        provenance: Provenance {
            tool: env!("CARGO_PKG_VERSION").into(),
            source: file_name,
            source_hash: hash(model),
            options: provenance::record(options, cpu),
        },
        model: ModelInfo {
            name: model.name().into(),
            architecture: model.architecture().into(),
            parameters: model.parameters(),
            vocabulary: small(model.vocabulary()),
            context: small(cpu.context),
            trained_context: model.trained_context(),
            layers: small(model.hparams().layers.len()),
        },
        requirements,
        segments: Vec::new(),
        memory: program.memory,
        entries: program.entries.clone(),
        functions: program.functions.clone(),
        traced: program.traced.clone(),
        kernels: program.kernels.clone(),
        regions: program.regions.clone(),
        weights: store.matrices().iter().map(weight_record).collect(),
        array: None,
        gpu: None,
    })
}

fn weight_record(matrix: &crate::schedule::repack::Matrix) -> WeightRecord {
    let small = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    WeightRecord {
        tensors: matrix.tensors.clone(),
        format: matrix.format.name().into(),
        class: matrix.class,
        rows: small(matrix.rows),
        columns: small(matrix.columns),
        offset: matrix.offset,
        bytes: matrix.bytes,
    }
}

/// BLAKE3 of the whole file. Pages are given back as they are read, so that hashing does not
/// make a large model resident.
pub(crate) fn hash(model: &Model) -> [u8; 32] {
    const WINDOW: usize = 16 << 20;
    let bytes = model.file().bytes();
    let mut hasher = blake3::Hasher::new();
    for (index, window) in bytes.chunks(WINDOW).enumerate() {
        hasher.update_rayon(window);
        let start = index * WINDOW;
        model.file().advise_dont_need(start..start + window.len());
    }
    *hasher.finalize().as_bytes()
}
