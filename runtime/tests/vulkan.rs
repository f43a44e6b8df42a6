//! The Vulkan driver on lavapipe, with a plan of hand-written kernels behind the validation layer.

#[path = "common/gpu.rs"]
mod gpu;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gpu::{Part, VOCABULARY, gpu_plan, successor};
use onebit_plan::PlanFile;
use onebit_plan::gpu::{GPU_AHEAD, GPU_ROWS, GpuFeature, GpuWindow};
use onebit_plan::trust::AllowedPlan;
use onebit_rt::Error;
use onebit_rt::driver::vulkan::api::{DeviceInfo, Instance, Validation};
use onebit_rt::driver::vulkan::{Choice, GpuError, VulkanDriver, VulkanOptions};
use onebit_rt::driver::{Driver, Row};
use onebit_rt::generate::{Finish, Observer, Request, generate};
use onebit_rt::sampler::{Sampling, greedy};
use onebit_rt::session::Session;

const WIDTH: usize = VOCABULARY as usize;

/// The place of the first device that `fits`, or a loud line about why there is none.
fn find(what: &str, fits: impl Fn(&DeviceInfo) -> bool) -> Option<usize> {
    let devices = match Instance::new(Validation::Calls) {
        Ok(instance) => instance.devices().unwrap(),
        Err(error) => {
            eprintln!("skipped: {error}");
            return None;
        }
    };
    let place = devices.iter().position(|device| fits(device.info()));
    if place.is_none() {
        eprintln!("skipped: {what} is not among the {} devices", devices.len());
    }
    place
}

/// Lavapipe, whose limits are known.
fn lavapipe() -> Option<usize> {
    find("lavapipe", DeviceInfo::is_lavapipe)
}

/// Lavapipe, or else what this machine has.
fn any_device() -> Option<usize> {
    lavapipe().or_else(|| find("a device that runs plans", |info| info.lacks.is_empty()))
}

fn options(index: usize, slots: u32) -> VulkanOptions {
    let device = Choice::Index(index);
    let validation = Validation::Synchronisation;
    VulkanOptions { device, slots, validation, burst: Duration::MAX, ..VulkanOptions::default() }
}

fn open(change: impl FnOnce(&mut Part)) -> AllowedPlan {
    let folder = tempfile::tempdir().unwrap();
    let plan = PlanFile::open(gpu_plan(folder.path(), change)).unwrap();
    AllowedPlan::untrusted(plan)
}

fn load(index: usize, slots: u32) -> VulkanDriver {
    VulkanDriver::load(open(|_| {}), &options(index, slots)).unwrap()
}

