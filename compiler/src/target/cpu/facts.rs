//! What a plan tells about an entry besides its code: whose each byte of code and scratch is.

use onebit_plan::manifest::{BufferRecord, BufferScope, CodeRange};

use super::arena::{self, Arena};
use super::clif::Place;
use crate::schedule::steps::{BufferId, Schedule, Scope};

/// Scratch in the order of the schedule's buffers; the logits are the caller's.
pub fn buffers(schedule: &Schedule, arena: &Arena) -> Vec<BufferRecord> {
    let mut records = Vec::new();
    for (index, (buffer, used)) in schedule.buffers.iter().zip(arena::used(schedule)).enumerate() {
        let scope = match buffer.scope {
            Scope::Shared => BufferScope::Shared,
            Scope::Private => BufferScope::Private,
            Scope::Logits => continue,
        };
        // A buffer that no step touches has no life to show.
        let Some((first, last)) = used else { continue };
        let id = BufferId(index);
        records.push(BufferRecord {
            name: buffer.name.clone(),
            scope,
            offset: arena.offset(id) as u64,
            bytes: arena.bytes(id) as u64,
            first: super::u32_of(first),
            last: super::u32_of(last),
        });
    }
    records
}

/// Code by region, neighbours of one region joined.
pub fn ranges(places: &[Place]) -> Vec<CodeRange> {
    let mut ranges: Vec<CodeRange> = Vec::new();
    for &Place { start, end, mark } in places.iter().filter(|place| place.start < place.end) {
        match ranges.last_mut() {
            Some(last) if last.region == mark && last.end == start => last.end = end,
            _ => ranges.push(CodeRange { start, end, region: mark }),
        }
    }
    ranges
}
