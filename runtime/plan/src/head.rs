//! Header and manifest of a plan, read without a look at its segments.
//!
//! What costs the same for a plan of any size: enough to tell what a plan needs, not whether the
//! bytes of its segments are those that were written.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::header::{HEADER_BYTES, Header, SIGNED_BYTES};
use crate::manifest::Manifest;
use crate::trust::{SignatureBlock, Trust, TrustedKeys};
use crate::{PlanError, check, codec};

/// A plan of which header and manifest were read and checked, by the checks of
/// [`PlanFile::open`](crate::PlanFile::open), and no byte of a segment.
#[derive(Clone, Debug)]
pub struct PlanHead {
    path: PathBuf,
    file_length: u64,
    manifest: Manifest,
    signature: Option<SignatureBlock>,
    /// What a signature covers.
    signed: Vec<u8>,
}

/// What stands behind the segments.
pub(crate) struct Tail {
    pub(crate) manifest: Manifest,
    pub(crate) signature: Option<SignatureBlock>,
}

impl PlanHead {
    /// Reads header and manifest of the plan at `path`: at most 8 MiB, however large the file is.
    ///
    /// # Errors
    /// Any way in which header or manifest are not those of a plan of this format version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PlanError> {
        let path = path.as_ref();
        let failed = |action| move |source| PlanError::Io { action, path: path.to_owned(), source };
        let (mut file, file_length) = open_file(path)?;
        let mut start = Vec::with_capacity(HEADER_BYTES);
        (&mut file).take(HEADER_BYTES as u64).read_to_end(&mut start).map_err(failed("read"))?;
        let mut signed = start[..start.len().min(SIGNED_BYTES)].to_vec();
        let read = |header: &Header| -> io::Result<Cow<'_, [u8]>> {
            // The header was checked: both lengths are within their limits.
            let manifest = header.manifest_length as usize;
            let mut bytes = vec![0; manifest + header.signature_length as usize];
            file.seek(SeekFrom::Start(header.manifest_offset))?;
            file.read_exact(&mut bytes)?;
            signed.extend_from_slice(&bytes[..manifest]);
            Ok(bytes.into())
        };
        let (Tail { manifest, signature }, _) = parse(path, &start, file_length, read)?;
        Ok(Self { path: path.to_owned(), file_length, manifest, signature, signed })
    }

    /// Where the plan was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file.
    pub fn file_length(&self) -> u64 {
        self.file_length
    }

    /// What the plan says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// How the plan stands with these keys, as [`PlanFile::trust`](crate::PlanFile::trust) says.
    pub fn trust(&self, keys: &TrustedKeys) -> Trust {
        match &self.signature {
            None => Trust::Unsigned,
            Some(block) => keys.judge(block, &[&self.signed]),
        }
    }
}

/// A file and its bytes.
pub(crate) fn open_file(path: &Path) -> Result<(File, u64), PlanError> {
    let failed = |source| PlanError::Io { action: "open", path: path.to_owned(), source };
    // Asked first, because opening a pipe would wait for its writer.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(PlanError::NotAFile { path: path.to_owned() });
    }
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    Ok((file, length))
}

/// Manifest, signature and header of a file of `length` bytes that begins with `start`; `read` gives
/// the bytes from the manifest's offset to the end of the file, the signature's included.
pub(crate) fn parse<'a>(
    path: &Path,
    start: &[u8],
    length: u64,
    read: impl FnOnce(&Header) -> io::Result<Cow<'a, [u8]>>,
) -> Result<(Tail, Header), PlanError> {
    let Some(version) = check::version(start) else {
        return Err(PlanError::NotAPlan { path: path.to_owned() });
    };
    if !check::readable(version) {
        return Err(PlanError::Version { path: path.to_owned(), found: version });
    }
    let Some(header) = start.first_chunk::<HEADER_BYTES>() else {
        let expected = format!("at least {HEADER_BYTES} bytes");
        return Err(PlanError::malformed("file", expected, length));
    };
    let header = check::header(header, length)?;
    let failed = |source| PlanError::Io { action: "read", path: path.to_owned(), source };
    let bytes = read(&header).map_err(failed)?;
    let (manifest, block) = bytes.split_at(header.manifest_length as usize);
    check_digest(&header, manifest)?;
    let signature = if block.is_empty() { None } else { Some(SignatureBlock::parse(block)?) };
    let manifest = codec::decode(manifest)?;
    check::manifest(&manifest, header.manifest_offset)?;
    Ok((Tail { manifest, signature }, header))
}

fn check_digest(header: &Header, manifest: &[u8]) -> Result<(), PlanError> {
    let expected = header.digest_of(manifest);
    if expected == header.digest {
        return Ok(());
    }
    let text = |digest: &[u8]| digest.iter().map(|b| format!("{b:02x}")).collect::<String>();
    Err(PlanError::malformed("header digest", text(&expected), text(&header.digest)))
}