#[track_caller]
fn assert_valid(driver: &VulkanDriver) {
    let findings = driver.take_findings();
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

fn row(token: u32, position: u32, slot: u32, output: bool) -> Row {
    Row { token, position, slot, output }
}

/// The token that the plan's kernels favour after a history.
fn expected(history: &[u32]) -> u32 {
    history
        .iter()
        .enumerate()
        .fold(0, |sum, (position, &token)| successor(sum, token, position as u32))
}

#[test]
fn logits_are_those_of_each_rows_history() {
    let Some(index) = any_device() else { return };
    let mut driver = load(index, 3);
    assert_eq!((driver.limits().slots, driver.limits().max_rows), (3, GPU_ROWS));
    assert_eq!(driver.notes(), &[] as &[String]);
    let mut logits = vec![-1.0; 2 * WIDTH];
    // Three rows of two slots, one of them without logits, then one row alone.
    let rows = [row(5, 0, 2, false), row(7, 1, 2, true), row(9, 0, 0, true)];
    driver.step(&rows, &mut logits).unwrap();
    let picks: Vec<u32> = logits.chunks(WIDTH).map(greedy).collect();
    assert_eq!(picks, [expected(&[5, 7]), expected(&[9])]);
    driver.step(&[row(11, 2, 2, true)], &mut logits[..WIDTH]).unwrap();
    assert_eq!(greedy(&logits[..WIDTH]), expected(&[5, 7, 11]));
    driver.step(&[row(1, 1, 0, false)], &mut []).unwrap();
    driver.step(&[row(2, 2, 0, true)], &mut logits[..WIDTH]).unwrap();
    assert_eq!(greedy(&logits[..WIDTH]), expected(&[9, 1, 2]));
    assert_valid(&driver);
}

#[test]
fn tokens_ahead_are_those_of_single_steps() {
    let Some(index) = any_device() else { return };
    let mut driver = load(index, 8);
    let mut picks = vec![0; 3 * GPU_AHEAD];
    for slots in [1, 3] {
        let rows: Vec<Row> = (0..slots).map(|slot| row(20 + slot, 0, slot, true)).collect();
        // The first burst tells how long a step takes.
        let first = driver.decode_ahead(&rows, 100, &mut picks).unwrap();
        assert_eq!(first, if slots == 1 { 1 } else { GPU_AHEAD });
        let steps = driver.decode_ahead(&rows, 100, &mut picks).unwrap();
        assert_eq!(steps, GPU_AHEAD);
        for slot in 0..slots {
            let mut history = vec![20 + slot];
            for step in picks[..steps * rows.len()].chunks(rows.len()) {
                assert_eq!(step[slot as usize], expected(&history));
                history.push(step[slot as usize]);
            }
        }
    }
    // Not beyond the context, and not for rows that want no logits.
    let last = driver.limits().context - 2;
    assert_eq!(driver.decode_ahead(&[row(1, last, 0, true)], 9, &mut picks).unwrap(), 2);
    let error = driver.decode_ahead(&[row(1, 0, 0, false)], 9, &mut picks);
    assert!(matches!(error, Err(Error::Picks { .. })), "{error:?}");
    let error = driver.decode_ahead(&[row(1, 0, 0, true)], 9, &mut []);
    assert!(matches!(error, Err(Error::Picks { .. })), "{error:?}");
    assert_valid(&driver);
}

#[derive(Default)]
struct Record(Vec<Vec<u32>>);

impl Observer for Record {
    fn token(&mut self, index: usize, token: u32) -> ControlFlow<()> {
        self.0.resize_with(self.0.len().max(index + 1), Vec::new);
        self.0[index].push(token);
        ControlFlow::Continue(())
    }

    fn finished(&mut self, _index: usize, _why: Finish) {}
}

/// A driver that takes no step ahead.
struct Single(VulkanDriver);

impl Driver for Single {
    fn limits(&self) -> onebit_rt::driver::Limits {
        self.0.limits()
    }

    fn step(&mut self, rows: &[Row], logits: &mut [f32]) -> Result<(), Error> {
        self.0.step(rows, logits)
    }
}

#[test]
fn sessions_give_the_same_text_with_and_without_steps_ahead() {
    let Some(index) = any_device() else { return };
    let requests: Vec<Request> = (0..6)
        .map(|index| Request {
            prompt: (0..5 + 10 * index).map(|it| (it * 7 + index) % VOCABULARY).collect(),
            sampling: match index {
                3 => Sampling { temperature: 0.7, seed: 3, ..Sampling::GREEDY },
                _ => Sampling::GREEDY,
            },
            limit: Some(25),
        })
        .collect();
    let run = |driver: Box<dyn Driver>, requests: &[Request]| {
        let mut record = Record::default();
        generate(&mut Session::new(driver), requests, &|token| token == 3, &mut record).unwrap();
        record.0
    };
    let ahead = run(Box::new(load(index, 4)), &requests);
    let single = run(Box::new(Single(load(index, 4))), &requests);
    assert_eq!(ahead, single);
    assert!(ahead.iter().any(|tokens| tokens.len() > GPU_AHEAD), "{ahead:?}");
    assert_eq!(run(Box::new(load(index, 1)), &requests[5..])[0], single[5]);
}

#[test]
fn bursts_are_short() {
    let Some(index) = any_device() else { return };
    let options = VulkanOptions { burst: Duration::ZERO, ..options(index, 1) };
    let mut driver = VulkanDriver::load(open(|_| {}), &options).unwrap();
    let mut picks = vec![0; GPU_AHEAD];
    for position in 0..3 {
        let row = row(1, position, 0, true);
        assert_eq!(driver.decode_ahead(&[row], GPU_AHEAD, &mut picks).unwrap(), 1);
    }
}

#[test]
fn rows_are_checked_before_the_device_sees_them() {
    let Some(index) = any_device() else { return };
    let mut driver = load(index, 100);
    assert_eq!(driver.limits().slots, 8, "no more than the plan has");
    let mut logits = vec![0.0; WIDTH];
    let mut step = |row| driver.step(&[row], &mut logits);
    assert!(matches!(step(row(VOCABULARY, 0, 0, true)), Err(Error::Token { .. })));
    assert!(matches!(step(row(0, 64, 0, true)), Err(Error::ContextFull { .. })));
    assert!(matches!(step(row(0, 0, 8, true)), Err(Error::Slot { .. })));
    assert!(matches!(driver.step(&[row(0, 0, 0, true)], &mut []), Err(Error::Logits { .. })));
    assert_valid(&driver);
}

#[test]
fn a_step_is_measured_dispatch_by_dispatch() {
    let Some(index) = any_device() else { return };
    let mut driver = load(index, 1);
    let profile = driver.profile(&[row(5, 0, 0, true)], 3).unwrap();
    assert_eq!((profile.entry.as_str(), profile.max_rows), ("one", 1));
    let names: Vec<&str> = profile.dispatches.iter().map(|it| it.kernel.as_str()).collect();
    assert_eq!(names, ["sum", "logits", "pick"]);
    assert!(profile.dispatches.iter().all(|it| it.seconds >= 0.0), "{profile:?}");
    assert!(profile.seconds > 0.0, "{profile:?}");
    assert_valid(&driver);
}

#[test]
fn the_program_profiles_and_writes_logits() {
    if lavapipe().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let plan = gpu_plan(folder.path(), |_| {});
    let run = |command: &str, options: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_onebit-rt"))
            .arg(command)
            .arg(&plan)
            .args(["--device", "vulkan", "--gpu", "llvmpipe", "--allow-untrusted"])
            .args(options)
            .env("XDG_CACHE_HOME", folder.path())
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    let text = run("profile", &["--rows", "3", "--depth", "9", "-r", "2"]);
    assert!(text.contains("entry many, 3 rows at depth 9: 3 pieces, 2 waits"), "{text}");
    assert!(text.contains("@sums, pick") && text.contains("total"), "{text}");
    let report: serde_json::Value =
        serde_json::from_str(&run("profile", &["--rows", "20", "--json"])).unwrap();
    assert_eq!((&report["each"][0]["kernel"], &report["rows"]), (&"sum".into(), &20.into()));
    assert_eq!(report["sums"].as_array().unwrap().len(), 3);
    assert!(report["seconds"].as_f64().unwrap() > 0.0);
    let cached = fs::read_dir(folder.path().join("onebit")).unwrap().count();
    assert_eq!(cached, 1, "compiled pipelines are kept");
    let file = folder.path().join("logits.npy");
    run("logits", &["--tokens", "5,7,11", "-o", file.to_str().unwrap()]);
    let bytes = fs::read(file).unwrap();
    let floats = bytes[bytes.len() - 3 * 4 * WIDTH..].chunks_exact(4);
    let logits: Vec<f32> = floats.map(|it| f32::from_le_bytes(it.try_into().unwrap())).collect();
    let picks: Vec<u32> = logits.chunks(WIDTH).map(greedy).collect();
    assert_eq!(picks, [expected(&[5]), expected(&[5, 7]), expected(&[5, 7, 11])]);
}

#[test]
fn the_first_module_and_entry_that_fit_are_taken() {
    let Some(index) = lavapipe() else { return };
    // Lavapipe 25 has no matrices, and no device has subgroups of 1.
    let plan = open(|part| {
        for kernel in &mut part.plan.kernels {
            let wrong = kernel.modules[0].clone();
            kernel.modules.insert(0, wrong.clone());
            kernel.modules[0].subgroup = Some(1);
            kernel.modules.insert(0, wrong);
            kernel.modules[0].features = vec![GpuFeature::CooperativeI8];
        }
        let mut heavy = part.plan.kernels[0].clone();
        heavy.name = "heavy".into();
        heavy.modules.truncate(2);
        part.plan.kernels.push(heavy);
        let mut entry = part.plan.entries[0].clone();
        entry.name = "better".into();
        entry.dispatches[0].kernel = 3;
        part.plan.entries.insert(0, entry);
    });
    let mut driver = VulkanDriver::load(plan, &options(index, 1)).unwrap();
    let [note] = driver.notes() else { panic!("{:?}", driver.notes()) };
    assert!(note.contains("better") && note.contains("CooperativeI8"), "{note}");
    let mut logits = vec![0.0; WIDTH];
    driver.step(&[row(5, 0, 0, true)], &mut logits).unwrap();
    assert_eq!(greedy(&logits), expected(&[5]));
    assert_valid(&driver);
}

#[test]
fn what_a_device_cannot_do_is_said() {
    let Some(index) = lavapipe() else { return };
    let failure = |change: &dyn Fn(&mut Part), options: &VulkanOptions| {
        let error = VulkanDriver::load(open(change), options).err().unwrap();
        assert!(!error.help().is_empty());
        let Error::Gpu(error) = error else { panic!("{error}") };
        error
    };
    let options = options(index, 8);
    let error = failure(&|part| part.plan.kernels[0].modules[0].subgroup = Some(128), &options);
    assert!(matches!(error, GpuError::NoEntry { .. }), "{error}");
    assert!(error.to_string().contains("subgroups of 128"), "{error}");
    // Eight slots of a window of 32 MiB are more than the 128 MiB of lavapipe.
    let long = |part: &mut Part| {
        part.plan.slot = 64 << 20;
        for entry in &mut part.plan.entries {
            for window in entry.dispatches.iter_mut().flat_map(|it| &mut it.windows) {
                if let GpuWindow::Cache { length, .. } = window {
                    *length = 32 << 20;
                }
            }
        }
    };
    let error = failure(&long, &options);
    assert!(matches!(error, GpuError::Window { .. }), "{error}");
    assert!(VulkanDriver::load(open(long), &VulkanOptions { slots: 1, ..options.clone() }).is_ok());
    let device = Choice::Name("Voodoo 2".into());
    let error = failure(&|_| {}, &VulkanOptions { device, ..options.clone() });
    assert!(matches!(error, GpuError::NoSuchDevice { .. }), "{error}");
    let error = failure(&|part| part.present = false, &options);
    assert!(matches!(error, GpuError::NoPart), "{error}");
    // More memory than there is.
    let huge = |part: &mut Part| part.plan.arena = 1 << 42;
    let error = failure(&huge, &options);
    assert!(matches!(error, GpuError::Buffer { .. } | GpuError::Room { .. }), "{error}");
}

#[test]
fn compiled_pipelines_are_kept_and_damaged_ones_ignored() {
    let Some(index) = any_device() else { return };
    let folder = tempfile::tempdir().unwrap();
    let cache = Some(folder.path().join("onebit"));
    let options = VulkanOptions { cache: cache.clone(), ..options(index, 1) };
    let check = || {
        let mut driver = VulkanDriver::load(open(|_| {}), &options).unwrap();
        let mut logits = vec![0.0; WIDTH];
        driver.step(&[row(5, 0, 0, true)], &mut logits).unwrap();
        assert_eq!(greedy(&logits), expected(&[5]));
        assert_valid(&driver);
        driver.notes().len()
    };
    let files = || -> Vec<_> {
        let files = fs::read_dir(cache.as_ref().unwrap()).unwrap();
        files.map(|file| file.unwrap().path()).collect()
    };
    assert_eq!(check(), 0);
    let [file] = files().try_into().unwrap();
    let good = fs::read(&file).unwrap();
    assert_eq!(check(), 0);
    for damage in [vec![], vec![0; 1000], good[..good.len() / 2].to_vec()] {
        fs::write(&file, damage).unwrap();
        assert_eq!(check(), 0);
        assert!(fs::read(&file).unwrap().len() > 32);
    }
    fs::remove_dir_all(cache.as_ref().unwrap()).unwrap();
    fs::write(cache.as_ref().unwrap(), b"in the way").unwrap();
    assert_eq!(check(), 1, "a note, no error");
}

const SHIM: &str = "/usr/lib/x86_64-linux-gnu/libamdgpu_noop_drm_shim.so";
const RADV: &str = "/usr/share/vulkan/icd.d/radeon_icd.json";

/// AMD's driver over a kernel that accepts everything and does nothing: all calls of the host are
/// those of a real device, only results do not come.
#[test]
fn amds_driver_takes_every_call() {
    for file in [SHIM, RADV] {
        if !Path::new(file).exists() {
            eprintln!("skipped: no {file}");
            return;
        }
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "in_the_shim", "--nocapture"])
        .env("LD_PRELOAD", SHIM)
        .env("AMDGPU_GPU_ID", "gfx1150")
        .env("VK_ICD_FILENAMES", RADV)
        .env("VK_DRIVER_FILES", RADV)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.contains("1 passed") && errors.contains("ran on"), "{text}\n{errors}");
}

/// What `amds_driver_takes_every_call` runs in a process of its own.
#[test]
fn in_the_shim() {
    if !fs::read_to_string("/proc/self/maps").is_ok_and(|maps| maps.contains(SHIM)) {
        eprintln!("skipped: another test runs this one behind the shim");
        return;
    }
    let options = options(0, 2);
    let mut driver = VulkanDriver::load(open(|_| {}), &options).unwrap();
    let mut logits = vec![0.0; WIDTH];
    for _ in 0..3 {
        driver.step(&[row(5, 0, 0, true)], &mut logits).unwrap();
    }
    let rows = [row(5, 0, 0, true), row(5, 0, 1, true)];
    let mut picks = vec![0; 2 * GPU_AHEAD];
    assert_eq!(driver.decode_ahead(&rows, GPU_AHEAD, &mut picks).unwrap(), 1);
    assert_eq!(driver.decode_ahead(&rows, GPU_AHEAD, &mut picks).unwrap(), GPU_AHEAD);
    assert_valid(&driver);
    eprintln!("ran on {} {}", driver.device().name, driver.device().driver.info);
}
