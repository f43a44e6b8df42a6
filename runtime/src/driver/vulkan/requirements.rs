//! What a plan comes to on a Vulkan device, told from the manifest and what the device says of
//! itself: what [`VulkanDriver::load`](super::VulkanDriver::load) takes and refuses, told before it.

use std::collections::BTreeMap;

use onebit_plan::fit::{Lack, Scale};
use onebit_plan::gpu::{GpuEntry, GpuKernel, GpuPlan};
use onebit_plan::manifest::Manifest;
use onebit_vulkan::{DeviceInfo, DeviceKind, Instance, Validation};

use super::fit::{Fit, buffers, fit, scale};
use super::{Choice, GpuError, Matrices, choose, kernels};
use crate::check::{Check, Outcome, bytes_text};
use crate::driver::cpu::requirements::Use;
use crate::machine::memory::Memory;

/// What the plan needs of the device that a load with this choice takes, or why there is none.
pub fn examine(
    manifest: &Manifest,
    choice: &Choice,
    matrices: Matrices,
    memory: Option<Memory>,
    used: Use,
) -> (Option<DeviceInfo>, Vec<Check>) {
    if manifest.gpu.is_none() {
        return (None, vec![refused("part", "a part for Vulkan devices", &GpuError::NoPart)]);
    }
    let instance = Instance::new(Validation::Off).map_err(GpuError::from);
    let device = instance.and_then(|instance| choose::choose(&instance, choice));
    match device {
        Ok(device) => {
            let checks = assess(manifest, device.info(), matrices, memory, used);
            (Some(device.info().clone()), checks)
        }
        Err(error) => (None, vec![refused("device", "a Vulkan device", &error)]),
    }
}

fn refused(what: &'static str, needed: &str, error: &GpuError) -> Check {
    Check::unmet(what, needed, error.to_string(), error.help())
}

/// What the plan needs of a device.
pub fn assess(
    manifest: &Manifest,
    info: &DeviceInfo,
    matrices: Matrices,
    memory: Option<Memory>,
    used: Use,
) -> Vec<Check> {
    let Some(plan) = &manifest.gpu else {
        return vec![refused("part", "a part for Vulkan devices", &GpuError::NoPart)];
    };
    let mut checks = vec![kind(info), device(info)];
    if !info.lacks.is_empty() {
        return checks;
    }
    let scale = scale(manifest, used.slots);
    let fit = fit(plan, info, scale, matrices);
    let entries: Vec<&GpuEntry> = match &fit {
        Ok(fit) => fit.selection.entries.clone(),
        Err(_) => {
            let asked = |it: &&GpuEntry| !kernels::is_spare(plan, it, info, matrices);
            plan.entries.iter().filter(asked).collect()
        }
    };
    checks.extend(modules(plan, info, matrices, fit.is_ok()));
    checks.push(rows(plan, fit.as_ref().ok()));
    checks.extend(limits(plan, &entries, info, scale, fit.as_ref().ok()));
    match &fit {
        Ok(fit) => checks.push(room(fit, info, memory)),
        Err(error @ GpuError::Room { bytes, most, .. }) => {
            let (needed, found) = (bytes_text(*bytes), bytes_text(*most));
            let needed = format!("{needed} of the device's memory");
            checks.push(Check::unmet("memory", needed, found, error.help()));
        }
        // Said by the lines above, but where none of them is so exact.
        Err(error) if checks.iter().all(|it| it.outcome != Outcome::Unmet) => {
            checks.push(refused("steps", "steps that fit the device", error));
        }
        Err(_) => {}
    }
    checks
}

/// Whether there is hardware behind the device.
fn kind(info: &DeviceInfo) -> Check {
    let found = format!("{} ({}), {} {}", info.name, info.kind, info.driver.name, info.driver.info);
    match info.kind {
        DeviceKind::Cpu => {
            let remedy = "install the driver of the graphics processor, or run with `--device cpu`";
            Check::slower("device", "a graphics processor", found, remedy)
        }
        _ => Check::met("device", "a graphics processor", found),
    }
}

