//! What must hold in every plan. Writer and reader run the same checks, so that nothing is
//! written that cannot be read.

mod entry;
mod golden;
mod gpu;
mod spirv;
mod trace;

use crate::abi::{
    ARRAY_BLOCK, ARRAY_BRICK, ARRAY_COLUMNS, ARRAY_GROUP, ARRAY_ROWS, ARRAY_SHIFTS, ArrayRole,
    BUFFER_ALIGN, KEY_TILE,
};
use crate::header::{HEADER_BYTES, Header, MAGIC};
use crate::manifest::{ArrayPlan, ArrayWeights, Manifest, Requirement, Segment, SegmentKind};
use crate::trust::block::BLOCK_LIMIT;
use crate::{FORMAT_VERSION, PAGE, PlanError, codec};

/// Largest buffer of each kind, in bytes: far above any machine, far below overflow.
const MEMORY_LIMIT: u64 = 1 << 42;
/// Cache slots a plan may ask for.
const SLOT_LIMIT: u32 = 1 << 10;
/// Rows of one step, positions of one slot, tokens of a vocabulary.
const COUNT_LIMIT: u32 = 1 << 24;

/// The first multiple of [`PAGE`] at or above `offset`.
pub(crate) fn page_up(offset: u64) -> Option<u64> {
    offset.checked_next_multiple_of(PAGE)
}

/// Reads the header of a file of `file_length` bytes. The magic and version are checked before
/// (they have errors of their own); the digest is checked after, with the manifest.
pub(crate) fn header(bytes: &[u8; HEADER_BYTES], file_length: u64) -> Result<Header, PlanError> {
    debug_assert_eq!(bytes[..8], MAGIC);
    let half = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| bytes[at + i]));
    let word = |at: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| bytes[at + i]));
    let header = Header {
        version: half(8),
        manifest_offset: word(16),
        manifest_length: word(24),
        length: word(32),
        digest: std::array::from_fn(|i| bytes[40 + i]),
        signature_length: half(60),
    };
    equal("header bytes", HEADER_BYTES as u64, half(12).into())?;
    if header.signature_length as usize > BLOCK_LIMIT {
        let expected = format!("0..={BLOCK_LIMIT} bytes");
        return Err(PlanError::malformed("signature length", expected, header.signature_length));
    }
    let total = header.length.checked_add(header.signature_length.into());
    if total != Some(file_length) {
        let found = format!("{} + {} of a signature", header.length, header.signature_length);
        return Err(PlanError::malformed("file length in the header", file_length, found));
    }
    let limit = codec::MANIFEST_LIMIT as u64;
    if header.manifest_length == 0 || header.manifest_length > limit {
        let expected = format!("1..={limit} bytes");
        return Err(PlanError::malformed("manifest length", expected, header.manifest_length));
    }
    match header.manifest_offset.checked_add(header.manifest_length) {
        Some(end) if end == header.length && header.manifest_offset >= HEADER_BYTES as u64 => {}
        _ => {
            let expected = format!("a manifest that ends at {}", header.length);
            let found = format!("{} + {}", header.manifest_offset, header.manifest_length);
            return Err(PlanError::malformed("manifest offset", expected, found));
        }
    }
    Ok(header)
}

/// Everything the manifest claims, against the offset at which it stands itself.
pub(crate) fn manifest(manifest: &Manifest, manifest_offset: u64) -> Result<(), PlanError> {
    segments(&manifest.segments, manifest_offset)?;
    memory(manifest)?;
    model(manifest)?;
    entry::entries(manifest)?;
    entry::regions(manifest)?;
    trace::traced(manifest)?;
    weights(manifest)?;
    array(manifest)?;
    gpu::gpu(manifest)
}

pub(crate) use golden::golden;

