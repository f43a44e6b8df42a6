//! Options as a plan's provenance has them: written when it is compiled, read to compile it again.

use onebit_plan::manifest::Manifest;

use crate::emit::{Options, Vulkan};
use crate::report::NPU_OPTION;
use crate::schedule::array::ArrayLimits;
use crate::schedule::repack::Placement;
use crate::target::cpu::CpuOptions;

/// How [`Vulkan`] is written.
const VULKAN: [(Vulkan, &str); 3] = [
    (Vulkan::WherePossible, "where-possible"),
    (Vulkan::Required, "required"),
    (Vulkan::Without, "none"),
];

/// What cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ProvenanceError {
    #[error(
        "the plan was made by onebitc {found}, and this is {here}: other versions make other bytes"
    )]
    Tool { found: String, here: &'static str },
    #[error("the plan was made with an option that this onebitc does not know: {option}")]
    Unknown { option: String },
    #[error("the plan does not say with what {name} it was made")]
    Missing { name: &'static str },
}

/// All options that change a plan's bytes, as `name=value`, sorted.
pub(crate) fn record(options: &Options, cpu: &CpuOptions) -> Vec<String> {
    let vulkan = VULKAN.iter().find(|(value, _)| *value == options.vulkan);
    let mut all = vec![
        format!("architecture={}", cpu.architecture),
        format!("batch={}", cpu.batch),
        format!("ctx={}", cpu.context),
        format!("gpu={}", vulkan.map_or("", |(_, name)| name)),
    ];
    if options.placement == Placement::Array {
        let ArrayLimits { outputs, group_seconds } = options.array_limits;
        all.push(NPU_OPTION.into());
        all.push(format!("npu-call-outputs={outputs}"));
        all.push(format!("npu-group-seconds={group_seconds}"));
    }
    all.sort_unstable();
    all
}

/// The options that a plan was made with.
///
/// # Errors
/// Another version's plan, an option of another version, or one that is missing.
pub fn options(manifest: &Manifest) -> Result<Options, ProvenanceError> {
    let (found, here) = (&manifest.provenance.tool, env!("CARGO_PKG_VERSION"));
    if found != here {
        return Err(ProvenanceError::Tool { found: found.clone(), here });
    }
    let mut options = Options { placement: Placement::Cpu, ..Options::default() };
    let (mut architecture, mut batch, mut vulkan) = (None, None, None);
    options.context = None;
    for option in &manifest.provenance.options {
        let unknown = || ProvenanceError::Unknown { option: option.clone() };
        let (name, value) = option.split_once('=').ok_or_else(unknown)?;
        match name {
            "architecture" => architecture = Some(value.to_owned()),
            "batch" => batch = Some(value.parse().map_err(|_| unknown())?),
            "ctx" => options.context = Some(value.parse().map_err(|_| unknown())?),
            "gpu" => {
                let known = VULKAN.iter().find(|(_, name)| *name == value);
                vulkan = Some(known.ok_or_else(unknown)?.0);
            }
            _ if option == NPU_OPTION => options.placement = Placement::Array,
            "npu-call-outputs" => {
                options.array_limits.outputs = value.parse().map_err(|_| unknown())?;
            }
            "npu-group-seconds" => {
                options.array_limits.group_seconds = value.parse().map_err(|_| unknown())?;
            }
            _ => return Err(unknown()),
        }
    }
    let missing = |name| ProvenanceError::Missing { name };
    options.architecture = architecture.ok_or_else(|| missing("architecture"))?;
    options.batch = batch.ok_or_else(|| missing("batch"))?;
    options.vulkan = vulkan.ok_or_else(|| missing("gpu"))?;
    if options.context.is_none() {
        return Err(missing("ctx"));
    }
    Ok(options)
}
