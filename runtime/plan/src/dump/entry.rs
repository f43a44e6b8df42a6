//! Entries as text, with their code, waits and scratch.

use std::fmt::{self, Write};

use crate::manifest::{BufferScope, Manifest, Region};

pub(super) fn entries(out: &mut String, manifest: &Manifest) -> fmt::Result {
    writeln!(out, "\nentries")?;
    for entry in &manifest.entries {
        let waits = entry.steps.iter().filter(|step| step.wait).count();
        writeln!(
            out,
            "  {:<12} offset {:#08x} bytes {:<7} max rows {:<3} steps {} waits {waits}",
            entry.name,
            entry.offset,
            entry.length,
            entry.max_rows,
            entry.steps.len()
        )?;
    }
    writeln!(out, "\nfunctions")?;
    for function in &manifest.functions {
        let (name, offset, length) = (&function.name, function.offset, function.length);
        writeln!(out, "  {name:<28} offset {offset:#08x} bytes {length}")?;
    }
    Ok(())
}

/// ` <- @blk.0.attn_norm`: what a region reads.
pub(super) fn reads(manifest: &Manifest, region: &Region) -> String {
    let from = region.reads.iter().filter_map(|&index| manifest.regions.get(index as usize));
    let names: Vec<&str> = from.map(|region| region.name.as_str()).collect();
    if names.is_empty() { String::new() } else { format!(" <- {}", names.join(" ")) }
}

/// Scratch of every entry, in the order of its lives.
pub(super) fn memory(out: &mut String, manifest: &Manifest) -> fmt::Result {
    for entry in &manifest.entries {
        writeln!(out, "\nmemory plan of entry {}", entry.name)?;
        let mut buffers: Vec<_> = entry.buffers.iter().collect();
        buffers.sort_by_key(|buffer| (buffer.first, buffer.offset));
        for buffer in buffers {
            let scope = match buffer.scope {
                BufferScope::Shared => "shared",
                BufferScope::Private => "private",
            };
            let name = |index: u32| manifest.regions.get(index as usize).map_or("?", |r| &r.name);
            writeln!(
                out,
                "  {scope:<7} {:>9} +{:<9} {:<10} {} to {}",
                buffer.offset,
                buffer.bytes,
                buffer.name,
                name(buffer.first),
                name(buffer.last)
            )?;
        }
    }
    Ok(())
}
