//! The same model, options and key give the same plan bytes.

use std::fs;
use std::process::Command;

use onebit_e2e::programs::{programs, succeed};
use onebit_e2e::{compile_bytes, test_key};
use onebit_plan::trust::{Trust, TrustedKeys};
use onebit_test_support::{TinyOptions, tiny_model};
use onebitc::Options;

#[test]
fn thread_count_and_folder_change_no_byte() {
    for signer in [None, Some(test_key())] {
        let compile = || {
            let model = tiny_model("qwen2", &TinyOptions::default());
            let options = Options { signer: signer.clone(), ..Options::default() };
            let compiled = compile_bytes(model, &options);
            let trusted = TrustedKeys::from_iter([test_key().public_key()]);
            let expected = match &signer {
                None => Trust::Unsigned,
                Some(key) => Trust::Trusted(key.public_key().id()),
            };
            assert_eq!(compiled.plan.trust(&trusted), expected);
            fs::read(compiled.folder.path().join("model.plan")).expect("the plan reads")
        };
        let alone = onebitc::with_threads(1, compile).expect("one thread starts");
        let team = onebitc::with_threads(3, compile).expect("three threads start");
        assert!(alone == team, "plans differ");
    }
}

/// Two people on one day and on another, by the program that they would use.
#[test]
fn the_time_of_day_changes_no_byte() {
    if Command::new("faketime").arg("--version").output().is_err() {
        println!("skipped: faketime is not installed");
        return;
    }
    let onebitc = programs().join("onebitc");
    let plans = [("2001-02-03 04:05:06", "1"), ("2038-01-20 00:00:00", "2")].map(|(time, jobs)| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a.gguf"), tiny_model("llama", &TinyOptions::default())).expect("space");
        test_key().write(&path("a.key")).expect("a key can be written");
        // What the program sees as the time is really another one.
        let date = succeed(Command::new("faketime").args([time, "date", "+%Y"]));
        assert_eq!(String::from_utf8_lossy(&date.stdout).trim(), &time[..4]);
        let mut command = Command::new("faketime");
        command.arg(time).arg(&onebitc).arg("compile").arg(path("a.gguf"));
        command.arg("-o").arg(path("a.plan")).args(["--ctx", "64", "--jobs", jobs]);
        succeed(command.arg("--sign").arg(path("a.key")));
        fs::read(path("a.plan")).expect("the plan reads")
    });
    assert!(plans[0] == plans[1], "plans differ");
}
