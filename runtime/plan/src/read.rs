//! Reading a plan: one map of the whole file, checked before anything in it is used.

use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::golden::Golden;
use crate::head::{self, Tail};
use crate::header::{HEADER_BYTES, Header, SIGNED_BYTES};
use crate::manifest::{Manifest, Segment, SegmentKind};
use crate::trust::{KeyId, SignatureBlock, Trust, TrustError, TrustedKeys};
use crate::{PlanError, check, codec};

/// A plan mapped read-only, with header, manifest, bounds, padding and small segments checked, and
/// its signature well-formed. Whether the signature is right, and of whom, [`PlanFile::trust`] says:
/// ask before anything that runs code of the plan. Drivers take a
/// [`crate::trust::AllowedPlan`].
///
/// The weight segment's hash is *not* checked at open, because that would read the whole file:
/// damage there changes results, never memory safety, since no weight byte is used as an address,
/// a length or an index. [`PlanFile::verify_weights`] checks it on demand.
pub struct PlanFile {
    path: PathBuf,
    map: Mmap,
    manifest: Manifest,
    /// Where the manifest stands.
    manifest_range: Range<usize>,
    signature: Option<SignatureBlock>,
}

impl PlanFile {
    /// Maps and checks the plan at `path`. The time does not grow with the weights.
    ///
    /// # Errors
    /// Any way in which the file is not a plan of this format version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PlanError> {
        let path = path.as_ref();
        let failed = |source| PlanError::Io { action: "map", path: path.to_owned(), source };
        let (file, length) = head::open_file(path)?;
        if length == 0 {
            return Err(PlanError::NotAPlan { path: path.to_owned() });
        }
        // SAFETY: the map is read-only and private to this value. Writers replace a plan by
        // rename, never in place; a process that truncates the file while it is mapped stops
        // this one with SIGBUS, as for any mapped file.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        let (Tail { manifest, signature }, manifest_range) = check_file(path, &map)?;
        let plan = Self { path: path.to_owned(), map, manifest, manifest_range, signature };
        plan.verify(SegmentKind::CpuCode)?;
        plan.verify(SegmentKind::Tokenizer)?;
        plan.verify(SegmentKind::ArrayConfiguration)?;
        plan.verify(SegmentKind::ArrayCalls)?;
        plan.verify(SegmentKind::Shaders)?;
        plan.verify(SegmentKind::Golden)?;
        check::shaders(&plan.manifest, plan.segment(SegmentKind::Shaders))?;
        Ok(plan)
    }

    /// Where the plan was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file.
    pub fn file_length(&self) -> u64 {
        self.map.len() as u64
    }

    /// Bytes of the file before the signature.
    pub fn unsigned_length(&self) -> u64 {
        self.manifest_range.end as u64
    }

    /// What the plan says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The signature as it stands in the file, right or not.
    pub fn signature(&self) -> Option<&SignatureBlock> {
        self.signature.as_ref()
    }

    /// What a signature covers, in two parts: the header but for its last field, and the manifest,
    /// which has the hash of every segment.
    pub fn signed_message(&self) -> [&[u8]; 2] {
        [&self.map[..SIGNED_BYTES], &self.map[self.manifest_range.clone()]]
    }

    /// How the plan stands with these keys. Weights are covered by their hash, which
    /// [`PlanFile::verify_weights`] compares.
    pub fn trust(&self, keys: &TrustedKeys) -> Trust {
        match &self.signature {
            None => Trust::Unsigned,
            Some(block) => keys.judge(block, &self.signed_message()),
        }
    }

    /// The key among these that signed the plan.
    ///
    /// # Errors
    /// [`TrustError::Unsigned`], [`TrustError::Untrusted`], [`TrustError::Invalid`].
    pub fn require_trust(&self, keys: &TrustedKeys) -> Result<KeyId, TrustError> {
        self.trust(keys).require(&self.path)
    }

    /// The bytes of a segment; empty when the plan has none of this kind. Page-aligned.
    pub fn segment(&self, kind: SegmentKind) -> &[u8] {
        self.find(kind).map_or(&[], |segment| &self.map[range_of(segment)])
    }

    /// Hashes the weight segment (seconds per GiB from a cold disk) and compares.
    ///
    /// # Errors
    /// [`PlanError::Hash`] when the bytes are not those that were written.
    pub fn verify_weights(&self) -> Result<(), PlanError> {
        self.verify(SegmentKind::Weights)
    }

    /// What the plan must compute; `None` when it does not say.
    ///
    /// # Errors
    /// When the bytes are no golden vectors of this manifest.
    pub fn golden(&self) -> Result<Option<Golden>, PlanError> {
        let bytes = self.segment(SegmentKind::Golden);
        if bytes.is_empty() {
            return Ok(None);
        }
        let golden = codec::decode_golden(bytes)?;
        check::golden(&self.manifest, &golden)?;
        Ok(Some(golden))
    }

    /// Asks the kernel to map a segment's pages before they are touched. A hint: where the
    /// system cannot, nothing happens.
    pub fn populate(&self, kind: SegmentKind) {
        #[cfg(target_os = "linux")]
        if let Some(range) = self.find(kind).map(range_of)
            && !range.is_empty()
        {
            use memmap2::Advice;
            if self.map.advise_range(Advice::PopulateRead, range.start, range.len()).is_err() {
                // Kernels before 5.14 lack it; read-ahead is the next best, and a refusal of a
                // hint is no error.
                let _ = self.map.advise_range(Advice::WillNeed, range.start, range.len());
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = kind;
    }

    /// The manifest as text, for people and for golden tests.
    pub fn dump(&self) -> String {
        crate::dump::manifest(&self.manifest)
    }

    fn find(&self, kind: SegmentKind) -> Option<&Segment> {
        self.manifest.segments.iter().find(|segment| segment.kind == kind)
    }

    fn verify(&self, kind: SegmentKind) -> Result<(), PlanError> {
        let Some(segment) = self.find(kind) else { return Ok(()) };
        let found = blake3::hash(self.segment(kind));
        let expected = blake3::Hash::from_bytes(segment.hash);
        if found == expected {
            return Ok(());
        }
        Err(PlanError::Hash {
            segment: kind,
            expected: expected.to_hex().to_string(),
            found: found.to_hex().to_string(),
        })
    }
}

/// A checked segment's place in the map. Checks at open make both ends fit the file, whose
/// length is a `usize`.
fn range_of(segment: &Segment) -> Range<usize> {
    segment.offset as usize..(segment.offset + segment.length) as usize
}

/// What a file holds beside its segments, and where the manifest stands.
fn check_file(path: &Path, map: &[u8]) -> Result<(Tail, Range<usize>), PlanError> {
    let start = &map[..map.len().min(HEADER_BYTES)];
    let bytes = |header: &Header| Ok(map[header.manifest_offset as usize..].into());
    let (tail, header) = head::parse(path, start, map.len() as u64, bytes)?;
    check_padding(map, &tail.manifest, header.manifest_offset)?;
    Ok((tail, header.manifest_offset as usize..header.length as usize))
}

/// The bytes between header, segments and manifest: less than a page each, all zero.
fn check_padding(map: &[u8], manifest: &Manifest, end: u64) -> Result<(), PlanError> {
    let mut from = HEADER_BYTES;
    let ranges = manifest.segments.iter().map(range_of);
    for next in ranges.chain(std::iter::once(end as usize..map.len())) {
        if let Some(at) = map[from..next.start].iter().position(|&byte| byte != 0) {
            let place = format!("padding at {}", from + at);
            return Err(PlanError::malformed(place, 0, map[from + at]));
        }
        from = next.end;
    }
    Ok(())
}