/// What every plan needs.
fn device(info: &DeviceInfo) -> Check {
    let needed = "Vulkan 1.3 with what every plan uses";
    match super::able(info) {
        Ok(()) => Check::met("vulkan", needed, format!("Vulkan {}", info.api)),
        Err(error) => {
            let found = format!("Vulkan {} without {}", info.api, info.lacks.join(", "));
            Check::unmet("vulkan", needed, found, error.help())
        }
    }
}

/// Which modules kernels take, where it is not the first: one line for each reason.
fn modules(plan: &GpuPlan, info: &DeviceInfo, matrices: Matrices, runs: bool) -> Vec<Check> {
    let chosen = kernels::modules(plan, info, matrices);
    let capabilities = info.capabilities();
    let mut reasons: BTreeMap<String, (Lack, usize, bool)> = BTreeMap::new();
    let mut used = vec![false; plan.kernels.len()];
    for entry in plan.entries.iter().filter(|it| !kernels::is_spare(plan, it, info, matrices)) {
        entry.dispatches.iter().for_each(|it| used[it.kernel as usize] = true);
    }
    let mut first = 0;
    let kernels = plan.kernels.iter().zip(&chosen).zip(&used).filter(|(_, used)| **used);
    let count = kernels.clone().count();
    for ((kernel, module), _) in kernels {
        let Some(best) = kernels::allowed(kernel, matrices).next() else { continue };
        if module.is_some_and(|module| std::ptr::eq(module, best)) {
            first += 1;
            continue;
        }
        for lack in capabilities.lacks(kernel, best) {
            let entry = reasons.entry(lack.to_string()).or_insert((lack, 0, false));
            entry.1 += 1;
            entry.2 |= module.is_none();
        }
    }
    let needed = format!("{count} kernels");
    let mut checks = vec![Check::met("kernels", needed, format!("{first} in their first form"))];
    for (lack, kernels, is_missing) in reasons.into_values() {
        let needed = format!("{lack}, for {kernels} kernels");
        let remedy = "update the graphics driver, or choose another device with `--gpu`";
        checks.push(match is_missing && !runs {
            true => Check::unmet("feature", needed, lack.found(), remedy),
            false => Check::slower("feature", needed, lack.found(), remedy),
        });
    }
    checks
}

/// Whether steps of all sizes have an entry.
fn rows(plan: &GpuPlan, fit: Option<&Fit<'_>>) -> Check {
    let most = |rows: Option<u32>| rows.unwrap_or(0);
    let all = most(plan.entries.last().map(|entry| entry.max_rows));
    let needed = format!("steps of up to {all} rows");
    let Some(fit) = fit else {
        return Check::unmet(
            "steps",
            needed,
            "none",
            "choose another device with `--gpu`, or run with `--device cpu`",
        );
    };
    let taken = most(fit.selection.entries.last().map(|entry| entry.max_rows));
    let mut sizes: Vec<u32> = plan.entries.iter().map(|entry| entry.max_rows).collect();
    sizes.dedup();
    let found =
        format!("{} of {} sizes, up to {taken} rows", fit.selection.entries.len(), sizes.len());
    if fit.selection.entries.len() == sizes.len() {
        return Check::met("steps", needed, found);
    }
    let remedy = format!("{}: update the graphics driver", fit.selection.notes.join("; "));
    Check::slower("steps", needed, found, remedy)
}

/// The largest of each thing that a device limits.
struct Largest {
    /// Invocations of a workgroup.
    workgroup: u32,
    /// Bytes that a workgroup shares.
    shared: u32,
    /// Bytes of a window, of a buffer.
    window: u64,
    buffer: u64,
}

impl Largest {
    fn of(plan: &GpuPlan, entries: &[&GpuEntry], info: &DeviceInfo, scale: Scale) -> Self {
        let dispatches = || entries.iter().flat_map(|entry| &entry.dispatches);
        let kernels = || dispatches().map(|dispatch| &plan.kernels[dispatch.kernel as usize]);
        let shared = |kernel: &GpuKernel| kernel.modules.iter().map(|it| it.shared).max();
        let windows = entries.iter().map(|entry| entry.longest_window(plan, scale));
        let buffers = buffers(plan, entries, info, scale);
        Self {
            workgroup: kernels().map(|kernel| kernel.workgroup).max().unwrap_or(0),
            shared: kernels().filter_map(shared).max().unwrap_or(0),
            window: windows.max().unwrap_or(0),
            buffer: buffers.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0),
        }
    }
}

