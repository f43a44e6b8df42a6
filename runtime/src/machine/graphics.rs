//! AMD's graphics processors as the kernel's driver shows them, and how much of the system's memory
//! they may use.
//!
//! A part of the processor has a fixed share of memory (`vram`, set in the firmware) and may borrow
//! from the rest (GTT). What it may borrow is bounded by the kernel's `ttm.pages_limit`, in pages of
//! 4 KiB, by default half of the memory (AMD's guide for Strix Halo,
//! rocm.docs.amd.com/en/latest/how-to/system-optimization/strixhalo.html). `amdgpu.gttsize` did the
//! same; AMD advises against it (ROCm/ROCm issue 5595).

use std::path::{Path, PathBuf};

use super::{Roots, names, number, read};

const VENDOR: &str = "0x1002";
const PAGE: u64 = 4096;

/// A card of AMD's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// `card0`
    pub name: String,
    /// PCI id: `0x1586`
    pub device: String,
    /// Bytes of memory of its own.
    pub vram: Option<u64>,
    /// Bytes of the system's memory that it may use.
    pub gtt: Option<u64>,
}

/// All cards of AMD's that have a driver.
pub fn cards(roots: &Roots) -> Vec<Card> {
    let folder = roots.sys.join("class/drm");
    let all = names(&folder).unwrap_or_default();
    let numbered =
        |name: &&String| name.strip_prefix("card").is_some_and(|rest| rest.parse::<u32>().is_ok());
    let card = |name: &String| {
        let device = folder.join(name).join("device");
        let file = |file: &str| device.join(file);
        (read(&file("vendor"))? == VENDOR).then(|| Card {
            name: name.clone(),
            device: read(&file("device")).unwrap_or_default(),
            vram: number(&file("mem_info_vram_total")),
            gtt: number(&file("mem_info_gtt_total")),
        })
    };
    all.iter().filter(numbered).filter_map(card).collect()
}

/// PCI folders of AMD's display controllers, driver or not.
pub fn processors(roots: &Roots) -> Vec<PathBuf> {
    let folder = roots.sys.join("bus/pci/devices");
    let devices = names(&folder).into_iter().flatten().map(|name| folder.join(name));
    devices.filter(|device| is_display(device)).collect()
}

fn is_display(device: &Path) -> bool {
    // Class 03: display controllers.
    let class = read(&device.join("class"));
    read(&device.join("vendor")).as_deref() == Some(VENDOR)
        && class.is_some_and(|class| class.starts_with("0x03"))
}

/// Version of the module, where the kernel's own has none: empty.
pub fn module(roots: &Roots) -> Option<String> {
    let module = roots.sys.join("module/amdgpu");
    module.is_dir().then(|| read(&module.join("version")).unwrap_or_default())
}

/// Bytes that all graphics processors may borrow together.
pub fn pages_limit(roots: &Roots) -> Option<u64> {
    number(&roots.sys.join("module/ttm/parameters/pages_limit"))?.checked_mul(PAGE)
}

/// MiB of `amdgpu.gttsize`, where it was set.
pub fn gttsize(roots: &Roots) -> Option<i64> {
    let size = read(&roots.sys.join("module/amdgpu/parameters/gttsize"))?;
    size.parse().ok().filter(|size| *size >= 0)
}

/// The value of `ttm.pages_limit` for so many bytes.
pub fn pages(bytes: u64) -> u64 {
    bytes / PAGE
}

/// Files by which programs reach graphics processors.
pub fn render_nodes(roots: &Roots) -> Vec<PathBuf> {
    let folder = roots.dev.join("dri");
    let all = names(&folder).unwrap_or_default();
    let nodes = all.iter().filter(|name| name.starts_with("renderD"));
    nodes.map(|name| folder.join(name)).collect()
}
