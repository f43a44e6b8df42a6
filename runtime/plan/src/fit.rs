//! Whether a Vulkan device takes a module: one rule for the runtime, which chooses modules by it,
//! for the check that says beforehand what it will choose, and for the compiler that leaves out what
//! a known device cannot take.

use std::fmt;

use crate::gpu::{GpuEntry, GpuFeature, GpuKernel, GpuModule, GpuPlan, GpuWindow};

/// What a device has of what modules may need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuCapabilities {
    /// Sorted.
    pub features: Vec<GpuFeature>,
    /// Smallest and largest subgroup that can be asked for.
    pub subgroup_sizes: (u32, u32),
    /// Most subgroups of a workgroup, where their size is asked for.
    pub subgroups: u32,
    /// Most invocations of a workgroup.
    pub invocations: u32,
    /// Most bytes of immediates.
    pub immediates: u32,
    /// Most bytes that a workgroup shares.
    pub shared: u32,
}

/// Something that a module needs and a device has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    Feature(GpuFeature),
    /// The device's subgroups are of sizes between the two.
    Subgroup {
        needed: u32,
        found: (u32, u32),
    },
    /// Invocations of a workgroup.
    Workgroup {
        needed: u32,
        found: u32,
    },
    /// Bytes.
    Immediates {
        needed: u32,
        found: u32,
    },
    /// Bytes that a workgroup shares.
    Shared {
        needed: u32,
        found: u32,
    },
}

impl Lack {
    /// What the device has instead.
    pub fn found(&self) -> String {
        match self {
            Self::Feature(feature) => format!("no {feature:?}"),
            Self::Subgroup { found: (min, max), .. } if min == max => format!("subgroups of {min}"),
            Self::Subgroup { found: (min, max), .. } => format!("subgroups of {min} to {max}"),
            Self::Workgroup { found, .. } => format!("workgroups of up to {found}"),
            Self::Immediates { found, .. } => format!("up to {found} bytes of immediates"),
            Self::Shared { found, .. } => format!("up to {found} bytes of shared memory"),
        }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Feature(feature) => write!(f, "{feature:?}"),
            Self::Subgroup { needed, .. } => write!(f, "subgroups of {needed}"),
            Self::Workgroup { needed, .. } => write!(f, "workgroups of {needed}"),
            Self::Immediates { needed, .. } => write!(f, "{needed} bytes of immediates"),
            Self::Shared { needed, .. } => write!(f, "{needed} bytes of shared memory"),
        }
    }
}

impl GpuCapabilities {
    /// All that a module of `kernel` needs and the device has not; empty when it can run.
    pub fn lacks(&self, kernel: &GpuKernel, module: &GpuModule) -> Vec<Lack> {
        let features = module.features.iter().filter(|feature| !self.features.contains(feature));
        let mut lacks: Vec<Lack> = features.copied().map(Lack::Feature).collect();
        let (min, max) = self.subgroup_sizes;
        if let Some(needed) = module.subgroup.filter(|size| !(min..=max).contains(size)) {
            lacks.push(Lack::Subgroup { needed, found: (min, max) });
        }
        // The number of subgroups is limited where their size is asked for only.
        let most = module.subgroup.map_or(self.invocations, |size| {
            self.invocations.min(size.saturating_mul(self.subgroups))
        });
        if kernel.workgroup > most {
            lacks.push(Lack::Workgroup { needed: kernel.workgroup, found: most });
        }
        if kernel.immediates > self.immediates {
            lacks.push(Lack::Immediates { needed: kernel.immediates, found: self.immediates });
        }
        if module.shared > self.shared {
            lacks.push(Lack::Shared { needed: module.shared, found: self.shared });
        }
        lacks
    }
}

/// Sizes that turn a plan's windows into the runtime's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Slots of the cache.
    pub slots: u64,
    /// Positions of a slot.
    pub context: u64,
    /// Tokens, and so the floats of a row of logits.
    pub vocabulary: u64,
}

impl GpuEntry {
    /// Bytes of a window of one of the entry's dispatches.
    pub fn window_bytes(&self, plan: &GpuPlan, window: &GpuWindow, scale: Scale) -> u64 {
        match *window {
            GpuWindow::Weights { length, .. } | GpuWindow::Arena { length, .. } => length,
            GpuWindow::Cache { length, .. } => length * scale.slots,
            GpuWindow::Rope { table } => {
                8 * scale.context * plan.tables[table as usize].frequencies.len() as u64
            }
            GpuWindow::Step => 0,
            GpuWindow::Logits => 4 * scale.vocabulary * u64::from(self.max_rows),
        }
    }

    /// Bytes of the longest window.
    pub fn longest_window(&self, plan: &GpuPlan, scale: Scale) -> u64 {
        let windows = self.dispatches.iter().flat_map(|dispatch| &dispatch.windows);
        windows.map(|window| self.window_bytes(plan, window, scale)).max().unwrap_or(0)
    }
}
