//! Secret keys, and plans signed with them.
//!
//! Keys are minisign's files without a password; the signatures are described in
//! docs/plan-format.md. Nothing here decides where keys lie, and nothing is random but new keys.

mod key;

pub use key::SecretKey;

use onebit_plan::trust::{PublicKey, TrustError, TrustStore};

/// Whether the machine had a key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnKey {
    /// It lay in the store.
    Found,
    /// It was made now; plans that it signs are trusted on this machine.
    Made,
}

/// The machine's own secret key, made when there is none. The public one stands beside it
/// afterwards, whatever was there before.
///
/// # Errors
/// A store that cannot be read or written; a key that others may read.
pub fn own_key(store: &TrustStore) -> Result<(SecretKey, OwnKey), TrustError> {
    let path = store.secret_key();
    let mut found = OwnKey::Found;
    if !path.exists() {
        match SecretKey::generate()?.write(&path) {
            Ok(()) => found = OwnKey::Made,
            // Another compile was first: its key is as good.
            Err(TrustError::Exists { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let key = SecretKey::read(&path)?;
    let public = key.public_key();
    let is_there = PublicKey::read(&store.own_key()).is_ok_and(|own| own == public);
    if !is_there {
        key::replace(&store.own_key(), &public.to_text())?;
    }
    Ok((key, found))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use onebit_plan::trust::Origin;

    use super::*;

    #[test]
    fn the_own_key_is_made_once_and_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let store = TrustStore::new(folder.path().join("config/onebit"));
        let (made, how) = own_key(&store).unwrap();
        assert_eq!(how, OwnKey::Made);
        let (found, how) = own_key(&store).unwrap();
        assert_eq!((found.public_key(), how), (made.public_key(), OwnKey::Found));
        let trusted = store.list().unwrap();
        assert_eq!(trusted.len(), 1);
        assert_eq!((&trusted[0].key, trusted[0].origin), (&made.public_key(), Origin::Own));

        fs::remove_file(store.own_key()).unwrap();
        own_key(&store).unwrap();
        assert_eq!(PublicKey::read(&store.own_key()).unwrap(), made.public_key());
    }

    #[test]
    fn two_first_compiles_share_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let store = TrustStore::new(folder.path().join("onebit"));
        let keys: Vec<PublicKey> = std::thread::scope(|scope| {
            let make = || own_key(&store).unwrap().0.public_key();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        assert_eq!(PublicKey::read(&store.own_key()).unwrap(), keys[0]);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let error = own_key(&TrustStore::new(folder.path().join("file/onebit"))).unwrap_err();
        assert!(error.to_string().contains("file/onebit"), "{error}");
        assert!(error.help().contains("--keys"), "{}", error.help());
    }
}
