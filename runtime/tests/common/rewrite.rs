//! Plans made from others, with another manifest.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use onebit_plan::header::Header;
use onebit_plan::manifest::{Manifest, SegmentKind};
use onebit_plan::{FORMAT_VERSION, PAGE, PlanFile, PlanWriter};

/// Writes the plan at `from` once more, as `name` beside it, with a changed manifest.
#[allow(dead_code, reason = "each test takes what it needs")]
pub fn rewritten(from: &Path, name: &str, change: impl FnOnce(&mut Manifest)) -> PathBuf {
    let plan = PlanFile::open(from).unwrap();
    let mut manifest = plan.manifest().clone();
    let segments = manifest.segments.clone();
    change(&mut manifest);
    let path = from.with_file_name(name);
    let mut writer = PlanWriter::create(&path).unwrap();
    for segment in segments {
        let gpu = segment.kind == SegmentKind::Shaders && manifest.gpu.is_none();
        let array = [SegmentKind::ArrayConfiguration, SegmentKind::ArrayCalls];
        if gpu || (array.contains(&segment.kind) && manifest.array.is_none()) {
            continue;
        }
        writer.begin_segment(segment.kind).unwrap();
        writer.write(plan.segment(segment.kind)).unwrap();
        writer.end_segment().unwrap();
    }
    writer.finish(manifest).unwrap();
    path
}

/// A plan like that at `from` whose weights are a hole of so many bytes in the file `to`: its header
/// and manifest are right, no byte of a segment is.
#[allow(dead_code, reason = "each test takes what it needs")]
pub fn hollow(from: &Path, to: &Path, weight_bytes: u64) {
    let mut manifest = PlanFile::open(from).unwrap().manifest().clone();
    let last = manifest.segments.last_mut().unwrap();
    assert_eq!(last.kind, SegmentKind::Weights, "weights stand last");
    last.length = weight_bytes;
    let manifest_offset = (last.offset + last.length).next_multiple_of(PAGE);
    let bytes = manifest.to_bytes().unwrap();
    let file_length = manifest_offset + bytes.len() as u64;
    let mut header = Header {
        version: FORMAT_VERSION,
        manifest_offset,
        manifest_length: bytes.len() as u64,
        length: file_length,
        digest: Default::default(),
        signature_length: 0,
    };
    header.digest = header.digest_of(&bytes);
    let file = File::create(to).unwrap();
    file.set_len(file_length).unwrap();
    file.write_all_at(&header.encode(), 0).unwrap();
    file.write_all_at(&bytes, manifest_offset).unwrap();
    assert_eq!(fs::metadata(to).unwrap().len(), file_length);
}
