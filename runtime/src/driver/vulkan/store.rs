//! Compiled pipelines on disk, so that the second start does not compile.
//!
//! A file is named by the shaders and by the driver's own mark of its cache's form. Its first 32
//! bytes are the BLAKE3 of the rest: what is damaged is not shown to the driver.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use onebit_vulkan::DeviceInfo;
use tempfile::NamedTempFile;

const HASH_BYTES: usize = 32;

/// The file for these shaders on this device.
pub(super) fn path(folder: &Path, info: &DeviceInfo, shaders: &[u8]) -> PathBuf {
    let mut hasher = blake3::Hasher::new();
    hasher.update(shaders);
    hasher.update(&info.cache_uuid.0);
    hasher.update(&info.driver_uuid.0);
    hasher.update(&info.device_uuid.0);
    folder.join(format!("{}.pipelines", &hasher.finalize().to_hex()[..32]))
}

/// What was stored; nothing when there is no such file or it is damaged.
pub(super) fn load(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap_or_default();
    match bytes.split_at_checked(HASH_BYTES) {
        Some((hash, data)) if blake3::hash(data).as_bytes() == hash => data.into(),
        _ => Vec::new(),
    }
}

/// Stores under a temporary name, then renames.
pub(super) fn save(path: &Path, data: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(blake3::hash(data).as_bytes())?;
    file.write_all(data)?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_files_are_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below/some.pipelines");
        assert!(load(&path).is_empty());
        save(&path, b"compiled").unwrap();
        assert_eq!(load(&path), b"compiled");
        save(&path, b"again").unwrap();
        assert_eq!(load(&path), b"again");
        let mut bytes = fs::read(&path).unwrap();
        bytes[HASH_BYTES] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(load(&path).is_empty());
        fs::write(&path, b"short").unwrap();
        assert!(load(&path).is_empty());
    }

    #[test]
    fn a_file_in_the_way_is_an_error_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"").unwrap();
        assert!(save(&path.join("some.pipelines"), b"compiled").is_err());
    }
}
