//! How far a device's values may be from the interpreter's: one table, with its reasons.

use onebit_plan::abi::{Activation, CacheForm};
use onebit_plan::golden::{Distance, GoldenValue};
use onebit_plan::manifest::Manifest;

/// What a device rounds beyond floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// Nothing: all weights are floats.
    Floats,
    /// As the former or the next, with a cache of 8-bit codes.
    CachedCodes,
    /// Activations to 15 bits, a scale for each 32: a Vulkan device.
    Codes15,
    /// Activations to int8, a scale for each 32: the CPU.
    Codes8,
    /// Weights to int8, a scale for up to 1024, activations to 15 bits: a neural processor's
    /// products, on it or on the CPU.
    Array,
}

/// Distances that count as rounding: `floor + factor * noise` of the golden value, whose noise is
/// what the interpreter found when it rounded activations to int8.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Caches of f16 and another order of sums, which no noise speaks of.
    pub floor: Distance,
    pub factor: f32,
}

/// Chosen by measurement, as the factors are; how near to its limit anything came stands in
/// docs/adr/0012-golden-vectors-are-sketches-and-sums.md.
const FLOOR: Distance = Distance { row: 5e-3, group: 4e-2 };

impl Arithmetic {
    /// What the CPU rounds in steps of this plan.
    pub fn of_cpu(manifest: &Manifest) -> Self {
        match manifest.array {
            Some(_) => Self::Array,
            None if multiplies_integers(manifest) => Self::Codes8,
            None if caches_codes(manifest) => Self::CachedCodes,
            None => Self::Floats,
        }
    }

    /// What a Vulkan device rounds.
    pub fn of_gpu(manifest: &Manifest) -> Self {
        match multiplies_integers(manifest) {
            _ if caches_codes(manifest) => Self::CachedCodes,
            true => Self::Codes15,
            false => Self::Floats,
        }
    }

    pub fn tolerance(self) -> Tolerance {
        let factor = match self {
            Self::Floats => 0.0,
            // However small a difference is, it takes some codes of the cache across a border: a
            // step of those is as large as one of the int8 that made the noise. SmolLM2 on
            // lavapipe is at 0.9 of the noise.
            Self::CachedCodes => 3.0,
            // An int8 code is 129 of these: the noise is below the floor.
            Self::Codes15 => 1.0 / 16.0,
            // The noise is the largest of one draw a layer; what the device rounds is another draw.
            Self::Codes8 => 6.0,
            // Rounding weights changes two to three times what rounding activations does.
            Self::Array => 15.0,
        };
        Tolerance { floor: FLOOR, factor }
    }
}

impl Tolerance {
    /// The largest distances of a value that count as rounding.
    pub fn of(self, value: &GoldenValue) -> Distance {
        let noise = value.noise;
        Distance {
            row: self.floor.row + self.factor * noise.row,
            group: self.floor.group + self.factor * noise.group,
        }
    }
}

fn caches_codes(manifest: &Manifest) -> bool {
    match manifest.memory.cache {
        CacheForm::F16 => false,
        CacheForm::Q8 => true,
    }
}

fn multiplies_integers(manifest: &Manifest) -> bool {
    manifest.weights.iter().any(|record| record.class.activation() == Activation::Q8)
}
