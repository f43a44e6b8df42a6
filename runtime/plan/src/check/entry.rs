//! Entries of CPU code, and what they say about regions, code and scratch. Nothing but an entry's
//! offset and rows is needed to run it, but readers index by the rest, so all of it is checked.

use super::{COUNT_LIMIT, inside, length_of, range};
use crate::PlanError;
use crate::manifest::{BufferScope, Entry, Manifest, SegmentKind};

/// Every entry and every row loop, against the code segment and the regions.
pub(super) fn entries(manifest: &Manifest) -> Result<(), PlanError> {
    let code = length_of(manifest, SegmentKind::CpuCode);
    if manifest.entries.is_empty() {
        return Err(PlanError::malformed("entries", "at least one", "none"));
    }
    for entry in &manifest.entries {
        if entry.offset >= code {
            let place = format!("entry {:?} offset", entry.name);
            let expected = format!("below the {code} bytes of the code segment");
            return Err(PlanError::malformed(place, expected, entry.offset));
        }
        range(&format!("entry {:?} max_rows", entry.name), entry.max_rows, COUNT_LIMIT)?;
        let place = || format!("entry {:?}", entry.name);
        inside(place, (entry.offset, entry.length), code, 1)?;
        steps(manifest, entry)?;
        ranges(manifest, entry)?;
        buffers(manifest, entry)?;
    }
    for function in &manifest.functions {
        let place = || format!("function {:?}", function.name);
        inside(place, (function.offset, function.length), code, 1)?;
    }
    Ok(())
}

/// Regions read only what ran before them.
pub(super) fn regions(manifest: &Manifest) -> Result<(), PlanError> {
    for (index, region) in manifest.regions.iter().enumerate() {
        let ascending = region.reads.windows(2).all(|pair| pair[0] < pair[1]);
        let last = region.reads.last().map_or(0, |&last| last as usize + 1);
        if !ascending || last > index {
            let place = format!("what region {:?} reads", region.name);
            let expected = format!("ascending indices below {index}");
            return Err(PlanError::malformed(place, expected, format!("{:?}", region.reads)));
        }
    }
    Ok(())
}

fn steps(manifest: &Manifest, entry: &Entry) -> Result<(), PlanError> {
    let (steps, regions) = (entry.steps.len(), manifest.regions.len());
    if steps != 0 && steps != regions {
        let place = format!("steps of entry {:?}", entry.name);
        return Err(PlanError::malformed(place, format!("none or {regions}"), steps));
    }
    let functions = manifest.functions.len();
    for function in entry.steps.iter().filter_map(|step| step.function) {
        if function as usize >= functions {
            let place = format!("a function of entry {:?}", entry.name);
            return Err(PlanError::malformed(place, format!("below {functions}"), function));
        }
    }
    Ok(())
}

fn ranges(manifest: &Manifest, entry: &Entry) -> Result<(), PlanError> {
    let mut next = 0;
    for range in &entry.ranges {
        let known = (range.region as usize) < manifest.regions.len();
        let apart = next <= range.start && range.start < range.end;
        if !known || !apart || u64::from(range.end) > entry.length {
            let place = format!("code ranges of entry {:?}", entry.name);
            let expected = format!("regions of the plan, from {next} on, up to {}", entry.length);
            return Err(PlanError::malformed(place, expected, format!("{range:?}")));
        }
        next = range.end;
    }
    Ok(())
}

fn buffers(manifest: &Manifest, entry: &Entry) -> Result<(), PlanError> {
    for buffer in &entry.buffers {
        let size = match buffer.scope {
            BufferScope::Shared => manifest.memory.arena,
            BufferScope::Private => manifest.memory.private,
        };
        let place = || format!("buffer {:?} of entry {:?}", buffer.name, entry.name);
        inside(place, (buffer.offset, buffer.bytes), size, 1)?;
        if buffer.first > buffer.last || buffer.last as usize >= manifest.regions.len() {
            let expected = format!("a life within {} regions", manifest.regions.len());
            let found = format!("{} to {}", buffer.first, buffer.last);
            return Err(PlanError::malformed(place(), expected, found));
        }
    }
    Ok(())
}