/// The SPIR-V modules of a manifest that passed [`manifest`], given the segment of shaders.
pub(crate) fn shaders(manifest: &Manifest, bytes: &[u8]) -> Result<(), PlanError> {
    manifest.gpu.as_ref().map_or(Ok(()), |plan| gpu::modules(plan, bytes))
}

fn segments(segments: &[Segment], manifest_offset: u64) -> Result<(), PlanError> {
    let mut next = page_up(HEADER_BYTES as u64);
    for (index, segment) in segments.iter().enumerate() {
        let place = format!("segment {index} ({:?})", segment.kind);
        if segments[..index].iter().any(|other| other.kind == segment.kind) {
            return Err(PlanError::malformed(place, "each kind once", "a second one"));
        }
        let expected = next.filter(|&offset| offset == segment.offset);
        if expected.is_none() {
            let expected = next.map_or("an offset in range".into(), |offset| offset.to_string());
            return Err(PlanError::malformed(format!("{place} offset"), expected, segment.offset));
        }
        let end = segment.offset.checked_add(segment.length);
        if end.is_none_or(|end| end > manifest_offset) {
            let expected = format!("an end at or before the manifest at {manifest_offset}");
            let found = format!("{} + {}", segment.offset, segment.length);
            return Err(PlanError::malformed(place, expected, found));
        }
        next = end.and_then(page_up);
    }
    equal("manifest offset after the segments", next.unwrap_or(0), manifest_offset)
}

fn memory(manifest: &Manifest) -> Result<(), PlanError> {
    let memory = &manifest.memory;
    for (name, bytes) in
        [("arena", memory.arena), ("private", memory.private), ("slot", memory.slot)]
    {
        if bytes > MEMORY_LIMIT || bytes % BUFFER_ALIGN as u64 != 0 {
            let expected = format!("a multiple of {BUFFER_ALIGN} up to {MEMORY_LIMIT}");
            return Err(PlanError::malformed(format!("memory.{name}"), expected, bytes));
        }
    }
    range("memory.slots", memory.slots, SLOT_LIMIT)
}

fn model(manifest: &Manifest) -> Result<(), PlanError> {
    range("model.vocabulary", manifest.model.vocabulary, COUNT_LIMIT)?;
    let context = manifest.model.context;
    range("model.context", context, COUNT_LIMIT)?;
    if !(context as usize).is_multiple_of(KEY_TILE) {
        let expected = format!("a multiple of {KEY_TILE}");
        return Err(PlanError::malformed("model.context", expected, context));
    }
    for requirement in &manifest.requirements {
        if let Requirement::Memory(bytes) = requirement
            && *bytes > MEMORY_LIMIT
        {
            let expected = format!("at most {MEMORY_LIMIT}");
            return Err(PlanError::malformed("required memory", expected, bytes));
        }
    }
    Ok(())
}

fn weights(manifest: &Manifest) -> Result<(), PlanError> {
    let length = length_of(manifest, SegmentKind::Weights);
    for record in &manifest.weights {
        let place = || format!("weight {:?}", record.tensors);
        inside(place, (record.offset, record.bytes), length, BUFFER_ALIGN as u64)?;
    }
    Ok(())
}

/// A plan has all parts for a neural processor, or none.
fn array(manifest: &Manifest) -> Result<(), PlanError> {
    for kind in [SegmentKind::ArrayConfiguration, SegmentKind::ArrayCalls] {
        present(manifest, kind, manifest.array.is_some())?;
    }
    let Some(plan) = &manifest.array else { return Ok(()) };
    array_calls(manifest, plan)?;
    plan.products.iter().try_for_each(|product| array_product(manifest, plan, product))?;
    array_groups(plan)
}

