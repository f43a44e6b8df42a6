//! Plans of strangers: which run, which do not, and what is said.
#![cfg(target_arch = "x86_64")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use common::{END, counting_plan, key};
use onebit_plan::trust::{AllowedPlan, KeyId, Trust, TrustError, TrustStore, TrustedKeys};
use onebit_plan::{PlanFile, sign_plan};
use onebitc::sign::SecretKey;
use tempfile::TempDir;

/// A plan, signed with [`key`], and an empty folder of keys.
struct Case {
    folder: TempDir,
    plan: PathBuf,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let plan = counting_plan(folder.path(), 64, Some(END));
        Self { folder, plan }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// onebit-rt with an empty folder of keys, which nothing but its own `trust` fills.
    fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onebit-rt"));
        command.stdin(Stdio::null()).args(arguments).arg("--keys").arg(self.path("empty"));
        command.output().unwrap()
    }

    fn run(&self, plan: &Path, options: &[&str]) -> Output {
        let prompt = ["run", plan.to_str().unwrap(), "-p", "a", "-n", "5", "--temp", "0"];
        self.command(&[&prompt, options].concat())
    }

    /// The plan without its signature.
    fn unsigned(&self) -> PathBuf {
        let mut bytes = fs::read(&self.plan).unwrap();
        bytes.truncate(PlanFile::open(&self.plan).unwrap().unsigned_length() as usize);
        bytes[60..64].fill(0);
        let path = self.path("unsigned.plan");
        fs::write(&path, bytes).unwrap();
        path
    }

    /// The plan with the signature of another one by the same key.
    fn foreign_signature(&self) -> PathBuf {
        let folder = self.path("other");
        fs::create_dir_all(&folder).unwrap();
        let other = fs::read(counting_plan(&folder, 128, Some(END))).unwrap();
        let start = PlanFile::open(folder.join("counting.plan")).unwrap().unsigned_length();
        let mut bytes = fs::read(&self.plan).unwrap();
        bytes.truncate(PlanFile::open(&self.plan).unwrap().unsigned_length() as usize);
        bytes.extend_from_slice(&other[start as usize..]);
        let path = self.path("foreign.plan");
        fs::write(&path, bytes).unwrap();
        path
    }
}

#[track_caller]
fn assert_runs(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "bcdef\n");
}

