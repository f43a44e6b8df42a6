//! What the work of a plan would take on a Strix Halo, piece by piece, by the models that the
//! compiler has: for dispatches of a Vulkan device and for products of a neural processor.
//!
//! Predicted, never measured. There is no such model of CPU steps, so nothing is said of them.

use onebit_plan::gpu::{GpuDispatch, GpuEntry};
use onebit_plan::manifest::{ArrayWeights, Manifest};

use crate::target::vulkan::predict;

/// Rows of a call of the array.
const ARRAY_ROWS: u32 = onebit_plan::abi::ARRAY_ROWS as u32;

/// A piece of a step and its predicted time.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// The region that gives it its name.
    pub region: String,
    /// Weight bytes that it reads.
    pub bytes: u64,
    /// Multiply-accumulates of all rows.
    pub macs: u64,
    pub seconds: f64,
}

impl Work {
    /// Multiply-accumulates for each byte of weights; `None` where it reads none.
    pub fn intensity(&self) -> Option<f64> {
        (self.bytes > 0 && self.macs > 0).then(|| self.macs as f64 / self.bytes as f64)
    }
}

/// The dispatches of `entry` with all its rows. Those that only pick tokens are there, too.
pub fn gpu(manifest: &Manifest, entry: &GpuEntry) -> Vec<Work> {
    let macs = |regions: &[u32]| -> u64 {
        let regions = regions.iter().filter_map(|&index| manifest.regions.get(index as usize));
        regions.map(|region| region.macs).fold(0, u64::saturating_add)
    };
    let work = |dispatch: &GpuDispatch| Work {
        region: dispatch.region.clone(),
        bytes: dispatch.weight_bytes,
        macs: macs(&dispatch.regions).saturating_mul(entry.max_rows.into()),
        seconds: predict::dispatch_seconds(dispatch),
    };
    entry.dispatches.iter().map(work).collect()
}

/// The products that a neural processor does, for 32 rows.
pub fn array(manifest: &Manifest) -> Vec<Work> {
    let Some(plan) = &manifest.array else { return Vec::new() };
    let work = |(product, region): (&ArrayWeights, &str)| Work {
        region: region.into(),
        bytes: product.bytes,
        macs: (u64::from(product.rows) * u64::from(product.columns))
            .saturating_mul(ARRAY_ROWS.into()),
        seconds: plan.calls.get(product.call as usize).map_or(0.0, |call| call.modelled_seconds),
    };
    plan.products.iter().zip(manifest.product_regions()).map(work).collect()
}
