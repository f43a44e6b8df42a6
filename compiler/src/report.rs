//! What a compile tells its user at the end.

use std::collections::BTreeMap;
use std::fmt;

use onebit_ir::quant::Format;
use onebit_plan::gpu::GpuPlan;
use onebit_plan::manifest::{ArrayPlan, ArrayWeights, Manifest};

use crate::predict::lines as predict_lines;
use crate::schedule::repack::is_native;
use crate::target::machine::Machine;
use crate::target::vulkan::predict;

/// How a plan's provenance says that it was compiled for a neural processor, too.
pub(crate) const NPU_OPTION: &str = "npu=xdna2";

/// Summary of a plan, printed by [`fmt::Display`].
#[derive(Debug)]
pub struct Report {
    pub manifest: Manifest,
    /// Why the plan has nothing for Vulkan devices, where it was to have it.
    off_gpu: Option<String>,
    /// Why gates are not made on the array.
    apart: Vec<String>,
    /// The machine that the plan is for.
    machine: Option<Machine>,
}

impl Report {
    pub fn new(manifest: Manifest, off_gpu: Option<String>) -> Self {
        Self { manifest, off_gpu, apart: Vec::new(), machine: None }
    }

    /// The same with why gates are not made on the array.
    pub fn with_apart(self, apart: Vec<String>) -> Self {
        Self { apart, ..self }
    }

    /// The same with what is predicted for a machine.
    pub fn for_machine(self, machine: Option<Machine>) -> Self {
        Self { machine, ..self }
    }

    /// Products that were to go to a neural processor and cannot.
    fn off_array(&self) -> Vec<&str> {
        let regions = self.manifest.regions.iter();
        let on_cpu = regions.filter(|region| region.macs > 0 && region.target == "cpu");
        on_cpu.map(|region| region.name.as_str()).collect()
    }

