//! Writing a plan: segments stream through a hasher into a temporary file, which takes the
//! target's name only when it is complete and on disk.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::golden::Golden;
use crate::header::{DIGEST_BYTES, Header, SIGNED_BYTES};
use crate::manifest::{Manifest, Segment, SegmentKind};
use crate::part::Part;
use crate::trust::Signer;
use crate::{FORMAT_VERSION, PAGE, PlanError, PlanFile, check, codec};

/// A plan in the making. Dropping it before [`PlanWriter::finish`] leaves nothing behind.
pub struct PlanWriter {
    part: Part,
    /// Bytes written so far.
    length: u64,
    segments: Vec<Segment>,
    open: Option<(SegmentKind, u64, Box<blake3::Hasher>)>,
}

impl PlanWriter {
    /// Starts a plan that will stand at `path`. The temporary file lies in the same folder, so
    /// that the rename at the end is atomic.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, PlanError> {
        let part = Part::create(path.as_ref())?;
        let mut writer = Self { part, length: 0, segments: Vec::new(), open: None };
        writer.append(&[0; PAGE as usize])?;
        Ok(writer)
    }

    /// Starts a segment. Each kind may occur once; [`PlanWriter::finish`] refuses a second.
    ///
    /// # Panics
    /// When a segment is open.
    pub fn begin_segment(&mut self, kind: SegmentKind) -> Result<(), PlanError> {
        assert!(self.open.is_none(), "the segment before {kind:?} was not ended");
        self.open = Some((kind, self.length, Box::new(blake3::Hasher::new())));
        Ok(())
    }

    /// Appends bytes to the open segment. Write large pieces: each call goes to the file.
    ///
    /// # Panics
    /// When no segment is open.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), PlanError> {
        let (_, _, hasher) = self.open.as_mut().expect("write needs an open segment");
        hasher.update(bytes);
        self.append(bytes)
    }

    /// Writes the segment of golden vectors.
    ///
    /// # Panics
    /// When a segment is open.
    pub fn write_golden(&mut self, golden: &Golden) -> Result<(), PlanError> {
        self.begin_segment(SegmentKind::Golden)?;
        self.write(&codec::encode_golden(golden)?)?;
        self.end_segment()
    }

    /// Bytes written to the open segment so far; 0 when none is open.
    pub fn position(&self) -> u64 {
        self.open.as_ref().map_or(0, |(_, offset, _)| self.length - offset)
    }

    /// Ends the open segment and pads the file to the next page.
    ///
    /// # Panics
    /// When no segment is open.
    pub fn end_segment(&mut self) -> Result<(), PlanError> {
        let (kind, offset, hasher) = self.open.take().expect("end_segment needs an open segment");
        let hash = *hasher.finalize().as_bytes();
        self.segments.push(Segment { kind, offset, length: self.length - offset, hash });
        let padding = self.length.next_multiple_of(PAGE) - self.length;
        self.append(&[0; PAGE as usize][..padding as usize])
    }

    /// Writes manifest and header, syncs the file and moves it to its name. The manifest's
    /// `segments` are replaced by those written; the manifest as it stands in the file returns.
    ///
    /// # Errors
    /// When the manifest claims something that a reader would refuse, or the disk does.
    ///
    /// # Panics
    /// When a segment is open.
    pub fn finish(self, manifest: Manifest) -> Result<Manifest, PlanError> {
        self.finish_signed(manifest, None)
    }

    /// As [`PlanWriter::finish`], with a signature where there is someone to sign.
    ///
    /// # Errors
    /// As of [`PlanWriter::finish`].
    ///
    /// # Panics
    /// When a segment is open.
    pub fn finish_signed(
        self,
        manifest: Manifest,
        signer: Option<&dyn Signer>,
    ) -> Result<Manifest, PlanError> {
        self.complete(manifest, signer)?.publish()
    }

    /// As [`PlanWriter::finish_signed`], before the plan takes its name, so that it can be tried.
    ///
    /// # Errors
    /// As of [`PlanWriter::finish`].
    ///
    /// # Panics
    /// When a segment is open.
    pub fn complete(
        mut self,
        mut manifest: Manifest,
        signer: Option<&dyn Signer>,
    ) -> Result<CompletePlan, PlanError> {
        assert!(self.open.is_none(), "the last segment was not ended");
        manifest.segments = std::mem::take(&mut self.segments);
        let manifest_offset = self.length;
        check::manifest(&manifest, manifest_offset)?;
        check::shaders(&manifest, &self.written(&manifest, SegmentKind::Shaders)?)?;
        let bytes = codec::encode(&manifest)?;
        self.append(&bytes)?;
        let mut header = Header {
            version: FORMAT_VERSION,
            manifest_offset,
            manifest_length: bytes.len() as u64,
            length: self.length,
            digest: [0; DIGEST_BYTES],
            signature_length: 0,
        };
        header.digest = header.digest_of(&bytes);
        let mut header = header.encode();
        if let Some(signer) = signer {
            let block = signer.sign(&[&header[..SIGNED_BYTES], &bytes]).to_text();
            header[SIGNED_BYTES..].copy_from_slice(&(block.len() as u32).to_le_bytes());
            self.append(block.as_bytes())?;
        }
        write_at(&mut self.part, 0, &header)?;
        Ok(CompletePlan { part: self.part, manifest })
    }

    /// A segment's bytes, read back from the file; none when there is no such segment.
    fn written(&mut self, manifest: &Manifest, kind: SegmentKind) -> Result<Vec<u8>, PlanError> {
        let Some(segment) = manifest.segments.iter().find(|it| it.kind == kind) else {
            return Ok(Vec::new());
        };
        let path = self.part.target().to_owned();
        let failed = |source| PlanError::Io { action: "read back", path: path.clone(), source };
        let mut bytes = vec![0; segment.length as usize];
        let file = self.part.file();
        file.seek(SeekFrom::Start(segment.offset)).map_err(failed)?;
        file.read_exact(&mut bytes).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), PlanError> {
        let written = self.part.file().write_all(bytes);
        written.map_err(write_failed(self.part.target()))?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// A whole plan under a temporary name. Dropping it leaves nothing behind.
pub struct CompletePlan {
    part: Part,
    manifest: Manifest,
}

impl CompletePlan {
    /// Where it lies until it is published.
    pub fn path(&self) -> &Path {
        self.part.path()
    }

    /// Syncs the file and moves it to its name; the manifest as it stands in the file returns.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn publish(self) -> Result<Manifest, PlanError> {
        self.part.publish()?;
        Ok(self.manifest)
    }
}

