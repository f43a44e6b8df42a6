//! Exact integer sums by this CPU's kernels.
//!
//! A block of activations with d = 1 and sixteen integers, between blocks of zeros, makes a matrix
//! product `sum * scale + min * (sum of the activations)` with the roundings that
//! docs/storage-classes.md states. Sums are below 2^19, scales are known, so the float that comes
//! out tells the sum: another sum gives another float.

use onebit_cpu::Kernels;
use onebit_plan::PlanFile;
use onebit_plan::abi::{Activation, BLOCK, RECORD_ROW_BYTES, TILE_ROWS, panel_rows, q8_bytes};
use onebit_plan::golden::{GOLDEN_GROUP, Golden, GoldenSum, GoldenSums, activations};
use onebit_plan::manifest::{SegmentKind, WeightRecord};

use crate::Error;

/// What the kernels made of the sums of one storage class.
#[derive(Clone, Debug, PartialEq)]
pub struct SumCheck {
    /// `Q4D`
    pub class: String,
    /// Sums that were compared.
    pub sums: usize,
    pub wrong: Option<WrongSum>,
}

/// The first that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct WrongSum {
    /// `blk.3.ffn_down.weight`
    pub weight: String,
    pub row: usize,
    /// First of the sixteen elements.
    pub element: usize,
    /// Rows of the product in which it came out.
    pub rows: usize,
    pub expected: i32,
    /// The sum that fits what the kernel gave best.
    pub found: f64,
}

/// Row counts that choose among all forms of a kernel: panels of 1, 2, 4 and 8.
const ROWS: [usize; 4] = [1, 2, 4, 8];

/// Runs the golden sums, class by class in the order in which they stand in the plan.
///
/// # Errors
/// Weights that do not have the bytes that their shape needs.
pub fn sums(plan: &PlanFile, golden: &Golden, kernels: &Kernels) -> Result<Vec<SumCheck>, Error> {
    let mut checks: Vec<SumCheck> = Vec::new();
    for sums in &golden.sums {
        // The checks of golden vectors bound the index.
        let record = &plan.manifest().weights[sums.weight as usize];
        let class = format!("{:?}", record.class);
        let tile = tile_bytes(plan, record, sums)?;
        if checks.last().is_none_or(|check| check.class != class) {
            checks.push(SumCheck { class, sums: 0, wrong: None });
        }
        let Some(check) = checks.last_mut() else { continue };
        for rows in ROWS.into_iter().filter(|&rows| rows <= sums.groups.len()) {
            let products = multiply(kernels, record, sums, tile, rows);
            let lanes = sums.sums.len() / sums.groups.len();
            let golden = sums.sums.chunks_exact(lanes);
            for (row, (products, golden)) in
                products.chunks_exact(TILE_ROWS).zip(golden).enumerate()
            {
                check.sums += lanes;
                let mut pairs = products.iter().zip(golden).enumerate();
                let wrong = pairs.find_map(|(lane, (&found, &golden))| {
                    let wrong = compare(sums, (row, lane), golden, found)?;
                    Some(WrongSum { weight: record.tensors.join(" + "), rows, ..wrong })
                });
                check.wrong = check.wrong.take().or(wrong);
            }
        }
    }
    Ok(checks)
}

/// The packed bytes of one tile.
fn tile_bytes<'p>(
    plan: &'p PlanFile,
    record: &WeightRecord,
    sums: &GoldenSums,
) -> Result<&'p [u8], Error> {
    let bytes = onebit_cpu::tile_bytes(record.class, record.columns as usize);
    let weights = plan.segment(SegmentKind::Weights);
    let start = record.offset as usize + sums.tile as usize * bytes;
    let fits = onebit_cpu::supports(record.class, record.columns as usize);
    weights.get(start..start + bytes).filter(|_| fits).ok_or_else(|| Error::WeightShape {
        weight: record.tensors.join(" + "),
        class: record.class,
        rows: record.rows,
        columns: record.columns,
    })
}

/// `[rows][TILE_ROWS]` products of the tile.
fn multiply(
    kernels: &Kernels,
    record: &WeightRecord,
    sums: &GoldenSums,
    tile: &[u8],
    rows: usize,
) -> Vec<f32> {
    let k = record.columns as usize;
    let activations = match record.class.activation() {
        Activation::Q8 => integers(sums, k, rows),
        Activation::F32 => ones(sums, k, rows),
    };
    let mut out = vec![f32::NAN; rows * TILE_ROWS];
    let matmul = kernels.matmul(record.class);
    // SAFETY: the tile is a whole matrix of TILE_ROWS rows of k elements; the activations are
    // `rows` rows of them in the class's form, at an address for floats; `out` has as many rows of
    // TILE_ROWS.
    unsafe {
        matmul(
            tile.as_ptr(),
            activations.as_ptr().cast(),
            out.as_mut_ptr(),
            record.columns,
            0,
            TILE_ROWS as u32,
            rows as u32,
            TILE_ROWS as u32,
        );
    }
    out
}

/// Activations in the form of [`Activation::Q8`]: in each row one half of a block is not zero.
fn integers(sums: &GoldenSums, k: usize, rows: usize) -> Vec<f32> {
    let panel = panel_rows(rows);
    let mut buffer = vec![0.0f32; q8_bytes(rows, k).div_ceil(size_of::<f32>())];
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut buffer);
    for (row, &group) in sums.groups[..rows].iter().enumerate() {
        let (block, half) = (group as usize / 2, group as usize % 2);
        // All rows fit one panel: there are at most eight.
        let record = &mut bytes[block * panel * RECORD_ROW_BYTES..][..panel * RECORD_ROW_BYTES];
        let values = activations(sums.seed, row);
        let sum: i32 = values.iter().map(|&q| i32::from(q)).sum();
        let first = if half == 0 { -sum } else { 0 };
        let codes = &mut record[row * BLOCK + half * GOLDEN_GROUP..][..GOLDEN_GROUP];
        codes.copy_from_slice(bytemuck::cast_slice(&values));
        // d, s, n32 and n16 follow the codes, each for all rows of the panel.
        let words = [1f32.to_ne_bytes(), (sum as f32).to_ne_bytes(), (-sum).to_ne_bytes()];
        for (place, word) in words.into_iter().chain([first.to_ne_bytes()]).enumerate() {
            record[panel * BLOCK + 4 * (place * panel + row)..][..4].copy_from_slice(&word);
        }
    }
    buffer
}

/// Floats: in each row one element is 1.
fn ones(sums: &GoldenSums, k: usize, rows: usize) -> Vec<f32> {
    let mut x = vec![0.0; rows * k];
    for (row, &group) in sums.groups[..rows].iter().enumerate() {
        x[row * k + group as usize * GOLDEN_GROUP] = 1.0;
    }
    x
}

/// What is wrong with one product; weight and rows are left for the caller.
fn compare(
    sums: &GoldenSums,
    (row, lane): (usize, usize),
    golden: GoldenSum,
    found: f32,
) -> Option<WrongSum> {
    let GoldenSum { sum, scale, min } = golden;
    let all: i32 = activations(sums.seed, row).iter().map(|&q| i32::from(q)).sum();
    let expected = min.mul_add(all as f32, sum as f32 * scale);
    let same = found == expected || (found.is_nan() && expected.is_nan());
    (!same).then(|| WrongSum {
        weight: String::new(),
        row: sums.tile as usize * TILE_ROWS + lane,
        element: sums.groups[row] as usize * GOLDEN_GROUP,
        rows: 0,
        expected: sum,
        found: (f64::from(found) - f64::from(min) * f64::from(all)) / f64::from(scale),
    })
}