    /// Weight bytes that one token reads.
    pub fn bytes_per_token(&self) -> u64 {
        self.manifest.regions.iter().map(|region| region.weight_bytes).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = &self.manifest;
        let mebi = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(
            f,
            "{} ({}, {:.1} M parameters, {} layers), context {}, {} slots",
            m.model.name,
            m.model.architecture,
            m.model.parameters as f64 / 1e6,
            m.model.layers,
            m.model.context,
            m.memory.slots
        )?;
        let on = |target: &str| m.regions.iter().filter(|region| region.target == target).count();
        writeln!(f, "placement: {} steps a token on cpu, {} on npu", on("cpu"), on("npu"))?;
        let mut classes: BTreeMap<(String, String), (usize, u64)> = BTreeMap::new();
        for weight in &m.weights {
            let native = Format::from_name(&weight.format)
                .is_some_and(|format| is_native(format, weight.class));
            let class = format!("{:?}", weight.class).to_lowercase();
            let class = if native { class } else { format!("{class} (wider stand-in)") };
            let entry = classes.entry((weight.format.clone(), class)).or_default();
            entry.0 += 1;
            entry.1 += weight.bytes;
        }
        for ((format, class), (count, bytes)) in classes {
            writeln!(
                f,
                "  {count:4} x {format:8} as {class:24} {:9.1} MiB, lossless",
                mebi(bytes)
            )?;
        }
        if let Some(plan) = &m.array {
            array(f, plan)?;
            for reason in &self.apart {
                writeln!(
                    f,
                    "  gates stay on the cpu, gate + up and down are two submissions: {reason}"
                )?;
            }
        }
        if let Some(plan) = &m.gpu {
            gpu(f, plan, self.machine.as_ref())?;
        }
        if let Some(reason) = &self.off_gpu {
            writeln!(f, "gpu: no part for it: {reason}")?;
        }
        if m.provenance.options.iter().any(|option| option == NPU_OPTION) {
            for name in self.off_array() {
                writeln!(f, "  {name} stays on the cpu: the npu has no way to do its shape")?;
            }
        }
        writeln!(
            f,
            "memory: {:.1} MiB read per token, {:.2} KiB of cache per position and slot ({})",
            mebi(self.bytes_per_token()),
            m.memory.slot as f64 / f64::from(m.model.context) / 1024.0,
            m.memory.cache.name()
        )?;
        let lines = self.machine.iter().flat_map(|machine| predict_lines(m, machine));
        lines.into_iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// What a Vulkan device does, and, where the machine is not known, the model's time on the home
/// machine.
fn gpu(f: &mut fmt::Formatter<'_>, plan: &GpuPlan, machine: Option<&Machine>) -> fmt::Result {
    let Some(entry) = plan.entries.first() else { return Ok(()) };
    let waits = entry.dispatches.iter().filter(|dispatch| dispatch.wait).count();
    let (dispatches, kernels) = (entry.dispatches.len(), plan.kernels.len());
    write!(f, "gpu: {dispatches} dispatches and {waits} waits a token, {kernels} kernels")?;
    if machine.is_some() {
        return writeln!(f);
    }
    let seconds = predict::seconds(entry);
    writeln!(
        f,
        "; predicted from bytes and waits, never measured there: {:.2} ms a token on Strix Halo \
         ({:.0} tok/s)",
        seconds * 1e3,
        1.0 / seconds
    )
}

/// What the array does: rounding by source format, and the cost model's times.
fn array(f: &mut fmt::Formatter<'_>, plan: &ArrayPlan) -> fmt::Result {
    let mut formats: BTreeMap<&str, (usize, u64, f32, f32)> = BTreeMap::new();
    for weights in &plan.products {
        let entry = formats.entry(&weights.format).or_default();
        entry.0 += 1;
        entry.1 += weights.bytes;
        entry.2 = entry.2.max(weights.rounding);
        entry.3 = entry.3.max(weights.expected_error);
    }
    for (format, (count, bytes, rounding, error)) in formats {
        let mebi = bytes as f64 / f64::from(1 << 20);
        writeln!(
            f,
            "  {count:4} x {format:8} as int8 for the npu       {mebi:9.1} MiB, rounded by at most \
             {:.2} % (root mean square); expected |error| at most {error:.2e} of an output, for \
             activations of mean square 1",
            rounding * 100.0
        )?;
    }
    let call = |weights: &ArrayWeights| &plan.calls[weights.call as usize];
    let seconds: f64 = plan.products.iter().map(|w| call(w).modelled_seconds).sum();
    let bound: f64 = plan.products.iter().map(|w| call(w).modelled_bound).sum();
    writeln!(
        f,
        "npu: {} calls of {} shapes, {} submissions of at most {:.0} ms; modelled, never run on \
         silicon: {:.2} ms for 32 rows through all of them, of which memory needs {:.2} ms",
        plan.products.len(),
        plan.calls.len(),
        plan.groups.len(),
        plan.group_seconds * 1e3,
        seconds * 1e3,
        bound * 1e3
    )
}

#[cfg(test)]
mod tests {
    use onebit_plan::abi::CacheForm;
    use onebit_plan::manifest::{Memory, ModelInfo, Provenance, Region};

    use super::*;

    fn report(options: &[&str]) -> String {
        report_with(options, Vec::new(), false)
    }

    fn report_with(options: &[&str], apart: Vec<String>, has_array: bool) -> String {
        let region = |name: &str, target: &str, macs| Region {
            name: name.into(),
            target: target.into(),
            ops: Vec::new(),
            weight_bytes: 64,
            macs,
            reads: Vec::new(),
        };
        let manifest = Manifest {
            provenance: Provenance {
                tool: "0.1.0".into(),
                source: "tiny.gguf".into(),
                source_hash: [7; 32],
                options: options.iter().map(|&option| option.into()).collect(),
            },
            model: ModelInfo {
                name: "tiny".into(),
                architecture: "llama".into(),
                parameters: 4096,
                vocabulary: 64,
                context: 64,
                trained_context: 64,
                layers: 1,
            },
            requirements: Vec::new(),
            segments: Vec::new(),
            memory: Memory { arena: 64, private: 64, slot: 64, slots: 1, cache: CacheForm::F16 },
            entries: Vec::new(),
            functions: Vec::new(),
            traced: Vec::new(),
            kernels: Vec::new(),
            regions: vec![
                region("@token_embd", "cpu", 0),
                region("@blk.0.attn_q", "npu", 64),
                region("@blk.0.ffn_down", "cpu", 64),
            ],
            weights: Vec::new(),
            array: has_array.then(|| ArrayPlan {
                calls: Vec::new(),
                products: Vec::new(),
                groups: Vec::new(),
                group_seconds: 0.25,
            }),
            gpu: None,
        };
        Report::new(manifest, None).with_apart(apart).to_string()
    }

    /// Why a layer has a submission more.
    #[test]
    fn gates_that_stay_on_the_cpu_have_their_reason() {
        let text = report_with(&[NPU_OPTION], vec!["too many".into()], true);
        let reason = "gates stay on the cpu, gate + up and down are two submissions: too many";
        assert!(text.contains(reason), "{text}");
        assert!(!report_with(&[NPU_OPTION], Vec::new(), true).contains("gates"));
    }

    /// Nothing falls back in silence, and steps without products are no news.
    #[test]
    fn products_that_stay_on_the_cpu_are_named() {
        let text = report(&[NPU_OPTION]);
        let stays: Vec<&str> = text.lines().filter(|line| line.contains("stays")).collect();
        let expected = "  @blk.0.ffn_down stays on the cpu: the npu has no way to do its shape";
        assert_eq!(stays, [expected]);
        assert!(!report(&[]).contains("stays"), "not asked for");
    }
}
