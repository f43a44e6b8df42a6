//! Whose plans may run: `onebit-rt trust`, and what all commands that run plans ask.

use std::env;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use onebit_plan::PlanFile;
use onebit_plan::trust::{
    AllowedPlan, Origin, PublicKey, TrustError, TrustStore, TrustedKey, TrustedKeys,
};

use super::args::{Keys, Machine, Trust, TrustAction};
use super::failure::Failure;
use super::screen::note;

/// The plan, if a trusted key signed it, or whoever started the command allows it anyway, which is
/// said.
pub fn allow(plan: PlanFile, machine: &Machine) -> Result<AllowedPlan, Failure> {
    let plan = Arc::new(plan);
    let signed = |keys: TrustedKeys| AllowedPlan::signed(Arc::clone(&plan), &keys);
    match keys(&machine.keys).and_then(signed) {
        Ok(plan) => Ok(plan),
        Err(error) if machine.allow_untrusted => {
            note(format_args!("note: {error}; running it, as --allow-untrusted says\n"));
            Ok(AllowedPlan::untrusted(plan))
        }
        Err(error) => Err(error.into()),
    }
}

/// The keys that are trusted.
pub fn keys(keys: &Keys) -> Result<TrustedKeys, TrustError> {
    store(keys)?.keys()
}

/// Changes or lists the trusted keys.
pub fn run(options: &Trust) -> Result<ExitCode, Failure> {
    let store = store(&options.keys)?;
    let text = match &options.action {
        TrustAction::Add { key } => {
            let key = read(key)?;
            let path = store.add(&key)?;
            format!("trusting key {} ({})\n", key.id(), path.display())
        }
        TrustAction::List => list(&store)?,
        TrustAction::Remove { id } => {
            format!("trusting key {} no more\n", store.remove(id)?.id())
        }
    };
    io::stdout().write_all(text.as_bytes()).map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}

fn list(store: &TrustStore) -> Result<String, Failure> {
    let keys = store.list()?;
    if keys.is_empty() {
        note(format_args!("note: no key is trusted; keys lie in {}\n", store.folder().display()));
    }
    let line = |it: &TrustedKey| {
        let origin = match it.origin {
            Origin::Own => "own",
            Origin::Added => "added",
        };
        format!("{}  {origin:<5}  {}  {}\n", it.key.id(), it.key.to_base64(), it.key.comment())
    };
    Ok(keys.iter().map(line).collect())
}

/// A key as it was typed: itself, or the name of a file.
fn read(text: &str) -> Result<PublicKey, TrustError> {
    let path = Path::new(text);
    if path.exists() { PublicKey::read(path) } else { PublicKey::parse(text, text) }
}

/// The folder that was named, or the one of the XDG base directory specification.
#[expect(clippy::disallowed_methods, reason = "the specification leaves no other way to know it")]
fn store(keys: &Keys) -> Result<TrustStore, TrustError> {
    let usual = || TrustStore::usual_folder(env::var_os("XDG_CONFIG_HOME"), env::home_dir());
    Ok(TrustStore::new(keys.keys.clone().or_else(usual).ok_or(TrustError::NoFolder)?))
}