/// Each product is in one group, whose calls take no longer than was asked for.
fn array_groups(plan: &ArrayPlan) -> Result<(), PlanError> {
    let mut next = 0;
    for (index, group) in plan.groups.iter().enumerate() {
        let place = || format!("array group {index}");
        let end = group.first.checked_add(group.count).map(|end| end as usize);
        let members = end.and_then(|end| plan.products.get(group.first as usize..end));
        let (Some([first, rest @ ..]), true) = (members, group.first as usize == next) else {
            let expected = format!("products from {next} on, of {}", plan.products.len());
            let found = format!("{} from {} on", group.count, group.first);
            return Err(PlanError::malformed(place(), expected, found));
        };
        next += 1 + rest.len();
        array_roles(first, rest)
            .map_err(|expected| PlanError::malformed(place(), expected, "others"))?;
        let seconds = |product: &ArrayWeights| plan.calls[product.call as usize].modelled_seconds;
        let all = seconds(first) + rest.iter().map(seconds).sum::<f64>();
        let in_time = all <= plan.group_seconds;
        if !rest.is_empty() && !in_time {
            let expected = format!("at most {} seconds", plan.group_seconds);
            return Err(PlanError::malformed(place(), expected, all));
        }
    }
    equal("products in array groups", plan.products.len() as u64, next as u64)
}

/// A submission is a gate and its reader, or plain products of one input; else what it should be.
fn array_roles(first: &ArrayWeights, rest: &[ArrayWeights]) -> Result<(), &'static str> {
    if first.role.is_gate() {
        let [reader] = rest else { return Err("a gate and one product that reads it") };
        let group = first.rows / 2 / ARRAY_COLUMNS as u32;
        let fits = reader.role == ArrayRole::Gated
            && (reader.columns, reader.group) == (first.rows / 2, group);
        return if fits {
            Ok(())
        } else {
            Err("a product that reads the gate's columns as groups")
        };
    }
    let agree = |other: &ArrayWeights| {
        let extents = |it: &ArrayWeights| (it.columns, it.group);
        other.role == ArrayRole::Plain && extents(other) == extents(first)
    };
    let fits = first.role == ArrayRole::Plain && rest.iter().all(agree);
    if fits { Ok(()) } else { Err("products of the same k") }
}

fn array_calls(manifest: &Manifest, plan: &ArrayPlan) -> Result<(), PlanError> {
    let streams = length_of(manifest, SegmentKind::ArrayCalls);
    for (index, call) in plan.calls.iter().enumerate() {
        inside(|| format!("array call {index}"), (call.offset, call.length), streams, 4)?;
        let largest = call.activations.max(call.weights).max(call.results);
        if largest > MEMORY_LIMIT {
            let expected = format!("buffers of at most {MEMORY_LIMIT} bytes");
            return Err(PlanError::malformed(format!("array call {index}"), expected, largest));
        }
    }
    Ok(())
}

