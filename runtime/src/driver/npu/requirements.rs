//! What a plan needs of a neural processor and of the system around it, beside what there is.
//! [`open_for`](super::open_for) refuses by the same functions.

use std::path::Path;

use onebit_plan::PAGE;
use onebit_plan::manifest::{ArrayCall, ArrayPlan};

use super::error::{LOCKED_HELP, MemoryLimit, NpuError};
use super::{COLUMNS, HEAP_BYTES, probe};
use crate::Error;
use crate::check::{Check, bytes_text};

/// Commands that a context keeps: one for each call of a chain, and the chain.
const COMMANDS: u64 = super::command::CALLS_PER_CHAIN as u64 + 1;

/// Bytes that a context for the plan's products locks in memory.
pub fn locked_bytes(part: &ArrayPlan) -> u64 {
    let most = |bytes: fn(&ArrayCall) -> u64| part.calls.iter().map(bytes).max().unwrap_or(0);
    let places = part.groups.iter().map(|group| u64::from(group.count)).max().unwrap_or(0);
    let weights = part.products.iter().map(|it| it.bytes.next_multiple_of(PAGE));
    let buffers = [
        HEAP_BYTES,
        COMMANDS * super::command::COMMAND_BYTES as u64,
        most(|call| call.activations),
        most(|call| call.results).saturating_mul(places),
    ];
    buffers.into_iter().chain(weights).fold(0, u64::saturating_add)
}

/// Whether a process with this limit may lock what a plan needs.
///
/// # Errors
/// [`NpuError::Locked`].
pub(super) fn lockable(part: &ArrayPlan, limit: MemoryLimit) -> Result<(), NpuError> {
    let bytes = locked_bytes(part);
    match limit {
        MemoryLimit::Bytes(most) if bytes > most => Err(NpuError::Locked { bytes, limit }),
        MemoryLimit::Bytes(_) | MemoryLimit::Unlimited => Ok(()),
    }
}

/// Everything that the plan's products need of the devices under `dev` and of a process that may
/// lock so much memory.
pub fn assess(part: Option<&ArrayPlan>, dev: &Path, limit: MemoryLimit) -> Vec<Check> {
    let Some(part) = part else { return vec![no_part()] };
    let needed = format!("an NPU with {COLUMNS} columns");
    let mut checks = vec![Check::met(
        "part",
        "products for a neural processor",
        format!("{} of {} shapes", part.products.len(), part.calls.len()),
    )];
    match probe::first(dev) {
        Ok(found) => {
            checks.push(Check::met("device", needed, &found.driver));
            checks.push(driver(&found));
            checks.push(firmware(&found));
            checks.push(array(&found));
        }
        Err(error) => checks.push(Check::unmet("device", needed, error.to_string(), error.help())),
    }
    checks.push(memory(part, limit));
    checks
}

fn no_part() -> Check {
    let error = Error::NoArrayProducts;
    Check::unmet("part", "products for a neural processor", error.to_string(), error.help())
}

/// The operations that a load needs came with the driver's first release in Linux.
fn driver(found: &probe::Probe) -> Check {
    let [major, minor, patch] = found.version;
    let version = format!("{} {major}.{minor}.{patch}", found.driver);
    Check::met("driver", "amdxdna of Linux 6.14 or newer", version)
}

/// No release of the firmware is known to fail; one that does not answer is.
fn firmware(found: &probe::Probe) -> Check {
    const NEEDED: &str = "a firmware that answers";
    match found.firmware {
        Ok(version) => {
            let version = version.map(|part| part.to_string()).join(".");
            Check::met("firmware", NEEDED, version)
        }
        Err(errno) => {
            let error = NpuError::Firmware { operation: "say its version", errno };
            Check::slower("firmware", NEEDED, error.to_string(), error.help())
        }
    }
}

fn array(found: &probe::Probe) -> Check {
    const WHAT: &str = "array";
    match super::context::fitting(found.array, COLUMNS) {
        Ok(()) => {
            let [columns, rows, cores] = found.array.unwrap_or_default();
            let found = format!("{columns} columns of {rows} tiles, {cores} with cores");
            Check::met(WHAT, format!("{COLUMNS} columns"), found)
        }
        Err(NpuError::OtherArray { needs, has }) => {
            let remedy = NpuError::OtherArray { needs: String::new(), has: String::new() }.help();
            Check::unmet(WHAT, needs, has, remedy)
        }
        Err(error) => {
            Check::unmet(WHAT, format!("{COLUMNS} columns"), error.to_string(), error.help())
        }
    }
}

fn memory(part: &ArrayPlan, limit: MemoryLimit) -> Check {
    const WHAT: &str = "memlock";
    let needed = format!("{} of memory that stays", bytes_text(locked_bytes(part)));
    let found = match limit {
        MemoryLimit::Bytes(bytes) => format!("a limit of {}", bytes_text(bytes)),
        MemoryLimit::Unlimited => "no limit".into(),
    };
    match lockable(part, limit) {
        Ok(()) => Check::met(WHAT, needed, found),
        Err(_) => Check::unmet(WHAT, needed, found, LOCKED_HELP),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Outcome, Verdict, verdict};
    use crate::test_machine::Machine;
    use crate::test_manifest::manifest;

    #[test]
    fn a_machine_without_an_npu_is_refused_for_what_it_lacks() {
        let machine = Machine::new(&[]);
        let dev = machine.roots().dev;
        let part = manifest().array.unwrap();
        let checks = assess(Some(&part), &dev, MemoryLimit::Bytes(8 << 20));
        assert_eq!(verdict(&checks), Verdict::Cannot);
        let of = |what: &str| checks.iter().find(|check| check.what == what).unwrap();
        assert_eq!(of("part").found, "2 of 1 shapes");
        assert!(of("device").found.starts_with("no NPU"), "{:?}", of("device"));
        // The heap, 37 commands, activations, two results and two products.
        let expected = HEAP_BYTES + 37 * 4096 + (1 << 16) + 2 * (1 << 17) + 2 * (1 << 20);
        assert_eq!(locked_bytes(&part), expected);
        assert_eq!(of("memlock").outcome, Outcome::Unmet);
        assert_eq!(of("memlock").found, "a limit of 8.0 MiB");
        for (limit, fits) in [
            (MemoryLimit::Unlimited, true),
            (MemoryLimit::Bytes(expected), true),
            (MemoryLimit::Bytes(expected - 1), false),
        ] {
            assert_eq!(lockable(&part, limit).is_ok(), fits);
            assert_eq!(memory(&part, limit).outcome == Outcome::Met, fits);
        }
        let none = assess(None, &dev, MemoryLimit::Unlimited);
        assert_eq!((none.len(), verdict(&none)), (1, Verdict::Cannot));
    }

    #[test]
    fn what_a_device_answers_is_weighed() {
        let found = |firmware, array| probe::Probe {
            driver: "amdxdna_accel_driver".into(),
            version: [0, 6, 0],
            firmware,
            array,
        };
        let good = found(Ok([1, 1, 2, 65]), Ok([8, 6, 4]));
        assert_eq!(driver(&good).found, "amdxdna_accel_driver 0.6.0");
        assert_eq!(firmware(&good).found, "1.1.2.65");
        assert_eq!(array(&good).outcome, Outcome::Met);
        let poor = found(Err(super::super::Errno::OPNOTSUPP), Ok([4, 6, 4]));
        assert_eq!(firmware(&poor).outcome, Outcome::Slower);
        let array = array(&poor);
        assert_eq!(array.outcome, Outcome::Unmet);
        assert!(array.needed.starts_with("8 columns") && array.found.starts_with("4 columns"));
    }
}