/// The largest of each thing that a device limits, beside the limit.
fn limits(
    plan: &GpuPlan,
    entries: &[&GpuEntry],
    info: &DeviceInfo,
    scale: Scale,
    fit: Option<&Fit<'_>>,
) -> Vec<Check> {
    let largest = Largest::of(plan, entries, info, scale);
    let limits = &info.limits;
    let line = |what, needed: u64, most: u64, text: fn(u64) -> String| {
        let remedy = "use fewer sequences or compile with a smaller `--ctx` if it is the cache, or \
                      choose another device with `--gpu`";
        if needed <= most {
            Check::met(what, text(needed), text(most))
        } else if fit.is_some() {
            // An entry that is not taken; its line says so.
            Check::slower(what, text(needed), text(most), remedy)
        } else {
            Check::unmet(what, text(needed), text(most), remedy)
        }
    };
    let workgroups = |count: u64| format!("workgroups of {count}");
    let shares = |bytes: u64| format!("{} shared by a workgroup", bytes_text(bytes));
    let windows = |bytes: u64| format!("windows of {}", bytes_text(bytes));
    let whole = |bytes: u64| format!("buffers of {}", bytes_text(bytes));
    vec![
        line("workgroup", largest.workgroup.into(), limits.invocations.into(), workgroups),
        line("shared", largest.shared.into(), limits.shared.into(), shares),
        line("window", largest.window, limits.storage_range, windows),
        line("buffer", largest.buffer, limits.buffer, whole),
    ]
}

