//! Writing a plan: segments stream through a hasher into a temporary file, which takes the
//! target's name only when it is complete and on disk.

use std::fs::{File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::header::{DIGEST_BYTES, HEADER_BYTES, Header};
use crate::manifest::{Manifest, Segment, SegmentKind};
use crate::{FORMAT_VERSION, PAGE, PlanError, check, codec};

/// A plan in the making. Dropping it before [`PlanWriter::finish`] leaves nothing behind.
pub struct PlanWriter {
    path: PathBuf,
    file: NamedTempFile,
    /// Bytes written so far.
    length: u64,
    segments: Vec<Segment>,
    open: Option<(SegmentKind, u64, Box<blake3::Hasher>)>,
}

impl PlanWriter {
    /// Starts a plan that will stand at `path`. The temporary file lies in the same folder, so
    /// that the rename at the end is atomic.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, PlanError> {
        let path = path.as_ref().to_owned();
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".plan-").suffix(".part");
        readable_by_umask(&mut builder);
        let file = builder.tempfile_in(folder).map_err(|source| PlanError::Io {
            action: "create a temporary file beside",
            path: path.clone(),
            source,
        })?;
        let mut writer = Self { path, file, length: 0, segments: Vec::new(), open: None };
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
    pub fn finish(mut self, mut manifest: Manifest) -> Result<Manifest, PlanError> {
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
            file_length: self.length,
            digest: [0; DIGEST_BYTES],
        };
        header.digest = header.digest_of(&bytes);
        self.publish(&header.encode())?;
        Ok(manifest)
    }

    /// A segment's bytes, read back from the file; none when there is no such segment.
    fn written(&mut self, manifest: &Manifest, kind: SegmentKind) -> Result<Vec<u8>, PlanError> {
        let Some(segment) = manifest.segments.iter().find(|it| it.kind == kind) else {
            return Ok(Vec::new());
        };
        let path = &self.path;
        let failed = |source| PlanError::Io { action: "read back", path: path.clone(), source };
        let mut bytes = vec![0; segment.length as usize];
        self.file.seek(SeekFrom::Start(segment.offset)).map_err(failed)?;
        self.file.read_exact(&mut bytes).map_err(failed)?;
        self.file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(bytes)
    }

    fn publish(self, header: &[u8; HEADER_BYTES]) -> Result<(), PlanError> {
        let Self { path, mut file, .. } = self;
        let failed = |action| {
            let path = path.clone();
            move |source| PlanError::Io { action, path, source }
        };
        file.seek(SeekFrom::Start(0)).map_err(failed("write"))?;
        file.write_all(header).map_err(failed("write"))?;
        file.as_file().sync_all().map_err(failed("sync"))?;
        file.persist(&path).map_err(|error| failed("rename the finished file to")(error.error))?;
        sync_folder(&path).map_err(failed("sync the folder of"))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), PlanError> {
        self.file.write_all(bytes).map_err(|source| PlanError::Io {
            action: "write",
            path: self.path.clone(),
            source,
        })?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// Temporary files are private by default; a plan is an ordinary file under the umask.
fn readable_by_umask(builder: &mut tempfile::Builder<'_, '_>) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(Permissions::from_mode(0o666));
    }
    #[cfg(not(unix))]
    let _ = builder;
}

/// Makes the rename itself durable, where folders can be synced.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}
