//! What RADV's compiler makes of every kernel for gfx1151, with no such device at hand.
//!
//! Mesa up to 25.0 opens a device without hardware for `RADV_FORCE_FAMILY`, which compiles
//! pipelines and runs nothing. What it tells of each is compared with a table that is checked in,
//! so that a change for the worse shows as a difference; `UPDATE_EXPECT=1` writes it anew (empty
//! the file before, for another version of Mesa). Some bounds hold for every kernel. Skipped, with
//! a line that says why, where there is no such Mesa.

#[path = "common/catalogue.rs"]
#[allow(dead_code, reason = "the other checks use the rest")]
mod catalogue;

use std::path::Path;
use std::process::Command;

use expect_test::expect_file;
use libtest_mimic::{Arguments, Failed, Trial};
use onebit_shaders::{Kernel, compile};
use onebit_vulkan::{Device, Executable, Inspect, Instance, Pipeline, PipelineDesc, Validation};

/// Says that this process is the one that compiles.
const CHILD: &str = "--compile-for-gfx1151";
/// Drivers that Debian and others install here.
const DRIVERS: [&str; 2] =
    ["/usr/share/vulkan/icd.d/radeon_icd.json", "/usr/share/vulkan/icd.d/radeon_icd.x86_64.json"];

fn main() {
    if std::env::args().any(|argument| argument == CHILD) {
        print!("{}", table());
        return;
    }
    let arguments = Arguments::from_args();
    let trial = Trial::test("every_kernel_fits_gfx1151", every_kernel_fits);
    libtest_mimic::run(&arguments, vec![trial]).exit();
}

fn every_kernel_fits() -> Result<(), Failed> {
    let Some(driver) = DRIVERS.iter().find(|path| Path::new(path).exists()) else {
        println!("skipped: RADV is not installed");
        return Ok(());
    };
    let output = Command::new(std::env::current_exe()?)
        .arg(CHILD)
        .envs([("VK_ICD_FILENAMES", *driver), ("VK_DRIVER_FILES", driver)])
        .envs([("RADV_FORCE_FAMILY", "gfx1151"), ("RADV_DEBUG", "nocache")])
        .output()?;
    let table = String::from_utf8(output.stdout)?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    if table.starts_with("skipped:") {
        print!("{table}");
        return Ok(());
    }
    let findings: Vec<String> = table.lines().skip(2).filter_map(finding).collect();
    if !findings.is_empty() {
        return Err(format!("{table}\n{}", findings.join("\n")).into());
    }
    // Another compiler makes other code, which is nobody's mistake; the bounds hold all the same.
    let known = include_str!("data/radv-gfx1151.txt").lines().next().unwrap_or("# nothing");
    let found = table.lines().next().unwrap_or_default();
    if known.starts_with("# Mesa") && found != known {
        println!("skipped: the table is of {known}, here is {found}");
        return Ok(());
    }
    let stable: String = table.lines().map(stable).collect();
    expect_file!["./data/radv-gfx1151.txt"].assert_eq(&stable);
    Ok(())
}

/// A column of the table: its name and how it is found.
struct Column {
    name: &'static str,
    value: fn(&Executable, &str) -> usize,
    /// The most that any kernel may have.
    most: usize,
}

const COLUMNS: [Column; 11] = [
    Column { name: "vgprs", value: |it, _| statistic(it, "Pre-Sched VGPRs"), most: 192 },
    Column { name: "spills", value: |it, _| spills(it), most: 0 },
    Column { name: "scratch", value: |it, _| statistic(it, "Scratch size"), most: 0 },
    // Deep turns of 32 rows by matrices have most. The devices that have matrices give a workgroup 48
    // KiB at least, and a work-group processor has 128.
    Column { name: "lds", value: |it, _| statistic(it, "LDS size"), most: 45056 },
    // Half of the instruction cache.
    Column { name: "code", value: |it, _| statistic(it, "Code size"), most: 16384 },
    Column { name: "instr", value: |it, _| statistic(it, "Instructions"), most: usize::MAX },
    Column { name: "dot4", value: |_, code| count(code, "v_dot4_i32_iu8"), most: usize::MAX },
    Column { name: "wmma", value: |_, code| count(code, "v_wmma_"), most: usize::MAX },
    Column { name: "wide", value: |_, code| wide_loads(code), most: usize::MAX },
    Column { name: "narrow", value: |_, code| narrow_loads(code), most: usize::MAX },
    // Tables of constants are read from memory at each look-up.
    Column { name: "consts", value: |_, code| count(code, "s_getpc_b64"), most: 0 },
];

/// The most registers of kernels whose names begin and end so. A SIMD holds 16 waves of 32 with
/// 96 registers, 12 with 128 and 9 with 160.
const REGISTERS: [(&str, &str, usize); 4] =
    [("product-", "-m1-t2", 96), ("product-", "", 128), ("gated-", "", 160), ("coop-", "", 160)];

fn statistic(executable: &Executable, name: &str) -> usize {
    let found = executable.statistics.iter().find(|(known, _)| known == name);
    found.map_or_else(|| panic!("{:?} lacks {name}", executable.statistics), |(_, v)| *v as usize)
}

fn spills(executable: &Executable) -> usize {
    statistic(executable, "Spilled SGPRs") + statistic(executable, "Spilled VGPRs")
}

fn count(code: &str, instruction: &str) -> usize {
    code.matches(instruction).count()
}

/// Loads of vectors of 16 bytes, of which the compiler drops a last word that nobody reads.
fn wide_loads(code: &str) -> usize {
    count(code, " buffer_load_dwordx4") + count(code, " buffer_load_dwordx3")
}

