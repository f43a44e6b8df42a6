//! Options as a plan's provenance has them: written when it is compiled, read to compile it again.

use onebit_plan::abi::CacheForm;
use onebit_plan::manifest::Provenance;

use crate::emit::{Options, Vulkan};
use crate::report::NPU_OPTION;
use crate::schedule::array::ArrayLimits;
use crate::schedule::repack::Placement;
use crate::target::cpu::CpuOptions;
use crate::target::machine::{Machine, Require};

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
    #[error("the plan was made for a machine whose description has BLAKE3 {expected}; {found}")]
    Machine { expected: String, found: String },
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
        format!("kv={}", cpu.cache.name()),
        format!("gpu={}", vulkan.map_or("", |(_, name)| name)),
    ];
    if options.placement == Placement::Array {
        let ArrayLimits { outputs, group_seconds } = options.array_limits;
        all.push(NPU_OPTION.into());
        all.push(format!("npu-call-outputs={outputs}"));
        all.push(format!("npu-group-seconds={group_seconds}"));
    }
    if let Some(machine) = &options.machine {
        all.push(format!("box={}", machine.hash));
    }
    all.extend(options.require.map(|require| format!("require-target={require}")));
    all.sort_unstable();
    all
}

/// The options that a plan was made with. Of the machine that it is for it has a hash alone, so
/// `machine` must be that one.
///
/// # Errors
/// Another version's plan, an option of another version, one that is missing, another machine.
pub fn options(
    provenance: &Provenance,
    machine: Option<Machine>,
) -> Result<Options, ProvenanceError> {
    let (found, here) = (&provenance.tool, env!("CARGO_PKG_VERSION"));
    if found != here {
        return Err(ProvenanceError::Tool { found: found.clone(), here });
    }
    let mut options = Options { placement: Placement::Cpu, ..Options::default() };
    let (mut architecture, mut batch, mut vulkan, mut kv) = (None, None, None, None);
    options.context = None;
    for option in &provenance.options {
        let unknown = || ProvenanceError::Unknown { option: option.clone() };
        let (name, value) = option.split_once('=').ok_or_else(unknown)?;
        match name {
            "architecture" => architecture = Some(value.to_owned()),
            "batch" => batch = Some(value.parse().map_err(|_| unknown())?),
            "ctx" => options.context = Some(value.parse().map_err(|_| unknown())?),
            "kv" => {
                let known = CacheForm::ALL.into_iter().find(|form| form.name() == value);
                kv = Some(known.ok_or_else(unknown)?);
            }
            "gpu" => {
                let known = VULKAN.iter().find(|(_, name)| *name == value);
                vulkan = Some(known.ok_or_else(unknown)?.0);
            }
            "box" => options.machine = Some(machine_of(value, machine.clone())?),
            "require-target" => {
                let all = [Require::Npu, Require::Gpu, Require::Cpu];
                let found = all.into_iter().find(|require| require.to_string() == value);
                options.require = Some(found.ok_or_else(unknown)?);
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
    options.kv = kv.ok_or_else(|| missing("kv"))?;
    options.vulkan = vulkan.ok_or_else(|| missing("gpu"))?;
    if options.context.is_none() {
        return Err(missing("ctx"));
    }
    Ok(options)
}

fn machine_of(expected: &str, machine: Option<Machine>) -> Result<Machine, ProvenanceError> {
    let found = match machine {
        Some(machine) if machine.hash == expected => return Ok(machine),
        Some(machine) => format!("this one has {}", machine.hash),
        None => "give it with --box".into(),
    };
    Err(ProvenanceError::Machine { expected: expected.into(), found })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provenance(tool: &str, options: &[String]) -> Provenance {
        let (tool, source, options) = (tool.into(), "m.gguf".into(), options.to_vec());
        Provenance { tool, source, source_hash: [7; 32], options }
    }

    /// Every option that is written is read again.
    #[test]
    fn options_come_back() {
        let here = env!("CARGO_PKG_VERSION");
        for (placement, vulkan, require, kv) in [
            (Placement::Cpu, Vulkan::WherePossible, None, CacheForm::F16),
            (Placement::Cpu, Vulkan::Required, Some(Require::Gpu), CacheForm::Q8),
            (Placement::Array, Vulkan::Without, Some(Require::Npu), CacheForm::Q8),
        ] {
            let array_limits = ArrayLimits { outputs: 4096, group_seconds: 0.1 };
            let options = Options {
                batch: 7,
                context: Some(48),
                kv,
                architecture: "aarch64".into(),
                placement,
                array_limits,
                vulkan,
                require,
                ..Options::default()
            };
            let architecture = "aarch64".into();
            let cpu = CpuOptions { architecture, batch: 7, context: 48, cache: kv };
            let written = record(&options, &cpu);
            let read = super::options(&provenance(here, &written), None).expect("they are known");
            assert_eq!(record(&read, &cpu), written);
            assert_eq!((read.context, read.placement, read.kv), (Some(48), placement, kv));
        }
    }

    #[test]
    fn what_is_not_known_is_said() {
        let good = ["architecture=x86_64", "batch=4", "ctx=64", "gpu=none", "kv=q8_0"];
        let good = good.map(str::to_owned);
        let fails = |tool: &str, change: fn(&mut Vec<String>)| {
            let mut options = good.to_vec();
            change(&mut options);
            super::options(&provenance(tool, &options), None).unwrap_err().to_string()
        };
        let here = env!("CARGO_PKG_VERSION");
        assert!(fails("0.0.0", |_| {}).contains("onebitc 0.0.0"));
        assert!(fails(here, |all| all.push("colour=red".into())).contains("colour=red"));
        assert!(fails(here, |all| all[1] = "batch=x".into()).contains("batch=x"));
        assert!(fails(here, |all| drop(all.remove(2))).contains("what ctx"));
        assert!(fails(here, |all| all[4] = "kv=q2".into()).contains("kv=q2"));
        assert!(fails(here, |all| drop(all.pop())).contains("what kv"));
        assert!(fails(here, |all| all.push("box=ab".into())).contains("--box"));
    }
}
