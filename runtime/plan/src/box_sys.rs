//! `box.sys`: a machine described for the compiler, as JSON.
//!
//! `onebit-rt probe` writes it, `onebitc compile --target box.sys` reads it. The order of fields is
//! fixed and lists are sorted, so that the same machine gives the same text, but for what is
//! measured. It holds no name of a host or a user, no serial number and no other number that only
//! one machine has. A reader takes exactly the version and the fields that it knows; docs/box-sys.md
//! describes all of them.

use serde::{Deserialize, Serialize};

use crate::fit::GpuCapabilities;
use crate::gpu::GpuFeature;

/// Version of the description; a reader takes exactly this.
pub const BOX_VERSION: u32 = 1;
/// Most bytes of a description.
pub const BOX_LIMIT: usize = 1 << 20;
/// Largest memory, cache or buffer, in bytes.
const BYTES_LIMIT: u64 = 1 << 50;
/// Largest bandwidth, in bytes a second.
const RATE_LIMIT: u64 = 1 << 50;
/// Most of anything that is listed.
const COUNT_LIMIT: usize = 1 << 10;

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxDescription {
    /// [`BOX_VERSION`]
    pub onebit_box: u32,
    /// Version of onebit-rt that looked.
    pub tool: String,
    pub processor: BoxProcessor,
    pub memory: BoxMemory,
    /// Vulkan devices that can run plans, in the loader's order.
    pub gpus: Vec<BoxGpu>,
    /// A neural processor that plans can be made for.
    pub npu: Option<BoxNpu>,
    pub software: BoxSoftware,
}

/// The processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxProcessor {
    /// By Rust's name: `x86_64`
    pub architecture: String,
    /// `AMD RYZEN AI MAX+ 395 w/ Radeon 8060S`
    pub model: Option<String>,
    /// By the names of Rust's detection, sorted.
    pub features: Vec<String>,
    /// What the runtime's microkernels use: `portable`, `avx2` or `avx512`.
    pub kernels: String,
    /// Physical cores.
    pub cores: u32,
    /// Hardware threads.
    pub threads: u32,
    /// As the first thread sees them, the nearest first.
    pub caches: Vec<BoxCache>,
}

/// A cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxCache {
    pub level: u32,
    /// `data`, `instruction` or `unified`
    pub kind: String,
    pub bytes: u64,
    /// Hardware threads that share it.
    pub threads: u32,
}

/// The machine's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxMemory {
    pub bytes: u64,
    /// How fast all cores read it; none where it was not to be measured.
    pub read: Option<BoxRate>,
}

/// A speed, and how it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxRate {
    pub origin: BoxOrigin,
    /// Of the fastest pass.
    pub bytes_per_second: u64,
    /// Of the middle one.
    pub median_bytes_per_second: u64,
    pub threads: u32,
    /// Bytes of one pass.
    pub bytes: u64,
    pub passes: u32,
    /// Whether in every pass the sum of what was read was that of what had been written. A
    /// description that says `false` is refused.
    pub checked: bool,
}

/// How a figure was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BoxOrigin {
    Measured,
}

/// A Vulkan device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxGpu {
    /// `AMD Radeon 8060S (RADV GFX1151)`
    pub name: String,
    pub kind: BoxGpuKind,
    /// PCI ids.
    pub vendor: u32,
    pub device: u32,
    /// Version of Vulkan: `1.4.305`
    pub vulkan: String,
    /// `radv Mesa 25.0.7`
    pub driver: String,
    /// Sorted.
    pub features: Vec<GpuFeature>,
    /// Smallest and largest subgroup that can be asked for.
    pub subgroup_sizes: (u32, u32),
    /// Most subgroups of a workgroup.
    pub subgroups: u32,
    /// Most invocations of a workgroup.
    pub invocations: u32,
    /// Bytes of immediates.
    pub immediates: u32,
    /// Bytes that a workgroup shares.
    pub shared: u32,
    /// Bytes of the longest window of a storage buffer.
    pub window: u64,
    /// Bytes of the largest buffer.
    pub buffer: u64,
    /// Bytes of its own memory; of the system's where it has none.
    pub heap: u64,
    /// Bytes of all memory that it can use.
    pub memory: u64,
}

