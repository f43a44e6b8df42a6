//! Kills compiles at random moments and looks at what they leave.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use onebit_plan::PlanFile;
use onebit_plan::trust::TrustStore;
use onebit_test_support::{Random, TinyOptions, tiny_model};
use onebitc::sign::own_key;

/// What many kills left.
#[derive(Debug, Default)]
pub struct Kills {
    /// Compiles that were killed before they ended.
    pub killed: u32,
    /// Compiles that were done before the kill came.
    pub ended: u32,
    /// Kills after which the new plan stood there, whole.
    pub replaced: u32,
    /// Kills that left a temporary file, which the next compile removed.
    pub left_over: u32,
}

/// Starts `onebitc` over a plan and kills it, at another moment of a compile's length each time,
/// until `times` compiles were killed before they ended. The plan's file must be the old one or the
/// new one, to the byte, and the keys must be usable.
///
/// # Errors
/// What the system refuses.
///
/// # Panics
/// When a kill left anything else, or the program fails by itself.
pub fn kill_compiles(onebitc: &Path, folder: &Path, times: u32) -> io::Result<Kills> {
    let model = folder.join("tiny.gguf");
    fs::write(&model, tiny_model("llama", &TinyOptions::default()))?;
    let key = folder.join("test.key");
    crate::test_key().write(&key).expect("a key can be written");
    let target = folder.join("tiny.plan");
    let compile = |ctx: &str, keys: &[&str]| {
        let mut command = Command::new(onebitc);
        command.arg("compile").arg(&model).arg("-o").arg(&target).args(["--ctx", ctx]).args(keys);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let signed = ["--sign", key.to_str().expect("a path of UTF-8")];
    let whole = |ctx| -> io::Result<Vec<u8>> {
        let output = compile(ctx, &signed).output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read(&target)
    };
    let start = Instant::now();
    let new = whole("128")?;
    let length = start.elapsed();
    let old = whole("64")?;
    assert_ne!(old, new);

    let mut kills = Kills::default();
    let mut random = Random::new(9);
    while kills.killed < times {
        let turn = kills.killed + kills.ended;
        // Every other one makes its own key first, in a folder that is not there yet.
        let keys = folder.join(format!("keys{turn}"));
        let own = ["--keys", keys.to_str().expect("a path of UTF-8")];
        let options = if turn % 2 == 0 { &signed } else { &own };
        let moment = length.mul_f64(random.below(1000) as f64 / 900.0);
        match kill_after(compile("128", options), moment)? {
            Ending::Killed => kills.killed += 1,
            Ending::Ended => kills.ended += 1,
        }
        kills.left_over += u32::from(!parts(folder)?.is_empty());
        let found = fs::read(&target)?;
        if found != old {
            kills.replaced += 1;
            let plan = PlanFile::open(&target).expect("a plan that stands there is whole");
            plan.verify_weights().expect("so are its weights");
            assert_eq!(found[..plan.unsigned_length() as usize], new[..new_length(&new)]);
            fs::write(&target, &old)?;
        }
        own_key(&TrustStore::new(&keys)).expect("keys are whole or not there");
        fs::remove_dir_all(&keys)?;
    }
    assert_eq!(whole("128")?, new, "a compile after all the kills");
    assert_eq!(parts(folder)?, Vec::<PathBuf>::new(), "the next compile tidies up");
    Ok(kills)
}

enum Ending {
    Killed,
    Ended,
}

fn kill_after(mut command: Command, moment: Duration) -> io::Result<Ending> {
    let mut child = command.spawn()?;
    thread::sleep(moment);
    // SIGKILL; a process that has ended already takes it without harm.
    child.kill()?;
    let output = child.wait_with_output()?;
    if output.status.code().is_none() {
        return Ok(Ending::Killed);
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(Ending::Ended)
}

/// Bytes of a signed plan before its signature.
fn new_length(plan: &[u8]) -> usize {
    let length = u64::from_le_bytes(plan[32..40].try_into().expect("eight bytes"));
    length as usize
}

/// Temporary files of plans.
fn parts(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut parts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "part") {
            parts.push(path);
        }
    }
    Ok(parts)
}
