//! Compiling a plan again to see that it is what its provenance says, byte for byte.

use std::io;
use std::iter::repeat;
use std::path::{Path, PathBuf};

use onebit_models::Model;
use onebit_plan::gpu::GpuModule;
use onebit_plan::manifest::{Manifest, SegmentKind};
use onebit_plan::{PlanError, PlanFile};

use crate::emit::{Progress, compile, hash};
use crate::error::CompileError;
use crate::provenance::{self, ProvenanceError};
use crate::target::machine::Machine;

/// What comparing gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All bytes but a signature, of which there are so many.
    Same { unsigned: u64, signature: u64 },
    /// The first byte that is not the same, and whose it is.
    Differs { place: String },
}

/// Why a plan cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Provenance(#[from] ProvenanceError),
    #[error("the plan was made from another model: BLAKE3 {expected}, and this one has {found}")]
    Model { expected: String, found: String },
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("cannot make a folder for the second plan in {}: {source}", folder.display())]
    Scratch { folder: PathBuf, source: io::Error },
}

impl VerifyError {
    /// What to do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Provenance(ProvenanceError::Tool { found, .. }) => {
                Some(format!("verify it with onebitc {found}"))
            }
            Self::Provenance(ProvenanceError::Machine { .. }) => {
                Some("`onebit-rt probe` on that machine made the description".into())
            }
            Self::Provenance(_) => Some("verify it with the onebitc that made it".into()),
            Self::Model { .. } => Some("give the model file that the plan names".into()),
            Self::Scratch { .. } => Some("give a folder with --scratch".into()),
            Self::Plan(error) => Some(error.help()),
            Self::Compile(_) => None,
        }
    }
}

/// Compiles `model` as `plan` says it was, for the same `machine` if any, into a file in `scratch`
/// that is gone afterwards.
///
/// # Errors
/// When the plan is of another version or model, or the compile fails.
pub fn verify_build(
    plan: &PlanFile,
    model: &Model,
    machine: Option<Machine>,
    scratch: &Path,
    progress: Progress<'_>,
) -> Result<Verdict, VerifyError> {
    let manifest = plan.manifest();
    let options = provenance::options(&manifest.provenance, machine)?;
    let found = hash(model);
    if found != manifest.provenance.source_hash {
        let text = |hash| blake3::Hash::from_bytes(hash).to_hex().to_string();
        let expected = text(manifest.provenance.source_hash);
        return Err(VerifyError::Model { expected, found: text(found) });
    }
    let folder = tempfile::Builder::new()
        .prefix("onebit-verify-")
        .tempdir_in(scratch)
        .map_err(|source| VerifyError::Scratch { folder: scratch.to_owned(), source })?;
    let path = folder.path().join("again.plan");
    // The name that the model had then is part of the plan; what it is called now is not.
    compile(model, Path::new(&manifest.provenance.source), &path, &options, progress)?;
    let again = PlanFile::open(&path)?;
    Ok(compare(plan, &again))
}

/// Compares two plans part by part: the bytes of the segments first, because their places can be
/// named, then the manifest, which has a hash of each. Nothing else of a file is free: padding and
/// header were checked when the plans were opened.
fn compare(plan: &PlanFile, again: &PlanFile) -> Verdict {
    let (a, b) = (plan.manifest(), again.manifest());
    for segment in &a.segments {
        let (x, y) = (plan.segment(segment.kind), again.segment(segment.kind));
        if let Some(at) = first_difference(x, y) {
            let owner = owner(a, segment.kind, at as u64);
            let place = format!("byte {at} of the segment {:?}{owner}", segment.kind);
            return Verdict::Differs { place };
        }
    }
    if let Some(extra) = b.segments.iter().find(|it| !a.segments.iter().any(|s| s.kind == it.kind))
    {
        let place = format!("the segment {:?}, which is not there", extra.kind);
        return Verdict::Differs { place };
    }
    if a != b {
        return Verdict::Differs { place: format!("the manifest: {}", first_line(plan, again)) };
    }
    let unsigned = again.unsigned_length();
    Verdict::Same { unsigned, signature: plan.file_length() - plan.unsigned_length() }
}

fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    if a == b {
        return None;
    }
    let differs = a.iter().zip(b).position(|(x, y)| x != y);
    Some(differs.unwrap_or(a.len().min(b.len())))
}

/// Whose byte `at` of a segment is.
fn owner(manifest: &Manifest, kind: SegmentKind, at: u64) -> String {
    let found = match kind {
        SegmentKind::Weights => weight_owner(manifest, at),
        SegmentKind::CpuCode => code_owner(manifest, at),
        SegmentKind::Shaders => {
            let kernels = manifest.gpu.iter().flat_map(|gpu| &gpu.kernels);
            let holds = |it: &GpuModule| holds(it.offset, it.length, at);
            let kernel = kernels.into_iter().find(|kernel| kernel.modules.iter().any(holds));
            kernel.map(|kernel| format!("kernel {}", kernel.name))
        }
        SegmentKind::ArrayCalls => {
            let mut calls = manifest.array.iter().flat_map(|array| &array.calls);
            let call = calls.position(|it| holds(it.offset, it.length, at));
            call.map(|index| format!("call {index}"))
        }
        SegmentKind::Tokenizer | SegmentKind::ArrayConfiguration | SegmentKind::Golden => None,
    };
    found.map_or(String::new(), |name| format!(", in {name}"))
}

/// Whether byte `at` is one of `length` from `offset` on.
fn holds(offset: u64, length: u64, at: u64) -> bool {
    offset <= at && at - offset < length
}

fn weight_owner(manifest: &Manifest, at: u64) -> Option<String> {
    let matrices = manifest.weights.iter().map(|it| (it.offset, it.bytes, &it.tensors));
    let products = manifest.array.iter().flat_map(|array| &array.products);
    let products = products.map(|it| (it.offset, it.bytes, &it.tensors));
    let mut all = matrices.chain(products);
    let (_, _, tensors) = all.find(|&(offset, bytes, _)| holds(offset, bytes, at))?;
    Some(tensors.join(" + "))
}

fn code_owner(manifest: &Manifest, at: u64) -> Option<String> {
    if let Some(function) = manifest.functions.iter().find(|it| holds(it.offset, it.length, at)) {
        return Some(format!("function {}", function.name));
    }
    let entry = manifest.entries.iter().find(|it| holds(it.offset, it.length, at))?;
    let inside = at - entry.offset;
    let mut ranges = entry.ranges.iter();
    let range = ranges.find(|it| (it.start.into()..it.end.into()).contains(&inside));
    let region = range.and_then(|range| manifest.regions.get(range.region as usize));
    Some(match region {
        Some(region) => format!("entry {} region {}", entry.name, region.name),
        None => format!("entry {}", entry.name),
    })
}

/// The first line of the plans' texts that is not the same.
fn first_line(a: &PlanFile, b: &PlanFile) -> String {
    let (a, b) = (a.dump(), b.dump());
    let lines = a.lines().map(Some).chain(repeat(None));
    let others = b.lines().map(Some).chain(repeat(None));
    let pairs = lines.zip(others).take_while(|(x, y)| x.is_some() || y.is_some());
    for (x, y) in pairs {
        if x != y {
            let shown =
                |line: Option<&str>| line.map_or("nothing".into(), |it| it.trim().to_owned());
            return format!("`{}`, and again `{}`", shown(x), shown(y));
        }
    }
    "a field that the text does not show".into()
}
