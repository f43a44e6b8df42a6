//! Whether this machine has what a plan needs.

use onebit_plan::manifest::{Manifest, Requirement};

use crate::Error;

/// Checks every requirement of the manifest.
///
/// # Errors
/// [`Error::Requirement`] for the first that is not met.
pub(super) fn check(manifest: &Manifest) -> Result<(), Error> {
    manifest.requirements.iter().try_for_each(|requirement| match requirement {
        Requirement::Architecture(name) => architecture(name),
        Requirement::CpuFeature(name) => feature(name),
        Requirement::Memory(bytes) => memory(*bytes),
    })
}

fn architecture(name: &str) -> Result<(), Error> {
    let here = std::env::consts::ARCH;
    if name == here {
        return Ok(());
    }
    let needs = format!("the architecture {name}");
    Err(Error::Requirement { needs, has: here.into() })
}

fn feature(name: &str) -> Result<(), Error> {
    if has_feature(name) {
        return Ok(());
    }
    Err(Error::Requirement { needs: format!("the CPU feature {name}"), has: "it not".into() })
}

fn memory(bytes: u64) -> Result<(), Error> {
    let info = rustix::system::sysinfo();
    // `c_ulong` is 32 bits on some targets.
    #[allow(clippy::useless_conversion)]
    let total = u64::from(info.totalram).saturating_mul(info.mem_unit.into());
    if bytes <= total {
        return Ok(());
    }
    let needs = format!("{} MiB of memory", bytes >> 20);
    Err(Error::Requirement { needs, has: format!("{} MiB", total >> 20) })
}

/// The features a plan can name. A feature unknown to this release is not there.
#[cfg(target_arch = "x86_64")]
fn has_feature(name: &str) -> bool {
    macro_rules! detect {
        ($($feature:tt)*) => {
            match name {
                $($feature => std::is_x86_feature_detected!($feature),)*
                _ => false,
            }
        };
    }
    detect!("sse2" "sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "avx" "avx2" "fma" "f16c" "bmi1"
        "bmi2" "lzcnt" "avxvnni" "avx512f" "avx512bw" "avx512vl" "avx512dq" "avx512vbmi"
        "avx512vnni" "avx512bf16")
}

/// The features a plan can name. A feature unknown to this release is not there.
#[cfg(target_arch = "aarch64")]
fn has_feature(name: &str) -> bool {
    match name {
        "neon" => std::arch::is_aarch64_feature_detected!("neon"),
        "dotprod" => std::arch::is_aarch64_feature_detected!("dotprod"),
        "fp16" => std::arch::is_aarch64_feature_detected!("fp16"),
        "i8mm" => std::arch::is_aarch64_feature_detected!("i8mm"),
        _ => false,
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_feature(_name: &str) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmet_requirements_are_named() {
        assert!(architecture(std::env::consts::ARCH).is_ok());
        assert!(memory(1 << 20).is_ok());
        for (result, name) in [
            (architecture("pdp11"), "pdp11"),
            (feature("telepathy"), "telepathy"),
            (memory(u64::MAX), "MiB"),
        ] {
            assert!(result.unwrap_err().to_string().contains(name));
        }
    }
}