#[track_caller]
fn assert_fails(output: &Output, parts: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(output.stdout.is_empty());
    for part in parts {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

#[test]
fn a_plan_runs_when_its_key_is_trusted_and_no_longer() {
    let case = Case::new();
    let (id, line) = (key().public_key().id().to_string(), key().public_key().to_base64());
    let refused = ["which this machine does not trust", &id, "onebit-rt trust add"];
    assert_fails(&case.run(&case.plan, &[]), &refused);

    let added = case.command(&["trust", "add", &line]);
    assert!(String::from_utf8_lossy(&added.stdout).contains(&id));
    assert_runs(&case.run(&case.plan, &[]));
    assert_runs(&case.run(&case.plan, &["--check-weights"]));
    let list = case.command(&["trust", "list"]);
    assert!(String::from_utf8_lossy(&list.stdout).starts_with(&format!("{id}  added  {line}  ")));

    assert!(case.command(&["trust", "remove", &id]).status.success());
    assert_fails(&case.run(&case.plan, &[]), &refused);
    assert_fails(&case.command(&["trust", "remove", &id]), &["no trusted key", "trust list"]);

    let file = case.path("friend.pub");
    fs::write(&file, key().public_key().to_text()).unwrap();
    assert!(case.command(&["trust", "add", file.to_str().unwrap()]).status.success());
    assert_runs(&case.run(&case.plan, &[]));
    assert_fails(&case.command(&["trust", "add", "RWnonsense"]), &["no minisign public key", "RW"]);
}

#[test]
fn what_nobody_answers_for_is_refused_with_the_remedy_and_runs_only_if_told() {
    let case = Case::new();
    let trust = ["trust", "add", &key().public_key().to_base64()];
    assert!(case.command(&trust).status.success());
    let unsigned = case.unsigned();
    let sign = format!("onebitc sign {}", unsigned.display());
    let foreign = case.foreign_signature();
    for (plan, parts) in [
        (&unsigned, ["is not signed", sign.as_str()]),
        (&foreign, ["does not belong to this plan", "from its maker"]),
    ] {
        assert_fails(&case.run(plan, &[]), &parts);
        let allowed = case.run(plan, &["--allow-untrusted"]);
        assert_runs(&allowed);
        let notes = String::from_utf8_lossy(&allowed.stderr);
        assert!(notes.contains(parts[0]) && notes.contains("--allow-untrusted"), "{notes}");
    }
    let path = unsigned.to_str().unwrap();
    for command in [
        &["bench", path][..],
        &["perplexity", path, path],
        &["logits", path, "--tokens", "1", "-o", "x.npy"],
        &["profile", path, "--device", "vulkan"],
    ] {
        assert_fails(&case.command(command), &["is not signed"]);
    }
}

#[test]
fn damaged_weights_are_found_when_asked() {
    let case = Case::new();
    let mut bytes = fs::read(&case.plan).unwrap();
    let plan = PlanFile::open(&case.plan).unwrap();
    let weights = plan.manifest().segments.iter().find(|it| it.length == 100).unwrap();
    bytes[weights.offset as usize + 50] ^= 4;
    let damaged = case.path("damaged.plan");
    fs::write(&damaged, bytes).unwrap();
    assert!(case.command(&["trust", "add", &key().public_key().to_base64()]).status.success());
    assert_runs(&case.run(&damaged, &[]));
    assert_fails(&case.run(&damaged, &["--check-weights"]), &["Weights segment is damaged"]);
    let error = sign_plan(&damaged, &case.path("signed.plan"), &key()).unwrap_err();
    assert!(error.to_string().contains("Weights segment"), "{error}");
    assert!(!case.path("signed.plan").exists());
}

#[test]
fn signing_again_changes_the_tail_alone_and_gives_the_same_bytes() {
    let case = Case::new();
    let unsigned = case.unsigned();
    let (again, other) = (case.path("again.plan"), case.path("other.plan"));
    sign_plan(&unsigned, &again, &key()).unwrap();
    assert_eq!(fs::read(&again).unwrap(), fs::read(&case.plan).unwrap());
    let stranger = SecretKey::from_seed(KeyId([8; 8]), [8; 32]).unwrap();
    sign_plan(&again, &other, &stranger).unwrap();
    let (before, after) = (fs::read(&again).unwrap(), fs::read(&other).unwrap());
    let length = PlanFile::open(&again).unwrap().unsigned_length() as usize;
    assert_eq!(before[..length], after[..length]);
    assert_ne!(before[length..], after[length..]);
    // In place, too.
    sign_plan(&other, &other, &key()).unwrap();
    assert_eq!(fs::read(&other).unwrap(), before);
}

#[test]
fn a_key_of_the_same_id_proves_nothing() {
    let case = Case::new();
    let plan = PlanFile::open(&case.plan).unwrap();
    let keys = |key: &SecretKey| TrustedKeys::from_iter([key.public_key()]);
    let id = key().public_key().id();
    assert_eq!(plan.trust(&keys(&key())), Trust::Trusted(id));
    assert_eq!(plan.trust(&TrustedKeys::default()), Trust::UnknownKey(id));
    let twin = SecretKey::from_seed(id, [8; 32]).unwrap();
    assert_eq!(plan.trust(&keys(&twin)), Trust::Invalid(id));
    let stranger = SecretKey::from_seed(KeyId([8; 8]), [7; 32]).unwrap();
    assert_eq!(plan.trust(&keys(&stranger)), Trust::UnknownKey(id));
    let both: TrustedKeys = [twin.public_key(), key().public_key()].into_iter().collect();
    assert_eq!(plan.trust(&both), Trust::Trusted(id));
    let store = TrustStore::new(case.path("keys"));
    let trusted = store.keys().unwrap();
    assert_eq!(plan.require_trust(&trusted).unwrap(), id);
    let plan = Arc::new(plan);
    let refused = AllowedPlan::signed(Arc::clone(&plan), &keys(&stranger)).err().unwrap();
    assert!(matches!(refused, TrustError::Untrusted { .. }), "{refused}");
    assert!(AllowedPlan::signed(plan, &trusted).is_ok());
}

/// Debian's minisign checks what we sign, signs with our keys, and makes keys for us.
#[test]
fn minisign_and_we_read_each_other() {
    let minisign = |arguments: &[&str], folder: &Path| {
        Command::new("minisign").args(arguments).current_dir(folder).stdin(Stdio::null()).output()
    };
    let case = Case::new();
    let folder = case.folder.path();
    if minisign(&["-v"], folder).is_err() {
        println!("skipped: minisign is not installed");
        return;
    }
    let done = |arguments: &[&str]| {
        let output = minisign(arguments, folder).unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    // A plan of ours.
    let plan = PlanFile::open(&case.plan).unwrap();
    fs::write(case.path("message"), plan.signed_message().concat()).unwrap();
    let signature = plan.signature().unwrap().to_text();
    fs::write(case.path("message.minisig"), signature).unwrap();
    fs::write(case.path("our.pub"), key().public_key().to_text()).unwrap();
    let said = done(&["-V", "-m", "message", "-p", "our.pub"]);
    assert!(said.contains("verified") && said.contains("onebit plan"), "{said}");
    fs::write(case.path("message"), "another").unwrap();
    assert!(!minisign(&["-V", "-m", "message", "-p", "our.pub"], folder).unwrap().status.success());
    // A key of ours.
    key().write(&case.path("our.key")).unwrap();
    done(&["-S", "-s", "our.key", "-m", "message", "-x", "by.us"]);
    done(&["-V", "-m", "message", "-x", "by.us", "-p", "our.pub"]);
    // A key of minisign's.
    done(&["-G", "-W", "-p", "their.pub", "-s", "their.key"]);
    let theirs = SecretKey::read(&case.path("their.key")).unwrap();
    sign_plan(&case.plan, &case.plan, &theirs).unwrap();
    let public = case.path("their.pub");
    assert!(case.command(&["trust", "add", public.to_str().unwrap()]).status.success());
    assert_runs(&case.run(&case.plan, &[]));
}
