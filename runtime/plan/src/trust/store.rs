//! The folder of keys: `onebit.key` and `onebit.pub` are the machine's own pair, and `trusted/`
//! holds a public key in each file that ends in `.pub`.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{KeyId, PublicKey, SignatureBlock, Trust, TrustError};

/// A folder of keys, which need not exist.
#[derive(Clone, Debug)]
pub struct TrustStore {
    folder: PathBuf,
}

/// Where a trusted key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The machine's own pair.
    Own,
    /// Someone added it.
    Added,
}

/// A key and why it is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedKey {
    pub key: PublicKey,
    pub origin: Origin,
    pub path: PathBuf,
}

/// The keys whose plans may run: those of a store, or others. None at first.
#[derive(Clone, Debug, Default)]
pub struct TrustedKeys {
    keys: Vec<PublicKey>,
}

impl TrustStore {
    /// The store in `folder`. Nothing is read yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Where the XDG base directory specification wants the folder, given `$XDG_CONFIG_HOME` and
    /// the home folder.
    pub fn usual_folder(config: Option<OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
        let named = config.map(PathBuf::from).filter(|path| path.is_absolute());
        let home = home.filter(|path| path.is_absolute());
        Some(named.or_else(|| Some(home?.join(".config")))?.join("onebit"))
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The machine's own secret key, which need not exist.
    pub fn secret_key(&self) -> PathBuf {
        self.folder.join("onebit.key")
    }

    /// The public key to it.
    pub fn own_key(&self) -> PathBuf {
        self.folder.join("onebit.pub")
    }

    fn added(&self) -> PathBuf {
        self.folder.join("trusted")
    }

    /// All trusted keys: the own one first, then the others by id.
    ///
    /// # Errors
    /// A file that holds no key, so that none is left out in silence; a folder or a key that all
    /// may change.
    pub fn list(&self) -> Result<Vec<TrustedKey>, TrustError> {
        let mut keys = Vec::new();
        refuse_open(&self.folder)?;
        refuse_open(&self.added())?;
        let own = self.own_key();
        if own.exists() {
            refuse_open(&own)?;
            keys.push(TrustedKey { key: PublicKey::read(&own)?, origin: Origin::Own, path: own });
        }
        for path in public_key_files(&self.added())? {
            refuse_open(&path)?;
            keys.push(TrustedKey { key: PublicKey::read(&path)?, origin: Origin::Added, path });
        }
        keys.sort_by_key(|trusted| (trusted.origin != Origin::Own, trusted.key.id()));
        Ok(keys)
    }

    /// The keys alone.
    ///
    /// # Errors
    /// As of [`TrustStore::list`].
    pub fn keys(&self) -> Result<TrustedKeys, TrustError> {
        Ok(self.list()?.into_iter().map(|trusted| trusted.key).collect())
    }

    /// Trusts a key from now on, and gives its file. One that is trusted already stays as it is.
    ///
    /// # Errors
    /// [`TrustError::SameId`]; what the system refuses.
    pub fn add(&self, key: &PublicKey) -> Result<PathBuf, TrustError> {
        for trusted in self.list()? {
            if trusted.key.to_base64() == key.to_base64() {
                return Ok(trusted.path);
            }
            if trusted.key.id() == key.id() {
                return Err(TrustError::SameId { id: key.id() });
            }
        }
        let path = self.added().join(format!("{}.pub", key.id()));
        let failed =
            |source| TrustError::Io { action: "write the key", path: path.clone(), source };
        create_folder(&self.added())?;
        let mut file = tempfile::NamedTempFile::new_in(self.added()).map_err(failed)?;
        file.write_all(key.to_text().as_bytes()).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(path)
    }

    /// Trusts the key with this id no more, and gives it.
    ///
    /// # Errors
    /// [`TrustError::NoSuchKey`]; [`TrustError::OwnKey`]; what the system refuses.
    pub fn remove(&self, id: &str) -> Result<PublicKey, TrustError> {
        let no_such_key = || TrustError::NoSuchKey { id: id.into() };
        let id = KeyId::parse(id).ok_or_else(no_such_key)?;
        let mut keys = self.list()?.into_iter();
        let TrustedKey { key, origin, path } =
            keys.find(|trusted| trusted.key.id() == id).ok_or_else(no_such_key)?;
        if origin == Origin::Own {
            return Err(TrustError::OwnKey { id, path });
        }
        fs::remove_file(&path).map_err(|source| TrustError::Io {
            action: "remove the key",
            path,
            source,
        })?;
        Ok(key)
    }
}

impl TrustedKeys {
    /// How a block stands with these keys.
    pub(crate) fn judge(&self, block: &SignatureBlock, message: &[&[u8]]) -> Trust {
        let id = block.key_id;
        let named = || self.keys.iter().filter(|key| key.id() == id);
        match named().find(|key| key.verifies(block, message)) {
            Some(_) => Trust::Trusted(id),
            None if named().next().is_some() => Trust::Invalid(id),
            None => Trust::UnknownKey(id),
        }
    }
}

impl FromIterator<PublicKey> for TrustedKeys {
    fn from_iter<I: IntoIterator<Item = PublicKey>>(keys: I) -> Self {
        Self { keys: keys.into_iter().collect() }
    }
}

/// Makes a folder of keys, with those above it; only its owner may look inside.
///
/// # Errors
/// What the system refuses.
pub fn create_folder(folder: &Path) -> Result<(), TrustError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|source| TrustError::Io {
        action: "make the folder",
        path: folder.into(),
        source,
    })
}