/// Kind of hardware behind a Vulkan device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BoxGpuKind {
    /// A card with memory of its own.
    Discrete,
    /// A part of the processor, which shares its memory.
    Integrated,
    /// Part of a virtual machine.
    Virtual,
    /// Vulkan made of software.
    Cpu,
    Other,
}

/// A neural processor of AMD's XDNA 2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxNpu {
    /// `amdxdna_accel_driver 0.6.0`
    pub driver: String,
    /// `1.1.2.65`, where the driver says.
    pub firmware: Option<String>,
    /// Columns of the array, rows of a column, and rows of compute tiles.
    pub columns: u16,
    pub rows: u16,
    pub compute_rows: u16,
}

/// What runs the hardware.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxSoftware {
    /// `linux`
    pub system: String,
    /// Numbers of the kernel's version only: `6.17.0`
    pub kernel: Option<String>,
}

/// Why a text is no description that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BoxError {
    /// More text than a machine needs.
    #[error("{found} bytes, a machine's description has at most {BOX_LIMIT}")]
    Length { found: usize },
    /// No JSON, or JSON of something else.
    #[error("no description of a machine: {reason}")]
    Syntax { reason: String },
    /// Another version of the description.
    #[error("version {found} of machines' descriptions, this release reads {BOX_VERSION} only")]
    Version { found: u32 },
    /// A value that no machine has.
    #[error("{place}: expected {expected}, found {found}")]
    Value { place: String, expected: String, found: String },
}

impl BoxError {
    /// What the person at the terminal can do: one sentence without a final full stop.
    pub fn help(&self) -> String {
        "make it again on that machine with `onebit-rt probe > box.sys`, of the same release".into()
    }
}

/// The field that says what the text is, whatever else it holds.
#[derive(Deserialize)]
struct Mark {
    onebit_box: u32,
}

impl BoxDescription {
    /// Reads a description. Nothing is guessed: fields that are missing or unknown are errors.
    ///
    /// # Errors
    /// [`BoxError`] in all its forms.
    pub fn parse(text: &str) -> Result<Self, BoxError> {
        if text.len() > BOX_LIMIT {
            return Err(BoxError::Length { found: text.len() });
        }
        let syntax = |error: serde_json::Error| BoxError::Syntax { reason: error.to_string() };
        let Mark { onebit_box } = serde_json::from_str(text).map_err(syntax)?;
        if onebit_box != BOX_VERSION {
            return Err(BoxError::Version { found: onebit_box });
        }
        let description: Self = serde_json::from_str(text).map_err(syntax)?;
        description.check()?;
        Ok(description)
    }

    /// The text of the description, with a line break at its end.
    ///
    /// # Errors
    /// [`BoxError::Value`] for what a reader would refuse.
    pub fn to_text(&self) -> Result<String, BoxError> {
        self.check()?;
        let syntax = |error: serde_json::Error| BoxError::Syntax { reason: error.to_string() };
        serde_json::to_string_pretty(self).map(|text| text + "\n").map_err(syntax)
    }

    /// BLAKE3 of the text, in hexadecimal: what a plan says of the machine that it was made for.
    ///
    /// # Errors
    /// As of [`BoxDescription::to_text`].
    pub fn hash(&self) -> Result<String, BoxError> {
        Ok(blake3::hash(self.to_text()?.as_bytes()).to_hex().to_string())
    }

