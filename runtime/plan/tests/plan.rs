//! A small plan written, read, damaged and read again.

use std::fs;
use std::path::{Path, PathBuf};

use onebit_plan::abi::{KernelId, StorageClass};
use onebit_plan::header::{HEADER_BYTES, Header};
use onebit_plan::manifest::{
    BufferRecord, BufferScope, CodeRange, Entry, EntryStep, Function, Manifest, Memory, ModelInfo,
    Provenance, Region, Requirement, SegmentKind, WeightRecord,
};
use onebit_plan::{FORMAT_VERSION, PlanError, PlanFile, PlanWriter};
use onebit_test_support::bare_manifest;
use tempfile::TempDir;

const CODE: &[u8] = &[0xc3; 100];
const TABLE: &[u8] = b"a tokenizer table";

fn weights() -> Vec<u8> {
    (0..5000_u32).map(|i| (i * 7) as u8).collect()
}

fn manifest() -> Manifest {
    let bare = bare_manifest();
    Manifest {
        provenance: Provenance { options: vec!["ctx=64".into()], ..bare.provenance },
        model: ModelInfo { parameters: 5000, vocabulary: 96, trained_context: 128, ..bare.model },
        requirements: vec![
            Requirement::Architecture("x86_64".into()),
            Requirement::CpuFeature("avx2".into()),
            Requirement::Memory(1 << 20),
        ],
        memory: Memory { arena: 4096, slot: 128, slots: 32, ..bare.memory },
        entries: vec![Entry {
            name: "step32".into(),
            offset: 16,
            max_rows: 32,
            length: 8,
            steps: vec![EntryStep { wait: true, function: Some(0) }],
            ranges: vec![CodeRange { start: 2, end: 8, region: 0 }],
            buffers: vec![BufferRecord {
                name: "activation".into(),
                scope: BufferScope::Shared,
                offset: 1024,
                bytes: 3072,
                first: 0,
                last: 0,
            }],
        }],
        functions: vec![Function { name: "@head".into(), offset: 0, length: 16 }],
        kernels: vec![KernelId::Barrier, KernelId::Matmul(StorageClass::Q4D)],
        regions: vec![Region {
            name: "@head".into(),
            target: "cpu".into(),
            ops: vec!["matmul".into()],
            weight_bytes: 4096,
            macs: 8192,
            reads: Vec::new(),
        }],
        weights: vec![WeightRecord {
            tensors: vec!["output.weight".into()],
            format: "q4_0".into(),
            class: StorageClass::Q4D,
            rows: 96,
            columns: 32,
            offset: 64,
            bytes: 1728,
        }],
        ..bare
    }
}

fn write(path: &Path) -> Manifest {
    let mut writer = PlanWriter::create(path).unwrap();
    writer.begin_segment(SegmentKind::CpuCode).unwrap();
    writer.write(CODE).unwrap();
    writer.end_segment().unwrap();
    writer.begin_segment(SegmentKind::Tokenizer).unwrap();
    writer.write(TABLE).unwrap();
    writer.end_segment().unwrap();
    writer.begin_segment(SegmentKind::Weights).unwrap();
    for piece in weights().chunks(999) {
        writer.write(piece).unwrap();
    }
    assert_eq!(writer.position(), 5000);
    writer.end_segment().unwrap();
    writer.finish(manifest()).unwrap()
}

fn small_plan() -> (TempDir, PathBuf, Manifest) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.plan");
    let manifest = write(&path);
    (folder, path, manifest)
}

fn open_error(path: &Path) -> PlanError {
    match PlanFile::open(path) {
        Ok(_) => panic!("{} was accepted", path.display()),
        Err(error) => error,
    }
}

