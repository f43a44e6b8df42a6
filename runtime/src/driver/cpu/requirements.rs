//! What a plan needs of the processor and of memory, beside what there is. [`CpuDriver::load`]
//! refuses by these checks, and `crate::check` tells them beforehand.
//!
//! [`CpuDriver::load`]: super::CpuDriver::load

use onebit_cpu::Isa;
use onebit_plan::PAGE;
use onebit_plan::manifest::{Manifest, Requirement, SegmentKind};

use crate::check::{Check, bytes_text};
use crate::machine::Roots;
use crate::machine::memory::{Bound, Memory};
use crate::machine::processor::{Processor, name_of};

const ELSEWHERE: &str = "compile the GGUF on this machine, or with `--target` set to it";

/// What a plan meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    pub processor: Processor,
    /// None where the system does not tell.
    pub memory: Option<Memory>,
}

impl Here {
    /// This machine.
    pub fn detect() -> Self {
        Self { processor: Processor::detect(), memory: Memory::read(&Roots::system()) }
    }
}

/// How much of a plan is to be used at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// Positions of each slot that will be filled.
    pub context: u32,
    pub slots: u32,
    /// Threads of the team.
    pub threads: usize,
}

impl Use {
    /// One slot, filled to its end: the least that a load must have room for. Further slots are
    /// reserved, and take memory as they are filled.
    pub fn least(manifest: &Manifest, threads: usize) -> Self {
        Self { context: manifest.model.context, slots: 1, threads }
    }
}

/// Everything that the plan needs to run its steps on the processor.
pub fn assess(manifest: &Manifest, here: &Here, used: Use) -> Vec<Check> {
    let processor = &here.processor;
    let mut checks = Vec::new();
    let mut features = Vec::new();
    let mut least_memory = 0;
    for requirement in &manifest.requirements {
        match requirement {
            Requirement::Architecture(name) => checks.push(architecture(name, processor)),
            Requirement::CpuFeature(name) => features.push(name.as_str()),
            Requirement::Memory(bytes) => least_memory = least_memory.max(*bytes),
        }
    }
    checks.push(self::features(&features, processor));
    checks.push(kernels(processor));
    checks.extend(sizes(manifest, used));
    checks.push(memory(manifest, here.memory, used, least_memory));
    checks
}

fn architecture(name: &str, processor: &Processor) -> Check {
    const WHAT: &str = "architecture";
    let (needed, found) = (format!("the architecture {name}"), processor.architecture.as_str());
    if name == found {
        return Check::met(WHAT, needed, found);
    }
    Check::unmet(WHAT, needed, found, ELSEWHERE)
}

fn features(needed: &[&str], processor: &Processor) -> Check {
    const WHAT: &str = "features";
    let lacking: Vec<&str> = needed.iter().copied().filter(|it| !processor.has(it)).collect();
    let text = match needed {
        [] => "no CPU feature".into(),
        all => format!("the CPU features {}", all.join(" ")),
    };
    if lacking.is_empty() {
        return Check::met(WHAT, text, if needed.is_empty() { "-" } else { "all of them" });
    }
    let remedy = format!(
        "{ELSEWHERE}; a virtual machine may hide what its host has: give it the host's CPU features"
    );
    Check::unmet(WHAT, text, format!("no {}", lacking.join(" ")), remedy)
}

/// Which microkernels the load takes.
fn kernels(processor: &Processor) -> Check {
    const WHAT: &str = "kernels";
    let found = format!("kernels for {}", name_of(processor.instruction_set));
    let best = if processor.architecture == "x86_64" { Isa::Avx512 } else { Isa::Portable };
    if processor.instruction_set >= best {
        return Check::met(WHAT, format!("kernels for {}", name_of(best)), found);
    }
    let needed = format!("kernels for {} (with VNNI)", name_of(best));
    let remedy = "nothing to be done on this CPU; results are the same bits";
    Check::slower(WHAT, needed, found, remedy)
}

/// Whether the plan was compiled for so much.
pub fn sizes(manifest: &Manifest, used: Use) -> Vec<Check> {
    [
        ("context", "positions of a slot", used.context, manifest.model.context, "--ctx"),
        ("slots", "slots", used.slots, manifest.memory.slots, "--batch"),
    ]
    .into_iter()
    .map(|(what, unit, asked, has, option)| {
        let (needed, found) = (format!("{asked} {unit}"), format!("{has} in the plan"));
        if asked <= has {
            return Check::met(what, needed, found);
        }
        Check::unmet(what, needed, found, format!("compile the GGUF with `{option} {asked}`"))
    })
    .collect()
}

/// What a use of the plan keeps in memory.
fn memory(manifest: &Manifest, memory: Option<Memory>, used: Use, least: u64) -> Check {
    const WHAT: &str = "memory";
    let weights = manifest.segments.iter().filter(|it| it.kind == SegmentKind::Weights);
    let weights: u64 = weights.map(|segment| segment.length).sum();
    let scratch = scratch_bytes(manifest, used.threads);
    let cache = cache_bytes(manifest.memory.slot, manifest.model.context, used);
    // Weights are mapped, and leave memory when it gets short; the rest must stay.
    let own = scratch.saturating_add(cache).max(least);
    let all = own.saturating_add(weights);
    let needed = format!(
        "{} of memory: {} for weights, {} for {} x {} positions, {} for steps",
        bytes_text(all),
        bytes_text(weights),
        bytes_text(cache),
        used.slots,
        used.context,
        bytes_text(own - cache.min(own)),
    );
    let Some(Memory { total, available, bound }) = memory else {
        return Check::met(WHAT, needed, "unknown");
    };
    let of = match bound {
        Bound::Machine => "",
        Bound::Group => ", by the limit of its control group",
    };
    let found = format!("{} available of {}{of}", bytes_text(available), bytes_text(total));
    let remedy = "close other programs, use fewer sequences at once, or compile with a smaller \
                  `--ctx` or `--batch`";
    if own > total {
        Check::unmet(WHAT, needed, found, remedy)
    } else if all > available {
        Check::slower(WHAT, needed, found, remedy)
    } else {
        Check::met(WHAT, needed, found)
    }
}