/// Whether everything lies in memory of the device's own, and is free where that is the system's.
fn room(fit: &Fit<'_>, info: &DeviceInfo, memory: Option<Memory>) -> Check {
    const WHAT: &str = "memory";
    let part = |name: &str| {
        fit.buffers.iter().filter(|(what, _)| *what == name).map(|(_, bytes)| bytes).sum::<u64>()
    };
    let needed = format!(
        "{} of the device's memory: {} for weights, {} for the cache",
        bytes_text(fit.bytes()),
        bytes_text(part("weights")),
        bytes_text(part("key/value cache")),
    );
    let mut found = bytes_text(info.limits.heap);
    let help = || GpuError::Room { bytes: 0, device: String::new(), most: 0 }.help();
    if fit.bytes() > info.limits.heap {
        found += &format!(" of its own, {} with the system's", bytes_text(info.limits.memory));
        return Check::slower(WHAT, needed, found, help());
    }
    let shares = matches!(info.kind, DeviceKind::Integrated | DeviceKind::Cpu);
    if let Some(Memory { available, .. }) = memory.filter(|_| shares) {
        found += &format!(" of the system's, {} available", bytes_text(available));
        if fit.bytes() > available {
            return Check::slower(WHAT, needed, found, help());
        }
    }
    Check::met(WHAT, needed, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Verdict, verdict};
    use crate::machine::memory::Bound;
    use crate::test_device::radeon_8060s;
    use crate::test_manifest::manifest;
    use onebit_plan::gpu::GpuFeature;
    use onebit_vulkan::Limits;

    /// A device that takes everything of the test's manifest.
    fn radeon() -> DeviceInfo {
        let whole = radeon_8060s();
        let (window, heap, memory) = (1 << 30, 1 << 30, 2 << 30);
        let limits = Limits { storage_range: window, buffer: window, heap, memory, ..whole.limits };
        DeviceInfo { limits, features: vec![GpuFeature::IntegerDot], ..whole }
    }

    const FREE: Memory = Memory { total: 4 << 30, available: 2 << 30, bound: Bound::Machine };

    fn checks(change: impl FnOnce(&mut DeviceInfo, &mut Manifest)) -> Vec<Check> {
        let (mut info, mut manifest) = (radeon(), manifest());
        change(&mut info, &mut manifest);
        let used = Use { context: 64, slots: 2, threads: 1 };
        let checks = assess(&manifest, &info, Matrices::Never, Some(FREE), used);
        // The same code decides about a load.
        let scale = scale(&manifest, used.slots);
        let loads = manifest.gpu.as_ref().is_some_and(|plan| {
            info.able().is_ok() && fit(plan, &info, scale, Matrices::Never).is_ok()
        });
        assert_eq!(verdict(&checks) != Verdict::Cannot, loads, "{checks:#?}");
        assert!(checks.iter().all(|it| (it.outcome == Outcome::Met) == it.remedy.is_none()));
        checks
    }

    /// Demands a verdict, and a line with this outcome and these words.
    #[track_caller]
    fn assert_says(checks: &[Check], verdict_is: Verdict, what: &str, words: [&str; 2]) {
        assert_eq!(verdict(checks), verdict_is, "{checks:#?}");
        let said = checks.iter().any(|check| {
            check.what == what && check.needed.contains(words[0]) && check.found.contains(words[1])
        });
        assert!(said, "{what} {words:?}: {checks:#?}");
    }

    #[test]
    fn a_device_that_takes_all_runs_the_plan() {
        let checks = checks(|_, _| {});
        assert_says(&checks, Verdict::Runs, "kernels", ["1 kernels", "1 in their first form"]);
        assert_says(&checks, Verdict::Runs, "steps", ["up to 8 rows", "2 of 2 sizes"]);
        assert_says(&checks, Verdict::Runs, "shared", ["1.0 KiB", "64.0 KiB"]);
        assert_says(&checks, Verdict::Runs, "window", ["8.0 KiB", "1.0 GiB"]);
    }

    #[test]
    fn what_is_slower_says_for_which_lack() {
        let software = checks(|info, _| info.kind = DeviceKind::Cpu);
        assert_says(&software, Verdict::Slower, "device", ["a graphics", "(cpu)"]);
        let narrow = checks(|info, _| (info.subgroups.min, info.subgroups.max) = (8, 8));
        let words = ["subgroups of 32, for 1 kernels", "subgroups of 8"];
        assert_says(&narrow, Verdict::Slower, "feature", words);
        let plain = checks(|info, _| info.features.clear());
        assert_says(&plain, Verdict::Slower, "feature", ["IntegerDot", "no IntegerDot"]);
        // One row of logits is 4 MiB, eight are 32.
        let short = checks(|info, manifest| {
            manifest.model.vocabulary = 1 << 20;
            info.limits.storage_range = 8 << 20;
        });
        assert_says(&short, Verdict::Slower, "steps", ["up to 8 rows", "1 of 2 sizes, up to 1"]);
        let spilt = checks(|info, _| info.limits.heap = 4096);
        assert_says(&spilt, Verdict::Slower, "memory", ["device's memory", "with the system's"]);
    }

    #[test]
    fn what_cannot_run_says_both_values() {
        let none = checks(|_, manifest| manifest.gpu = None);
        assert_says(&none, Verdict::Cannot, "part", ["a part for Vulkan", "nothing for a Vulkan"]);
        let old = checks(|info, _| info.lacks = vec!["Vulkan 1.3", "maintenance4"]);
        assert_says(&old, Verdict::Cannot, "vulkan", ["Vulkan 1.3", "without Vulkan 1.3, maint"]);
        let small = checks(|info, _| info.limits.invocations = 64);
        let words = ["workgroups of 128", "workgroups of 64"];
        assert_says(&small, Verdict::Cannot, "workgroup", words);
        let shared = checks(|info, _| info.limits.shared = 512);
        assert_says(&shared, Verdict::Cannot, "shared", ["1.0 KiB", "512 bytes"]);
        let window = checks(|info, _| info.limits.storage_range = 4096);
        assert_says(&window, Verdict::Cannot, "window", ["8.0 KiB", "4.0 KiB"]);
        let buffer = checks(|info, manifest| {
            info.limits.buffer = 1 << 20;
            manifest.gpu.iter_mut().for_each(|gpu| gpu.arena = 2 << 20);
        });
        assert_says(&buffer, Verdict::Cannot, "buffer", ["2.0 MiB", "1.0 MiB"]);
        let full = checks(|info, _| (info.limits.heap, info.limits.memory) = (4096, 8192));
        assert_says(&full, Verdict::Cannot, "memory", ["of the device's memory", "8.0 KiB"]);
    }
}