#[test]
fn reads_what_was_written() {
    let (folder, path, written) = small_plan();
    let plan = PlanFile::open(&path).unwrap();
    assert_eq!(plan.manifest(), &written);
    assert_eq!(written, Manifest { segments: written.segments.clone(), ..manifest() });
    assert_eq!(plan.segment(SegmentKind::CpuCode), CODE);
    assert_eq!(plan.segment(SegmentKind::Tokenizer), TABLE);
    assert_eq!(plan.segment(SegmentKind::Weights), weights());
    assert!(written.segments.iter().all(|segment| segment.offset % 4096 == 0));
    assert_eq!(plan.file_length(), fs::metadata(&path).unwrap().len());
    plan.populate(SegmentKind::Weights);
    plan.verify_weights().unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn same_input_gives_same_bytes() {
    let (_a, first, _) = small_plan();
    let (_b, second, _) = small_plan();
    assert_eq!(fs::read(first).unwrap(), fs::read(second).unwrap());
}

#[test]
fn header_bytes_are_golden() {
    let (_folder, path, manifest) = small_plan();
    let bytes = fs::read(path).unwrap();
    let offset = 4096_u64 * 5;
    assert_eq!(&bytes[..8], b"1BITPLAN");
    assert_eq!(bytes[8..16], [1, 0, 0, 0, 64, 0, 0, 0]);
    assert_eq!(bytes[16..24], offset.to_le_bytes());
    assert_eq!(bytes[24..32], (bytes.len() as u64 - offset).to_le_bytes());
    assert_eq!(bytes[32..40], (bytes.len() as u64).to_le_bytes());
    let digest =
        blake3::Hasher::new().update(&bytes[..40]).update(&bytes[offset as usize..]).finalize();
    assert_eq!(bytes[40..60], digest.as_bytes()[..20]);
    assert_eq!(bytes[60..4096], [0; 4036]);
    // Fixed-width integers: the first field is the tool's name behind its u64 length.
    assert_eq!(bytes[offset as usize..][..13], *b"\x05\0\0\0\0\0\0\x000.1.0");
    assert_eq!(manifest.segments[2].hash, *blake3::hash(&weights()).as_bytes());
}

#[test]
fn dump_names_everything() {
    let (_folder, path, _) = small_plan();
    let text = PlanFile::open(path).unwrap().dump();
    for part in ["tiny.gguf", "llama", "avx2", "step32", "Matmul(Q4D)", "@head", "output.weight"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

#[test]
fn a_dropped_writer_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = PlanWriter::create(folder.path().join("a.plan")).unwrap();
    writer.begin_segment(SegmentKind::CpuCode).unwrap();
    writer.write(CODE).unwrap();
    drop(writer);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_writer_refuses_what_the_reader_would() {
    let folder = tempfile::tempdir().unwrap();
    let writer = PlanWriter::create(folder.path().join("a.plan")).unwrap();
    let error = writer.finish(manifest()).unwrap_err();
    assert!(error.to_string().contains("entry \"step32\" offset"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn other_versions_are_named() {
    let (_folder, path, _) = small_plan();
    let mut bytes = fs::read(&path).unwrap();
    bytes[8..12].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let error = open_error(&path);
    assert!(matches!(error, PlanError::Version { found: 2, .. }), "{error}");
    assert!(error.to_string().contains("version 2"), "{error}");
    assert!(error.help().contains("onebitc"));
}

#[test]
fn other_files_are_no_plans() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    assert!(matches!(open_error(&path), PlanError::Io { .. }));
    assert!(matches!(open_error(folder.path()), PlanError::NotAFile { .. }));
    for bytes in [&b""[..], b"GGUF and more bytes than a header has", b"1BITPLA", b"1BITPLAN\x01"] {
        fs::write(&path, bytes).unwrap();
        assert!(matches!(open_error(&path), PlanError::NotAPlan { .. }));
    }
}

#[test]
fn damaged_weights_are_found_on_demand() {
    let (_folder, path, manifest) = small_plan();
    let mut bytes = fs::read(&path).unwrap();
    bytes[manifest.segments[2].offset as usize + 17] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = PlanFile::open(&path).unwrap().verify_weights().unwrap_err();
    assert!(matches!(error, PlanError::Hash { segment: SegmentKind::Weights, .. }), "{error}");
}

/// What readers index by, each with the words that name it in the error.
#[test]
fn facts_about_code_and_scratch_stay_in_range() {
    type Change = fn(&mut Manifest);
    let changes: [(&str, Change); 11] = [
        ("function \"@head\"", |m| m.functions[0].length = 101),
        ("entry \"step32\"", |m| m.entries[0].length = 85),
        ("entry \"step32\"", |m| m.entries[0].length = u64::MAX),
        ("steps of entry", |m| m.entries[0].steps.push(EntryStep::default())),
        ("a function of entry", |m| m.entries[0].steps[0].function = Some(1)),
        ("code ranges", |m| m.entries[0].ranges[0].region = 1),
        ("code ranges", |m| m.entries[0].ranges[0].end = 9),
        ("code ranges", |m| m.entries[0].ranges.push(CodeRange { start: 7, end: 8, region: 0 })),
        ("buffer \"activation\"", |m| m.entries[0].buffers[0].offset = 1025),
        ("buffer \"activation\"", |m| m.entries[0].buffers[0].last = 1),
        ("region \"@head\" reads", |m| m.regions[0].reads = vec![0]),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (place, change) in changes {
        let mut writer = PlanWriter::create(folder.path().join("a.plan")).unwrap();
        for (kind, bytes) in [
            (SegmentKind::CpuCode, CODE.to_vec()),
            (SegmentKind::Tokenizer, TABLE.to_vec()),
            (SegmentKind::Weights, weights()),
        ] {
            writer.begin_segment(kind).unwrap();
            writer.write(&bytes).unwrap();
            writer.end_segment().unwrap();
        }
        let mut manifest = manifest();
        change(&mut manifest);
        let error = writer.finish(manifest).unwrap_err().to_string();
        assert!(error.contains(place), "{place}: {error}");
    }
}

/// SplitMix64, so that a failing mutation can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// Puts the digest right again, so that a mutation reaches the checks behind it.
fn seal(bytes: &mut [u8]) {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let header = Header {
        version: FORMAT_VERSION,
        manifest_offset: word(16),
        manifest_length: word(24),
        length: word(32),
        digest: [0; 20],
        signature_length: 0,
    };
    let end = usize::try_from(header.length).unwrap_or(usize::MAX);
    if let Some(manifest) = bytes.get(header.manifest_offset as usize..end) {
        let digest = header.digest_of(manifest);
        bytes[40..60].copy_from_slice(&digest);
    }
}

/// One damaged copy: half of them in header or manifest, most of those with a valid digest.
fn mutate(random: &mut Random, good: &[u8], manifest_offset: usize) -> Vec<u8> {
    const HOSTILE: [u64; 8] = [0, 1, 63, 4096, u32::MAX as u64, 1 << 40, i64::MAX as u64, u64::MAX];
    let mut bytes = good.to_vec();
    let kind = random.below(8);
    let at = match random.below(4) {
        0 => random.below(bytes.len()),
        1 => 8 + random.below(HEADER_BYTES - 8),
        _ => manifest_offset + random.below(bytes.len() - manifest_offset),
    };
    match kind {
        0 => bytes.truncate(at),
        1 => bytes.extend_from_slice(&[0; 8]),
        2..=4 => bytes[at] ^= 1 << random.below(8),
        _ => {
            let end = (at + 8).min(bytes.len());
            let word = HOSTILE[random.below(HOSTILE.len())].to_le_bytes();
            bytes[at..end].copy_from_slice(&word[..end - at]);
        }
    }
    if bytes.len() >= HEADER_BYTES && random.below(4) != 0 {
        seal(&mut bytes);
    }
    bytes
}

#[test]
fn ten_thousand_mutations_give_typed_errors() {
    let (folder, path, manifest) = small_plan();
    let good = fs::read(&path).unwrap();
    let manifest_offset = 4096 * 5;
    let weights = manifest.segments[2].offset as usize..manifest_offset;
    let path = folder.path().join("mutated.plan");
    let mut random = Random(1);
    let mut refused = 0;
    for round in 0..10_000 {
        let bytes = mutate(&mut random, &good, manifest_offset);
        fs::write(&path, &bytes).unwrap();
        match PlanFile::open(&path) {
            Err(error) => {
                assert!(!error.to_string().is_empty() && !error.help().is_empty());
                refused += 1;
            }
            Ok(plan) => {
                // What is accepted with another manifest passed every check, so that its
                // segments can be read; with the same one, only weights may differ.
                let _ = plan.dump();
                let _ = plan.verify_weights();
                if plan.manifest() == &manifest {
                    let same = |range: std::ops::Range<usize>| bytes[range.clone()] == good[range];
                    assert!(same(64..weights.start), "round {round}");
                }
            }
        }
    }
    assert!(refused > 5_000, "only {refused} were refused");
}