/// Whoever may change a key, or add one to the folder, decides which code runs.
fn refuse_open(path: &Path) -> Result<(), TrustError> {
    #[cfg(unix)]
    if let Ok(metadata) = fs::metadata(path) {
        use std::os::unix::fs::PermissionsExt;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o002 != 0 {
            let (what, path) = ("change", path.into());
            return Err(TrustError::Permissions { what, path, mode, remedy: "chmod o-w" });
        }
    }
    let _ = path;
    Ok(())
}

fn public_key_files(folder: &Path) -> Result<Vec<PathBuf>, TrustError> {
    let failed = |source| TrustError::Io { action: "list", path: folder.into(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "pub") {
            paths.push(path);
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> PublicKey {
        PublicKey::new(KeyId([number; 8]), [number; 32])
    }

    #[test]
    fn keys_are_added_listed_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let store = TrustStore::new(folder.path().join("deep/below"));
        assert!(store.list().unwrap().is_empty());
        for number in [3, 2] {
            let path = store.add(&key(number)).unwrap();
            assert_eq!(PublicKey::read(&path).unwrap(), key(number));
            assert_eq!(store.add(&key(number)).unwrap(), path);
        }
        fs::write(store.own_key(), key(9).to_text()).unwrap();
        fs::write(store.added().join("notes.txt"), "not a key").unwrap();
        let found: Vec<_> =
            store.list().unwrap().into_iter().map(|it| (it.key.id(), it.origin)).collect();
        let expected = [(9, Origin::Own), (2, Origin::Added), (3, Origin::Added)];
        assert_eq!(found, expected.map(|(number, origin)| (KeyId([number; 8]), origin)));

        let twin = PublicKey::new(KeyId([3; 8]), [4; 32]);
        assert!(matches!(store.add(&twin), Err(TrustError::SameId { .. })));
        assert_eq!(store.remove("0303030303030303").unwrap(), key(3));
        let error = store.remove("0303030303030303").unwrap_err();
        assert!(matches!(error, TrustError::NoSuchKey { .. }));
        assert!(matches!(store.remove("nonsense"), Err(TrustError::NoSuchKey { .. })));
        assert!(matches!(store.remove("0909090909090909"), Err(TrustError::OwnKey { .. })));
        assert_eq!(store.list().unwrap().len(), 2);
    }

    #[test]
    fn the_usual_folder_is_of_the_user() {
        let folder = |config: Option<&str>, home: Option<&str>| {
            TrustStore::usual_folder(config.map(Into::into), home.map(Into::into))
        };
        assert_eq!(folder(Some("/c"), Some("/h")), Some("/c/onebit".into()));
        for config in [None, Some(""), Some("relative")] {
            assert_eq!(folder(config, Some("/h")), Some("/h/.config/onebit".into()));
        }
        for home in [None, Some("")] {
            assert_eq!(folder(None, home), None);
        }
    }

    #[test]
    fn what_is_wrong_in_the_folder_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let store = TrustStore::new(folder.path());
        store.add(&key(1)).unwrap();
        let bad = store.added().join("bad.pub");
        fs::write(&bad, "nonsense").unwrap();
        let error = store.keys().unwrap_err().to_string();
        assert!(error.contains("bad.pub is no minisign public key"), "{error}");
        fs::write(&bad, vec![b'a'; 10_000]).unwrap();
        let error = store.keys().unwrap_err().to_string();
        assert!(error.contains("too long for a key"), "{error}");
        fs::remove_file(&bad).unwrap();
        assert!(store.keys().is_ok());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let set = |path: &Path, mode| {
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            };
            let first = store.add(&key(1)).unwrap();
            for (path, open, closed) in [(store.added(), 0o777, 0o755), (first, 0o666, 0o644)] {
                set(&path, open);
                let error = store.add(&key(2)).unwrap_err();
                let is_open = |mode| mode == open;
                assert!(
                    matches!(error, TrustError::Permissions { mode, .. } if is_open(mode)),
                    "{error}"
                );
                assert!(error.help().contains("chmod o-w"), "{}", error.help());
                set(&path, closed);
            }
            assert!(store.add(&key(2)).is_ok());
        }
    }
}
