//! A manifest as text.

mod entry;
mod gpu;

use std::fmt::{self, Write};

use crate::FORMAT_VERSION;
use crate::manifest::{ArrayPlan, Manifest, Requirement};

/// One item a line, in file order; stable, so that it can be compared.
pub(crate) fn manifest(manifest: &Manifest) -> String {
    let mut text = String::new();
    write(&mut text, manifest).expect("writing to a string cannot fail");
    text
}

fn write(out: &mut String, manifest: &Manifest) -> fmt::Result {
    head(out, manifest)?;
    writeln!(out, "\nsegments")?;
    for segment in &manifest.segments {
        let kind = format!("{:?}", segment.kind);
        let hash = blake3::Hash::from_bytes(segment.hash).to_hex();
        writeln!(
            out,
            "  {kind:<10} offset {:<10} bytes {:<10} blake3 {hash}",
            segment.offset, segment.length
        )?;
    }
    entry::entries(out, manifest)?;
    for entry in &manifest.traced {
        let taps: usize = entry.steps.iter().map(|step| step.taps.len()).sum();
        writeln!(
            out,
            "  {:<12} offset {:#08x} max rows {} traced: {} steps, {taps} values",
            entry.name,
            entry.offset,
            entry.max_rows,
            entry.steps.len()
        )?;
    }
    writeln!(out, "\nkernels")?;
    for kernel in &manifest.kernels {
        writeln!(out, "  {kernel:?}")?;
    }
    writeln!(out, "\nregions")?;
    for region in &manifest.regions {
        writeln!(
            out,
            "  {:<24} {:<6} weight bytes {:<10} macs/row {:<10} {}{}",
            region.name,
            region.target,
            region.weight_bytes,
            region.macs,
            region.ops.join(" "),
            entry::reads(manifest, region)
        )?;
    }
    writeln!(out, "\nweights")?;
    for record in &manifest.weights {
        let class = format!("{:?}", record.class);
        writeln!(
            out,
            "  {:>10} {:>10} {:<7} {class:<6} [{}, {}] {}",
            record.offset,
            record.bytes,
            record.format,
            record.rows,
            record.columns,
            record.tensors.join(" + ")
        )?;
    }
    manifest.array.as_ref().map_or(Ok(()), |plan| array(out, plan))?;
    manifest.gpu.as_ref().map_or(Ok(()), |plan| gpu::write(out, plan))?;
    entry::memory(out, manifest)
}

fn array(out: &mut String, plan: &ArrayPlan) -> fmt::Result {
    writeln!(out, "\narray calls (times are modelled, not measured)")?;
    for (index, call) in plan.calls.iter().enumerate() {
        writeln!(
            out,
            "  {index:>3} offset {:<7} bytes {:<5} activations {:<7} weights {:<9} results {:<8} \
             modelled {:.1} us, memory alone {:.1} us",
            call.offset,
            call.length,
            call.activations,
            call.weights,
            call.results,
            call.modelled_seconds * 1e6,
            call.modelled_bound * 1e6
        )?;
    }
    writeln!(out, "\narray weights")?;
    for product in &plan.products {
        writeln!(
            out,
            "  {:>10} {:>10} {:<7} call {:<3} group {:<4} {:?} rounding {:.5} expected |error| {:.3e} \
             [{}, {}] {}",
            product.offset,
            product.bytes,
            product.format,
            product.call,
            product.group,
            product.role,
            product.rounding,
            product.expected_error,
            product.rows,
            product.columns,
            product.tensors.join(" + ")
        )?;
    }
    writeln!(
        out,
        "\narray groups: {} of at most {:.1} us; those of several products:",
        plan.groups.len(),
        plan.group_seconds * 1e6
    )?;
    let chains = plan.groups.iter().enumerate().filter(|(_, group)| group.count > 1);
    for (index, group) in chains {
        let last = group.first + group.count - 1;
        writeln!(out, "  {index:>3} products {} to {last}", group.first)?;
    }
    Ok(())
}

fn head(out: &mut String, manifest: &Manifest) -> fmt::Result {
    let (from, model, memory) = (&manifest.provenance, &manifest.model, &manifest.memory);
    let hash = blake3::Hash::from_bytes(from.source_hash).to_hex();
    writeln!(out, "plan format {FORMAT_VERSION}, written by onebitc {}", from.tool)?;
    writeln!(out, "source       {} blake3 {hash}", from.source)?;
    writeln!(out, "options      {}", from.options.join(" "))?;
    writeln!(out, "model        {} ({})", model.name, model.architecture)?;
    writeln!(out, "parameters   {}", model.parameters)?;
    writeln!(out, "layers       {}", model.layers)?;
    writeln!(out, "vocabulary   {}", model.vocabulary)?;
    writeln!(out, "context      {} (trained {})", model.context, model.trained_context)?;
    writeln!(
        out,
        "memory       arena {} + private {} a thread + {} x {} slots of {}",
        memory.arena,
        memory.private,
        memory.slot,
        memory.slots,
        memory.cache.name()
    )?;
    for requirement in &manifest.requirements {
        match requirement {
            Requirement::Architecture(name) => writeln!(out, "requires     architecture {name}")?,
            Requirement::CpuFeature(name) => writeln!(out, "requires     cpu feature {name}")?,
            Requirement::Memory(bytes) => writeln!(out, "requires     memory {bytes}")?,
        }
    }
    Ok(())
}