    fn check(&self) -> Result<(), BoxError> {
        let processor = &self.processor;
        one_of("processor.architecture", &processor.architecture, &["x86_64", "aarch64"])?;
        one_of("processor.kernels", &processor.kernels, &["portable", "avx2", "avx512"])?;
        ascending("processor.features", &processor.features)?;
        within("processor.cores", processor.cores.into(), 1, u64::from(processor.threads))?;
        within("processor.threads", processor.threads.into(), 1, COUNT_LIMIT as u64)?;
        listed("processor.caches", processor.caches.len())?;
        for cache in &processor.caches {
            one_of("processor.caches.kind", &cache.kind, &["data", "instruction", "unified"])?;
            within("processor.caches.bytes", cache.bytes, 1, BYTES_LIMIT)?;
        }
        within("memory.bytes", self.memory.bytes, 1, BYTES_LIMIT)?;
        self.memory.read.iter().try_for_each(BoxRate::check)?;
        listed("gpus", self.gpus.len())?;
        self.gpus.iter().enumerate().try_for_each(|(index, gpu)| gpu.check(index))?;
        if let Some(npu) = &self.npu {
            within("npu.columns", npu.columns.into(), 1, 256)?;
            within("npu.rows", npu.rows.into(), 1, 256)?;
            within("npu.compute_rows", npu.compute_rows.into(), 1, npu.rows.into())?;
        }
        Ok(())
    }
}

impl BoxRate {
    fn check(&self) -> Result<(), BoxError> {
        within("memory.read.bytes_per_second", self.bytes_per_second, 1, RATE_LIMIT)?;
        let median = self.median_bytes_per_second;
        within("memory.read.median_bytes_per_second", median, 1, self.bytes_per_second)?;
        require("memory.read.checked", self.checked, "true: a measurement that was checked", || {
            self.checked.to_string()
        })
    }
}

impl BoxGpu {
    /// What modules ask about.
    pub fn capabilities(&self) -> GpuCapabilities {
        GpuCapabilities {
            features: self.features.clone(),
            subgroup_sizes: self.subgroup_sizes,
            subgroups: self.subgroups,
            invocations: self.invocations,
            immediates: self.immediates,
            shared: self.shared,
        }
    }

    fn check(&self, index: usize) -> Result<(), BoxError> {
        let place = |name: &str| format!("gpus[{index}].{name}");
        ascending(&place("features"), &self.features)?;
        let (min, max) = self.subgroup_sizes;
        let fits = min.is_power_of_two() && max.is_power_of_two() && min <= max && max <= 128;
        require(&place("subgroup_sizes"), fits, "two powers of two, ascending, up to 128", || {
            format!("{min} and {max}")
        })?;
        for (name, value) in [("invocations", self.invocations), ("shared", self.shared)] {
            within(&place(name), value.into(), 1, 1 << 30)?;
        }
        for (name, value) in [
            ("window", self.window),
            ("buffer", self.buffer),
            ("heap", self.heap),
            ("memory", self.memory),
        ] {
            within(&place(name), value, 1, u64::MAX)?;
        }
        Ok(())
    }
}

fn require(
    place: &str,
    holds: bool,
    expected: &str,
    found: impl FnOnce() -> String,
) -> Result<(), BoxError> {
    if holds {
        return Ok(());
    }
    Err(BoxError::Value { place: place.into(), expected: expected.into(), found: found() })
}

fn one_of(place: &str, found: &str, known: &[&str]) -> Result<(), BoxError> {
    require(place, known.contains(&found), &known.join(" or "), || found.to_owned())
}

fn within(place: &str, found: u64, least: u64, most: u64) -> Result<(), BoxError> {
    let expected = format!("{least} to {most}");
    require(place, (least..=most).contains(&found), &expected, || found.to_string())
}

fn listed(place: &str, count: usize) -> Result<(), BoxError> {
    let expected = format!("at most {COUNT_LIMIT}");
    require(place, count <= COUNT_LIMIT, &expected, || count.to_string())
}

fn ascending<T: PartialOrd>(place: &str, list: &[T]) -> Result<(), BoxError> {
    listed(place, list.len())?;
    let sorted = list.is_sorted_by(|a, b| a < b);
    require(place, sorted, "each once, sorted", || "another order".into())
}
