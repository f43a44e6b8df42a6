//! AMD's graphics processors: the kernel's driver, Mesa, and how much memory they may use.

use std::fs::OpenOptions;
use std::io::ErrorKind;

use super::{Finding, Roots};
use crate::check::bytes_text;
use crate::driver::vulkan::api::DeviceInfo;
use crate::machine::graphics::{
    Card, cards, gttsize, module, pages, pages_limit, processors, render_nodes,
};
use crate::machine::memory::Memory;

/// The oldest release of Mesa that this project's kernels were compiled with for gfx1151.
const MESA: (u32, u32) = (25, 0);

pub(super) fn findings(roots: &Roots, devices: &[DeviceInfo]) -> Vec<Finding> {
    let cards = cards(roots);
    let there = !processors(roots).is_empty() || !cards.is_empty();
    let mut findings = vec![driver(roots, there), nodes(roots, there), mesa(devices)];
    findings.extend(cards.iter().map(memory));
    findings.push(limit(roots, &cards));
    findings.extend(gttsize(roots).map(|size| {
        let remedy = "take `amdgpu.gttsize` from the kernel's command line: AMD advises against \
                      it, and `ttm.pages_limit` does the same";
        Finding::advice("gttsize", format!("{size} MiB"), remedy)
    }));
    findings
}

fn driver(roots: &Roots, there: bool) -> Finding {
    const WHAT: &str = "amdgpu";
    match (module(roots), there) {
        (Some(version), _) => {
            let kernel = roots.kernel().unwrap_or_else(|| "an unknown kernel".into());
            let version = if version.is_empty() { "the kernel's own".into() } else { version };
            Finding::ok(WHAT, format!("{version}, Linux {kernel}"))
        }
        (None, true) => {
            let remedy = "`sudo modprobe amdgpu`; look for amdgpu in `dmesg`";
            Finding::missing(WHAT, "not loaded, and there is a GPU of AMD's", remedy)
        }
        (None, false) => Finding::unknown(WHAT, "no GPU of AMD's"),
    }
}

/// Whether this user may use the graphics processors.
fn nodes(roots: &Roots, there: bool) -> Finding {
    const WHAT: &str = "render node";
    let nodes = render_nodes(roots);
    let Some(first) = nodes.first() else {
        let finding = Finding::unknown(WHAT, "none in /dev/dri");
        let remedy = "give a container the device with `--device /dev/dri`; else look for amdgpu in \
                      `dmesg`";
        return if there { finding.with_remedy(remedy) } else { finding };
    };
    match OpenOptions::new().read(true).write(true).open(first) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let found = format!("{} may not be opened", first.display());
            Finding::missing(WHAT, found, "`sudo usermod -aG render $USER` and a new login")
        }
        Err(error) => Finding::unknown(WHAT, format!("{}: {error}", first.display())),
        Ok(_) => Finding::ok(WHAT, format!("{} opens", first.display())),
    }
}

/// Release of Mesa that Vulkan's devices name.
fn mesa(devices: &[DeviceInfo]) -> Finding {
    const WHAT: &str = "mesa";
    let Some(text) = devices.iter().find_map(|it| it.driver.info.strip_prefix("Mesa ")) else {
        return Finding::unknown(WHAT, "no Vulkan driver of Mesa's");
    };
    let mut parts = text.split(['.', '-', ' ']).map(|part| part.parse::<u32>().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) >= MESA => Finding::ok(WHAT, text),
        (Some(_), Some(_)) => {
            let remedy = "update Mesa to 25.0 or later: the GPU of a Strix Halo is young, and \
                          earlier releases were not tried";
            Finding::advice(WHAT, text, remedy)
        }
        _ => Finding::unknown(WHAT, text),
    }
}

fn memory(card: &Card) -> Finding {
    let text = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".into(), bytes_text);
    let found = format!(
        "{} ({}): {} of its own (VRAM), {} of the system's (GTT)",
        card.name,
        card.device,
        text(card.vram),
        text(card.gtt)
    );
    Finding::ok("memory", found)
}

/// What graphics processors may borrow of the system's memory.
fn limit(roots: &Roots, cards: &[Card]) -> Finding {
    const WHAT: &str = "ttm";
    let Some(limit) = pages_limit(roots) else {
        return Finding::unknown(WHAT, "no ttm.pages_limit");
    };
    let total = Memory::read(roots).map(|memory| memory.total);
    let found = format!("pages_limit {}, {}", pages(limit), bytes_text(limit));
    // A card with much memory of its own borrows nothing.
    let borrows = cards.iter().any(|card| card.vram.is_none_or(|vram| vram < limit));
    match total {
        Some(total) if borrows && limit < total / 4 * 3 => {
            let wanted = pages(total / 8 * 7);
            let remedy = format!(
                "for models larger than that put `ttm.pages_limit={wanted}` ({}) on the kernel's \
                 command line",
                bytes_text(total / 8 * 7)
            );
            Finding::advice(WHAT, format!("{found} of {}", bytes_text(total)), remedy)
        }
        Some(total) => Finding::ok(WHAT, format!("{found} of {}", bytes_text(total))),
        None => Finding::ok(WHAT, found),
    }
}