/// Signs the plan at `source` and writes the whole to `target`, which may be the same path. A
/// signature that is there gives way. Weights are hashed first: whoever signs answers for them.
///
/// # Errors
/// A plan that does not open, damaged weights, what the system refuses. `target` is untouched then.
pub fn sign_plan(source: &Path, target: &Path, signer: &dyn Signer) -> Result<(), PlanError> {
    let length = PlanFile::open(source)?.unsigned_length();
    let failed = |source| PlanError::Io { action: "copy to", path: target.to_owned(), source };
    let mut part = Part::create(target)?;
    // Between files, where the system can do it without moving a byte.
    io::copy(&mut File::open(source).map_err(failed)?.take(length), part.file()).map_err(failed)?;
    write_at(&mut part, SIGNED_BYTES as u64, &[0; 4])?;
    // What is signed is what was copied, whatever happened to the source meanwhile.
    let copy = PlanFile::open(part.path())?;
    copy.verify_weights()?;
    let block = signer.sign(&copy.signed_message()).to_text();
    write_at(&mut part, length, block.as_bytes())?;
    write_at(&mut part, SIGNED_BYTES as u64, &(block.len() as u32).to_le_bytes())?;
    part.publish()
}

fn write_at(part: &mut Part, offset: u64, bytes: &[u8]) -> Result<(), PlanError> {
    let file = part.file();
    let written = file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(bytes));
    written.map_err(write_failed(part.target()))
}

fn write_failed(path: &Path) -> impl FnOnce(io::Error) -> PlanError {
    let path = path.to_owned();
    move |source| PlanError::Io { action: "write", path, source }
}
