//! What a plan would take on a known machine, from the bytes that it reads.

use onebit_plan::box_sys::{BoxGpu, BoxGpuKind};
use onebit_plan::gpu::GpuPlan;
use onebit_plan::manifest::Manifest;

use crate::target::machine::Machine;
use crate::target::vulkan::predict;

/// Lines for a report. Every figure is said to be predicted, and from what.
pub fn lines(manifest: &Manifest, machine: &Machine) -> Vec<String> {
    let description = &machine.description;
    let processor = &description.processor;
    let model = processor.model.as_deref().unwrap_or("unnamed processor");
    let rate = description.memory.read.as_ref().map(|read| read.bytes_per_second as f64);
    let speed = rate.map_or_else(
        || "how fast it reads memory was not measured".into(),
        |rate| format!("reads memory at {:.1} GB/s, measured there", rate / 1e9),
    );
    let mut lines = vec![format!(
        "box {}: {model}, {} cores, {} kernels; {speed}",
        &machine.hash[..16],
        processor.cores,
        processor.kernels
    )];
    if let Some(rate) = rate {
        let bytes: u64 = manifest.regions.iter().map(|region| region.weight_bytes).sum();
        let seconds = bytes as f64 / rate;
        lines.push(format!(
            "cpu: predicted from the box's bandwidth and {:.1} MiB of weights, the cache not \
             counted: {:.2} ms a token ({:.0} tok/s) at best",
            bytes as f64 / f64::from(1 << 20),
            seconds * 1e3,
            1.0 / seconds
        ));
    }
    if let Some(plan) = &manifest.gpu {
        lines.extend(description.gpus.iter().map(|gpu| device(plan, gpu, rate)));
    }
    lines
}

/// A Vulkan device's line. Memory of a card's own was not measured.
fn device(plan: &GpuPlan, gpu: &BoxGpu, rate: Option<f64>) -> String {
    let name = &gpu.name;
    match (gpu.kind, rate, plan.entries.first()) {
        (BoxGpuKind::Integrated, Some(rate), Some(entry)) => {
            let seconds = predict::seconds_at(entry, rate);
            format!(
                "gpu: predicted for {name} from the box's bandwidth, with waits as other people \
                 measured them on a Strix Halo: {:.2} ms a token ({:.0} tok/s)",
                seconds * 1e3,
                1.0 / seconds
            )
        }
        (BoxGpuKind::Cpu, ..) => format!("gpu: nothing is predicted for {name}: it is software"),
        _ => format!("gpu: nothing is predicted for {name}: the speed of its memory is not known"),
    }
}
