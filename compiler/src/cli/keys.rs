//! Where keys lie, and `onebitc keygen` and `onebitc sign`.

use std::env;
use std::path::Path;
use std::sync::Arc;

use onebit_plan::trust::{TrustError, TrustStore};
use onebitc::sign::{OwnKey, SecretKey, own_key};

use super::args::{Keygen, Keys, Sign};
use super::failure::Failure;
use super::print;

/// The folder that was named, or the one of the XDG base directory specification.
#[expect(clippy::disallowed_methods, reason = "the specification leaves no other way to know it")]
pub fn store(keys: &Keys) -> Result<TrustStore, Failure> {
    let named = keys.keys.clone();
    let usual = || TrustStore::usual_folder(env::var_os("XDG_CONFIG_HOME"), env::home_dir());
    Ok(TrustStore::new(named.or_else(usual).ok_or(TrustError::NoFolder)?))
}

/// The key in `file`, or else the machine's own, made when there is none, which is then said.
pub fn secret_key(keys: &Keys, file: Option<&Path>) -> Result<Arc<SecretKey>, Failure> {
    if let Some(file) = file {
        return Ok(Arc::new(SecretKey::read(file)?));
    }
    let store = store(keys)?;
    let (key, how) = own_key(&store)?;
    if how == OwnKey::Made {
        eprintln!(
            "note: made a key to sign plans with, {}; others who should run them need {}",
            store.secret_key().display(),
            store.own_key().display()
        );
    }
    Ok(Arc::new(key))
}

/// Makes a key pair.
pub fn keygen(args: &Keygen) -> Result<(), Failure> {
    let (secret, public) = match &args.output {
        Some(path) => (path.clone(), path.with_extension("pub")),
        None => {
            let store = store(&args.keys)?;
            (store.secret_key(), store.own_key())
        }
    };
    if secret == public {
        let message = format!("{} cannot be both keys", secret.display());
        return Err(Failure::new(message));
    }
    let key = SecretKey::generate()?;
    key.write_pair(&secret, &public)?;
    print(&format!(
        "key {}\nsecret key in {}\npublic key in {}: {}\n",
        key.public_key().id(),
        secret.display(),
        public.display(),
        key.public_key().to_base64()
    ))
}

/// Signs a plan that exists.
pub fn sign(args: &Sign) -> Result<(), Failure> {
    let key = secret_key(&args.keys, args.key.as_deref())?;
    let target = args.output.as_ref().unwrap_or(&args.plan);
    onebit_plan::sign_plan(&args.plan, target, &*key)?;
    print(&format!("signed {} with key {}\n", target.display(), key.public_key().id()))
}