fn scratch_bytes(manifest: &Manifest, threads: usize) -> u64 {
    let private = manifest.memory.private.next_multiple_of(PAGE);
    manifest.memory.arena.saturating_add(private.saturating_mul(threads as u64))
}

/// Bytes of the cache that a use fills, where a slot of `context` positions takes `slot`.
pub fn cache_bytes(slot: u64, context: u32, used: Use) -> u64 {
    let part = u128::from(slot) * u128::from(used.context) / u128::from(context.max(1));
    u64::try_from(part).unwrap_or(u64::MAX).saturating_mul(used.slots.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Outcome, Verdict, verdict};
    use crate::test_manifest::manifest;

    const GIB: u64 = 1 << 30;

    fn here(set: Isa, memory: Option<(u64, u64)>) -> Here {
        let processor = Processor {
            architecture: "x86_64".into(),
            features: vec!["sse4.2", "avx2"],
            instruction_set: set,
        };
        let memory =
            memory.map(|(total, available)| Memory { total, available, bound: Bound::Machine });
        Here { processor, memory }
    }

    #[track_caller]
    fn outcome(checks: &[Check], what: &str) -> Outcome {
        checks.iter().find(|check| check.what == what).unwrap().outcome
    }

    /// 1 GiB of weights, 1 GiB a slot, and a requirement of 1 GiB.
    fn large() -> Manifest {
        let mut manifest = manifest();
        manifest.segments[0].length = GIB;
        manifest.memory.slot = GIB;
        manifest.requirements = vec![
            Requirement::Architecture("x86_64".into()),
            Requirement::CpuFeature("avx2".into()),
            Requirement::Memory(GIB),
        ];
        manifest
    }

    #[test]
    fn each_need_has_its_line() {
        let manifest = large();
        let used = Use::least(&manifest, 4);
        let good = here(Isa::Avx512, Some((8 * GIB, 4 * GIB)));
        let checks = assess(&manifest, &good, used);
        assert_eq!(verdict(&checks), Verdict::Runs, "{checks:#?}");
        let what: Vec<&str> = checks.iter().map(|check| check.what).collect();
        assert_eq!(what, ["architecture", "features", "kernels", "context", "slots", "memory"]);
        let slow = assess(&manifest, &here(Isa::Avx2, None), used);
        assert_eq!(outcome(&slow, "kernels"), Outcome::Slower);
        assert_eq!(outcome(&slow, "memory"), Outcome::Met, "nobody tells");
        let mut foreign = manifest.clone();
        foreign.requirements = vec![
            Requirement::Architecture("aarch64".into()),
            Requirement::CpuFeature("avx2".into()),
            Requirement::CpuFeature("avx512f".into()),
        ];
        let checks = assess(&foreign, &good, used);
        assert_eq!(outcome(&checks, "architecture"), Outcome::Unmet);
        let features = checks.iter().find(|check| check.what == "features").unwrap();
        assert_eq!(features.found, "no avx512f");
        assert!(checks.iter().all(|it| (it.outcome == Outcome::Met) == it.remedy.is_none()));
    }

    #[test]
    fn memory_is_weighed_by_what_will_be_filled() {
        let manifest = large();
        let all = manifest.model.context;
        for (context, slots, total, available, expected) in [
            (all, 1, 8, 4, Outcome::Met),
            // Weights may leave memory, so that only the cache must fit.
            (all, 1, 8, 1, Outcome::Slower),
            (all, 1, 1, 1, Outcome::Unmet),
            (all, 8, 16, 16, Outcome::Met),
            (all, 8, 8, 8, Outcome::Unmet),
            (all / 2, 8, 8, 8, Outcome::Met),
            // A requirement of the manifest counts, however little is to be used.
            (all / 4, 1, 1, 1, Outcome::Slower),
        ] {
            let used = Use { context, slots, threads: 1 };
            let here = here(Isa::Avx512, Some((total * GIB, available * GIB)));
            let checks = assess(&manifest, &here, used);
            let case = format!("{context} x {slots} in {available} of {total}: {checks:#?}");
            assert_eq!(outcome(&checks, "memory"), expected, "{case}");
        }
    }

    #[test]
    fn more_than_the_plan_was_compiled_for_is_told() {
        let manifest = manifest();
        let used = Use { context: 1 << 20, slots: 99, threads: 1 };
        let checks = assess(&manifest, &here(Isa::Avx512, None), used);
        for (what, option) in [("context", "--ctx 1048576"), ("slots", "--batch 99")] {
            let check = checks.iter().find(|check| check.what == what).unwrap();
            assert_eq!(check.outcome, Outcome::Unmet);
            assert!(check.remedy.as_ref().unwrap().contains(option), "{check:?}");
        }
    }
}