/// Loads from buffers by invocations that are narrower.
fn narrow_loads(code: &str) -> usize {
    count(code, " buffer_load_") - wide_loads(code)
}

/// What is wrong with a line of the table.
fn finding(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let (name, _subgroup) = (words.next()?, words.next()?);
    let numbers: Vec<usize> = words.map_while(|word| word.parse().ok()).collect();
    let mut wrong: Vec<String> = COLUMNS
        .iter()
        .zip(&numbers)
        .filter(|(column, number)| **number > column.most)
        .map(|(column, number)| format!("{} {number}, at most {}", column.name, column.most))
        .collect();
    let bound = REGISTERS.iter().find(|(a, z, _)| name.starts_with(a) && name.ends_with(z));
    if let Some((.., most)) = bound.filter(|(.., most)| numbers.first() > Some(most)) {
        wrong.push(format!("vgprs {}, at most {most}", numbers[0]));
    }
    let expected = if name.starts_with("coop-") { 7 } else { 6 };
    let is_product = ["product-", "gated-", "coop-"].iter().any(|kind| name.starts_with(kind));
    let floats = ["-f16-", "-bf16-", "-f32-"].iter().any(|class| name.contains(class));
    if is_product && !floats && numbers.get(expected).is_none_or(|count| *count == 0) {
        wrong.push(format!("no {}: the multiplier is not used", COLUMNS[expected].name));
    }
    // Classes that need no sums of activations read one word of their scales.
    let narrow = numbers.get(9).zip(numbers.get(8)).is_some_and(|(narrow, wide)| {
        let is_plain = ["-q8d-", "-i8g16-", "-m4e-", "-n4k-", "-n4d-"]
            .iter()
            .any(|class| name.contains(class));
        // For one row and by matrices invocations read their own part of scales; by matrices for each
        // block of two turns, before the loop and in it.
        let most = match (name.starts_with("coop-"), is_plain || name.contains("-m1-")) {
            (true, _) => wide + 16,
            (false, true) => *wide,
            (false, false) => 0,
        };
        *narrow > most
    });
    if is_product && !floats && narrow {
        wrong.push("loads of weights or activations that are not of 16 bytes".into());
    }
    if numbers.len() != COLUMNS.len() {
        wrong.push("columns are missing".into());
    }
    (!wrong.is_empty()).then(|| format!("{name}: {}", wrong.join("; ")))
}

/// A line without what changes from run to run: this compiler orders the instructions of
/// cooperative matrices by addresses of its own memory.
fn stable(line: &str) -> String {
    if !line.starts_with("coop-") {
        return format!("{line}\n");
    }
    let mut words: Vec<&str> = line.split_whitespace().collect();
    for (column, word) in COLUMNS.iter().zip(&mut words[2..]) {
        if matches!(column.name, "code" | "instr") {
            *word = "~";
        }
    }
    let mut out = format!("{:58} {:>4}", words[0], words[1]);
    words[2..].iter().for_each(|word| out += &format!(" {word:>7}"));
    out + "\n"
}

/// A line for each kernel and subgroup size.
fn table() -> String {
    let device = match device() {
        Ok(device) => device,
        Err(why) => return format!("skipped: {why}\n"),
    };
    let driver = &device.info().driver.info;
    let version = driver.split('-').next().unwrap_or(driver);
    let mut out = format!("# {version}\n{:58} wave", "kernel");
    COLUMNS.iter().for_each(|column| out += &format!(" {:>7}", column.name));
    out.push('\n');
    for kernel in catalogue::kernels() {
        let module = compile(&kernel).unwrap_or_else(|e| panic!("{e}"));
        // Cooperative matrices are written for one size.
        let sizes: &[u32] = if kernel.name.starts_with("coop-") { &[32] } else { &[32, 64] };
        for &subgroup in sizes {
            out += &line(&device, &kernel, &module.words, subgroup);
        }
    }
    out
}

fn device() -> Result<std::sync::Arc<Device>, String> {
    let instance = Instance::new(Validation::Off).map_err(|e| e.to_string())?;
    let devices = instance.devices().map_err(|e| e.to_string())?;
    let found = devices.iter().find(|device| device.info().name.contains("GFX1151"));
    let found = found.ok_or("this RADV opens no gfx1151 without hardware")?;
    found.open().map_err(|e| e.to_string())
}

fn line(device: &std::sync::Arc<Device>, kernel: &Kernel, spirv: &[u32], subgroup: u32) -> String {
    let bindings: Vec<u32> = kernel.slots.iter().map(|slot| slot.binding).collect();
    let desc = PipelineDesc {
        name: &kernel.name,
        spirv,
        bindings: &bindings,
        immediates: 4 * kernel.immediates.len() as u32,
        workgroup: kernel.workgroup,
        subgroup: Some(subgroup),
        inspect: Inspect::Yes,
    };
    let pipeline =
        Pipeline::new(device, &desc, None).unwrap_or_else(|e| panic!("{}: {e}", kernel.name));
    let executables = pipeline.executables().expect("what the compiler tells");
    let executable = &executables[0];
    let is_assembly = |name: &str| name.to_lowercase().contains("assembly");
    let forms = executable.representations.iter();
    let code = forms.filter(|(name, _)| is_assembly(name)).map(|(_, text)| text.as_str()).next();
    let code = code.unwrap_or_else(|| panic!("{:?}", executable.representations));
    let mut out = format!("{:58} {subgroup:4}", kernel.name);
    for column in &COLUMNS {
        out += &format!(" {:>7}", (column.value)(executable, code));
    }
    out.push('\n');
    out
}