/// Sizes that the runtime allocates by and cuts buffers with.
fn array_product(
    manifest: &Manifest,
    plan: &ArrayPlan,
    product: &ArrayWeights,
) -> Result<(), PlanError> {
    let place = || format!("array weight {:?}", product.tensors);
    range(&place(), product.rows, COUNT_LIMIT)?;
    range(&place(), product.columns, COUNT_LIMIT)?;
    range(&place(), product.group, ARRAY_GROUP as u32)?;
    let (rows, columns) = (u64::from(product.rows), u64::from(product.columns));
    let groups = columns.div_ceil(u64::from(product.group));
    if groups > 1 && !product.group.is_multiple_of(ARRAY_BRICK as u32) {
        let expected = format!("all of {columns} or a multiple of {ARRAY_BRICK}");
        return Err(PlanError::malformed(place(), expected, product.group));
    }
    let is_gate = product.role.is_gate();
    let unit = 2 * (ARRAY_COLUMNS * ARRAY_BRICK) as u64;
    if is_gate && (groups != 1 || !rows.is_multiple_of(unit)) {
        let expected = format!("one group, and a multiple of {unit} rows");
        return Err(PlanError::malformed(place(), expected, format!("{groups} and {rows}")));
    }
    let scales = if is_gate { 16 } else { rows * groups * size_of::<f32>() as u64 };
    let Some(bytes) = product.bytes.checked_add(scales) else {
        return Err(PlanError::malformed(place(), "bytes in range", product.bytes));
    };
    let length = length_of(manifest, SegmentKind::Weights);
    inside(place, (product.offset, bytes), length, BUFFER_ALIGN as u64)?;
    let Some(call) = plan.calls.get(product.call as usize) else {
        let expected = format!("one of {} calls", plan.calls.len());
        return Err(PlanError::malformed(place(), expected, product.call));
    };
    // What is behind the last k up to the end of its group is zeros that are there.
    let depth = if groups > 1 { groups * u64::from(product.group) } else { columns };
    let codes = |count: u64| 2 * ARRAY_ROWS as u64 * count;
    let shifts = (ARRAY_COLUMNS * ARRAY_ROWS / ARRAY_BLOCK * ARRAY_SHIFTS) as u64;
    let (activations, results) = match product.role {
        ArrayRole::Plain => (codes(depth), 4 * ARRAY_ROWS as u64 * rows * groups),
        ArrayRole::Gated => (codes(depth) + shifts, 4 * ARRAY_ROWS as u64 * rows * groups),
        ArrayRole::Silu | ArrayRole::GeluTanh => {
            (codes(depth + ARRAY_BRICK as u64), codes(rows / 2) + shifts)
        }
    };
    let least = [
        ("activation bytes", call.activations, activations),
        ("result bytes", call.results, results),
        ("weight bytes", product.bytes, rows * depth),
    ];
    for (what, found, least) in least {
        if found < least {
            let place = format!("{what} of {}", place());
            return Err(PlanError::malformed(place, format!("at least {least}"), found));
        }
    }
    equal(&format!("weight bytes of {}", place()), call.weights, product.bytes)
}

/// Whether a segment is there exactly when the manifest speaks of it.
fn present(manifest: &Manifest, kind: SegmentKind, expected: bool) -> Result<(), PlanError> {
    let found = length_of(manifest, kind) > 0;
    if found == expected {
        return Ok(());
    }
    let words = |there: bool| if there { "present" } else { "absent" };
    Err(PlanError::malformed(format!("segment {kind:?}"), words(expected), words(found)))
}

/// Whether a range lies in a segment of `length` bytes, from a multiple of `align` on.
fn inside(
    place: impl Fn() -> String,
    (offset, bytes): (u64, u64),
    length: u64,
    align: u64,
) -> Result<(), PlanError> {
    let fits = offset.checked_add(bytes).is_some_and(|end| end <= length);
    if fits && offset.is_multiple_of(align) {
        return Ok(());
    }
    let expected = format!("an offset that is a multiple of {align}, an end up to {length}");
    Err(PlanError::malformed(place(), expected, format!("{offset} + {bytes}")))
}

/// Bytes of the segment of this kind; 0 when the plan has none.
fn length_of(manifest: &Manifest, kind: SegmentKind) -> u64 {
    manifest.segments.iter().find(|segment| segment.kind == kind).map_or(0, |s| s.length)
}

fn equal(place: &str, expected: u64, found: u64) -> Result<(), PlanError> {
    if expected == found { Ok(()) } else { Err(PlanError::malformed(place, expected, found)) }
}

fn range(place: &str, found: u32, limit: u32) -> Result<(), PlanError> {
    if (1..=limit).contains(&found) {
        return Ok(());
    }
    Err(PlanError::malformed(place, format!("1..={limit}"), found))
}

/// Format version found in the first 12 bytes, when they begin with the magic.
pub(crate) fn version(bytes: &[u8]) -> Option<u32> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    Some(u32::from_le_bytes(rest.first_chunk::<4>().copied()?))
}

/// Whether this release reads `version`.
pub(crate) fn readable(version: u32) -> bool {
    version == FORMAT_VERSION
}
