//! Any bytes as a plan: all that a runtime reads of it before it runs. docs/testing.md says how
//! to run it; the corpus begins well with the plan of a small model.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use onebit_plan::header::{HEADER_BYTES, Header};
use onebit_plan::manifest::SegmentKind;
use onebit_plan::{FORMAT_VERSION, PlanFile};

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join("fuzz.plan");
    let mut bytes = bytes.to_vec();
    seal(&mut bytes);
    fs::write(&path, &bytes).expect("space for temporary files");
    match PlanFile::open(&path) {
        Err(error) => assert!(!error.to_string().is_empty() && !error.help().is_empty()),
        Ok(plan) => {
            assert!(!plan.dump().is_empty());
            assert_eq!(plan.file_length(), bytes.len() as u64);
            let _: Result<_, _> = plan.verify_weights();
            let _: Result<_, _> = plan.golden();
            for kind in [SegmentKind::Weights, SegmentKind::CpuCode, SegmentKind::Tokenizer] {
                assert!(plan.segment(kind).len() < bytes.len());
            }
        }
    }
});

/// Makes the digest right, which a fuzzer does not guess, so that the checks behind it are reached.
fn seal(bytes: &mut [u8]) {
    let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else { return };
    let word = |at: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| head[at + i]));
    let header = Header {
        version: FORMAT_VERSION,
        manifest_offset: word(16),
        manifest_length: word(24),
        length: word(32),
        digest: [0; 20],
        signature_length: 0,
    };
    let start = usize::try_from(header.manifest_offset).unwrap_or(usize::MAX);
    let end = usize::try_from(header.length).unwrap_or(usize::MAX);
    if let Some(manifest) = bytes.get(start..end) {
        let digest = header.digest_of(manifest);
        bytes[40..60].copy_from_slice(&digest);
    }
}
