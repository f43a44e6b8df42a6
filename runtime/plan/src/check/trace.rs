//! What must hold of traced entries: there are none, or one twin of each entry, and what is tapped lies in
//! the memory that the runtime allocates.

use super::{COUNT_LIMIT, equal, inside, length_of, range};
use crate::PlanError;
use crate::abi::BUFFER_ALIGN;
use crate::manifest::{Entry, Manifest, Scratch, SegmentKind, Tap, TracedEntry};

pub(super) fn traced(manifest: &Manifest) -> Result<(), PlanError> {
    if manifest.traced.is_empty() {
        return Ok(());
    }
    equal("traced entries", manifest.entries.len() as u64, manifest.traced.len() as u64)?;
    for (entry, traced) in manifest.entries.iter().zip(&manifest.traced) {
        twin(manifest, entry, traced)?;
        for (index, step) in traced.steps.iter().enumerate() {
            let place = || format!("step {index} of traced entry {:?}", traced.name);
            if step.region as usize >= manifest.regions.len() {
                let expected = format!("one of {} regions", manifest.regions.len());
                return Err(PlanError::malformed(place(), expected, step.region));
            }
            for tap in &step.taps {
                self::tap(manifest, traced, tap, place)?;
            }
        }
    }
    Ok(())
}

fn twin(manifest: &Manifest, entry: &Entry, traced: &TracedEntry) -> Result<(), PlanError> {
    let code = length_of(manifest, SegmentKind::CpuCode);
    let place = |what: &str| format!("traced entry {:?} {what}", traced.name);
    if traced.name != entry.name {
        return Err(PlanError::malformed(place("name"), format!("{:?}", entry.name), "another"));
    }
    equal(&place("max_rows"), entry.max_rows.into(), traced.max_rows.into())?;
    if traced.offset >= code {
        let expected = format!("below the {code} bytes of the code segment");
        return Err(PlanError::malformed(place("offset"), expected, traced.offset));
    }
    Ok(())
}

/// Whether all rows of a tap lie in its memory.
fn tap(
    manifest: &Manifest,
    entry: &TracedEntry,
    tap: &Tap,
    place: impl Fn() -> String,
) -> Result<(), PlanError> {
    let place = || format!("{} of {}", tap.value, place());
    range(&place(), tap.columns, COUNT_LIMIT)?;
    let memory = match tap.scratch {
        Scratch::Arena => manifest.memory.arena,
        Scratch::Private => manifest.memory.private,
    };
    // Both factors are at most 2^24.
    let bytes = 4 * u64::from(entry.max_rows) * u64::from(tap.columns);
    inside(place, (tap.offset, bytes), memory, BUFFER_ALIGN as u64)
}
